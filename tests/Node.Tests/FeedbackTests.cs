using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Text;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Feedback;
using CyberMesh.Protos.Control;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>What leaves the system, and those who act on it: they obey a quorum, whoever published the record.</summary>
public sealed class FeedbackTests
{
    [Fact]
    public async Task F2_enforcers_obey_what_a_quorum_decided_and_nothing_else()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, parameters: new ChainParameters { PolicyApprovals = 1 });
        using var kafka = cluster.Producer();
        using var directory = new TemporaryDirectory();
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var chain = cluster.Genesis.Chain;
        var policies = new List<Digest>();
        foreach (var (id, network, nonce) in new[] { ("p-1", "203.0.113.7", 1UL), ("p-2", "198.51.100.0/24", 2UL), ("p-3", "2001:db8:1::/64", 3UL) })
        {
            var record = keys.Alpha.Block(now, new Nonce(nonce), id, network, 900);
            Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Policy, record, out var envelope, out var refused), refused?.Explanation);
            policies.Add(envelope.Digest);
            kafka.Produce("ai.policy.v1", new Message<byte[]?, byte[]?> { Value = record });
        }

        await Eventually.HoldsAsync(() => cluster.Nodes[0].Projection.Policies(ulong.MaxValue, 0, 10, "proposed").Count == 3, "they are proposed");
        foreach (var policy in policies) Decide(policy, Ruling.Approve);
        await Eventually.HoldsAsync(() => cluster.Nodes[0].Projection.Policies(ulong.MaxValue, 0, 10, "active").Count == 3, "they are in force");
        Decide(policies[1], Ruling.Revoke);
        var verifier = new ControlVerifier(Policy(chain), new Ed25519Verifier());
        // A validator may repeat what another has published; two are in force and one has ended, each said at least once.
        (Digest, bool)[] decided = [(policies[0], false), (policies[1], true), (policies[2], false)];
        var records = await cluster.ReadAsync("control.policy.v1", r => r.Count >= 4 && decided.All(Said(r).Contains));
        Assert.All(decided, d => Assert.Contains(d, Said(records)));
        var verified = records.Select(Verified).ToArray();

        // In any order, and twice, they come to the same.
        foreach (var order in new[] { verified, [.. verified.Reverse()], [.. verified, .. verified] })
        {
            var enforced = new EnforcedPolicies();
            foreach (var record in order) enforced.Apply(record.Policy!, DateTimeOffset.UtcNow);
            Assert.Equal(["2001:db8:1:0:0:0:0:0/64", "203.0.113.7"], enforced.Blocked(DateTimeOffset.UtcNow).Select(b => b.Network.ToString()));
            Assert.Empty(enforced.Blocked(DateTimeOffset.UtcNow.AddSeconds(1000)));
        }

        await CheckFeedsAsync(cluster.Nodes[0].ApiAddress);

        // Commits and reputations too; and whatever is changed about any of them is refused.
        foreach (var topic in new[] { "control.commits.v1", "control.policy.v1" })
            foreach (var record in (await cluster.ReadAsync(topic, r => r.Count >= 3)).Take(3))
                RefuseAllChanges(verifier, topic, record);

        // By the commands, as a user would; and with a record of somebody who is no validator among them.
        var file = Path.Combine(directory.Path, "trust.policy");
        await File.WriteAllTextAsync(file, TrustPolicy.Of(chain));
        string[] where = ["--brokers", cluster.Broker.BootstrapServers, "--policy", file];
        var (code, output) = await CliProcess.RunAsync(["check", "--topic", "control.policy.v1", .. where]);
        Assert.True(code == 0, output);
        Assert.Matches("[4-9] records are good, 0 are not", output); // a validator may repeat what another has published
        (code, output) = await CliProcess.RunAsync(["enforce", "--dry-run", "--once", .. where]);
        Assert.True(code == 0, output);
        Assert.Contains("+ 203.0.113.7 until 20", output, StringComparison.Ordinal);
        Assert.DoesNotContain("198.51.100", output, StringComparison.Ordinal);
        var forged = Forged(records[0], keys);
        kafka.Produce("control.policy.v1", forged);
        kafka.Flush(TimeSpan.FromSeconds(10));
        (code, output) = await CliProcess.RunAsync(["check", "--topic", "control.policy.v1", .. where]);
        Assert.Equal(5, code);
        Assert.Matches("[4-9] records are good, 1 are not", output);
        var list = Path.Combine(directory.Path, "blocked");
        Assert.Equal(0, (await CliProcess.RunAsync(["enforce", "--out", list, "--once", .. where])).Code);
        Assert.Equal("2001:db8:1:0:0:0:0:0/64\n203.0.113.7\n", await File.ReadAllTextAsync(list));
        (code, output) = await CliProcess.RunAsync(["enforce", "--out", list, "--format", "nftables", "--once", .. where]);
        Assert.Contains("none of these validators' control keys", output, StringComparison.Ordinal);
        Assert.Matches(@"elements = \{ 203\.0\.113\.7 timeout \d+s \}", await File.ReadAllTextAsync(list));
        Assert.Equal(1, (await CliProcess.RunAsync(["enforce", "--once", .. where])).Code);

        VerifiedRecord Verified(ConsumeResult<byte[]?, byte[]?> record) => verifier.Verify("control.policy.v1", record.Message.Value, record.Message.Headers, out var problem) ?? throw new InvalidOperationException(problem);

        IEnumerable<(Digest Policy, bool Ended)> Said(List<ConsumeResult<byte[]?, byte[]?>> from) => from.Select(r => Verified(r).Policy!).Select(p => (p.Digest, p.Until is null));

        void Decide(Digest policy, Ruling ruling)
        {
            var record = keys.Approver.Decide(chain.ChainId, policy, ruling, DateTimeOffset.UtcNow.ToUnixTimeSeconds()).Encode();
            kafka.Produce("control.decisions.v1", new Message<byte[]?, byte[]?> { Value = record });
            kafka.Flush(TimeSpan.FromSeconds(10));
        }
    }

    private static TrustPolicy Policy(ChainContext chain)
    {
        Assert.True(TrustPolicy.TryParse(Encoding.UTF8.GetBytes(TrustPolicy.Of(chain)), out var policy, out var problem), problem);
        return policy;
    }

    private static Message<byte[]?, byte[]?> Forged(ConsumeResult<byte[]?, byte[]?> genuine, Keys keys)
    {
        var message = PolicyUpdateEvent.Parser.ParseFrom(genuine.Message.Value);
        (message.Signature, message.Pubkey, message.Alg) = (ByteString.Empty, ByteString.Empty, "");
        message.ProducerId = ByteString.CopyFrom(keys.Alpha.Signer.PublicKey.ToArray());
        message.Signature = ByteString.CopyFrom(keys.Alpha.Signer.Sign([.. "control.policy.v1"u8, .. message.ToByteArray()]).ToArray());
        (message.Pubkey, message.Alg) = (message.ProducerId, "Ed25519");
        return new Message<byte[]?, byte[]?> { Value = message.ToByteArray(), Headers = genuine.Message.Headers };
    }

    private static void RefuseAllChanges(ControlVerifier verifier, string topic, ConsumeResult<byte[]?, byte[]?> record)
    {
        var (value, headers) = (record.Message.Value!, record.Message.Headers);
        Assert.NotNull(verifier.Verify(topic, value, headers, out _));
        Assert.Null(verifier.Verify(topic + "x", value, headers, out var problem));
        Assert.Contains("over these bytes and this topic", problem, StringComparison.Ordinal);
        Assert.Null(verifier.Verify(topic, null, headers, out _));
        Assert.Null(verifier.Verify(topic, new byte[(1 << 20) + 1], headers, out _));
        for (var i = 0; i < value.Length; i++)
        {
            var changed = value.ToArray();
            changed[i] ^= 1;
            Assert.True(verifier.Verify(topic, changed, headers, out _) is null, $"byte {i} of the value");
        }

        foreach (var name in new[] { "type", "cm-proof", "cm-state", "cm-digest" })
        {
            if (!headers.TryGetLastBytes(name, out var content) || (name == "cm-digest" && topic == "control.commits.v1")) continue;
            Assert.True(verifier.Verify(topic, value, Without(headers, name, null), out problem) is null, name);
            Assert.NotEmpty(problem);
            for (var i = 0; i < content.Length; i += 1 + (content.Length / 300))
            {
                var changed = content.ToArray();
                changed[i] ^= 4;
                Assert.True(verifier.Verify(topic, value, Without(headers, name, changed), out _) is null, $"byte {i} of {name}");
            }
        }
    }

    /// <summary>The lists for firewalls that read them over HTTP say the same as the proofs.</summary>
    private static async Task CheckFeedsAsync(Uri api)
    {
        using var http = new HttpClient { BaseAddress = new Uri(api, "/v1/feeds/") };
        await Eventually.HoldsAsync(() => http.GetStringAsync("blocked.txt").GetAwaiter().GetResult() == "2001:db8:1:0:0:0:0:0/64\n203.0.113.7\n", "the feed names what is in force");
        Assert.Equal("203.0.113.7\n", await http.GetStringAsync("blocked-ipv4.txt"));
        Assert.Equal("2001:db8:1:0:0:0:0:0/64\n", await http.GetStringAsync("blocked-ipv6.txt"));
        var entries = JsonNode.Parse(await http.GetStringAsync("blocked.json"))!["entries"]!.AsArray();
        Assert.Equal([("2001:db8:1:0:0:0:0:0/64", "p-3"), ("203.0.113.7", "p-1")], entries.Select(e => ((string)e!["network"]!, (string)e["policy"]!)));
        // STIX 2.1: what the specification requires of a bundle, an identity and an indicator.
        var bundle = JsonNode.Parse(await http.GetStringAsync("blocked.stix"))!;
        Assert.Equal("application/stix+json", (await http.GetAsync("blocked.stix")).Content.Headers.ContentType!.MediaType);
        Assert.Matches("^bundle--[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", (string)bundle["id"]!);
        var objects = bundle["objects"]!.AsArray();
        Assert.Equal(["identity", "indicator", "indicator"], objects.Select(o => (string)o!["type"]!));
        Assert.All(objects, o => Assert.Equal("2.1", (string)o!["spec_version"]!));
        Assert.Equal(["[ipv4-addr:value = '203.0.113.7']", "[ipv6-addr:value = '2001:db8:1:0:0:0:0:0/64']"], objects.Skip(1).Select(o => (string)o!["pattern"]!).Order());
        Assert.All(objects.Skip(1), o => Assert.True(DateTimeOffset.Parse((string)o!["valid_until"]!, System.Globalization.CultureInfo.InvariantCulture) > DateTimeOffset.Parse((string)o["valid_from"]!, System.Globalization.CultureInfo.InvariantCulture)));
        Assert.All(objects.Skip(1), o => Assert.Equal((string)objects[0]!["id"]!, (string)o!["created_by_ref"]!));
        Assert.Single(JsonNode.Parse(await http.GetStringAsync("blocked-ipv4.stix"))!["objects"]!.AsArray().Skip(1));
        var answer = await http.GetAsync("blocked.txt");
        using var again = new HttpRequestMessage(HttpMethod.Get, "blocked.txt");
        again.Headers.IfNoneMatch.Add(answer.Headers.ETag!);
        Assert.Equal(HttpStatusCode.NotModified, (await http.SendAsync(again)).StatusCode);
        foreach (var nothing in new[] { "blocked", "blocked.xml", "others.txt", ".txt" }) Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync(nothing)).StatusCode);
    }

    private static Headers Without(Headers headers, string name, byte[]? instead)
    {
        var changed = new Headers();
        foreach (var header in headers)
            if (header.Key != name) changed.Add(header.Key, header.GetValueBytes());
            else if (instead is not null) changed.Add(name, instead);
        return changed;
    }

    [Fact]
    public async Task F1_records_of_a_silent_proposer_are_published_by_the_next_one()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, parameters: new ChainParameters { TermBlocks = 8 }); // so that all of them propose
        using var kafka = cluster.Producer();
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        // What the first one publishes nobody reads, as if it kept its records to itself; what it kept before is still its own.
        await cluster.KillAsync(0);
        await cluster.StartAsync(0, ("CONTROL_COMMITS_TOPIC", "elsewhere"), ("KAFKA_OUTPUT_TOPIC_COMMITS", "elsewhere"));
        var silent = cluster.Nodes[0].Name;
        var next = cluster.Nodes.Single(n => n.Index.Value == (cluster.Nodes[0].Index.Value + 1) % 4);
        for (var round = 0UL; round < 60; round++)
        {
            kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(now, new Nonce(round + 1), $"a-{round}", 7) });
            kafka.Flush(TimeSpan.FromSeconds(10));
            await Task.Delay(50);
        }

        await Eventually.HoldsAsync(() => cluster.Nodes[1].Projection.AlertCount() == 60, "all are committed");
        var last = cluster.Nodes[1].Status.Height.Value;
        var kept = cluster.Nodes[1].Projection.Blocks(last + 1, 1000).Where(b => b.Proposer == silent).Select(b => (long)b.Height).ToHashSet();
        Assert.NotEmpty(kept);

        // A record that nobody would obey keeps nobody from publishing the right one.
        var elsewhere = await cluster.ReadAsync("elsewhere", r => r.Count > 0);
        foreach (var record in elsewhere) kafka.Produce("control.commits.v1", new Message<byte[]?, byte[]?> { Value = record.Message.Value, Headers = record.Message.Headers, Key = record.Message.Key });

        var verifier = new ControlVerifier(Policy(cluster.Genesis.Chain), new Ed25519Verifier());
        var records = await cluster.ReadAsync("control.commits.v1", all => Good(all).Select(v => v.Height).Where(h => h <= (long)last).Distinct().Count() == (int)last);
        var good = Good(records);
        Assert.Equal(Enumerable.Range(1, (int)last).Select(i => (long)i), good.Select(v => v.Height).Where(h => h <= (long)last).Distinct().Order());
        // The next in order is the first whose turn it is; on a slow machine the one after it may not have seen that in time.
        Assert.Contains(next.Name, good.Where(v => kept.Contains(v.Height) && v.Signer != silent).Select(v => v.Signer));
        Assert.True(next.Metrics.RecordsTakenOver.Value > 0);

        List<(long Height, string Signer)> Good(List<ConsumeResult<byte[]?, byte[]?>> all) =>
        [
            .. from record in all
               let verified = verifier.Verify("control.commits.v1", record.Message.Value, record.Message.Headers, out _)
               where verified is not null
               select (((CommitEvent)verified.Message).Height, verified.Signer),
        ];
    }
}
