using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Settings of the connection to Kafka: what goes together, what does not, and that nothing secret shows.</summary>
public sealed class KafkaSecurityTests
{
    [Theory]
    [InlineData("KAFKA_TLS_ENABLED is 'perhaps'", "KAFKA_TLS_ENABLED=perhaps")]
    [InlineData("KAFKA_TLS_CA_FILE is set, but KAFKA_TLS_ENABLED is not true", "KAFKA_TLS_CA_FILE=/etc/hostname")]
    [InlineData("KAFKA_TLS_CA_FILE is '/nowhere', which does not exist", "KAFKA_TLS_ENABLED=true", "KAFKA_TLS_CA_FILE=/nowhere")]
    [InlineData("KAFKA_TLS_CA_FILE holds no certificate", "KAFKA_TLS_ENABLED=true", "KAFKA_TLS_CA_FILE=/etc/hostname")]
    [InlineData("KAFKA_TLS_CA_PEM is no certificate in PEM form", "KAFKA_TLS_ENABLED=true", "KAFKA_TLS_CA_PEM=-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")]
    [InlineData("KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE belong together", "KAFKA_TLS_ENABLED=1", "KAFKA_TLS_KEY_FILE=/etc/hostname")]
    [InlineData("KAFKA_SASL_USERNAME is set, but KAFKA_SASL_ENABLED is not true", "KAFKA_SASL_USERNAME=u")]
    [InlineData("KAFKA_SASL_MECHANISM is 'GSSAPI'", "KAFKA_SASL_ENABLED=true", "KAFKA_SASL_MECHANISM=GSSAPI", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=secretpassword")]
    [InlineData("KAFKA_SASL_MECHANISM is PLAIN without TLS", "KAFKA_SASL_ENABLED=true", "KAFKA_SASL_MECHANISM=PLAIN", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=secretpassword")]
    [InlineData("KAFKA_SASL_ENABLED needs KAFKA_SASL_USERNAME", "KAFKA_SASL_ENABLED=true", "KAFKA_SASL_MECHANISM=SCRAM-SHA-256", "KAFKA_SASL_PASSWORD=secretpassword")]
    [InlineData("KAFKA_SASL_ENABLED needs KAFKA_SASL_PASSWORD_FILE", "KAFKA_SASL_ENABLED=true", "KAFKA_SASL_MECHANISM=SCRAM-SHA-256", "KAFKA_SASL_USERNAME=u")]
    [InlineData("KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set", "KAFKA_SASL_ENABLED=true", "KAFKA_SASL_MECHANISM=SCRAM-SHA-512", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=secretpassword", "KAFKA_SASL_PASSWORD_FILE=/etc/hostname")]
    [InlineData("topic ai.policy.v1 has 2 uses", "KAFKA_DLQ_TOPIC=ai.policy.v1")]
    [InlineData("ENVIRONMENT is production and KAFKA_TLS_ENABLED is not true", "ENVIRONMENT=production")]
    public void What_does_not_go_together_is_refused_with_the_reason(string expected, params string[] settings) => SettingsRefusal.Expect(expected, settings);

    [Theory]
    [InlineData("PLAIN", true, SecurityProtocol.SaslSsl, SaslMechanism.Plain)]
    [InlineData("scram-sha-256", false, SecurityProtocol.SaslPlaintext, SaslMechanism.ScramSha256)]
    [InlineData("SCRAM-SHA-512", true, SecurityProtocol.SaslSsl, SaslMechanism.ScramSha512)]
    public void What_goes_together_reaches_the_client(string mechanism, bool tls, SecurityProtocol protocol, SaslMechanism expected)
    {
        using var directory = new TemporaryDirectory();
        var (password, ca) = (Path.Combine(directory.Path, "password"), Path.Combine(directory.Path, "ca.pem"));
        File.WriteAllText(password, "secret\n");
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = new CertificateRequest("CN=test", key, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow, DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(ca, certificate.ExportCertificatePem());
        var settings = Settings.Load("/nowhere/config.json", new Dictionary<string, string>
        {
            ["NODE_ID"] = "1",
            ["KAFKA_BROKERS"] = "b:9092",
            ["KAFKA_SASL_ENABLED"] = "yes",
            ["KAFKA_SASL_MECHANISM"] = mechanism,
            ["KAFKA_SASL_USERNAME"] = "u",
            ["KAFKA_SASL_PASSWORD_FILE"] = password,
            ["KAFKA_TLS_ENABLED"] = tls ? "true" : "false",
            ["KAFKA_TLS_CA_FILE"] = tls ? ca : "",
            ["ENVIRONMENT"] = tls ? "production" : "development",
        });
        var config = KafkaClients.Consumer(settings.Kafka, "g", AutoOffsetReset.Earliest, 6000);
        Assert.Equal((protocol, expected, "u", "secret", tls ? ca : null), (config.SecurityProtocol, config.SaslMechanism, config.SaslUsername, config.SaslPassword, config.SslCaLocation));
        Assert.DoesNotContain("secret", settings.Kafka.ToString(), StringComparison.Ordinal);
    }

    /// <summary>The embedded broker speaks neither TLS nor SASL, so both must fail, and say so where people look.</summary>
    [Theory]
    [InlineData("KAFKA_TLS_ENABLED", "true", "SSL")]
    [InlineData("KAFKA_SASL_ENABLED", "true", "SASL")]
    public async Task A_connection_that_is_refused_shows_in_health_with_its_reason(string name, string value, string reason)
    {
        await using var cluster = await TestCluster.StartAsync([], TimeProvider.System, 1, environment: new Dictionary<string, string>
        {
            [name] = value,
            ["KAFKA_SASL_MECHANISM"] = reason == "SASL" ? "SCRAM-SHA-256" : "",
            ["KAFKA_SASL_USERNAME"] = reason == "SASL" ? "u" : "",
            ["KAFKA_SASL_PASSWORD"] = reason == "SASL" ? "secret" : "",
        });
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        JsonNode? health = null;
        await Eventually.HoldsAsync(() =>
        {
            health = JsonNode.Parse(http.GetStringAsync("/health").GetAwaiter().GetResult())!;
            return health["components"]!["circuits"]!.AsArray().Where(c => ((string)c!["dependency"]!).StartsWith("kafka", StringComparison.Ordinal)).All(c => ((string?)c!["reason"])?.Contains(reason, StringComparison.OrdinalIgnoreCase) == true);
        }, "the reason is shown");
        Assert.Equal("degraded", (string)health!["status"]!);
        Assert.DoesNotContain("secret", health.ToJsonString(), StringComparison.Ordinal);
        var metrics = await http.GetStringAsync("/metrics");
        Assert.Matches("cybermesh_circuit_state\\{dependency=\"kafka_consumer\"\\} [12]", metrics);
        // An orchestrator is told, and restarts nobody for it.
        var ready = await http.GetAsync("/health/ready");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        Assert.Contains(reason, await ready.Content.ReadAsStringAsync(), StringComparison.OrdinalIgnoreCase);
        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/health/live")).StatusCode);
    }
}

public sealed class CircuitBreakerTests
{
    private sealed class Clock : TimeProvider
    {
        public long Ms { get; set; }

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => Ms;

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch.AddMilliseconds(Ms);
    }

    [Fact]
    public void A_dependency_that_fails_is_left_alone_then_tried_once_and_each_failure_doubles_the_pause()
    {
        var clock = new Clock { Ms = 1_000_000 };
        var circuit = new CircuitBreaker("x", clock);
        Assert.True(circuit.MayTry());
        circuit.Failed("down");
        Assert.Equal(new CircuitStatus(CircuitState.Open, "down", clock.GetUtcNow()), circuit.Status);
        var pauses = new List<long>();
        for (var failures = 0; failures < 7; failures++)
        {
            var from = clock.Ms;
            while (!circuit.MayTry()) clock.Ms += 100;
            pauses.Add(clock.Ms - from);
            Assert.Equal(CircuitState.HalfOpen, circuit.Status.State);
            Assert.False(circuit.MayTry());
            circuit.Failed("still down");
            circuit.Failed("what was under way");
        }

        Assert.Equal([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000], pauses);
        clock.Ms += 30_000;
        Assert.True(circuit.MayTry());
        circuit.Succeeded();
        Assert.Equal(default, circuit.Status);
        Assert.True(circuit.MayTry() && circuit.MayTry());
        circuit.Failed("again");
        clock.Ms += 1000;
        Assert.True(circuit.MayTry());
    }
}

/// <summary>What happens to messages when brokers, validators or producers do not behave.</summary>
public sealed class IngestTests
{
    private static readonly Detection Scan = new("scan", "10.0.0.1", 5, 0.5, "m", """{"severity":5,"confidence":0.5}""");

    private static Producer Trusted(Ed25519Signer key, string name, uint quota = 1000) =>
        new(key.PublicKey, name, name, AlertKinds.All, SigningProfiles.V1 | SigningProfiles.V2, quota, default, null, false);

    private static byte[] Alert(Ed25519Signer key, TimeProvider? time = null) => new AlertSigner(key, SigningProfile.V2, time ?? TimeProvider.System).Anomaly(Scan).ToByteArray();

    private static async Task<bool> IsCommittedAsync(ValidatorNode node, byte[] record)
    {
        using var http = new HttpClient { BaseAddress = node.ApiAddress };
        return (await http.GetAsync($"/v1/alerts/{DigestOf(record)}")).IsSuccessStatusCode;
    }

    private static string DigestOf(byte[] record)
    {
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var alert, out _));
        return alert.Digest.ToString();
    }

    private static string Place(ConsumeResult<byte[]?, byte[]?> letter) => DeadLetters.TryReadPlace(letter.Message.Headers, out var place) ? place.ToString() : "";

    [Fact]
    public async Task A_silent_validators_dead_letters_are_written_by_the_others_and_once()
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        await using var cluster = await TestCluster.StartAsync([Trusted(key, "sensor")], TimeProvider.System);
        var silent = cluster.Nodes[3].Name;
        await cluster.KillAsync(3);
        using var kafka = cluster.Producer();
        for (byte i = 0; i < 24; i++) kafka.Produce("ai.anomalies.v1", new() { Value = [i, 1, 2, 3] });
        kafka.Flush(TimeSpan.FromSeconds(20));
        var letters = await cluster.ReadAsync("ai.dlq.v1", found => found.Select(Place).Distinct().Count() >= 24);
        var before = letters.Count;
        Assert.Equal(24, letters.Select(Place).Distinct().Count());
        Assert.DoesNotContain(letters, l => DeadLetters.Header(l.Message.Headers, "node") == silent);

        // Back again, it reads what it missed, and finds it done.
        await cluster.StartAsync(3);
        await Eventually.HoldsAsync(() => cluster.Nodes[3].Metrics.RecordsConsumed.Value >= 24, "it reads what it missed");
        kafka.Produce("ai.anomalies.v1", new() { Value = [99] });
        kafka.Flush(TimeSpan.FromSeconds(20));
        letters = await cluster.ReadAsync("ai.dlq.v1", found => found.Any(l => l.Message.Value!.Length == 1) && found.Count > before);
        Assert.Equal(before + 1, letters.Count);
    }

    [Fact]
    public async Task Poison_of_any_kind_is_dead_lettered_and_blocks_nothing()
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        await using var cluster = await TestCluster.StartAsync([Trusted(key, "sensor")], TimeProvider.System);
        using var kafka = cluster.Producer();
        var partition = new TopicPartition("ai.anomalies.v1", 0);
        var headers = new Headers();
        for (var i = 0; i < 200; i++) headers.Add($"h{i}", new byte[1000]);
        byte[]?[] poison = [null, [], [0xff, 0xff, 0xff], RandomNumberGenerator.GetBytes(1_500_000), new byte[1_048_576 + 1]];
        foreach (var value in poison) kafka.Produce(partition, new() { Value = value, Headers = headers });
        var good = Alert(key);
        kafka.Produce(partition, new() { Value = good, Headers = headers, Key = new byte[10_000] });
        kafka.Flush(TimeSpan.FromSeconds(20));
        await Eventually.HoldsAsync(() => cluster.Nodes.All(n => n.Projection.AlertCount() == 1), "what is behind the poison is committed");
        var letters = (await cluster.ReadAsync("ai.dlq.v1", found => found.Select(Place).Distinct().Count() >= poison.Length)).DistinctBy(Place).ToList();
        Assert.Equal(["field_out_of_range", "malformed", "malformed", "too_large", "too_large"], letters.Select(l => DeadLetters.Header(l.Message.Headers, "error_code")).Order());
    }

    [Fact]
    public async Task M1_a_producer_beyond_its_quota_waits_in_Kafka_and_another_in_the_same_partition_does_not()
    {
        using var flood = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        using var quiet = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        await using var cluster = await TestCluster.StartAsync([Trusted(flood, "flood", 100), Trusted(quiet, "quiet")], TimeProvider.System);
        using var kafka = cluster.Producer();
        var partition = new TopicPartition("ai.anomalies.v1", 0);
        for (var i = 0; i < 2000; i++) kafka.Produce(partition, new() { Value = Alert(flood) });
        var urgent = Alert(quiet);
        kafka.Produce(partition, new() { Value = urgent });
        kafka.Flush(TimeSpan.FromSeconds(20));
        var node = cluster.Nodes[1];
        await Eventually.HoldsAsync(() => IsCommittedAsync(node, urgent).GetAwaiter().GetResult(), "the quiet one is committed");
        await Eventually.HoldsAsync(() => node.Projection.AlertCount() == 2001, "all of the flood is committed in time");
        // It did not wait for the 2,000 at 100 a second, by the order of the chain itself.
        var height = node.Projection.Alert(DigestOf(urgent))!.Height;
        var before = node.Projection.Blocks(height, 10_000).Sum(b => b.TransactionCount);
        Assert.InRange(before, 0, 1800);
        Assert.Equal(0, node.Metrics.TransactionsRejected.Value);
    }

    [Fact]
    public async Task Everything_published_around_an_outage_of_the_broker_is_decided()
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        await using var cluster = await TestCluster.StartAsync([Trusted(key, "sensor")], TimeProvider.System);
        using var kafka = cluster.Producer();
        void Publish(int count)
        {
            for (var i = 0; i < count; i++) kafka.Produce("ai.anomalies.v1", new() { Value = Alert(key) });
            kafka.Produce("ai.anomalies.v1", new() { Value = RandomNumberGenerator.GetBytes(20) });
        }

        Publish(20);
        kafka.Flush(TimeSpan.FromSeconds(20));
        cluster.Broker.IsDown = true;
        Publish(20);
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        async Task<JsonNode?> ConsumerAsync() => JsonNode.Parse(await http.GetStringAsync("/health"))!["components"]!["circuits"]![0];
        await Eventually.HoldsAsync(() => (string?)ConsumerAsync().GetAwaiter().GetResult()!["state"] != "closed", "the outage shows");
        cluster.Broker.IsDown = false;
        Publish(20);
        await Eventually.HoldsAsync(() => cluster.Nodes.All(n => n.Projection.AlertCount() == 60), "all alerts are committed everywhere");
        Assert.Equal(3, (await cluster.ReadAsync("ai.dlq.v1", found => found.Select(Place).Distinct().Count() >= 3)).Select(Place).Distinct().Count());
        await Eventually.HoldsAsync(() => (string?)ConsumerAsync().GetAwaiter().GetResult()!["state"] == "closed", "the end of the outage shows");
        var commits = await cluster.ReadAsync("control.commits.v1", found => found.Sum(Alerts) >= 60);
        Assert.Equal(60, commits.Sum(Alerts));
    }

    private static int Alerts(ConsumeResult<byte[]?, byte[]?> commit) => (int)Protos.Control.CommitEvent.Parser.ParseFrom(commit.Message.Value!).AnomalyCount;

    [Fact]
    public async Task A_dead_letter_that_Kafka_does_not_take_is_written_later_and_nothing_is_lost()
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        await using var cluster = await TestCluster.StartAsync([Trusted(key, "sensor")], TimeProvider.System);
        using (var kafka = cluster.Producer())
        {
            for (byte i = 0; i < 8; i++) kafka.Produce("ai.anomalies.v1", new() { Value = [i] });
            kafka.Flush(TimeSpan.FromSeconds(20));
        }

        cluster.Broker.FailWrites(ErrorCode.TopicAuthorizationFailed, 6);
        var letters = await cluster.ReadAsync("ai.dlq.v1", found => found.Select(Place).Distinct().Count() >= 8);
        Assert.Equal(8, letters.Select(Place).Distinct().Count());
    }

    [Fact]
    public async Task A_backlog_of_half_an_hour_is_decided_and_not_thrown_away_as_stale()
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        var then = new ShiftedTime(DateTimeOffset.UtcNow.AddMinutes(-30));
        await using var cluster = await TestCluster.StartAsync([Trusted(key, "sensor")], TimeProvider.System);
        using var kafka = cluster.Producer();
        for (var i = 0; i < 10; i++) kafka.Produce("ai.anomalies.v1", new() { Value = Alert(key, then), Timestamp = new Timestamp(then.GetUtcNow()) });
        kafka.Produce("ai.anomalies.v1", new() { Value = Alert(key, then) }); // delayed by its producer, not by Kafka
        kafka.Flush(TimeSpan.FromSeconds(20));
        await Eventually.HoldsAsync(() => cluster.Nodes.All(n => n.Projection.AlertCount() == 10), "the backlog is committed");
        var letter = Assert.Single((await cluster.ReadAsync("ai.dlq.v1", found => found.Count >= 1)).DistinctBy(Place));
        Assert.Equal("stale_timestamp", DeadLetters.Header(letter.Message.Headers, "error_code"));
    }

    [Fact]
    public async Task Dead_letters_are_listed_shown_and_given_back()
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        await using var cluster = await TestCluster.StartAsync([], TimeProvider.System);
        using var kafka = cluster.Producer();
        kafka.Produce("ai.anomalies.v1", new() { Value = Alert(key) });
        kafka.Produce("ai.anomalies.v1", new() { Value = [1, 2, 3] });
        kafka.Flush(TimeSpan.FromSeconds(20));
        await cluster.ReadAsync("ai.dlq.v1", found => found.Select(Place).Distinct().Count() >= 2);
        string[] where = ["--brokers", cluster.Broker.BootstrapServers];
        var (code, list) = await CliProcess.RunAsync(["dlq", "list", .. where]);
        Assert.Equal(0, code);
        Assert.Contains("2 dead letters: ", list, StringComparison.Ordinal);
        var name = list.Split('\n').Single(l => l.Contains("unknown_producer", StringComparison.Ordinal) && l.Contains("ai.anomalies.v1/", StringComparison.Ordinal)).Split(' ')[0];
        using var directory = new TemporaryDirectory();
        var file = Path.Combine(directory.Path, "record");
        (code, var shown) = await CliProcess.RunAsync(["dlq", "show", name, "--out", file, .. where]);
        Assert.Equal(0, code);
        Assert.Contains("unknown_producer", shown, StringComparison.Ordinal);
        Assert.Equal(5, (await CliProcess.RunAsync("check", file, "--topic", "ai.anomalies.v1", "--trust", new string('0', 63) + "1")).Code);
        (code, var replayed) = await CliProcess.RunAsync(["dlq", "replay", "--code", "unknown_producer", .. where]);
        Assert.Equal(0, code);
        Assert.Contains($"{name} published to ai.anomalies.v1", replayed, StringComparison.Ordinal);
        await cluster.ReadAsync("ai.dlq.v1", found => found.Select(Place).Distinct().Count() >= 3);
        Assert.Equal(1, (await CliProcess.RunAsync(["dlq", "show", "0:4711", .. where])).Code);
        Assert.Equal(3, (await CliProcess.RunAsync("dlq", "list", "--brokers", "127.0.0.1:1")).Code);
    }
}
