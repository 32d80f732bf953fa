using System;
using System.Collections.Generic;
using System.Text.Json;
using System.Text.Unicode;
using CyberMesh.Core.Encoding;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// Reads a JSON object that every reader understands alike: UTF-8, bounded depth, no name twice in an object, nothing behind it. What is asked of
/// single members a visitor says.
/// </summary>
internal static class StrictJson
{
    /// <summary>Sees each value and each beginning of an object or array. Returns what is wrong with it, or null.</summary>
    /// <param name="path">Names from the root to the value; null stands for a place in an array.</param>
    public delegate string? Visitor(ReadOnlySpan<string?> path, ref Utf8JsonReader value);

    /// <summary>What is wrong with the text; null when nothing is.</summary>
    /// <param name="what">How the text is called in that sentence.</param>
    public static string? Read(ReadOnlySpan<byte> json, string what, Visitor visit)
    {
        if (!Utf8.IsValid(json)) return what + " is not UTF-8";
        try
        {
            return Walk(json, what, visit);
        }
        catch (JsonException)
        {
            return $"{what} is not a JSON object of depth {Limits.JsonDepthMax} or less";
        }
        catch (InvalidOperationException)
        {
            return what + " has a text with a broken escape";
        }
    }

    private static string? Walk(ReadOnlySpan<byte> json, string what, Visitor visit)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = Limits.JsonDepthMax });
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) return what + " must be a JSON object";
        var names = new List<HashSet<string>?>(Limits.JsonDepthMax) { new(StringComparer.Ordinal) };
        var path = new string?[Limits.JsonDepthMax];
        while (reader.Read())
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.PropertyName:
                    var name = reader.GetString() ?? "";
                    if (!names[^1]!.Add(name)) return what + " has one member name twice in an object";
                    path[names.Count - 1] = name;
                    continue;
                case JsonTokenType.EndObject or JsonTokenType.EndArray:
                    names.RemoveAt(names.Count - 1);
                    continue;
            }

            if (names[^1] is null) path[names.Count - 1] = null;
            if (visit(path.AsSpan(0, names.Count), ref reader) is { } problem) return problem;
            if (reader.TokenType == JsonTokenType.StartObject) names.Add(new HashSet<string>(StringComparer.Ordinal));
            else if (reader.TokenType == JsonTokenType.StartArray) names.Add(null);
        }

        return null;
    }
}
