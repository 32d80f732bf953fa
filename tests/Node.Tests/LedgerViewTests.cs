using System;
using System.Linq;
using System.Net.Http;
using System.Text;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Protos.Control;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>What the state machine decides, as it is seen through the HTTP API and on the control topics.</summary>
public sealed class LedgerViewTests
{
    [Fact]
    public async Task Corroboration_verdicts_evidence_and_policies_show_in_the_api_and_on_the_control_topics()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, parameters: new ChainParameters { PolicyApprovals = 1 });
        using var kafka = cluster.Producer();
        using var http = new HttpClient { BaseAddress = cluster.Nodes[1].ApiAddress };
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

        var first = Publish("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now, new Nonce(1), "a-1", 7));
        var second = Publish("ai.anomalies.v1", AlertKind.Anomaly, keys.Beta.Anomaly(now, new Nonce(2), "b-1", 7));
        var alert = await UntilAsync($"/v1/alerts/{first}", "corroborated");
        Assert.Equal("corroborated", (string)(await UntilAsync($"/v1/alerts/{second}", "corroborated"))["history"]![0]!["status"]!);
        Assert.Equal(2, (await GetAsync("/v1/alerts?status=corroborated"))["alerts"]!.AsArray().Count);

        var evidence = Publish("ai.evidence.v1", AlertKind.Evidence, keys.Beta.Evidence(now, new Nonce(3), "e-1", [first, Samples(9)]));
        await Eventually.HoldsAsync(() => cluster.Nodes[1].Projection.Evidence("e-1") is not null, "the evidence is committed");
        var links = (await GetAsync("/v1/evidence/e-1"))["references"]!.AsArray();
        Assert.Equal([(first.ToString(), false), (null, true)], links.Select(l => ((string?)l!["alert"], (bool)l["dangling"]!)));
        Assert.Equal([evidence.ToString()], (await GetAsync("/v1/alerts/a-1"))["evidence"]!.AsArray().Select(e => (string)e!));

        Publish("control.decisions.v1", AlertKind.Decision, keys.Analyst.Decide(cluster.Genesis.Chain.ChainId, first, Ruling.FalsePositive, now, "a test").Encode());
        Assert.Equal("analyst", (string)(await UntilAsync("/v1/alerts/a-1", "false_positive"))["decided_by"]!);
        var alpha = await GetAsync("/v1/producers/alpha-sensor");
        Assert.Equal(440, (int)alpha["reputation"]!);
        Assert.Equal(("false_positive", 510, "a test"), ((string)alpha["history"]![0]!["cause"]!, (int)alpha["history"]![0]!["before"]!, (string)alpha["history"]![0]!["note"]!));

        var policy = Publish("ai.policy.v1", AlertKind.Policy, keys.Alpha.Block(now, new Nonce(4), "p-1", "203.0.113.7", 3));
        await UntilAsync("/v1/policies/p-1", "proposed");
        Publish("control.decisions.v1", AlertKind.Decision, keys.Approver.Decide(cluster.Genesis.Chain.ChainId, policy, Ruling.Approve, now).Encode());
        await UntilAsync("/v1/policies/p-1", "active");
        // Without any traffic: a leader makes the block that ends it.
        Assert.Equal(["proposed", "active", "expired"], (await UntilAsync("/v1/policies/p-1", "expired"))["history"]!.AsArray().Select(h => (string)h!["status"]!));
        Assert.Equal("p-1", (string)Assert.Single((await GetAsync("/v1/policies?status=expired"))["policies"]!.AsArray())!["id"]!);

        // Refused ones end in the dead letter topic, once.
        Publish("ai.policy.v1", AlertKind.Policy, keys.Alpha.Block(now, new Nonce(5), "p-2", "127.0.0.1", 60));
        var dead = await cluster.ReadAsync("ai.dlq.v1", records => records.Count >= 1);
        Assert.Equal("never_block", Ingest.DeadLetters.Header(Assert.Single(dead).Message.Headers, "error_code"));

        await CheckPolicyRecordsAsync(cluster);
        await CheckReputationRecordsAsync(cluster, keys);

        Digest Publish(string topic, AlertKind kind, byte[] record)
        {
            Assert.True(EnvelopeDecoder.TryDecode(kind, record, out var envelope, out var rejection), rejection?.Explanation);
            kafka.Produce(topic, new Message<byte[]?, byte[]?> { Value = record });
            kafka.Flush(TimeSpan.FromSeconds(20));
            return envelope.Digest;
        }

        async Task<JsonNode> GetAsync(string path) => JsonNode.Parse(await http.GetStringAsync(path))!;

        async Task<JsonNode> UntilAsync(string path, string status)
        {
            for (var i = 0; ; i++)
            {
                var answer = await http.GetAsync(path);
                var found = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;
                if (found["status"] is JsonValue value && value.TryGetValue<string>(out var present) && present == status) return found;
                Assert.True(i < 600, $"{path} does not become {status}: {found}");
                await Task.Delay(100);
            }
        }
    }

    /// <summary>As existing enforcers check them: domain and canonical bytes, a control key, known words, a JSON object with its hash.</summary>
    private static async Task CheckPolicyRecordsAsync(TestCluster cluster)
    {
        var records = await cluster.ReadAsync("control.policy.v1", r => r.Count >= 2);
        Assert.Equal(["drop", "remove"], records.Select(r => PolicyUpdateEvent.Parser.ParseFrom(r.Message.Value).Action));
        foreach (var record in records)
        {
            var message = PolicyUpdateEvent.Parser.ParseFrom(record.Message.Value);
            Assert.Equal(("p-1", "block", true), (message.PolicyId, message.RuleType, message.RequiresAck));
            Assert.Equal(System.Security.Cryptography.SHA256.HashData(message.RuleData.Span), message.RuleHash.ToByteArray());
            Assert.NotNull(JsonNode.Parse(message.RuleData.ToStringUtf8()) as JsonObject);
            Assert.Equal("p-1", Encoding.UTF8.GetString(record.Message.Key!));
            AssertSigned(cluster, "control.policy.v1", message.Signature, message.Pubkey, new PolicyUpdateEvent(message) { Signature = ByteString.Empty, Pubkey = ByteString.Empty, Alg = "" });
        }
    }

    private static async Task CheckReputationRecordsAsync(TestCluster cluster, Keys keys)
    {
        var records = await cluster.ReadAsync("control.reputation.v1", r => r.Count >= 3);
        var messages = records.Select(r => ReputationEvent.Parser.ParseFrom(r.Message.Value)).ToArray();
        Assert.Equal([("a-1", 10), ("b-1", 10), ("a-1", -70)], messages.OrderBy(m => m.BlockHeight).ThenBy(m => m.AiMessageId).Select(m => (m.AiMessageId, m.Score)));
        var last = messages.MaxBy(m => m.BlockHeight)!;
        Assert.Equal(("false_positive", true, "a test", 7u, "anomaly"), (last.Reason, last.FalsePositive, last.AnalystNotes, last.IncidentSeverity, last.MessageType));
        Assert.Equal(keys.Alpha.Signer.PublicKey.ToArray(), last.AiProducerId.ToByteArray());
        foreach (var m in messages)
            AssertSigned(cluster, "control.reputation.v1", m.Signature, m.Pubkey, new ReputationEvent(m) { Signature = ByteString.Empty, Pubkey = ByteString.Empty, Alg = "" });
    }

    private static void AssertSigned(TestCluster cluster, string domain, ByteString signature, ByteString key, IMessage unsigned)
    {
        var signer = PublicKey.From(key.Span);
        Assert.Contains(signer, cluster.Genesis.Chain.Validators.Members.Select(v => v.ControlKey));
        Assert.True(new Ed25519Verifier().Verify(signer, [.. Encoding.UTF8.GetBytes(domain), .. unsigned.ToByteArray()], Signature.From(signature.Span)));
    }

    private static Digest Samples(byte fill) => Digest.From(Enumerable.Repeat(fill, 32).ToArray());
}
