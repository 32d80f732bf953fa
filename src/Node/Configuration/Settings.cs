using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Text.RegularExpressions;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Api.Webhooks;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Signing;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Mesh;
using CyberMesh.Node.Projection;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Configuration;

/// <summary>
/// Local settings of one validator, from <c>config.json</c> in its home directory and the environment, under the same names. What is
/// equal on all validators stands in genesis instead. All problems are reported together.
/// </summary>
public sealed partial class Settings
{
    private const int SecretBytesMax = 4096;
    private const int SecretsBytesMax = 64 * 1024;
    private const int ObserversMax = 64;

    public required string NodeId { get; init; }

    /// <summary>It follows, verifies and serves, and has no vote.</summary>
    public required bool IsObserver { get; init; }

    public required LogLevel LogLevel { get; init; }

    /// <summary>Each event as a JSON object.</summary>
    public required bool LogsJson { get; init; }

    /// <summary>What the identity is encrypted with; null when it is not.</summary>
    public required IdentityLock? IdentityLock { get; init; }

    public required TraceSettings Traces { get; init; }

    /// <summary>Empty when the keys are in the home.</summary>
    public required string SignerSocket { get; init; }

    /// <summary>The keys of a validator: of its signer, or of its home.</summary>
    /// <exception cref="UserError">There are none, or at both places.</exception>
    public Keyring OpenKeys(string home)
    {
        if (SignerSocket.Length == 0) return new Keyring(home, IdentityLock);
        var path = Path.Combine(home, Identity.FileName);
        if (File.Exists(path)) throw new UserError($"SIGNER_SOCKET is set, and {path} is there too", "leave the identity to the signer alone: move the file into its home");
        return new Keyring(new SignerIdentities(new SignerClient(SignerSocket)));
    }

    /// <summary>Names that are set and have no effect.</summary>
    public required ImmutableArray<string> Unused { get; init; }

    public required KafkaConnection Kafka { get; init; }
    public required string AnomalyTopic { get; init; }
    public required string EvidenceTopic { get; init; }
    public required string PolicyTopic { get; init; }

    /// <summary>Where orders of the operators come in.</summary>
    public required string OrdersTopic { get; init; }

    /// <summary>Where verdicts of analysts and approvals come in.</summary>
    public required string DecisionsTopic { get; init; }

    public required string CommitsTopic { get; init; }
    public required string ControlPolicyTopic { get; init; }
    public required string ReputationTopic { get; init; }
    public required string DeadLetterTopic { get; init; }
    public required string ConsumerGroup { get; init; }
    public required bool StartAtEarliest { get; init; }
    public required TimeSpan SessionTimeout { get; init; }
    public required TimeSpan TimestampSkew { get; init; }

    /// <summary>What the deployment says about the set; compared with it, never used (rule Q1).</summary>
    public required SetExpectation Expectation { get; init; }

    public required int MempoolTransactionsMax { get; init; }
    public required int MempoolBytesMax { get; init; }

    /// <summary>Of any one producer, however large its quota.</summary>
    public required int MempoolRatePerSecond { get; init; }
    public required IPEndPoint MeshListen { get; init; }
    public required IReadOnlyList<string> Peers { get; init; }

    /// <summary>Where the others reach this one; empty when only its own connections lead to it.</summary>
    public required IReadOnlyList<string> Advertise { get; init; }

    /// <summary>Nodes without a vote that may connect and read everything.</summary>
    public required IReadOnlyList<PublicKey> Observers { get; init; }

    /// <summary>How the HTTP API listens, and to whom.</summary>
    public required ApiAccess Api { get; init; }

    /// <summary>Seed of the key that signs the audit log; null for the control key.</summary>
    public required byte[]? AuditKey { get; init; }

    /// <summary>Who is told of what is committed.</summary>
    public required ImmutableArray<Webhook> Webhooks { get; init; }

    /// <summary>Key file of the producer that puts the head of the audit log into the chain; empty for none.</summary>
    public required string AuditAnchorKeyFile { get; init; }

    /// <summary>How far the audit log may run ahead of the chain.</summary>
    public required TimeSpan AuditAnchorPeriod { get; init; }

    /// <summary>How long the bodies of blocks are kept; null for ever.</summary>
    public required TimeSpan? RetentionBodies { get; init; }

    /// <summary>Keys that may have a table for their signatures; 0 leaves everything to libsodium.</summary>
    public required int SignatureTables { get; init; }

    /// <summary>The server with the queryable copy; null for a file of our own.</summary>
    public required PostgresSettings? Database { get; init; }

    /// <summary>The group of this validator alone: every validator reads every message.</summary>
    public string ConsumerGroupOfNode => $"{ConsumerGroup}-node-{NodeId}";

    /// <summary>The place of the queryable copy of this validator.</summary>
    public Database OpenDatabase(string home) =>
        Database is { } server ? new PostgresDatabase(server, $"cybermesh-{NodeId}") : new SqliteDatabase(Path.Combine(home, "data", "projection.db"));

    /// <exception cref="UserError">Unknown names, contradictions and bad values, all of them.</exception>
    public static Settings Load(string configPath, IReadOnlyDictionary<string, string> environment) => Load(new SettingSources(configPath, environment));

    /// <exception cref="UserError">Unknown names, contradictions and bad values, all of them.</exception>
    public static Settings Load(SettingSources sources)
    {
        var settings = Check(sources, out var problems);
        return problems.Count == 0
            ? settings
            : throw new UserError($"the configuration ({sources.ConfigPath} and environment) has {problems.Count} problem(s):\n  - {string.Join("\n  - ", problems)}\n", "correct them and start again");
    }

    /// <summary>Settings, of use only when there are no problems.</summary>
    /// <param name="problems">What is wrong, where it stands, and what to do.</param>
    /// <exception cref="UserError">A file is not what it should be.</exception>
    public static Settings Check(SettingSources sources, out List<string> problems)
    {
        problems = [];
        var values = new SettingValues(sources, problems);
        var unplaced = new List<string>();
        var settings = Read(values, unplaced);
        problems.AddRange(unplaced.Select(problem => Placed(problem, values)));
        return settings;
    }

    [GeneratedRegex("[A-Z][A-Z0-9]*_[A-Z0-9_]+")]
    private static partial Regex NamePattern();

    /// <summary>With the place of the first name in it that is set.</summary>
    private static string Placed(string problem, SettingValues values) =>
        NamePattern().Matches(problem).Select(name => values.Find(name.Value)).FirstOrDefault(value => value is not null) is { } first ? $"{problem} ({first.Origin})" : problem;

    private static Settings Read(SettingValues values, List<string> problems)
    {
        var reader = new Reader(values, problems);
        var topics = reader.List("KAFKA_INPUT_TOPICS");
        if (topics.Count != 3) problems.Add($"KAFKA_INPUT_TOPICS names {topics.Count} topics; name three: anomalies, evidence, policy");
        var isObserver = reader.OneOf("NODE_ROLE", "validator", "observer") == "observer";
        if (isObserver && values.Names.FirstOrDefault(name => name.StartsWith("KAFKA_", StringComparison.Ordinal)) is { } kafka) problems.Add($"{kafka} is set, and NODE_ROLE is observer; an observer has nothing to do with Kafka, remove one of them");
        if (isObserver && values.Contains("AUDIT_ANCHOR_KEY_FILE")) problems.Add("AUDIT_ANCHOR_KEY_FILE is set, and NODE_ROLE is observer; an observer brings nothing into the chain, remove one of them");
        if (!isObserver && reader.Text("KAFKA_BROKERS").Length == 0) problems.Add("KAFKA_BROKERS is not set; name the brokers as host:port, separated by commas");
        if (!reader.Boolean("P2P_ENCRYPTION")) problems.Add("P2P_ENCRYPTION is false; validators speak only over TLS, remove the setting");
        var environmentName = reader.OneOf("ENVIRONMENT", "development", "staging", "production");
        var security = KafkaSecurity.Read(reader.Text, problems);
        if (environmentName != "development" && !isObserver && !security.UsesTls) problems.Add($"ENVIRONMENT is {environmentName} and KAFKA_TLS_ENABLED is not true; outside development validators speak to Kafka over TLS only");
        if (reader.Text("CONTROL_COMMITS_TOPIC") is { Length: > 0 } other && values.Find("KAFKA_OUTPUT_TOPIC_COMMITS") is { } given && given.Value != other)
            problems.Add($"KAFKA_OUTPUT_TOPIC_COMMITS is '{given.Value}' and CONTROL_COMMITS_TOPIC is '{other}'; they are two names of one setting, keep one");
        var settings = new Settings
        {
            NodeId = reader.NodeId("NODE_ID"),
            IsObserver = isObserver,
            LogLevel = reader.OneOf("LOG_LEVEL", "trace", "debug", "info", "warn", "error") switch
            {
                "trace" => LogLevel.Trace,
                "debug" => LogLevel.Debug,
                "warn" => LogLevel.Warning,
                "error" => LogLevel.Error,
                _ => LogLevel.Information,
            },
            LogsJson = reader.Text("LOG_FORMAT").Length == 0 ? IsInContainer() : reader.OneOf("LOG_FORMAT", "text", "json") == "json",
            IdentityLock = reader.IdentityLock(),
            SignerSocket = reader.Text("SIGNER_SOCKET"),
            Traces = reader.Traces(),
            Unused = [.. SettingCatalog.Unused.Where(name => values.Contains(name) || values.Contains(name + "_FILE"))],
            Kafka = new KafkaConnection(string.Join(',', reader.List("KAFKA_BROKERS")), security),
            AnomalyTopic = topics.ElementAtOrDefault(0) ?? "",
            EvidenceTopic = topics.ElementAtOrDefault(1) ?? "",
            PolicyTopic = topics.ElementAtOrDefault(2) ?? "",
            OrdersTopic = reader.Text("KAFKA_ORDERS_TOPIC"),
            DecisionsTopic = reader.Text("KAFKA_DECISIONS_TOPIC"),
            ControlPolicyTopic = reader.Text("CONTROL_POLICY_TOPIC"),
            ReputationTopic = reader.Text("CONTROL_REPUTATION_TOPIC"),
            CommitsTopic = reader.Text("CONTROL_COMMITS_TOPIC") is { Length: > 0 } topic ? topic : reader.Text("KAFKA_OUTPUT_TOPIC_COMMITS"),
            DeadLetterTopic = reader.Text("KAFKA_DLQ_TOPIC"),
            ConsumerGroup = reader.Text("KAFKA_CONSUMER_GROUP_ID"),
            StartAtEarliest = reader.OneOf("KAFKA_CONSUMER_OFFSET_INITIAL", "earliest", "latest") == "earliest",
            SessionTimeout = reader.Duration("KAFKA_CONSUMER_SESSION_TIMEOUT", TimeSpan.FromSeconds(1), TimeSpan.FromMinutes(30)),
            TimestampSkew = reader.Duration("KAFKA_MAX_TIMESTAMP_SKEW", TimeSpan.FromSeconds(1), TimeSpan.FromHours(1)),
            Expectation = reader.Expectation(),
            MempoolTransactionsMax = reader.Integer("MEMPOOL_MAX_TXS", 1, 1_000_000),
            MempoolBytesMax = reader.Integer("MEMPOOL_MAX_BYTES", 2 << 20, 1 << 30),
            MempoolRatePerSecond = reader.Integer("MEMPOOL_RATE_PER_SECOND", 1, 1_000_000),
            MeshListen = reader.EndPoint("P2P_LISTEN_PORT", IPAddress.Any),
            Peers = reader.Addresses("P2P_BOOTSTRAP_PEERS"),
            Advertise = reader.Advertise("P2P_ADVERTISE", "P2P_LISTEN_PORT"),
            Observers = reader.PublicKeys("P2P_OBSERVERS", ObserversMax),
            Api = reader.Api(environmentName == "development"),
            AuditKey = reader.AuditKey(),
            AuditAnchorKeyFile = reader.Text("AUDIT_ANCHOR_KEY_FILE"),
            AuditAnchorPeriod = reader.Duration("AUDIT_ANCHOR_PERIOD", TimeSpan.FromSeconds(1), TimeSpan.FromDays(1)),
            Webhooks = reader.Text("WEBHOOKS_FILE") is { Length: > 0 } hooks ? Webhook.Load(hooks, problems) : [],
            RetentionBodies = reader.Text("RETENTION_BODIES").Length == 0 ? null : reader.Duration("RETENTION_BODIES", TimeSpan.FromHours(1), TimeSpan.FromDays(365)),
            SignatureTables = reader.Integer("SIGNATURE_TABLES", 0, 4096),
            Database = reader.Database(environmentName != "development"),
        };
        var all = new[]
        {
            settings.AnomalyTopic, settings.EvidenceTopic, settings.PolicyTopic, settings.OrdersTopic, settings.DecisionsTopic, settings.CommitsTopic, settings.ControlPolicyTopic,
            settings.ReputationTopic, settings.DeadLetterTopic,
        };
        foreach (var uses in all.Where(t => t.Length > 0).GroupBy(t => t).Where(g => g.Count() > 1)) problems.Add($"topic {uses.Key} has {uses.Count()} uses; each use needs a topic of its own");
        return settings;
    }

    private static bool IsInContainer() => new[] { "DOTNET_RUNNING_IN_CONTAINER", "KUBERNETES_SERVICE_HOST" }.Any(name => Environment.GetEnvironmentVariable(name) is { Length: > 0 });

    [GeneratedRegex(@"^(?:(?<n>\d+(?:\.\d+)?)(?<u>ms|s|m|h))+$", RegexOptions.CultureInvariant)]
    private static partial Regex DurationPattern();

    /// <summary>A Go duration: <c>500ms</c>, <c>30s</c>, <c>1h30m</c>.</summary>
    public static bool TryParseDuration(string text, out TimeSpan duration)
    {
        duration = default;
        var match = DurationPattern().Match(text);
        if (!match.Success) return false;
        var (numbers, units) = (match.Groups["n"].Captures, match.Groups["u"].Captures);
        double ms = 0;
        for (var i = 0; i < numbers.Count; i++)
            ms += double.Parse(numbers[i].ValueSpan, CultureInfo.InvariantCulture) * units[i].Value switch { "ms" => 1, "s" => 1000, "m" => 60_000, _ => 3_600_000 };
        if (ms > TimeSpan.FromDays(365).TotalMilliseconds) return false;
        duration = TimeSpan.FromMilliseconds(ms);
        return true;
    }

    private sealed partial class Reader(SettingValues values, List<string> problems)
    {
        public string Text(string name) => values.Text(name);

        public List<string> List(string name) => [.. Text(name).Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)];

        public string OneOf(string name, params string[] allowed)
        {
            var value = Text(name).ToLowerInvariant();
            if (allowed.Contains(value)) return value;
            problems.Add($"{name} is '{value}'; it must be one of {string.Join(", ", allowed)}");
            return allowed[0];
        }

        public bool Boolean(string name) => OneOf(name, "true", "1", "yes", "false", "0", "no") is "true" or "1" or "yes";

        public int Integer(string name, int min, int max)
        {
            if (int.TryParse(Text(name), NumberStyles.None, CultureInfo.InvariantCulture, out var value) && value >= min && value <= max) return value;
            problems.Add($"{name} is '{Text(name)}'; it must be a whole number from {min} to {max}");
            return min;
        }

        public TimeSpan Duration(string name, TimeSpan min, TimeSpan max)
        {
            if (TryParseDuration(Text(name), out var value) && value >= min && value <= max) return value;
            problems.Add($"{name} is '{Text(name)}'; it must be a duration like 500ms, 30s or 5m, from {min.TotalSeconds:0.###} s to {max.TotalSeconds:0} s");
            return min;
        }

        /// <summary><c>1</c>, or <c>name-0</c> as Kubernetes names pods (ordinal + 1).</summary>
        public string NodeId(string name)
        {
            var text = Text(name);
            var dash = text.LastIndexOf('-');
            if (int.TryParse(dash < 0 ? text : text[(dash + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var number) && (dash < 0 ? number > 0 : dash > 0))
                return (dash < 0 ? number : number + 1).ToString(CultureInfo.InvariantCulture);
            problems.Add($"{name} is '{text}'; it must be the number of this validator (1, 2, …) or a pod name ending in its ordinal (validator-0)");
            return "";
        }

        public TraceSettings Traces()
        {
            const string endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
            Uri? uri = null;
            if (Text(endpoint).Length > 0 && (!Uri.TryCreate(Text(endpoint), UriKind.Absolute, out uri) || (uri.Scheme != Uri.UriSchemeHttp && uri.Scheme != Uri.UriSchemeHttps)))
                problems.Add($"{endpoint} is '{Text(endpoint)}'; it must be like http://collector:4318");
            if (!double.TryParse(Text("OTEL_TRACES_SAMPLER_ARG"), NumberStyles.Float, CultureInfo.InvariantCulture, out var ratio) || ratio is not (>= 0 and <= 1))
                problems.Add($"OTEL_TRACES_SAMPLER_ARG is '{Text("OTEL_TRACES_SAMPLER_ARG")}'; it must be 0 to 1");
            return new TraceSettings(uri, OneOf("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc") == "grpc", ratio);
        }

        public IdentityLock? IdentityLock()
        {
            var (key, passphrase) = (Secret("ENCRYPTION_KEY"), Text("IDENTITY_PASSPHRASE_FILE"));
            if (key is not null && passphrase.Length > 0) problems.Add("ENCRYPTION_KEY and IDENTITY_PASSPHRASE_FILE are both set; keep the one the identity was encrypted with");
            try
            {
                if (key is not null) return Crypto.IdentityLock.OfKey(key);
                if (passphrase.Length > 0) return Crypto.IdentityLock.OfPassphrase(File.ReadAllText(passphrase).TrimEnd('\r', '\n'));
            }
            catch (UserError problem)
            {
                problems.Add(problem.Message);
            }
            catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
            {
                problems.Add($"IDENTITY_PASSPHRASE_FILE cannot be read: {problem.Message}");
            }

            return null;
        }

        public SetExpectation Expectation()
        {
            int? count = null;
            if (Text("CLUSTER_TOPOLOGY") is { Length: > 0 } topology)
            {
                if (topology.Split(':') is ["validator", var text] && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var n)) count = n;
                else problems.Add($"CLUSTER_TOPOLOGY is '{topology}'; it must be validator:NUMBER");
            }

            return new SetExpectation(
                Text("QUORUM_SIZE").Length == 0 ? null : Integer("QUORUM_SIZE", 1, 256), count, Numbers("CONSENSUS_NODES"), Numbers("TRUSTED_NODES"),
                Text("MEMPOOL_NONCE_TTL").Length == 0 ? null : Duration("MEMPOOL_NONCE_TTL", TimeSpan.FromSeconds(1), TimeSpan.FromDays(30)));
        }

        private ImmutableArray<int> Numbers(string name)
        {
            var numbers = ImmutableArray.CreateBuilder<int>();
            foreach (var text in List(name))
                if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number > 0) numbers.Add(number);
                else problems.Add($"{name} contains '{text}'; each entry must be the number of a validator");
            return numbers.ToImmutable();
        }

        public PostgresSettings? Database(bool mustVerify)
        {
            var url = Secret("DB_DSN");
            var (open, idle) = (Integer("DB_MAX_OPEN", 2, 1000), Integer("DB_MAX_IDLE", 0, 1000));
            var (lifetime, timeout) = (Duration("DB_MAX_LIFETIME", TimeSpan.FromSeconds(10), TimeSpan.FromDays(1)), Duration("DB_CONN_TIMEOUT", TimeSpan.FromSeconds(1), TimeSpan.FromMinutes(5)));
            var tls = Boolean("DB_TLS");
            if (url is not null) return PostgresSettings.Read(url, Text("DB_SCHEMA"), open, idle, lifetime, timeout, tls, mustVerify, problems);
            foreach (var name in values.Names)
                if (name.StartsWith("DB_", StringComparison.Ordinal) && !name.StartsWith("DB_DSN", StringComparison.Ordinal))
                    problems.Add($"{name} is set, but DB_DSN is not; name the database server (postgresql://…) or remove it");
            return null;
        }

        /// <summary>Given itself, or in a file.</summary>
        private string? Secret(string name, int bytesMax = SecretBytesMax)
        {
            var (plain, file) = (Text(name), Text(name + "_FILE"));
            if (plain.Length > 0 && file.Length > 0) problems.Add($"{name} and {name}_FILE are both set; keep one");
            if (file.Length == 0) return plain.Length == 0 ? null : plain;
            if (!File.Exists(file)) problems.Add($"{name}_FILE is '{file}', which does not exist");
            else if (new FileInfo(file).Length > bytesMax) problems.Add($"{name}_FILE is '{file}', which is too large");
            else return File.ReadAllText(file).Trim();
            return null;
        }

        public IPEndPoint EndPoint(string name, IPAddress any)
        {
            var text = Text(name);
            var separator = text.LastIndexOf(':');
            var host = separator <= 0 ? "" : text[..separator].Trim('[', ']');
            var address = host.Length == 0 ? any : host == "localhost" ? IPAddress.Loopback : IPAddress.TryParse(host, out var parsed) ? parsed : null;
            if (address is not null && int.TryParse(text[(separator + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port is >= 0 and <= 65535)
                return new IPEndPoint(address, port);
            problems.Add($"{name} is '{text}'; it must be a port (8000, :8000) or address:port (127.0.0.1:8000)");
            return new IPEndPoint(IPAddress.Loopback, 0);
        }

        public List<string> Addresses(string name)
        {
            var addresses = List(name);
            foreach (var address in addresses)
                if (!PeerAddress.TryParse(address, out _, out _))
                    problems.Add($"{name} contains '{address}'; each entry must be host:port");
            return addresses;
        }

        /// <summary>By default the address it listens on, when that is one and not all of the machine; <c>none</c> for none.</summary>
        public List<string> Advertise(string name, string listenName)
        {
            if (Text(name) == "none") return [];
            var addresses = Addresses(name);
            if (addresses.Count > PeerRecord.AddressesMax) problems.Add($"{name} has {addresses.Count} entries; name at most {PeerRecord.AddressesMax}");
            if (addresses.Count > 0 || Text(listenName).LastIndexOf(':') < 1) return addresses;
            var listen = EndPoint(listenName, IPAddress.Any);
            return listen.Port == 0 || listen.Address.Equals(IPAddress.Any) || listen.Address.Equals(IPAddress.IPv6Any) ? [] : [listen.ToString()];
        }

        public List<PublicKey> PublicKeys(string name, int max)
        {
            var keys = new List<PublicKey>();
            foreach (var text in List(name))
                if (!PublicKey.TryParse(text, out var key)) problems.Add($"{name} contains '{text}'; each entry must be a public key, 64 hex digits");
                else if (keys.Contains(key)) problems.Add($"{name} contains {text} twice");
                else keys.Add(key);
            if (keys.Count > max) problems.Add($"{name} has {keys.Count} entries; name at most {max}");
            return keys;
        }
    }
}

/// <summary>Where traces go.</summary>
/// <param name="Endpoint">Null when nowhere.</param>
/// <param name="Ratio">Of the alerts whose producer says nothing about it.</param>
public sealed record TraceSettings(Uri? Endpoint, bool IsGrpc, double Ratio);
