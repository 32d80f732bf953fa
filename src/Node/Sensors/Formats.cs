using System;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Nodes;
using CyberMesh.Core.Encoding;

namespace CyberMesh.Node.Sensors;

/// <summary>Turns a sensor's line into a detection; null with the reason when the line is not one.</summary>
public static class Formats
{
    private static readonly JsonDocumentOptions Strict = new() { MaxDepth = Limits.JsonDepthMax - 1, AllowDuplicateProperties = false };

    /// <summary>A Suricata EVE line. Only <c>event_type: alert</c> becomes a detection; the whole event travels in the payload.</summary>
    public static Detection? Eve(string line, out string? problem)
    {
        if (!TryParse(line, out var root, out problem)) return null;
        try
        {
            if ((string?)root["event_type"] != "alert" || root["alert"] is not JsonObject alert)
            {
                problem = "not an alert event";
                return null;
            }

            // Suricata: 1 is the most severe of 1 to 4. Ours: 10 is the most severe.
            var severity = (int?)alert["severity"] switch { 1 => 8u, 2 => 5u, 3 => 3u, _ => 2u };
            const double confidence = 0.8; // a signature match, not a model's score
            var payload = Payload(severity, confidence, "eve", root);
            return Check(new Detection(
                Short((string?)alert["category"] is { Length: > 0 } category ? category : "suricata"), Short((string?)root["src_ip"] ?? "unknown"),
                severity, confidence, "suricata-eve", payload), out problem);
        }
        catch (Exception wrongType) when (wrongType is InvalidOperationException or FormatException)
        {
            problem = "a field has another type than Suricata gives it";
            return null;
        }
    }

    /// <summary>A line of Zeek's notice.log as JSON. Zeek knows no severity: a notice that raises an alarm counts 7, any other 5.</summary>
    public static Detection? Zeek(string line, out string? problem)
    {
        if (!TryParse(line, out var root, out problem)) return null;
        try
        {
            if ((string?)root["note"] is not { Length: > 0 } note)
            {
                problem = "not a notice";
                return null;
            }

            var alarm = root["actions"] is JsonArray actions && actions.Any(action => ((string?)action)?.EndsWith("ACTION_ALARM", StringComparison.Ordinal) == true);
            var severity = alarm ? 7u : 5u;
            const double confidence = 0.7;
            var source = (string?)root["src"] ?? (string?)root["id.orig_h"] ?? (string?)root["peer_descr"];
            return Check(new Detection(Short(note), Short(source is { Length: > 0 } ? source : "unknown"), severity, confidence, "zeek-notice", Payload(severity, confidence, "zeek", root)), out problem);
        }
        catch (Exception wrongType) when (wrongType is InvalidOperationException or FormatException)
        {
            problem = "a field has another type than Zeek gives it";
            return null;
        }
    }

    /// <summary>A line of Falco's JSON output.</summary>
    public static Detection? Falco(string line, out string? problem)
    {
        if (!TryParse(line, out var root, out problem)) return null;
        try
        {
            if ((string?)root["rule"] is not { Length: > 0 } rule || (string?)root["priority"] is not { } priority)
            {
                problem = "not a Falco alert";
                return null;
            }

            var severity = priority.ToLowerInvariant() switch
            {
                "emergency" => 10u,
                "alert" => 9u,
                "critical" => 8u,
                "error" => 7u,
                "warning" => 5u,
                "notice" => 4u,
                "informational" or "info" => 2u,
                _ => 1u,
            };
            const double confidence = 0.8; // a rule match, not a model's score
            return Check(new Detection(
                Short(rule), Short((string?)root["hostname"] is { Length: > 0 } host ? host : "unknown"), severity, confidence, "falco", Payload(severity, confidence, "falco", root)), out problem);
        }
        catch (Exception wrongType) when (wrongType is InvalidOperationException or FormatException)
        {
            problem = "a field has another type than Falco gives it";
            return null;
        }
    }

    /// <summary>A line of plain NDJSON with <c>type</c>, <c>source</c>, <c>severity</c> (1–10) and <c>confidence</c> (0–1); the whole object travels in the payload.</summary>
    public static Detection? Ndjson(string line, out string? problem)
    {
        if (!TryParse(line, out var root, out problem)) return null;
        try
        {
            if ((string?)root["type"] is not { Length: > 0 } type || (string?)root["source"] is not { Length: > 0 } source
                || (double?)root["severity"] is not (>= 1 and <= 10) || (double?)root["confidence"] is not { } confidence || confidence is < 0 or > 1)
            {
                problem = "needs type, source, severity (1 to 10) and confidence (0 to 1)";
                return null;
            }

            var severity = (uint)(double)root["severity"]!;
            return Check(new Detection(
                Short(type), Short(source), severity, confidence, Short((string?)root["model_version"] ?? "ndjson"), Payload(severity, confidence, "event", root)), out problem);
        }
        catch (Exception wrongType) when (wrongType is InvalidOperationException or FormatException)
        {
            problem = "type and source must be text, severity and confidence numbers";
            return null;
        }
    }

    private static bool TryParse(string line, out JsonObject root, out string? problem)
    {
        root = [];
        problem = null;
        try
        {
            if (JsonNode.Parse(line, null, Strict) is JsonObject parsed)
            {
                root = parsed;
                return true;
            }

            problem = "not a JSON object";
        }
        catch (JsonException)
        {
            problem = "not JSON, or nested too deep, or with a name twice";
        }

        return false;
    }

    private static string Payload(uint severity, double confidence, string name, JsonObject original) => string.Create(
        CultureInfo.InvariantCulture, $$"""{"severity":{{severity}},"confidence":{{confidence:R}},"{{name}}":{{original.ToJsonString()}}}""");

    private static Detection? Check(Detection detection, out string? problem)
    {
        problem = detection.Payload.Length > Limits.PayloadBytesMax ? $"longer than {Limits.PayloadBytesMax} bytes" : null;
        return problem is null ? detection : null;
    }

    private static string Short(string text) => text.Length <= 64 ? text : text[..64];
}
