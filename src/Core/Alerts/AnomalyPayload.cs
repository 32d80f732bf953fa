using System;
using System.Text.Json;
using CyberMesh.Core.Encoding;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// The payload of an anomaly: a JSON object that repeats severity and confidence. The v1 signature covers only the payload, so a field that
/// disagrees with it was altered on the way. It may also name the incident: <c>correlation_key</c>, or else Suricata's <c>community_id</c>.
/// </summary>
internal static class AnomalyPayload
{
    private struct Found
    {
        public JsonNumber? Severity, Confidence;
        public string? CorrelationKey, CommunityId;
    }

    public static bool Agrees(ReadOnlySpan<byte> payload, uint severity, Confidence confidence, out string? correlationKey, out string? problem)
    {
        var found = default(Found);
        problem = StrictJson.Read(payload, "payload", ref found, Take);
        correlationKey = found.CorrelationKey ?? found.CommunityId;
        if (problem is not null) return false;
        if (found.Severity is not { } s || found.Confidence is not { } c)
            problem = "payload must repeat severity and confidence as numbers";
        else if (!s.IsInteger(10, out var number) || number != severity)
            problem = $"severity in the payload is not {severity}, the value of the field";
        else if (!confidence.IsNear(c))
            problem = "confidence in the payload is not within 0.000001 of the field";
        return problem is null;
    }

    private static string? Take(ref Found found, ReadOnlySpan<string?> path, ref Utf8JsonReader value)
    {
        switch (path)
        {
            case ["severity"] when value.TokenType == JsonTokenType.Number:
                found.Severity = JsonNumber.Parse(value.ValueSpan);
                break;
            case ["confidence"] when value.TokenType == JsonTokenType.Number:
                found.Confidence = JsonNumber.Parse(value.ValueSpan);
                break;
            case ["correlation_key"] when value.TokenType == JsonTokenType.String:
                found.CorrelationKey = Key(ref value);
                break;
            case ["community_id"] when value.TokenType == JsonTokenType.String:
                found.CommunityId = Key(ref value);
                break;
        }

        return null;
    }

    /// <summary>A key that is empty or too long is none.</summary>
    private static string? Key(ref Utf8JsonReader value)
    {
        var text = value.GetString() ?? "";
        return text.Length is 0 || System.Text.Encoding.UTF8.GetByteCount(text) > Limits.TextBytesMax ? null : text;
    }
}
