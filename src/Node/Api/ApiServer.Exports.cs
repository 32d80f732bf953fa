using System;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CyberMesh.Node.Projection;
using Microsoft.AspNetCore.Http;

namespace CyberMesh.Node.Api;

/// <summary>What other systems read: alerts as OCSF Detection Findings (class 2004), policies in force as a STIX 2.1 bundle of indicators.</summary>
public sealed partial class ApiServer
{
    private const string OcsfVersion = "1.4.0";

    /// <summary>Of the node that made the bundle; the same on every validator, as is everything in it.</summary>
    private static readonly string StixIdentity = "identity--" + StixUuid("cybermesh");

    private static JsonObject Ocsf(AlertRow row) => new()
    {
        ["category_uid"] = 2, // Findings
        ["class_uid"] = 2004, // Detection Finding
        ["activity_id"] = 1, // Create
        ["type_uid"] = 200401,
        ["time"] = row.Time.ToUnixTimeMilliseconds(),
        ["severity_id"] = (row.Severity + 1) / 2, // ours are 1 to 10; theirs 1 Informational, 2 Low, 3 Medium, 4 High, 5 Critical
        ["status_id"] = row.Status switch { "false_positive" => 3, "confirmed" or "disputed" => 2, _ => 1 }, // 1 New, 2 In Progress, 3 Suppressed
        ["is_alert"] = true,
        ["confidence_score"] = row.ConfidenceBasisPoints / 100,
        ["message"] = $"{row.Type} from {row.Source}",
        ["metadata"] = new JsonObject
        {
            ["version"] = OcsfVersion,
            ["uid"] = row.Digest,
            ["product"] = new JsonObject { ["name"] = "CyberMesh", ["vendor_name"] = "CyberMesh" },
            ["log_provider"] = row.Producer,
            ["tenant_uid"] = row.Organisation,
        },
        ["finding_info"] = new JsonObject
        {
            ["uid"] = row.Id,
            ["title"] = row.Type,
            ["created_time"] = row.Time.ToUnixTimeMilliseconds(),
            ["data_sources"] = new JsonArray(row.Producer),
            ["analytic"] = new JsonObject { ["name"] = row.ModelVersion, ["type_id"] = 4 }, // Learning (ML/DL)
        },
        ["observables"] = new JsonArray(new JsonObject { ["name"] = "source", ["type_id"] = System.Net.IPAddress.TryParse(row.Source, out _) ? 2 : 1, ["value"] = row.Source }), // 2 IP Address, 1 Hostname
        ["unmapped"] = new JsonObject { ["status"] = row.Status, ["decided_by"] = row.DecidedBy, ["height"] = row.Height, ["index"] = row.Index },
    };

    private IResult StixBundle(bool? isV4, HttpContext context)
    {
        var policies = InForce(isV4).OrderBy(p => p.Policy.Digest, StringComparer.Ordinal).ToList();
        var objects = new JsonArray();
        if (policies.Count > 0)
            objects.Add(new JsonObject
            {
                ["type"] = "identity",
                ["spec_version"] = "2.1",
                ["id"] = StixIdentity,
                ["created"] = "2026-01-01T00:00:00.000Z",
                ["modified"] = "2026-01-01T00:00:00.000Z",
                ["name"] = "CyberMesh",
                ["identity_class"] = "system",
            });
        foreach (var (policy, targets) in policies)
            objects.Add(new JsonObject
            {
                ["type"] = "indicator",
                ["spec_version"] = "2.1",
                ["id"] = "indicator--" + StixUuid(policy.Digest),
                ["created_by_ref"] = StixIdentity,
                ["created"] = StixTime(policy.Time),
                ["modified"] = StixTime(policy.Time),
                ["name"] = $"policy {policy.Id}",
                ["indicator_types"] = new JsonArray("malicious-activity"),
                ["pattern"] = string.Join(" OR ", targets.Select(t => $"[{(t.IsV4 ? "ipv4" : "ipv6")}-addr:value = '{t}']")),
                ["pattern_type"] = "stix",
                ["valid_from"] = StixTime(policy.Time),
                ["valid_until"] = StixTime(policy.Until),
                ["external_references"] = new JsonArray(new JsonObject { ["source_name"] = "cybermesh", ["external_id"] = policy.Digest }),
            });
        var content = objects.ToJsonString();
        if (IsKnown(context, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(content)).AsSpan(0, 16)), isForGood: false)) return Results.StatusCode(304);
        // An empty bundle has no member 'objects' (STIX 2.1, section 8).
        var bundle = new JsonObject { ["type"] = "bundle", ["id"] = "bundle--" + StixUuid(content) };
        if (objects.Count > 0) bundle["objects"] = objects;
        return Results.Text(bundle.ToJsonString(new JsonSerializerOptions { WriteIndented = false }), "application/stix+json;version=2.1");
    }

    private static string StixTime(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>The same for the same content on every validator, in the form of a version 4 UUID, which STIX wants.</summary>
    private static Guid StixUuid(string content)
    {
        var bytes = SHA256.HashData(Encoding.UTF8.GetBytes(content))[..16];
        bytes[6] = (byte)((bytes[6] & 0x0f) | 0x40);
        bytes[8] = (byte)((bytes[8] & 0x3f) | 0x80);
        return new Guid(bytes, bigEndian: true);
    }
}
