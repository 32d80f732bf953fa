using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Projection;
using Microsoft.AspNetCore.Http;

namespace CyberMesh.Node.Api;

/// <summary>
/// Block lists for firewalls that read lists over HTTP. A feed is the word of this one validator; who wants to obey the quorum alone runs <c>cybermesh enforce</c>,
/// which checks the proof of each policy.
/// </summary>
public sealed partial class ApiServer
{
    /// <summary>Policies in force that a feed is made of at most.</summary>
    private const int FeedPoliciesMax = 20_000;

    private static readonly JsonSerializerOptions FeedJson = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private sealed record FeedEntry(string Network, string Policy, string Until);

    private IResult Feed(string file, HttpContext context)
    {
        var (name, form) = file.LastIndexOf('.') is var dot and > 0 ? (file[..dot], file[(dot + 1)..]) : (file, "");
        if (name is not ("blocked" or "blocked-ipv4" or "blocked-ipv6") || form is not ("txt" or "json" or "stix"))
            return Problem(404, "feed_not_found", "There is no such feed.", "Feeds are blocked, blocked-ipv4 and blocked-ipv6, each as .txt, .json and .stix.");
        bool? isV4 = name switch { "blocked-ipv4" => true, "blocked-ipv6" => false, _ => null };
        if (form == "stix") return StixBundle(isV4, context);
        var entries = Blocked(isV4);
        var body = form == "txt"
            ? Encoding.ASCII.GetBytes(string.Concat(entries.Select(e => e.Network).Distinct().Select(network => network + "\n")))
            : JsonSerializer.SerializeToUtf8Bytes(new { Feed = name, Entries = entries }, FeedJson);
        // The same content has the same tag on every validator.
        if (IsKnown(context, Convert.ToHexStringLower(SHA256.HashData(body).AsSpan(0, 16)), isForGood: false)) return Results.StatusCode(304);
        return Results.Bytes(body, form == "txt" ? "text/plain; charset=utf-8" : "application/json");
    }

    private List<FeedEntry> Blocked(bool? isV4) =>
    [
        .. InForce(isV4).SelectMany(p => p.Targets.Select(network => new FeedEntry(network.ToString(), p.Policy.Id, Time(p.Policy.Until))))
            .OrderBy(e => e.Network, StringComparer.Ordinal).ThenBy(e => e.Policy, StringComparer.Ordinal),
    ];

    /// <summary>Policies that block, with the networks they name.</summary>
    private List<(PolicyRow Policy, IpPrefix[] Targets)> InForce(bool? isV4)
    {
        var now = _sources.Time.GetUtcNow();
        var policies = new List<(PolicyRow, IpPrefix[])>();
        var (height, index, read) = (ulong.MaxValue, int.MaxValue, 0);
        List<PolicyRow> page;
        do
        {
            page = _sources.Projection.Policies(height, index, PageMax, "active");
            foreach (var policy in page)
            {
                (height, index, read) = (policy.Height, policy.Index, read + 1);
                // A chain that stands still ends no policy; their time is over all the same.
                if (policy.RuleType is not ("block" or "blacklist") || policy.Until <= now || !PolicyParams.TryRead(Encoding.UTF8.GetBytes(policy.Params), out var parameters, out _)) continue;
                IpPrefix[] targets = [.. parameters.Targets.Where(network => isV4 is null || network.IsV4 == isV4)];
                if (targets.Length > 0) policies.Add((policy, targets));
            }
        }
        while (page.Count == PageMax && read < FeedPoliciesMax);
        return policies;
    }
}
