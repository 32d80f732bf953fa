using System;
using System.Collections.Frozen;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using System.Text;
using CyberMesh.Node.Crypto.KnownKeys;

namespace CyberMesh.Node.Configuration;

/// <summary>All settings there are. The table in docs/configuration.md and the template of <c>config env</c> are made of this list.</summary>
public static class SettingCatalog
{
    private const string Duration = "duration (`500ms`, `30s`, `1h30m`)";
    private const string Boolean = "`true`, `false`";
    private const string Topic = "topic";
    private const string File = "path";
    private const string Hosts = "`host:port,…`";

    public static readonly ImmutableArray<SettingDefinition> All =
    [
        .. Group("Node",
            ("NODE_ID", "", "number, or pod name", "required: `1`, `2`, …, or a pod name ending in its ordinal (`validator-0` is 1)"),
            ("NODE_ROLE", "validator", "`validator`, `observer`", "an observer has no vote and nothing to do with Kafka"),
            ("ENVIRONMENT", "development", "`development`, `staging`, `production`", "outside development TLS to Kafka and the database, and credentials and TLS at the HTTP API, are demanded"),
            ("LOG_LEVEL", "info", "`trace`, `debug`, `info`, `warn`, `error`", "what is logged"),
            ("LOG_FORMAT", "", "`text`, `json`", "one line for people, or one JSON object in a line; by default JSON in a container, else text"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "URL", "collector of OpenTelemetry traces; without it there are none"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "`http/protobuf`, `grpc`", "how it is spoken to"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.001", "0 to 1", "share of the alerts that are followed, of those whose producer does not say so in a `traceparent` header")),
        .. Group("Kafka",
            ("KAFKA_BROKERS", "", Hosts, "required of a validator"),
            ("KAFKA_INPUT_TOPICS", "ai.anomalies.v1,ai.evidence.v1,ai.policy.v1", "three topics", "anomalies, evidence and policies, in this order"),
            ("KAFKA_ORDERS_TOPIC", "control.orders.v1", Topic, "orders of the operators"),
            ("KAFKA_DECISIONS_TOPIC", "control.decisions.v1", Topic, "verdicts and approvals"),
            ("KAFKA_OUTPUT_TOPIC_COMMITS", "control.commits.v1", Topic, "what was committed"),
            ("CONTROL_COMMITS_TOPIC", "", Topic, "another name of `KAFKA_OUTPUT_TOPIC_COMMITS`"),
            ("CONTROL_POLICY_TOPIC", "control.policy.v1", Topic, "policies in force, and their ends"),
            ("CONTROL_REPUTATION_TOPIC", "control.reputation.v1", Topic, "reputations of producers"),
            ("KAFKA_DLQ_TOPIC", "ai.dlq.v1", Topic, "messages that could not be accepted"),
            ("KAFKA_CONSUMER_GROUP_ID", "cybermesh-consensus", "text", "`-node-<NODE_ID>` is appended: every validator reads everything"),
            ("KAFKA_CONSUMER_OFFSET_INITIAL", "earliest", "`earliest`, `latest`", "where a new group begins"),
            ("KAFKA_CONSUMER_SESSION_TIMEOUT", "10s", Duration, "after so long without a sign the broker gives the partitions away"),
            ("KAFKA_MAX_TIMESTAMP_SKEW", "5m", Duration, "how far the time of a message may be from the clock"),
            ("KAFKA_TLS_ENABLED", "", Boolean, "TLS to the brokers"),
            ("KAFKA_TLS_CA_FILE", "", File, "authorities of the brokers, in PEM form; by default those of the system"),
            ("KAFKA_TLS_CA_PEM", "", "PEM", "the same, given itself"),
            ("KAFKA_TLS_CERT_FILE", "", File, "client certificate; with `KAFKA_TLS_KEY_FILE`"),
            ("KAFKA_TLS_KEY_FILE", "", File, "its key"),
            ("KAFKA_TLS_KEY_PASSWORD", "", "text", "secret: of the key"),
            ("KAFKA_SASL_ENABLED", "", Boolean, "a user name and password to the brokers"),
            ("KAFKA_SASL_MECHANISM", "", "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`", "`PLAIN` over TLS only"),
            ("KAFKA_SASL_USERNAME", "", "text", "the user"),
            ("KAFKA_SASL_PASSWORD", "", "text", "secret: of the user")),
        .. Group("Validators and peers",
            ("P2P_LISTEN_PORT", "8000", "`8000`, `:8000`, `address:port`", "where the mesh listens"),
            ("P2P_BOOTSTRAP_PEERS", "", Hosts, "first addresses; one validator that answers is enough, the others are found by their signed records"),
            ("P2P_ADVERTISE", "", "up to four `host:port`, or `none`", "where the others reach this one; by default the address of `P2P_LISTEN_PORT` when it names one; `none` when only its own connections lead to it"),
            ("P2P_OBSERVERS", "", "public keys", "observers that may connect, and read everything"),
            ("P2P_ENCRYPTION", "true", "`true`", "false is refused"),
            ("QUORUM_SIZE", "", "number", "compared with the quorum that follows from the set, never used"),
            ("CLUSTER_TOPOLOGY", "", "`validator:4`", "compared with the set, never used"),
            ("CONSENSUS_NODES", "", "`1,2,3,4`", "compared with the set, never used"),
            ("TRUSTED_NODES", "", "`1,2,3,4`", "compared with the set, never used: whom to trust stands in genesis")),
        .. Group("Waiting room and storage",
            ("MEMPOOL_MAX_TXS", "1000", "number", "transactions that wait"),
            ("MEMPOOL_MAX_BYTES", "10485760", "bytes", "their room"),
            ("MEMPOOL_RATE_PER_SECOND", "1000", "number", "of any one producer, however large its quota"),
            ("MEMPOOL_NONCE_TTL", "", Duration, "compared with what the chain's parameters say, never used: how long a nonce is remembered has to be the same everywhere"),
            ("RETENTION_BODIES", "", Duration, "how long messages stay in the block store; by default for good. Headers, results, certificates and the copy's rows stay"),
            ("SIGNATURE_TABLES", KnownKeyVerifier.DefaultTablesMax.ToString(CultureInfo.InvariantCulture), "number",
                "so many keys that sign often get a table of half a megabyte, with which their signatures are checked several times faster; `0` leaves everything to libsodium")),
        .. Group("Database",
            ("DB_DSN", "", "`postgresql://user:password@host:port,…/database?sslmode=verify-full&sslrootcert=FILE`", "secret: the server with the queryable copy; by default the file `data/projection.db`"),
            ("DB_SCHEMA", "cybermesh", "name", "validators on one server have a schema each, or share one"),
            ("DB_MAX_OPEN", "50", "number", "connections"),
            ("DB_MAX_IDLE", "10", "number", "of them kept open"),
            ("DB_MAX_LIFETIME", "30m", Duration, "of a connection"),
            ("DB_CONN_TIMEOUT", "5s", Duration, "to connect"),
            ("DB_TLS", "false", Boolean, "true refuses an `sslmode` that does without")),
        .. Group("HTTP API",
            ("API_LISTEN_ADDR", "127.0.0.1:8443", "`address:port`", "other addresses than loopback want credentials, and outside development TLS"),
            ("API_ADMIN_LISTEN_ADDR", "", "`address:port`", "metrics and the audit log are served there, and not beside the rest"),
            ("API_AUTH", "", "`open`, `required`", "by default open on loopback without credentials, else required"),
            ("API_BEARER_TOKENS", "", "`name:role:token,…`", "secret: tokens of at least 32 characters, one in a line or separated by commas; roles stand in [api.md](api.md#who-may-do-what)"),
            ("API_TLS_CLIENT_CA_FILE", "", File, "client certificates of these authorities are credentials"),
            ("API_CLIENT_ROLES", "", "`NAME=ROLE,…`", "by common name; all are viewers where nobody is named"),
            ("API_OIDC_ISSUER", "", "URL", "tokens of this OpenID issuer are credentials"),
            ("API_OIDC_AUDIENCE", "", "text", "whom they must be for"),
            ("API_OIDC_ROLE_CLAIM", "roles", "text", "the claim that holds roles"),
            ("API_RATE_PER_SECOND", "500", "number", "requests of one identity, or of one address without one"),
            ("API_WRITES", "false", Boolean, "true takes transactions that people have signed"),
            ("TLS_CERT_PATH", "", File, "certificate in PEM form, noticed within seconds when it is renewed; with `TLS_KEY_PATH`"),
            ("TLS_KEY_PATH", "", File, "its key"),
            ("AUDIT_SIGNING_KEY", "", "64 hex digits", "secret: Ed25519 seed that signs the audit log; by default the control key does"),
            ("AUDIT_ANCHOR_KEY_FILE", "", File, "key of a producer of the trust store, for evidence, that puts the head of the audit log into the chain when it has changed"),
            ("AUDIT_ANCHOR_PERIOD", "1m", Duration, "how far the audit log may run ahead of the chain"),
            ("WEBHOOKS_FILE", "", File, "who is told of what is committed ([webhooks](cli.md#webhooks))")),
        .. Group("Secrets",
            ("SIGNER_SOCKET", "", File, "Unix socket of `cybermesh signer`, which has the keys instead of this validator's home"),
            ("IDENTITY_PASSPHRASE_FILE", "", File, "passphrase of an identity that is encrypted at rest (`keys encrypt`)"),
            ("ENCRYPTION_KEY", "", "64 hex digits", "secret: AES-256 key of an identity that is encrypted at rest (`keys encrypt`)"),
            ("SECRET_KEY", "", "text", "secret: of the product before this one; accepted and not used"),
            ("SALT", "", "text", "secret: of the product before this one; accepted and not used")),
    ];

    /// <summary>Accepted, so that an old deployment starts, and without any effect.</summary>
    public static readonly ImmutableArray<string> Unused = ["SECRET_KEY", "SALT"];

    private static readonly FrozenDictionary<string, SettingDefinition> ByName = All.ToFrozenDictionary(d => d.Name, StringComparer.Ordinal);

    /// <summary>A name starting like this is meant for us, so an unknown one is a mistake and not somebody else's variable.</summary>
    private static readonly string[] Prefixes = ["KAFKA_", "P2P_", "API_", "DB_", "MEMPOOL_", "AUDIT_", "WEBHOOKS_", "CONSENSUS_", "CONTROL_", "RETENTION_", "TLS_", "SIGNATURE_TABLES", "SIGNER_"];

    public static SettingDefinition? Find(string name) => ByName.GetValueOrDefault(name);

    /// <summary>Whether a variable of the environment is ours.</summary>
    public static bool IsOurs(string name) => ByName.ContainsKey(name) || Prefixes.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal));

    /// <summary>The name that was probably meant.</summary>
    public static string? Nearest(string name)
    {
        var nearest = ByName.Keys.Order(StringComparer.Ordinal).MinBy(known => Distance(known, name))!;
        return Distance(nearest, name) <= 4 ? nearest : null;
    }

    /// <summary>As Markdown.</summary>
    public static string Table()
    {
        var text = new StringBuilder();
        foreach (var group in All.GroupBy(d => d.Group))
        {
            text.Append(CultureInfo.InvariantCulture, $"## {group.Key}\n\n| Name | Default | Form | What it does |\n| --- | --- | --- | --- |\n");
            foreach (var d in group.Where(d => !d.Name.EndsWith("_FILE", StringComparison.Ordinal) || !IsSecretFile(d)))
                text.Append(CultureInfo.InvariantCulture, $"| `{d.Name}`{(d.IsSecret ? $", `{d.Name}_FILE`" : "")} | {(d.Default.Length == 0 ? "" : $"`{d.Default}`")} | {d.Form} | {d.Description}{(d.IsSecret ? " (secret)" : "")} |\n");
            text.Append('\n');
        }

        return text.ToString().TrimEnd('\n') + "\n";
    }

    /// <summary>As a file of variables, with everything commented out.</summary>
    public static string Template()
    {
        var text = new StringBuilder("# Settings of a CyberMesh validator; 'cybermesh config validate --env-file FILE' checks them.\n");
        foreach (var group in All.GroupBy(d => d.Group))
        {
            text.Append(CultureInfo.InvariantCulture, $"\n# {group.Key}\n");
            foreach (var d in group) text.Append(CultureInfo.InvariantCulture, $"\n# {d.Description}{(d.IsSecret ? "; better as a file" : "")}\n#{d.Name}={d.Default}\n");
        }

        return text.ToString();
    }

    private static bool IsSecretFile(SettingDefinition d) => ByName.TryGetValue(d.Name[..^"_FILE".Length], out var secret) && secret.IsSecret;

    /// <summary>Every secret may be given in a file instead.</summary>
    private static IEnumerable<SettingDefinition> Group(string group, params (string Name, string Default, string Form, string Description)[] settings)
    {
        const string Secret = "secret: ";
        foreach (var (name, value, form, description) in settings)
        {
            var isSecret = description.StartsWith(Secret, StringComparison.Ordinal);
            yield return new SettingDefinition(group, name, value, form, isSecret ? description[Secret.Length..] : description, isSecret);
            if (isSecret) yield return new SettingDefinition(group, name + "_FILE", "", File, $"file that holds {name}");
        }
    }

    /// <summary>Levenshtein distance.</summary>
    private static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var above = row[j];
                row[j] = Math.Min(Math.Min(row[j] + 1, row[j - 1] + 1), diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
                diagonal = above;
            }
        }

        return row[b.Length];
    }
}
