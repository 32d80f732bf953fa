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
    public delegate string? Visitor<TFound>(ref TFound found, ReadOnlySpan<string?> path, ref Utf8JsonReader value);

    /// <summary>The names of the objects around a place, to be used again: almost every message is read with the same few.</summary>
    private sealed class Names
    {
        public readonly string?[] Path = new string?[Limits.JsonDepthMax];
        private readonly HashSet<string>?[] _sets = new HashSet<string>?[Limits.JsonDepthMax];
        private readonly bool[] _isObject = new bool[Limits.JsonDepthMax];

        public int Depth { get; private set; }

        /// <summary>The innermost is an object, and so its members have names.</summary>
        public bool IsInObject => _isObject[Depth - 1];

        public void Enter(bool isObject)
        {
            _isObject[Depth] = isObject;
            if (isObject) (_sets[Depth] ??= new HashSet<string>(StringComparer.Ordinal)).Clear();
            Path[Depth++] = null;
        }

        public void Leave() => Depth--;

        public bool TryAdd(string name) => _sets[Depth - 1]!.Add(name);

        /// <summary>What a hostile message made large is not kept.</summary>
        public bool IsSmall => Array.TrueForAll(_sets, s => s is null || s.Capacity <= 256);

        public void Reset() => Depth = 0;
    }

    [ThreadStatic]
    private static Names? s_names;

    /// <summary>What is wrong with the text; null when nothing is.</summary>
    /// <param name="what">How the text is called in that sentence.</param>
    /// <param name="found">What the visitor notes.</param>
    public static string? Read<TFound>(ReadOnlySpan<byte> json, string what, ref TFound found, Visitor<TFound> visit)
    {
        if (!Utf8.IsValid(json)) return what + " is not UTF-8";
        var names = s_names ?? new Names();
        s_names = null; // whoever reads within a visitor has its own
        try
        {
            return Walk(json, what, names, ref found, visit);
        }
        catch (JsonException)
        {
            return $"{what} is not a JSON object of depth {Limits.JsonDepthMax} or less";
        }
        catch (InvalidOperationException)
        {
            return what + " has a text with a broken escape";
        }
        finally
        {
            names.Reset();
            if (names.IsSmall) s_names = names;
        }
    }

    private static string? Walk<TFound>(ReadOnlySpan<byte> json, string what, Names names, ref TFound found, Visitor<TFound> visit)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = Limits.JsonDepthMax });
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) return what + " must be a JSON object";
        names.Enter(isObject: true);
        while (reader.Read())
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.PropertyName:
                    var name = reader.GetString() ?? "";
                    if (!names.TryAdd(name)) return what + " has one member name twice in an object";
                    names.Path[names.Depth - 1] = name;
                    continue;
                case JsonTokenType.EndObject or JsonTokenType.EndArray:
                    names.Leave();
                    continue;
            }

            if (!names.IsInObject) names.Path[names.Depth - 1] = null;
            if (visit(ref found, names.Path.AsSpan(0, names.Depth), ref reader) is { } problem) return problem;
            if (reader.TokenType is JsonTokenType.StartObject or JsonTokenType.StartArray) names.Enter(reader.TokenType == JsonTokenType.StartObject);
        }

        return null;
    }
}
