using System;
using System.Collections.Immutable;
using System.Text;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Projection;

/// <summary>
/// The tables, as steps that are never changed once released: a change is a further step. Each statement can be repeated, because a step may be cut off
/// in its middle. A step only adds to the tables, so that a validator of the version before can go on writing; one that cannot be like that says from which version on.
/// </summary>
internal static class Schema
{
    /// <summary>After a long table of short rows that are found by their key: a database that can keeps the rows in the key's index, and nowhere else.</summary>
    internal const string InKeyOrder = "/* in the order of the key */";

    public static readonly ImmutableArray<Migration> Migrations =
    [
        new(1, "the copy of the chain", 1,
        [
            "CREATE TABLE IF NOT EXISTS chain (id INT8 PRIMARY KEY, chain_id TEXT NOT NULL)",
            "CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, height INT8 NOT NULL)",
            "CREATE TABLE IF NOT EXISTS outbox (node TEXT PRIMARY KEY, waiting INT8 NOT NULL, oldest_height INT8, seen_ms INT8 NOT NULL)",
            """
            CREATE TABLE IF NOT EXISTS blocks (height INT8 PRIMARY KEY, hash TEXT NOT NULL UNIQUE, parent TEXT NOT NULL, time_ms INT8 NOT NULL, view TEXT NOT NULL,
                proposer TEXT NOT NULL, tx_count INT8 NOT NULL, accepted_count INT8 NOT NULL, tx_root TEXT NOT NULL, state_root TEXT NOT NULL)
            """,
            """
            CREATE TABLE IF NOT EXISTS alerts (height INT8 NOT NULL, position INT8 NOT NULL, digest TEXT NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, source TEXT NOT NULL,
                severity INT8 NOT NULL CHECK (severity BETWEEN 1 AND 10), confidence_bp INT8 NOT NULL CHECK (confidence_bp BETWEEN 0 AND 10000), time_s INT8 NOT NULL,
                model_version TEXT NOT NULL, producer TEXT NOT NULL, producer_key TEXT NOT NULL, organisation TEXT NOT NULL, payload TEXT NOT NULL,
                PRIMARY KEY (height, position))
            """,
            $"CREATE TABLE IF NOT EXISTS alert_statuses (height INT8 NOT NULL, position INT8 NOT NULL, status TEXT NOT NULL, decided_by TEXT NOT NULL, PRIMARY KEY (height, position)) {InKeyOrder}",
            "CREATE INDEX IF NOT EXISTS alert_statuses_by_status ON alert_statuses (status, height, position)",
            $"CREATE TABLE IF NOT EXISTS alert_blocks (field TEXT NOT NULL, value TEXT NOT NULL, height INT8 NOT NULL, PRIMARY KEY (field, value, height)) {InKeyOrder}",
            $"""
            CREATE TABLE IF NOT EXISTS other_transactions (height INT8 NOT NULL, position INT8 NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
                id TEXT NOT NULL, producer_key TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (height, position)) {InKeyOrder}
            """,
            $"CREATE TABLE IF NOT EXISTS transaction_keys (key INT8 NOT NULL, height INT8 NOT NULL, position INT8 NOT NULL, PRIMARY KEY (key, height, position)) {InKeyOrder}",
            $"""
            CREATE TABLE IF NOT EXISTS alert_changes (height INT8 NOT NULL, event INT8 NOT NULL, digest TEXT NOT NULL, status TEXT NOT NULL, decided_by TEXT NOT NULL,
                alert_height INT8, alert_position INT8, PRIMARY KEY (height, event)) {InKeyOrder}
            """,
            "CREATE INDEX IF NOT EXISTS alert_changes_by_alert ON alert_changes (alert_height, alert_position)",
            """
            CREATE TABLE IF NOT EXISTS evidence (digest TEXT PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, time_s INT8 NOT NULL, producer TEXT NOT NULL,
                custody_count INT8 NOT NULL, custody_verified BOOL NOT NULL, height INT8 NOT NULL, position INT8 NOT NULL)
            """,
            "CREATE INDEX IF NOT EXISTS evidence_by_id ON evidence (id)",
            "CREATE INDEX IF NOT EXISTS evidence_by_place ON evidence (height, position)",
            "CREATE INDEX IF NOT EXISTS evidence_by_type ON evidence (type, height, position)",
            """
            CREATE TABLE IF NOT EXISTS evidence_links (height INT8 NOT NULL, event INT8 NOT NULL, evidence TEXT NOT NULL, reference TEXT NOT NULL, alert TEXT,
                PRIMARY KEY (height, event))
            """,
            "CREATE INDEX IF NOT EXISTS evidence_links_by_alert ON evidence_links (alert)",
            "CREATE INDEX IF NOT EXISTS evidence_links_by_evidence ON evidence_links (evidence)",
            """
            CREATE TABLE IF NOT EXISTS policies (digest TEXT PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, rule TEXT NOT NULL, time_s INT8 NOT NULL,
                producer TEXT NOT NULL, params TEXT NOT NULL, height INT8 NOT NULL, position INT8 NOT NULL, status TEXT NOT NULL, until_ms INT8 NOT NULL,
                decided_by TEXT NOT NULL, UNIQUE (height, position))
            """,
            "CREATE INDEX IF NOT EXISTS policies_by_id ON policies (id)",
            "CREATE INDEX IF NOT EXISTS policies_in_force ON policies (height, position) WHERE status = 'active'",
            """
            CREATE TABLE IF NOT EXISTS policy_changes (height INT8 NOT NULL, event INT8 NOT NULL, digest TEXT NOT NULL, status TEXT NOT NULL, until_ms INT8 NOT NULL,
                decided_by TEXT NOT NULL, PRIMARY KEY (height, event))
            """,
            "CREATE INDEX IF NOT EXISTS policy_changes_by_digest ON policy_changes (digest, height, event)",
            """
            CREATE TABLE IF NOT EXISTS producers (key TEXT PRIMARY KEY, name TEXT NOT NULL, organisation TEXT NOT NULL, kinds TEXT NOT NULL, since_height INT8 NOT NULL,
                revoked_height INT8)
            """,
            """
            CREATE TABLE IF NOT EXISTS reputation_changes (height INT8 NOT NULL, event INT8 NOT NULL, producer TEXT NOT NULL, cause TEXT NOT NULL,
                score_before INT8 NOT NULL, score_after INT8 NOT NULL, message TEXT NOT NULL, message_id TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (height, event))
            """,
            "CREATE INDEX IF NOT EXISTS reputation_changes_by_producer ON reputation_changes (producer, height, event)",
            "CREATE TABLE IF NOT EXISTS reputations (producer TEXT PRIMARY KEY, reputation INT8 NOT NULL)",
            """
            CREATE TABLE IF NOT EXISTS validators (epoch INT8 NOT NULL, position INT8 NOT NULL, name TEXT NOT NULL, consensus_key TEXT NOT NULL,
                control_key TEXT NOT NULL, first_term INT8 NOT NULL, PRIMARY KEY (epoch, position))
            """,
            "CREATE TABLE IF NOT EXISTS view_changes (height INT8 PRIMARY KEY, view TEXT NOT NULL, previous_view TEXT NOT NULL, proposer TEXT NOT NULL)",
            """
            CREATE TABLE IF NOT EXISTS orders (digest TEXT PRIMARY KEY, number INT8 NOT NULL, change TEXT NOT NULL, kind TEXT NOT NULL, height INT8 NOT NULL,
                position INT8 NOT NULL)
            """,
            """
            CREATE TABLE IF NOT EXISTS misbehaviour (digest TEXT PRIMARY KEY, validator TEXT NOT NULL, kind TEXT NOT NULL, view TEXT NOT NULL, slot_height INT8 NOT NULL,
                height INT8 NOT NULL, position INT8 NOT NULL)
            """,
            "CREATE TABLE IF NOT EXISTS log_blocks (height INT8 PRIMARY KEY, first_position INT8 NOT NULL UNIQUE)",
            $"CREATE TABLE IF NOT EXISTS log_nodes (level INT8 NOT NULL, position INT8 NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (level, position)) {InKeyOrder}",
            "CREATE TABLE IF NOT EXISTS log_checkpoint (id INT8 PRIMARY KEY, note TEXT NOT NULL)",
        ]),
    ];

    /// <summary>
    /// What <c>transaction_keys</c> holds of a digest. Digests and identifiers are random, so each row touches a page of its own once there are many; 48 bits find a transaction
    /// as well as all of the text, and take a third of the pages.
    /// </summary>
    public static long KeyOf(Digest digest) => (long)(digest.Value.A >> 16);

    /// <summary>The same of an identifier, as it is stored. Producers choose it, and cannot choose many of one key.</summary>
    public static long KeyOf(string id)
    {
        Span<byte> utf8 = stackalloc byte[3 * Limits.IdBytesMax];
        var stored = Database.Storable(id);
        return KeyOf(Digest.Sha256(stored.Length <= Limits.IdBytesMax ? utf8[..Encoding.UTF8.GetBytes(stored, utf8)] : Encoding.UTF8.GetBytes(stored)));
    }
}
