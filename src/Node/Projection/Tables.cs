using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;

namespace CyberMesh.Node.Projection;

/// <summary>A table of the queryable copy, as rows are written to it and compared with the chain.</summary>
/// <param name="Columns">In the order of the values of a row; the key's come first.</param>
/// <param name="KeyLength">How many of the columns identify a row.</param>
internal sealed record Table(string Name, int KeyLength, params ImmutableArray<string> Columns)
{
    public string Key => string.Join(", ", Columns.Take(KeyLength));

    /// <summary>A condition: the row whose key is in the first parameters.</summary>
    public string WhereKey => Where(i => $"${i + 1}");

    private string Where(Func<int, string> value) => string.Join(" AND ", Columns.Take(KeyLength).Select((k, i) => $"{Name}.{k} = {value(i)}"));

    public string Select => $"SELECT {string.Join(", ", Columns)} FROM {Name}";

    /// <summary>As many rows at once; a row that is there stays as it is.</summary>
    public string Insert(int rows) => $"INSERT INTO {Name} ({string.Join(", ", Columns)}) VALUES {Placeholders(rows, Columns.Length)} ON CONFLICT DO NOTHING";

    /// <summary>As many rows at once; a row that is there gets the new values.</summary>
    public string Put(int rows) =>
        $"INSERT INTO {Name} ({string.Join(", ", Columns)}) VALUES {Placeholders(rows, Columns.Length)} "
        + $"ON CONFLICT ({Key}) DO UPDATE SET {string.Join(", ", Columns.Skip(KeyLength).Select(c => $"{c} = excluded.{c}"))}";

    /// <summary>Some columns of as many rows at once; key and new values as in <see cref="Columns"/>.</summary>
    public string Update(int rows, ImmutableArray<string> changed) => rows == 1
        ? $"UPDATE {Name} SET {string.Join(", ", changed.Select((c, i) => $"{c} = ${KeyLength + i + 1}"))} WHERE {WhereKey}"
        : $"WITH change ({Key}, {string.Join(", ", changed)}) AS (VALUES {Placeholders(rows, KeyLength + changed.Length)}) "
        + $"UPDATE {Name} SET {string.Join(", ", changed.Select(c => $"{c} = change.{c}"))} FROM change WHERE {Where(i => $"change.{Columns[i]}")}";

    private static string Placeholders(int rows, int width) =>
        string.Join(", ", Enumerable.Range(0, rows).Select(r => "(" + string.Join(", ", Enumerable.Range((r * width) + 1, width).Select(n => "$" + n)) + ")"));
}

/// <summary>All that follows from the chain; <c>cursor</c>, <c>chain</c>, <c>log_checkpoint</c> and <c>outbox</c> tell about the copying.</summary>
internal static class Tables
{
    public static readonly Table Blocks = new("blocks", 1, "height", "hash", "parent", "time_ms", "view", "proposer", "tx_count", "accepted_count", "tx_root", "state_root");

    /// <summary>All but accepted alerts, whose row in <see cref="Alerts"/> tells as much.</summary>
    public static readonly Table OtherTransactions = new("other_transactions", 2, "height", "position", "digest", "kind", "id", "producer_key", "result");

    public static readonly Table Alerts = new(
        "alerts", 2, "height", "position", "digest", "id", "type", "source", "severity", "confidence_bp", "time_s", "model_version", "producer", "producer_key", "organisation", "payload");

    /// <summary>Where transactions stand, by digest and by identifier (<see cref="Schema.KeyOf(string)"/>).</summary>
    public static readonly Table TransactionKeys = new("transaction_keys", 3, "key", "height", "position");

    /// <summary>Of the alerts that have not expired: what is not here has.</summary>
    public static readonly Table AlertStatuses = new("alert_statuses", 2, "height", "position", "status", "decided_by");

    /// <summary>Which blocks hold an alert with this type, source, producer or organisation, or (field <c>status</c>) one that has expired: a row for each of a block, where an index of alerts would have one for each alert.</summary>
    public static readonly Table AlertBlocks = new("alert_blocks", 3, "field", "value", "height");

    /// <summary>With the place of the alert; empty when it was reported below the first block of the copy.</summary>
    public static readonly Table AlertChanges = new("alert_changes", 2, "height", "event", "digest", "status", "decided_by", "alert_height", "alert_position");

    /// <summary>As many rows of <see cref="AlertChanges"/> for which the database looks up the place of the alert: given are the other columns, and the key of its digest.</summary>
    public static string InsertAlertChangesFound(int rows)
    {
        static string Row(int first)
        {
            var alert = $"FROM transaction_keys k JOIN alerts t ON t.height = k.height AND t.position = k.position WHERE k.key = ${first + 5} AND t.digest = ${first + 2}";
            return $"(${first}, ${first + 1}, ${first + 2}, ${first + 3}, ${first + 4}, (SELECT t.height {alert}), (SELECT t.position {alert}))";
        }

        return $"INSERT INTO {AlertChanges.Name} ({string.Join(", ", AlertChanges.Columns)}) VALUES {string.Join(", ", Enumerable.Range(0, rows).Select(r => Row((6 * r) + 1)))} ON CONFLICT DO NOTHING";
    }

    public static readonly Table Evidence = new("evidence", 1, "digest", "id", "type", "time_s", "producer", "custody_count", "custody_verified", "height", "position");
    public static readonly Table EvidenceLinks = new("evidence_links", 2, "height", "event", "evidence", "reference", "alert");

    public static readonly Table Policies = new(
        "policies", 1, "digest", "id", "action", "rule", "time_s", "producer", "params", "height", "position", "status", "until_ms", "decided_by");

    public static readonly Table PolicyChanges = new("policy_changes", 2, "height", "event", "digest", "status", "until_ms", "decided_by");
    public static readonly Table Producers = new("producers", 1, "key", "name", "organisation", "kinds", "since_height", "revoked_height");

    public static readonly Table ReputationChanges = new(
        "reputation_changes", 2, "height", "event", "producer", "cause", "score_before", "score_after", "message", "message_id", "note");

    public static readonly Table Reputations = new("reputations", 1, "producer", "reputation");
    public static readonly Table Validators = new("validators", 2, "epoch", "position", "name", "consensus_key", "control_key", "first_term");
    public static readonly Table ViewChanges = new("view_changes", 1, "height", "view", "previous_view", "proposer");
    public static readonly Table Orders = new("orders", 1, "digest", "number", "change", "kind", "height", "position");
    public static readonly Table Misbehaviour = new("misbehaviour", 1, "digest", "validator", "kind", "view", "slot_height", "height", "position");
    public static readonly Table LogBlocks = new("log_blocks", 1, "height", "first_position");
    public static readonly Table LogNodes = new("log_nodes", 2, "level", "position", "hash");

    public static readonly ImmutableArray<Table> All =
    [
        Blocks, Alerts, AlertStatuses, AlertBlocks, OtherTransactions, TransactionKeys, AlertChanges, Evidence, EvidenceLinks, Policies, PolicyChanges, Producers, ReputationChanges, Reputations, Validators, ViewChanges, Orders, Misbehaviour,
        LogBlocks, LogNodes,
    ];

    /// <summary>Those of the transparency log; a copy that began above the first block lacks them.</summary>
    public static readonly IReadOnlySet<Table> OfLog = new HashSet<Table>([LogBlocks, LogNodes]);
}
