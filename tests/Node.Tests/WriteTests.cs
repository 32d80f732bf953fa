using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Crypto;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The one thing the API writes, and the record of who did.</summary>
public sealed class WriteTests
{
    private static string Name(Role role) => role.ToString().ToLowerInvariant();

    private static string Token(Role role) => new string('t', 40) + Name(role);

    private static string Tokens => string.Join(',', Enum.GetValues<Role>().Skip(1).Select(role => $"{Name(role)}-1:{Name(role)}:{Token(role)}"));

    [Fact]
    public async Task What_people_have_signed_is_committed_and_what_they_may_not_is_refused_and_both_are_on_the_record()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, environment: new Dictionary<string, string> { ["API_BEARER_TOKENS"] = Tokens, ["API_WRITES"] = "true" });
        using var kafka = cluster.Producer();
        kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
        kafka.Flush(TimeSpan.FromSeconds(30));
        await Eventually.HoldsAsync(() => cluster.Nodes.All(n => n.Projection.AlertCount() == 1), "the alert is committed");
        var alert = Digest.TryParse(cluster.Nodes[0].Projection.Alerts(ulong.MaxValue, int.MaxValue, 1)[0].Digest, out var digest) ? digest : default;
        var node = cluster.Nodes[2];
        using var http = new HttpClient { BaseAddress = node.ApiAddress };
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var chain = cluster.Genesis.Chain.ChainId;
        var verdict = keys.Analyst.Decide(chain, alert, Ruling.FalsePositive, now, "a test").Encode();

        // The role of who hands it in, apart from the key that signed it.
        Assert.Equal((401, "unauthorized"), await PostAsync("decision", verdict, null));
        Assert.Equal((403, "forbidden"), await PostAsync("decision", verdict, Role.Viewer));
        Assert.Equal((403, "forbidden"), await PostAsync("decision", keys.Approver.Decide(chain, alert, Ruling.Approve, now).Encode(), Role.Analyst));
        Assert.Equal((400, "bad_parameter"), await PostAsync("anomaly", verdict, Role.Admin));
        Assert.Equal((422, "malformed"), await PostAsync("decision", [1, 2, 3], Role.Analyst));
        Assert.Equal((422, "bad_signature"), await PostAsync("decision", [.. verdict[..^1], (byte)(verdict[^1] ^ 1)], Role.Analyst));
        Assert.Equal((422, "kind_not_allowed"), await PostAsync("decision", keys.Alpha.Decide(chain, alert, Ruling.Approve, now).Encode(), Role.Approver));
        Assert.Equal((422, "stale_timestamp"), await PostAsync("decision", keys.Analyst.Decide(chain, alert, Ruling.Confirm, now - 3600).Encode(), Role.Analyst));
        Assert.Equal(413, (await PostAsync("decision", new byte[200_000], Role.Analyst)).Status);

        Assert.Equal((202, "waiting"), await PostAsync("decision", verdict, Role.Analyst));
        var place = AlertEnvelope.Of(Decision.TryDecode(verdict, out var decision) ? decision : throw new InvalidOperationException()).Digest;
        await Eventually.HoldsAsync(() => cluster.Nodes.All(n => n.Projection.Alert(alert.ToString())!.Status == "false_positive"), "the verdict counts at all validators");
        Assert.Equal((200, "committed"), await PostAsync("decision", verdict, Role.Admin));
        Assert.NotNull(node.Projection.Transaction(place.ToString()));

        // The record: read over HTTP by the admin alone, and checked with genesis.
        using var asked = new HttpRequestMessage(HttpMethod.Get, "/v1/audit?limit=100");
        asked.Headers.Authorization = new AuthenticationHeaderValue("Bearer", Token(Role.Admin));
        var lines = (await (await http.SendAsync(asked, TestContext.Current.CancellationToken)).Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var entries = lines.Select(l => JsonNode.Parse(l)!).Select(e => ((string)e["who"]!, (int)e["status"]!, (string)e["detail"]!)).ToArray();
        Assert.Contains(("token:analyst-1", 202, place.ToString()), entries);
        Assert.Contains(("anonymous", 401, "unauthorized"), entries);
        Assert.Contains(("token:viewer-1", 403, "forbidden"), entries);
        Assert.Contains(("token:analyst-1", 422, "bad_signature"), entries);
        Assert.DoesNotContain(lines, l => l.Contains("tttttt", StringComparison.Ordinal));
        var genesis = Path.Combine(cluster.Home(2), "genesis.json");
        var (code, output) = await CliProcess.RunAsync("audit-log", "verify", "--dir", Path.Combine(cluster.Home(2), "data", "audit"), "--genesis", genesis);
        Assert.Equal((ExitCode.Ok, true), (code, output.Contains($"{lines.Length} entries hold", StringComparison.Ordinal)));

        async Task<(int Status, string Code)> PostAsync(string kind, byte[] body, Role? role)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/transactions?kind=" + kind) { Content = new ByteArrayContent(body) };
            if (role is { } r) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", Token(r));
            using var answer = await http.SendAsync(request);
            var json = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;
            return ((int)answer.StatusCode, (string?)(json["code"] ?? json["status"]) ?? "");
        }
    }

    [Fact]
    public async Task A_person_hands_in_a_verdict_with_the_program_and_its_exit_codes_say_what_came_of_it()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "person.key");
        Producer person;
        using (var key = ProducerKey.Create(path)) person = Testnet.Trusted(key.PublicKey, "person", "soc", AlertKinds.Verdict);
        await using var cluster = await TestCluster.StartAsync([.. keys.Producers, person], TimeProvider.System, environment: new Dictionary<string, string> { ["API_BEARER_TOKENS"] = Tokens, ["API_WRITES"] = "true" });
        using var kafka = cluster.Producer();
        kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
        kafka.Flush(TimeSpan.FromSeconds(30));
        var node = cluster.Nodes[0];
        await Eventually.HoldsAsync(() => node.Projection.AlertCount() == 1, "the alert is committed");
        var id = node.Projection.Alerts(ulong.MaxValue, int.MaxValue, 1)[0].Digest;
        string[] confirm = ["alerts", "confirm", id, "--key", path, "--genesis", Path.Combine(cluster.Home(0), "genesis.json"), "--http", "--url", node.ApiAddress.ToString()];
        var token = Path.Combine(directory.Path, "token");
        await File.WriteAllTextAsync(token, Token(Role.Analyst) + "\n", TestContext.Current.CancellationToken);

        Assert.Equal(ExitCode.Permission, (await CliProcess.RunAsync(confirm)).Code);
        Assert.Equal(ExitCode.Permission, (await CliProcess.RunAsync(confirm, [("CYBERMESH_TOKEN", Token(Role.Viewer))])).Code);
        var (code, output) = await CliProcess.RunAsync(confirm, [("CYBERMESH_TOKEN_FILE", token)]);
        Assert.True(code == ExitCode.Ok, output);
        await Eventually.HoldsAsync(() => node.Projection.Alert(id)!.Status == "confirmed", "the verdict counts");
        Assert.Equal(ExitCode.NotFound, (await CliProcess.RunAsync(["alerts", "show", "nothing", "--url", node.ApiAddress.ToString()], [("CYBERMESH_TOKEN_FILE", token)])).Code);
        // Lists for people and for programs, and a stream that is followed.
        (string, string)[] asAnalyst = [("CYBERMESH_TOKEN_FILE", token), ("CYBERMESH_URL", node.ApiAddress.ToString())];
        foreach (var what in new[] { "alerts", "blocks", "validators", "producers" })
        {
            var json = await CliProcess.RunAsync([what, "list", "-o", "json"], asAnalyst);
            Assert.True(json.Code == ExitCode.Ok, json.Output);
            Assert.All(json.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries), line => JsonNode.Parse(line));
            Assert.NotEqual(json.Output, (await CliProcess.RunAsync([what, "list"], asAnalyst)).Output);
        }

        Assert.Contains("\"transactions\"", (await CliProcess.RunAsync(["blocks", "show", "1"], asAnalyst)).Output, StringComparison.Ordinal);
        Assert.Contains("alpha-sensor", (await CliProcess.RunAsync(["alerts", "watch", "--after", "0", "--count", "1"], asAnalyst)).Output, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Connection, (await CliProcess.RunAsync(["alerts", "list", "--url", "http://127.0.0.1:1"], [("CYBERMESH_TOKEN_FILE", token)])).Code);
        var clear = await CliProcess.RunAsync(["alerts", "list", "--url", "http://validator.example:8443"], [("CYBERMESH_TOKEN_FILE", token)]);
        Assert.Contains("would be sent a token in the clear", clear.Output, StringComparison.Ordinal);
        Assert.Contains("it is not said where this goes", (await CliProcess.RunAsync([.. confirm.Where(a => a != "--http")], [("CYBERMESH_TOKEN_FILE", token)])).Output, StringComparison.Ordinal);
    }
}

public sealed class PolicyVerbTests
{
    [Fact]
    public async Task A_policy_is_refused_until_it_is_in_force_and_without_a_quorum_status_says_so()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "approver.key");
        Producer approver;
        using (var key = ProducerKey.Create(path)) approver = Testnet.Trusted(key.PublicKey, "second-approver", "soc", AlertKinds.Approval);
        await using var cluster = await TestCluster.StartAsync([.. keys.Producers, approver], TimeProvider.System, parameters: new ChainParameters { PolicyApprovals = 1 });
        using var kafka = cluster.Producer();
        var (node, now) = (cluster.Nodes[0], DateTimeOffset.UtcNow.ToUnixTimeSeconds());
        foreach (var (id, network, nonce) in new[] { ("p-1", "203.0.113.7", 1UL), ("p-2", "203.0.113.8", 2UL) })
            kafka.Produce("ai.policy.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Block(now, new Nonce(nonce), id, network, 900) });
        kafka.Flush(TimeSpan.FromSeconds(30));
        await Eventually.HoldsAsync(() => node.Projection.Policies(ulong.MaxValue, 0, 10, "proposed").Count == 2, "they are proposed");

        string[] options = ["--key", path, "--genesis", Path.Combine(cluster.Home(0), "genesis.json"), "--brokers", cluster.Broker.BootstrapServers, "--url", node.ApiAddress.ToString()];
        Assert.Equal(ExitCode.Ok, (await CliProcess.RunAsync(["policies", "reject", "p-1", .. options])).Code);
        Assert.Equal(ExitCode.Ok, (await CliProcess.RunAsync(["policies", "approve", "p-2", .. options])).Code);
        await Eventually.HoldsAsync(() => node.Projection.Policy("p-1")!.Status == "revoked" && node.Projection.Policy("p-2")!.Status == "active", "both are decided");
        var (code, output) = await CliProcess.RunAsync(["policies", "reject", "p-2", .. options]);
        Assert.Equal((ExitCode.Conflict, true), (code, output.Contains("'policies revoke' ends one that is in force", StringComparison.OrdinalIgnoreCase)));

        Assert.Equal(ExitCode.Ok, (await CliProcess.RunAsync(["status", "--url", node.ApiAddress.ToString(), "--wait", "60"])).Code);
        await cluster.KillAsync(2);
        await cluster.KillAsync(3);
        await Eventually.HoldsAsync(() => node.ConnectedPeers.Length == 1, "two are gone");
        Assert.Equal(ExitCode.NoQuorum, (await CliProcess.RunAsync(["status", "--url", node.ApiAddress.ToString()])).Code);
    }
}

public sealed class AuditLogTests
{
    /// <summary>The copy may be away for a while: nothing stops because of that, and the head goes into the chain once, when it is back.</summary>
    [Fact]
    public async Task The_head_waits_for_a_database_that_is_away()
    {
        using var directory = new TemporaryDirectory();
        using var log = Open(directory.Path);
        log.Append(Event(1));
        var (asked, offered) = (0, 0);
        var anchor = new AuditAnchor(
            log, Chain, new Sensors.AlertSigner(_key, SigningProfile.V2, TimeProvider.System), (_, _) =>
            {
                offered++;
                return Task.FromResult(new Core.Mempool.Admission(Core.Mempool.AdmissionKind.Admitted));
            },
            _ => ++asked <= 3 ? throw new Microsoft.Data.Sqlite.SqliteException("away", 14) : true, TimeSpan.FromMilliseconds(10), TimeProvider.System, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        using var stop = new System.Threading.CancellationTokenSource();
        var running = anchor.RunAsync(stop.Token);
        await Eventually.HoldsAsync(() => asked == 4 || running.IsCompleted, "it asks again");
        await Task.Delay(200, TestContext.Current.CancellationToken);
        await stop.CancelAsync();
        await running;
        Assert.Equal((4, 1), (asked, offered));
    }

    [Fact]
    public async Task A_log_that_is_cut_off_contradicts_the_heads_that_are_in_the_chain()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "audit.key");
        Producer auditor;
        using (var key = ProducerKey.Create(path)) auditor = Testnet.Trusted(key.PublicKey, "v1-audit", "org", AlertKinds.Evidence);
        await using var cluster = await TestCluster.StartAsync([.. keys.Producers, auditor], TimeProvider.System);
        await cluster.KillAsync(0);
        await cluster.StartAsync(0, ("AUDIT_ANCHOR_KEY_FILE", path), ("AUDIT_ANCHOR_PERIOD", "1s"), ("API_BEARER_TOKENS", "admin:admin:" + new string('a', 40)));
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        var log = Path.Combine(cluster.Home(0), "data", "audit", AuditLog.FileName);
        for (var round = 1; round <= 2; round++)
        {
            for (var i = 0; i < 3; i++) Assert.Equal(System.Net.HttpStatusCode.Unauthorized, (await http.GetAsync("/v1/alerts", TestContext.Current.CancellationToken)).StatusCode);
            await Eventually.HoldsAsync(() => Anchored().GetAwaiter().GetResult() == round * 3, "the head is committed");
        }

        string[] verify =
        [
            "audit-log", "verify", "--dir", Path.GetDirectoryName(log)!, "--genesis", Path.Combine(cluster.Home(0), "genesis.json"), "--anchors", cluster.Nodes[1].ApiAddress.ToString(), "--anchor-key", auditor.Key.ToString(),
        ];
        var (code, output) = await CliProcess.RunAsync(verify);
        Assert.True(code == ExitCode.Ok, output);
        Assert.Matches("6 entries hold \\(known heads among them: [2-9]\\)", output);
        await cluster.KillAsync(0);
        var lines = await File.ReadAllLinesAsync(log, TestContext.Current.CancellationToken);
        await File.WriteAllLinesAsync(log, lines[..5], TestContext.Current.CancellationToken);
        (code, output) = await CliProcess.RunAsync(verify);
        Assert.Equal((ExitCode.VerificationFailed, true), (code, output.Contains("it ends before, or was written anew", StringComparison.Ordinal)));

        // By another validator, as who checks would ask.
        async Task<long> Anchored()
        {
            if (cluster.Nodes[1].Projection.Evidence(ulong.MaxValue, int.MaxValue, 1, AuditAnchor.EvidenceType) is not [var newest]) return 0;
            using var other = new HttpClient { BaseAddress = cluster.Nodes[1].ApiAddress };
            var record = await other.GetByteArrayAsync("/v1/messages/" + newest.Digest);
            return EnvelopeDecoder.TryDecode(AlertKind.Evidence, record, out var envelope, out _) && AuditAnchor.TryDecode((AlertContent.Evidence)envelope.Content, cluster.Genesis.Chain.ChainId, out var head) ? head.Sequence : 0;
        }
    }

    private static readonly Digest Chain = Digest.Sha256([1]);
    private static readonly Ed25519Verifier Verifier = new();
    private readonly Ed25519Signer _key = new([.. Enumerable.Repeat((byte)1, 32)]);

    private static AuditEvent Event(int number) => new("token:alice", Role.Analyst, "127.0.0.1", "POST", "/v1/transactions", 202, $"number {number} with \"quotes\", ünï and ,\"signature\":\"");

    private AuditLog Open(string directory) => new(directory, Chain, () => _key, TimeProvider.System);

    private string? Check(IEnumerable<string> lines, AuditHead? seen = null, Ed25519Signer? key = null) => AuditChain.Check(lines, Chain, [(key ?? _key).PublicKey], seen is { } head ? new HashSet<AuditHead> { head } : new HashSet<AuditHead>(), Verifier, out _);

    private static string[] Lines(string directory) => [.. AuditChain.Files(directory).SelectMany(File.ReadLines)];

    [Fact]
    public void The_chain_goes_on_over_restarts_and_files_and_a_torn_line()
    {
        using var directory = new TemporaryDirectory();
        for (var run = 0; run < 3; run++)
        {
            using var log = Open(directory.Path);
            for (var i = 0; i < 5; i++) log.Append(Event(i));
        }

        Assert.Equal(15, Lines(directory.Path).Length);
        Assert.Null(Check(Lines(directory.Path)));
        // A crash in the middle of a line: it was never acknowledged; that something was lost is on the record.
        File.AppendAllText(Path.Combine(directory.Path, AuditLog.FileName), """{"sequence":16,"time":"20""");
        using (var log = Open(directory.Path)) log.Append(Event(16));
        Assert.Null(Check(Lines(directory.Path)));
        Assert.Contains("25 bytes of an entry were lost", Lines(directory.Path)[15], StringComparison.Ordinal);
        // A file that is full gives way to the next.
        File.Move(Path.Combine(directory.Path, AuditLog.FileName), Path.Combine(directory.Path, "audit-000000000017.log"));
        using (var log = Open(directory.Path))
        {
            Assert.Equal(17, log.Head.Sequence);
            log.Append(Event(18));
            Assert.Equal(2, log.Tail(2).Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        }

        Assert.Null(Check(Lines(directory.Path)));
        Assert.Equal(18, Lines(directory.Path).Length);
    }

    [Fact]
    public void Every_change_is_found()
    {
        using var directory = new TemporaryDirectory();
        AuditHead head;
        using (var log = Open(directory.Path))
        {
            for (var i = 0; i < 6; i++) log.Append(Event(i));
            head = log.Head;
        }

        var lines = Lines(directory.Path);
        Assert.Null(Check(lines, head));
        for (var line = 0; line < lines.Length; line++)
        {
            // Each character, each line dropped, doubled and swapped with its neighbour.
            for (var place = 0; place < lines[line].Length; place++)
            {
                var changed = lines.ToArray();
                changed[line] = lines[line][..place] + (char)(lines[line][place] ^ 1) + lines[line][(place + 1)..];
                Assert.NotNull(Check(changed));
            }

            if (line < lines.Length - 1)
            {
                Assert.NotNull(Check([.. lines[..line], .. lines[(line + 1)..]]));
                Assert.NotNull(Check([.. lines[..line], lines[line + 1], lines[line], .. lines[(line + 2)..]]));
            }

            Assert.NotNull(Check([.. lines[..(line + 1)], lines[line], .. lines[(line + 1)..]]));
            // What was cut off at the end is missed by those who have seen it.
            Assert.Null(Check(lines[..line]));
            Assert.NotNull(Check(lines[..line], head));
        }

        using var other = new Ed25519Signer([.. Enumerable.Repeat((byte)2, 32)]);
        Assert.NotNull(Check(lines, key: other));
        // Written anew with the true key, and one word changed: who has seen the old one notices.
        using var forged = new TemporaryDirectory();
        using (var log = Open(forged.Path))
            for (var i = 0; i < 6; i++) log.Append(Event(i == 2 ? 7 : i));
        Assert.Null(Check(Lines(forged.Path)));
        Assert.NotNull(Check(Lines(forged.Path), head));
    }

    [Fact]
    public void A_log_whose_end_was_changed_is_not_gone_on_with()
    {
        using var directory = new TemporaryDirectory();
        using (var log = Open(directory.Path)) log.Append(Event(1));
        File.AppendAllText(Path.Combine(directory.Path, AuditLog.FileName), "something else\n");
        Assert.Contains("no entry of an audit log", Assert.Throws<UserError>(() => Open(directory.Path)).Message, StringComparison.Ordinal);
    }
}
