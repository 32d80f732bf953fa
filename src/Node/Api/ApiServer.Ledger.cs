using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Nodes;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Node.Projection;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;

namespace CyberMesh.Node.Api;

/// <summary>Alerts, evidence, policies and producers as the state machine has them (docs/state-machine.md).</summary>
public sealed partial class ApiServer
{
    private const int ReputationChangesShown = 100;
    private const int TextCharactersMax = 256;

    /// <summary>Alerts that one page of a search looks at: about a tenth of a second.</summary>
    private const int SearchedMax = 20_000;

    internal static readonly string[] AlertStatuses = Names<AlertStatus>();
    internal static readonly string[] PolicyStatuses = Names<PolicyStatus>();

    private static string[] Names<T>() where T : struct, Enum => [.. Enum.GetNames<T>().Select(JsonNamingPolicy.SnakeCaseLower.ConvertName)];

    private IResult Alerts(
        string? cursor, string? limit, string? status, string? type, string? source, string? producer, string? organisation, [FromQuery(Name = "severity_min")] string? severityMin, string? since, string? until, string? text, string? format)
    {
        var severity = 1;
        if (format is not (null or "ocsf")) return Problem(400, "bad_parameter", "format must be ocsf.", "Leave it out for ours.");
        if (severityMin is not null && (!int.TryParse(severityMin, NumberStyles.None, CultureInfo.InvariantCulture, out severity) || severity is < 1 or > 10))
            return Problem(400, "bad_parameter", "severity_min must be a whole number from 1 to 10.", "Leave it out for all.");
        if (!TryTime(since, DateTimeOffset.MinValue, out var from) || !TryTime(until, DateTimeOffset.MaxValue, out var to))
            return Problem(400, "bad_parameter", "since and until are times in RFC 3339.", "Such as 2026-01-31T08:00:00Z.");
        var filter = new AlertFilter(type, source, producer, organisation, severity, from, to);
        if (text is not null && text.Length is 0 or > TextCharactersMax) return Problem(400, "bad_parameter", $"text must have 1 to {TextCharactersMax} characters.", "Leave it out for all.");
        object Shown(AlertRow row) => format is null ? View(row) : Ocsf(row);
        return text is null
            ? Page("alerts", cursor, limit, status, AlertStatuses, (height, index, count, of) => _sources.Projection.Alerts(height, index, count, of, filter), row => (row.Height, row.Index), Shown)
            : Page("alerts", cursor, limit, status, AlertStatuses, (height, index, count, of) => Search(text, height, index, count, of, filter), Shown);
    }

    /// <summary>Looks through what the other filters leave. A page ends after so many alerts even when it has found few, so that nobody keeps the database busy for long.</summary>
    private (List<AlertRow> Found, (ulong Height, int Index)? Next) Search(string text, ulong height, int index, int count, string? status, AlertFilter filter)
    {
        var found = new List<AlertRow>();
        for (var looked = 0; looked < SearchedMax; looked += PageMax)
        {
            var rows = _sources.Projection.Alerts(height, index, PageMax, status, filter);
            foreach (var row in rows)
            {
                if (!Says(row, text)) continue;
                found.Add(row);
                if (found.Count == count) return (found, (row.Height, row.Index));
            }

            if (rows.Count < PageMax) return (found, null);
            (height, index) = (rows[^1].Height, rows[^1].Index);
        }

        return (found, (height, index));
    }

    private static bool Says(AlertRow row, string text) =>
        new[] { row.Payload, row.Type, row.Source, row.Id, row.Producer, row.Organisation, row.ModelVersion }.Any(field => field.Contains(text, StringComparison.OrdinalIgnoreCase));

    private static bool TryTime(string? text, DateTimeOffset missing, out DateTimeOffset time)
    {
        time = missing;
        return text is null || DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out time);
    }

    /// <summary>One page of a list that is read newest first, of one status or of any.</summary>
    private static IResult Page<T>(
        string name, string? cursor, string? limit, string? status, string[] statuses, Func<ulong, int, int, string?, List<T>> read, Func<T, (ulong Height, int Index)> place,
        Func<T, object> view) =>
        Page(name, cursor, limit, status, statuses, (height, index, count, of) => read(height, index, count, of) is var rows && rows.Count == count ? (rows, place(rows[^1])) : (rows, null), view);

    /// <param name="read">Also says where the next page begins; null after the last.</param>
    private static IResult Page<T>(
        string name, string? cursor, string? limit, string? status, string[] statuses, Func<ulong, int, int, string?, (List<T> Rows, (ulong Height, int Index)? Next)> read, Func<T, object> view)
    {
        if (!TryLimit(limit, out var count)) return BadLimit();
        if (status is not null && !statuses.Contains(status)) return Problem(400, "bad_parameter", "This is no status.", "Use one of: " + string.Join(", ", statuses) + ".");
        var (height, index) = (ulong.MaxValue, int.MaxValue);
        if (cursor is not null && !TryCursor(cursor, out height, out index))
            return Problem(400, "bad_parameter", "This cursor was not made by this API.", "Start without a cursor, then pass 'next' as it is.");
        var (rows, next) = read(height, index, count, status);
        return Results.Ok(new Dictionary<string, object?> { [name] = rows.Select(view), ["next"] = next is { } n ? Cursor(n.Height, n.Index) : null });
    }

    private IResult Alert(string id)
    {
        if (!IsId(id) || _sources.Projection.Alert(id) is not { } row)
            return Problem(404, "alert_not_found", "No committed alert has this id or digest.", "It may still be waiting; see /health for the mempool.");
        return Results.Ok(View(row, _sources.Projection.AlertChanges(row.Digest), _sources.Projection.EvidenceOf(row.Digest)));
    }

    private static object View(AlertRow row, List<StatusChange>? history = null, List<EvidenceLink>? evidence = null) => new
    {
        row.Id,
        row.Digest,
        row.Status,
        row.DecidedBy,
        row.Type,
        row.Source,
        row.Severity,
        Confidence = row.ConfidenceBasisPoints / 10_000m,
        Time = Time(row.Time),
        row.ModelVersion,
        row.Producer,
        row.Organisation,
        row.Height,
        row.Index,
        Payload = JsonNode.Parse(row.Payload),
        History = history,
        Evidence = evidence?.Select(link => link.Evidence),
    };

    private IResult Evidence(string id) => IsId(id) && _sources.Projection.Evidence(id) is { } row
        ? Results.Ok(View(row))
        : Problem(404, "evidence_not_found", "No committed evidence has this id or digest.", "It may still be waiting; see /health for the mempool.");

    private IResult EvidenceList(string? type, string? cursor, string? limit) => Page(
        "evidence", cursor, limit, null, [], (height, index, count, _) => _sources.Projection.Evidence(height, index, count, type), row => (row.Height, row.Index), View);

    private object View(EvidenceRow row) => new
    {
        row.Id,
        row.Digest,
        row.Type,
        Time = Time(row.Time),
        row.Producer,
        row.CustodyCount,
        row.CustodyVerified,
        row.Height,
        row.Index,
        References = _sources.Projection.Links(row.Digest).Select(link => new { link.Reference, link.Alert, Dangling = link.Alert is null }),
    };

    private IResult Policies(string? cursor, string? limit, string? status) => Page(
        "policies", cursor, limit, status, PolicyStatuses, _sources.Projection.Policies, row => (row.Height, row.Index), row => View(row));

    private IResult Policy(string id) => IsId(id) && _sources.Projection.Policy(id) is { } row
        ? Results.Ok(View(row, _sources.Projection.PolicyChanges(row.Digest)))
        : Problem(404, "policy_not_found", "No accepted policy has this id or digest.", "It may still be waiting, or have been refused; see the block it came in.");

    private static object View(PolicyRow row, List<StatusChange>? history = null) => new
    {
        row.Id,
        row.Digest,
        row.Status,
        row.DecidedBy,
        Until = Time(row.Until),
        row.Action,
        row.RuleType,
        Time = Time(row.Time),
        row.Producer,
        row.Height,
        row.Index,
        Params = JsonNode.Parse(row.Params),
        History = history,
    };

    private IResult Producers()
    {
        var reputations = _sources.Projection.Reputations();
        var byName = _sources.Producers.All.GroupBy(p => p.Name).OrderBy(keys => keys.Key, StringComparer.Ordinal);
        return Results.Ok(new { Producers = byName.Select(keys => View([.. keys], reputations)) });
    }

    private IResult Producer(string name)
    {
        Producer[] keys = [.. _sources.Producers.Named(name)];
        return keys.Length > 0
            ? Results.Ok(View(keys, _sources.Projection.Reputations(), _sources.Projection.ReputationChanges(name, ReputationChangesShown)))
            : Problem(404, "producer_not_found", "The trust store has no producer of this name.", "See /v1/producers.");
    }

    /// <param name="keys">All of one name.</param>
    private static object View(Producer[] keys, Dictionary<string, int> reputations, List<ReputationChange>? history = null)
    {
        var present = keys.FirstOrDefault(k => k.ValidTo is null && !k.Revoked) ?? keys[^1];
        return new
        {
            present.Name,
            present.Organisation,
            Kinds = present.Kinds.Names(),
            Reputation = reputations.GetValueOrDefault(present.Name, ProducerStanding.InitialReputation),
            present.QuotaPerSecond,
            Keys = keys.Select(k => new { Key = k.Key.ToString(), Profiles = k.Profiles.ToString().ToLowerInvariant().Split(", "), ValidFrom = k.ValidFrom.Value, ValidTo = k.ValidTo?.Value, k.Revoked }),
            History = history,
        };
    }

    private static bool IsId(string id) => id.Length <= Core.Encoding.Limits.IdBytesMax;

    private static string Cursor(ulong height, int index) => Convert.ToHexStringLower(System.Text.Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{height}.{index}")));

    private static bool TryCursor(string cursor, out ulong height, out int index)
    {
        (height, index) = (0, 0);
        if (cursor.Length is 0 or > 80 || cursor.Length % 2 != 0 || !cursor.All(char.IsAsciiHexDigit)) return false;
        var parts = System.Text.Encoding.ASCII.GetString(Convert.FromHexString(cursor)).Split('.');
        return parts.Length == 2 && TryHeight(parts[0], out height) && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out index);
    }
}
