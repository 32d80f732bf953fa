using System;
using System.Collections.Generic;
using System.Data.Common;
using System.Linq;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Projection;

public sealed record BlockRow(
    ulong Height, string Hash, string Parent, DateTimeOffset Time, string View, string Proposer, int TransactionCount, int AcceptedCount,
    string TransactionRoot, string StateRoot);

public sealed record TransactionRow(string Digest, ulong Height, int Index, string Kind, string Id, string Producer, string Result);

public sealed record AlertRow(
    string Digest, string Id, string Type, string Source, int Severity, int ConfidenceBasisPoints, DateTimeOffset Time, string ModelVersion,
    string Producer, string Organisation, ulong Height, int Index, string Payload, string Status, string DecidedBy);

/// <param name="Status">The new one.</param>
public sealed record StatusChange(ulong Height, string Status, string By);

public sealed record SubjectChange(string Digest, string Status, string By);

/// <param name="Alert">Transaction digest of the alert the reference names; null when it is dangling.</param>
public sealed record EvidenceLink(string Evidence, string Reference, string? Alert);

public sealed record EvidenceRow(
    string Digest, string Id, string Type, DateTimeOffset Time, string Producer, int CustodyCount, bool CustodyVerified, ulong Height, int Index);

/// <param name="Until">End of the time in force, or of the wait for approval.</param>
public sealed record PolicyRow(
    string Digest, string Id, string Action, string RuleType, DateTimeOffset Time, string Producer, string Params, ulong Height, int Index, string Status,
    DateTimeOffset Until, string DecidedBy);

public sealed record ReputationChange(ulong Height, string Cause, int Before, int After, string Message, string MessageId, string Note);

public sealed record ViewChangeRow(ulong Height, string View, string PreviousView, string Proposer);

/// <param name="SlotHeight">What the validator has contradicted itself about.</param>
public sealed record MisbehaviourRow(string Digest, string Validator, string Kind, string View, ulong SlotHeight, ulong Height, int Index);

/// <param name="Change">Digest of what the operators have signed.</param>
public sealed record OrderRow(string Digest, ulong Number, string Change, string Kind, ulong Height, int Index);

/// <summary>Which alerts; null stands for all. Times are those that the sensors give.</summary>
public sealed record AlertFilter(string? Type, string? Source, string? Producer, string? Organisation, int SeverityMin, DateTimeOffset Since, DateTimeOffset Until)
{
    public static AlertFilter None { get; } = new(null, null, null, null, 1, DateTimeOffset.MinValue, DateTimeOffset.MaxValue);
}

/// <summary>Queries; each reads beside the writer, on a connection of its own.</summary>
public sealed partial class Projection
{
    public BlockRow? Block(ulong height) => First("WHERE height = $1", BlockOf, BlockColumns, (long)Math.Min(height, long.MaxValue));

    public BlockRow? Block(string hash) => First("WHERE hash = $1", BlockOf, BlockColumns, hash);

    public BlockRow? LatestBlock() => First("ORDER BY height DESC LIMIT 1", BlockOf, BlockColumns);

    /// <summary>Newest first, below <paramref name="before"/>.</summary>
    public List<BlockRow> Blocks(ulong before, int limit) =>
        Query(BlockColumns + " WHERE height < $1 ORDER BY height DESC LIMIT $2", BlockOf, (long)Math.Min(before, long.MaxValue), limit);

    public List<TransactionRow> Transactions(ulong height) =>
        Query($"{AlertAsTransaction} FROM alerts t WHERE t.height = $1 UNION ALL {OtherTransaction} FROM other_transactions t WHERE t.height = $1 ORDER BY position", TransactionOf, (long)Math.Min(height, long.MaxValue));

    /// <summary>By digest, or by the producer's id; of several the first accepted.</summary>
    public TransactionRow? Transaction(string digestOrId) => Query(TransactionQuery, TransactionOf, Keys(digestOrId)).FirstOrDefault();

    internal static string TransactionQuery =>
        $"SELECT * FROM ({AlertAsTransaction} FROM {FoundIn("alerts t")} UNION ALL {OtherTransaction} FROM {FoundIn("other_transactions t")}) AS found ORDER BY result <> 'accepted', height, position LIMIT 1";

    /// <summary>Newest first, below the place (height, index); of one status, or of any.</summary>
    public List<AlertRow> Alerts(ulong beforeHeight, int beforeIndex, int limit, string? status = null, AlertFilter? filter = null)
    {
        var (sql, values) = AlertsQuery(beforeHeight, beforeIndex, limit, status, filter);
        return Query(sql, AlertOf, values);
    }

    internal static (string Sql, object[] Values) AlertsQuery(ulong beforeHeight, int beforeIndex, int limit, string? status, AlertFilter? filter)
    {
        var (where, values) = (new List<string>(), new List<object> { (long)Math.Min(beforeHeight, long.MaxValue), beforeIndex, limit });
        string Parameter(object value)
        {
            values.Add(value);
            return $"${values.Count}";
        }

        // Only what is asked for, so that the database finds the index for it.
        if (filter?.SeverityMin > 1) where.Add($"t.severity >= {Parameter(filter.SeverityMin)}");
        if (filter is not null && filter.Since > DateTimeOffset.MinValue) where.Add($"t.time_s >= {Parameter(filter.Since.ToUnixTimeSeconds())}");
        if (filter is not null && filter.Until < DateTimeOffset.MaxValue) where.Add($"t.time_s < {Parameter(filter.Until.ToUnixTimeSeconds())}");

        // Alerts of any other status than expired have an index. Of all, and of those that expired, the blocks that hold such alerts are walked, newest first.
        var walksBlocks = status is null or "expired";
        var walked = new List<string>();
        foreach (var (field, value) in new[] { ("type", filter?.Type), ("source", filter?.Source), ("producer", filter?.Producer), ("organisation", filter?.Organisation), ("status", walksBlocks ? status : null) })
        {
            if (value is null) continue;
            var parameter = Parameter(value);
            if (field != "status") where.Add($"t.{field} = {parameter}");
            if (!walksBlocks) continue;
            var blocks = "of_" + field;
            where.Add($"{blocks}.field = '{field}' AND {blocks}.value = {parameter} AND {blocks}.height {(walked is [var first, ..] ? $"= {first}.height" : "<= $1")}");
            walked.Add(blocks);
        }

        if (status is not null) where.Add(walksBlocks ? "s.height IS NULL" : $"s.status = {Parameter(status)}");
        // SQLite joins in the order of cross joins.
        if (!walksBlocks) return Page("alert_statuses s CROSS JOIN alerts t", "t.height = s.height AND t.position = s.position AND (s.height, s.position) < ($1, $2)", "s.height DESC, s.position DESC");
        return walked is [var newest, ..]
            ? Page(string.Concat(walked.Select(w => $"alert_blocks {w} CROSS JOIN ")) + AlertsWithStatus, $"t.height = {newest}.height AND ({newest}.height < $1 OR t.position < $2)", $"{newest}.height DESC, t.position DESC")
            // One comparison of rows (see Below).
            : Page(AlertsWithStatus, "(t.height, t.position) < ($1, $2)", "t.height DESC, t.position DESC");

        (string, object[]) Page(string tables, string place, string order) => ($"SELECT {AlertFields} FROM {tables} WHERE {string.Join(" AND ", [.. where, place])} ORDER BY {order} LIMIT $3", [.. values]);
    }

    /// <summary>Newest first, below a height.</summary>
    public List<ViewChangeRow> ViewChanges(ulong before, int limit) => Query(
        "SELECT height, view, previous_view, proposer FROM view_changes WHERE height < $1 ORDER BY height DESC LIMIT $2",
        r => new ViewChangeRow((ulong)r.GetInt64(0), r.GetString(1), r.GetString(2), r.GetString(3)), (long)Math.Min(before, long.MaxValue), limit);

    /// <summary>Newest first, below the place (height, index).</summary>
    public List<MisbehaviourRow> Misbehaviour(ulong beforeHeight, int beforeIndex, int limit) => Query(
        "SELECT digest, validator, kind, view, slot_height, height, position FROM misbehaviour WHERE " + Below,
        r => new MisbehaviourRow(r.GetString(0), r.GetString(1), r.GetString(2), r.GetString(3), (ulong)r.GetInt64(4), (ulong)r.GetInt64(5), Int(r, 6)),
        (long)Math.Min(beforeHeight, long.MaxValue), beforeIndex, limit);

    /// <summary>Newest first, below the place (height, index).</summary>
    public List<OrderRow> Orders(ulong beforeHeight, int beforeIndex, int limit) => Query(
        "SELECT digest, number, change, kind, height, position FROM orders WHERE " + Below,
        r => new OrderRow(r.GetString(0), (ulong)r.GetInt64(1), r.GetString(2), r.GetString(3), (ulong)r.GetInt64(4), Int(r, 5)),
        (long)Math.Min(beforeHeight, long.MaxValue), beforeIndex, limit);

    // As one comparison of rows: with OR, PostgreSQL walks the index from its end to every page.
    private const string Below = "(height, position) < ($1, $2) ORDER BY height DESC, position DESC LIMIT $3";

    /// <summary>What has happened to an alert since it was reported, oldest first.</summary>
    public List<StatusChange> AlertChanges(string digest) => Query(AlertChangesQuery, StatusChangeOf, Keys(digest));

    internal static string AlertChangesQuery =>
        $"SELECT c.height, c.status, c.decided_by FROM {FoundIn("alerts t CROSS JOIN alert_changes c")} AND t.digest = $1 AND c.alert_height = t.height AND c.alert_position = t.position ORDER BY c.height, c.event";

    public List<StatusChange> PolicyChanges(string digest) =>
        Query("SELECT height, status, decided_by FROM policy_changes WHERE digest = $1 ORDER BY height, event", StatusChangeOf, digest);

    private static StatusChange StatusChangeOf(DbDataReader r) => new((ulong)r.GetInt64(0), r.GetString(1), r.GetString(2));

    /// <summary>Those that one block brought, in order.</summary>
    public List<AlertRow> AlertsAt(ulong height) => Query(AlertColumns + " WHERE t.height = $1 ORDER BY t.position", AlertOf, (long)Math.Min(height, long.MaxValue));

    /// <summary>What one block did to alerts, in order.</summary>
    public List<SubjectChange> AlertChangesAt(ulong height) => ChangesAt("alert_changes", height);

    public List<SubjectChange> PolicyChangesAt(ulong height) => ChangesAt("policy_changes", height);

    private List<SubjectChange> ChangesAt(string table, ulong height) =>
        Query($"SELECT digest, status, decided_by FROM {table} WHERE height = $1 ORDER BY event", r => new SubjectChange(r.GetString(0), r.GetString(1), r.GetString(2)), (long)Math.Min(height, long.MaxValue));

    /// <summary>The first block of the copy from a height on; a height above the last one when there is none.</summary>
    public ulong FirstHeightFrom(ulong height) =>
        Query("SELECT height FROM blocks WHERE height >= $1 ORDER BY height LIMIT 1", r => (ulong)r.GetInt64(0), (long)Math.Min(height, long.MaxValue)) is [var first] ? first : Height.Value + 1;

    /// <summary>Evidence that names an alert.</summary>
    public List<EvidenceLink> EvidenceOf(string alert) => Query(LinkColumns + " WHERE alert = $1 ORDER BY height, event", LinkOf, alert);

    /// <summary>What a piece of evidence names.</summary>
    public List<EvidenceLink> Links(string evidence) => Query(LinkColumns + " WHERE evidence = $1 ORDER BY height, event", LinkOf, evidence);

    private const string LinkColumns = "SELECT evidence, reference, alert FROM evidence_links";

    private static EvidenceLink LinkOf(DbDataReader r) => new(r.GetString(0), r.GetString(1), r.IsDBNull(2) ? null : r.GetString(2));

    /// <summary>By transaction digest, or by the producer's id; of several with one id the first committed.</summary>
    public EvidenceRow? Evidence(string digestOrId) => First("WHERE digest = $1 OR id = $1 ORDER BY height, position LIMIT 1", EvidenceRowOf, EvidenceColumns, digestOrId);

    /// <summary>Newest first, below the place (height, index); of one type, or of any.</summary>
    public List<EvidenceRow> Evidence(ulong beforeHeight, int beforeIndex, int limit, string? type = null)
    {
        object[] place = [(long)Math.Min(beforeHeight, long.MaxValue), beforeIndex, limit];
        return type is null ? Query(EvidenceColumns + " WHERE " + Below, EvidenceRowOf, place) : Query(EvidenceColumns + " WHERE type = $4 AND " + Below, EvidenceRowOf, [.. place, type]);
    }

    private const string EvidenceColumns = "SELECT digest, id, type, time_s, producer, custody_count, custody_verified, height, position FROM evidence";

    private static EvidenceRow EvidenceRowOf(DbDataReader r) => new(
        r.GetString(0), r.GetString(1), r.GetString(2), DateTimeOffset.FromUnixTimeSeconds(r.GetInt64(3)), r.GetString(4), Int(r, 5), r.GetBoolean(6), (ulong)r.GetInt64(7), Int(r, 8));

    /// <summary>By transaction digest, or by the producer's id; of several with one id the last committed.</summary>
    public PolicyRow? Policy(string digestOrId) => First("WHERE digest = $1 OR id = $1 ORDER BY height DESC, position DESC LIMIT 1", PolicyOf, PolicyColumns, digestOrId);

    /// <summary>Newest first, below the place (height, index); of one status, or of any.</summary>
    public List<PolicyRow> Policies(ulong beforeHeight, int beforeIndex, int limit, string? status) =>
        Query(PolicyColumns + " WHERE ($4 = '' OR status = $4) AND " + Below, PolicyOf, (long)Math.Min(beforeHeight, long.MaxValue), beforeIndex, limit, status ?? "");

    private const string PolicyColumns = "SELECT digest, id, action, rule, time_s, producer, params, height, position, status, until_ms, decided_by FROM policies";

    private static PolicyRow PolicyOf(DbDataReader r) => new(
        r.GetString(0), r.GetString(1), r.GetString(2), r.GetString(3), DateTimeOffset.FromUnixTimeSeconds(r.GetInt64(4)), r.GetString(5), r.GetString(6),
        (ulong)r.GetInt64(7), Int(r, 8), r.GetString(9), DateTimeOffset.FromUnixTimeMilliseconds(r.GetInt64(10)), r.GetString(11));

    /// <summary>Of the producers whose reputation has ever changed.</summary>
    public Dictionary<string, int> Reputations()
    {
        var reputations = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var (producer, reputation) in Query("SELECT producer, reputation FROM reputations", r => (r.GetString(0), Int(r, 1)))) reputations[producer] = reputation;
        return reputations;
    }

    /// <summary>The newest changes of a producer's reputation, newest first.</summary>
    public List<ReputationChange> ReputationChanges(string producer, int limit) => Query(
        "SELECT height, cause, score_before, score_after, message, message_id, note FROM reputation_changes WHERE producer = $1 ORDER BY height DESC, event DESC LIMIT $2",
        r => new ReputationChange((ulong)r.GetInt64(0), r.GetString(1), Int(r, 2), Int(r, 3), r.GetString(4), r.GetString(5), r.GetString(6)), producer, limit);

    /// <summary>By transaction digest, or by the producer's id; of several with one id the first committed.</summary>
    public AlertRow? Alert(string digestOrId) => Query(AlertQuery, AlertOf, Keys(digestOrId)).FirstOrDefault();

    internal static string AlertQuery => $"SELECT {AlertFields} FROM {FoundIn(AlertsWithStatus)} ORDER BY t.height, t.position LIMIT 1";

    /// <summary>Of a table of transactions, named t: those with this digest or identifier, with the parameters of <see cref="Keys"/>.</summary>
    private static string FoundIn(string table) =>
        $"transaction_keys k CROSS JOIN {table} WHERE k.key IN ($2, $3) AND t.height = k.height AND t.position = k.position AND (t.digest = $1 OR t.id = $1)";

    private static object[] Keys(string digestOrId) =>
        [digestOrId, Digest.TryParse(digestOrId, out var digest) ? Schema.KeyOf(digest) : -1L, Schema.KeyOf(digestOrId)];

    /// <summary>Results of what producers published, in order.</summary>
    public List<(string Digest, string Result)> AllResults() =>
        [.. Query($"{AlertAsTransaction} FROM alerts t UNION ALL {OtherTransaction} FROM other_transactions t WHERE kind <> 'misbehaviour' ORDER BY height, position", TransactionOf).Select(t => (t.Digest, t.Result))];

    public long AlertCount() => Query("SELECT count(*) FROM alerts", r => r.GetInt64(0))[0];

    private const string BlockColumns = "SELECT height, hash, parent, time_ms, view, proposer, tx_count, accepted_count, tx_root, state_root FROM blocks";

    private const string AlertFields = "t.digest, t.id, t.type, t.source, t.severity, t.confidence_bp, t.time_s, t.model_version, t.producer, t.organisation, t.height AS height, t.position AS position, t.payload, "
        + "coalesce(s.status, 'expired') AS status, coalesce(s.decided_by, '') AS decided_by";

    private const string AlertsWithStatus = "alerts t LEFT JOIN alert_statuses s ON s.height = t.height AND s.position = t.position";

    private const string AlertColumns = $"SELECT {AlertFields} FROM {AlertsWithStatus}";

    private const string AlertAsTransaction = "SELECT t.digest, t.height AS height, t.position AS position, 'anomaly' AS kind, t.id, t.producer_key, 'accepted' AS result";

    private const string OtherTransaction = "SELECT t.digest, t.height AS height, t.position AS position, t.kind, t.id, t.producer_key, t.result";

    private static TransactionRow TransactionOf(DbDataReader r) =>
        new(r.GetString(0), (ulong)r.GetInt64(1), Int(r, 2), r.GetString(3), r.GetString(4), r.GetString(5), r.GetString(6));

    private static BlockRow BlockOf(DbDataReader r) => new(
        (ulong)r.GetInt64(0), r.GetString(1), r.GetString(2), DateTimeOffset.FromUnixTimeMilliseconds(r.GetInt64(3)), r.GetString(4), r.GetString(5),
        Int(r, 6), Int(r, 7), r.GetString(8), r.GetString(9));

    private static AlertRow AlertOf(DbDataReader r) => new(
        r.GetString(0), r.GetString(1), r.GetString(2), r.GetString(3), Int(r, 4), Int(r, 5), DateTimeOffset.FromUnixTimeSeconds(r.GetInt64(6)),
        r.GetString(7), r.GetString(8), r.GetString(9), (ulong)r.GetInt64(10), Int(r, 11), r.GetString(12), r.GetString(13), r.GetString(14));

    private T? First<T>(string where, Func<DbDataReader, T> map, string columns, params object[] values) where T : class
    {
        var rows = Query(columns + " " + where, map, values);
        return rows.Count == 0 ? null : rows[0];
    }

    /// <summary>Each query reads on a connection of its own, beside the writer.</summary>
    private List<T> Query<T>(string sql, Func<DbDataReader, T> map, params object[] values)
    {
        for (var i = 0; i < values.Length; i++)
            if (values[i] is int number)
                values[i] = (long)number;
        return _database.Query(map, sql, values);
    }

    private static int Int(DbDataReader reader, int column) => (int)reader.GetInt64(column);
}
