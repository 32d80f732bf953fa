using System;
using System.Collections.Generic;
using System.Text.Json;
using System.Text.Unicode;
using CyberMesh.Core.Encoding;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// The payload of an anomaly: a JSON object that repeats severity and confidence. The v1 signature covers only the payload,
/// so a field that disagrees with it was altered on the way.
/// </summary>
internal static class AnomalyPayload
{
    public static bool Agrees(ReadOnlySpan<byte> payload, uint severity, Confidence confidence, out string? problem)
    {
        if (!TryRead(payload, out var payloadSeverity, out var payloadConfidence, out problem)) return false;
        if (payloadSeverity is not { } s || payloadConfidence is not { } c)
            problem = "payload must repeat severity and confidence as numbers";
        else if (!s.IsInteger(10, out var value) || value != severity)
            problem = $"severity in the payload is not {severity}, the value of the field";
        else if (!confidence.IsNear(c))
            problem = "confidence in the payload is not within 0.000001 of the field";
        return problem is null;
    }

    private static bool TryRead(ReadOnlySpan<byte> payload, out JsonNumber? severity, out JsonNumber? confidence, out string? problem)
    {
        severity = confidence = null;
        problem = null;
        try
        {
            if (!Utf8.IsValid(payload)) problem = "payload is not UTF-8";
            else Walk(payload, ref severity, ref confidence, ref problem);
        }
        catch (JsonException)
        {
            problem = $"payload is not a JSON object of depth {Limits.JsonDepthMax} or less";
        }
        catch (InvalidOperationException)
        {
            problem = "payload has a member name with a broken escape";
        }

        return problem is null;
    }

    private static void Walk(ReadOnlySpan<byte> payload, ref JsonNumber? severity, ref JsonNumber? confidence, ref string? problem)
    {
        var reader = new Utf8JsonReader(payload, new JsonReaderOptions { MaxDepth = Limits.JsonDepthMax });
        var names = new List<HashSet<string>?>(Limits.JsonDepthMax + 1);
        string? topName = null;
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            problem = "payload must be a JSON object";
            return;
        }

        names.Add(new HashSet<string>(StringComparer.Ordinal));
        while (reader.Read())
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.StartObject:
                    names.Add(new HashSet<string>(StringComparer.Ordinal));
                    break;
                case JsonTokenType.StartArray:
                    names.Add(null);
                    break;
                case JsonTokenType.EndObject or JsonTokenType.EndArray:
                    names.RemoveAt(names.Count - 1);
                    break;
                case JsonTokenType.PropertyName:
                    var name = reader.GetString() ?? "";
                    if (!names[^1]!.Add(name)) problem = "payload has one member name twice in an object";
                    if (names.Count == 1) topName = name;
                    break;
                case JsonTokenType.Number when names.Count == 1 && topName == "severity":
                    severity = JsonNumber.Parse(reader.ValueSpan);
                    break;
                case JsonTokenType.Number when names.Count == 1 && topName == "confidence":
                    confidence = JsonNumber.Parse(reader.ValueSpan);
                    break;
            }

            if (problem is not null) return;
        }
    }
}
