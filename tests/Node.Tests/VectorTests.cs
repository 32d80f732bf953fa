using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Ingest;
using CyberMesh.Protos.Control;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Every message of the independent producer gets its verdict, offline and through Kafka.</summary>
public sealed class VectorTests
{
    private static readonly Dictionary<string, string> CodeByDefect = new()
    {
        ["bad_signature"] = "bad_signature",
        ["wrong_content_hash"] = "content_hash_mismatch",
        ["stale_timestamp"] = "stale_timestamp",
        ["replayed_nonce"] = "replayed_nonce",
        ["exact_duplicate"] = "replayed_nonce",
        ["unknown_producer"] = "unknown_producer",
        ["wrong_alg"] = "unsupported_algorithm",
        ["short_nonce"] = "field_out_of_range",
        ["truncated_protobuf"] = "malformed",
        ["severity_eleven"] = "field_out_of_range",
        ["payload_severity_mismatch"] = "payload_mismatch",
        ["coc_actor_bad_size"] = "field_out_of_range",
        ["empty_action"] = "field_out_of_range",
    };

    private static JsonNode Manifest() => JsonNode.Parse(File.ReadAllText(Path.Combine(Paths.Vectors, "manifest.json")))!;

    [Fact]
    public async Task Check_gives_every_vector_its_verdict_and_code()
    {
        var (code, output) = await CliProcess.RunAsync("check", Paths.Vectors);
        Assert.Equal(0, code);
        foreach (var message in Manifest()["messages"]!.AsArray())
        {
            var verdict = (string)message!["expect"]! == "accept" ? "accepted" : "rejected " + CodeByDefect[(string)message["defect"]!];
            Assert.Contains($"{message["file"]}: {verdict}", output, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Check_of_single_files_sees_replays_through_the_nonce_file()
    {
        using var directory = new TemporaryDirectory();
        var nonces = Path.Combine(directory.Path, "nonces");
        var key = (string)Manifest()["keys"]!["trusted"]![0]!;
        Task<(int Code, string Output)> Check(string file) =>
            CliProcess.RunAsync("check", Path.Combine(Paths.Vectors, file), "--topic", "ai.anomalies.v1", "--trust", key, "--now", "1790000000", "--nonces", nonces);
        Assert.Equal((0, "accepted"), await Check("0024_anomaly_valid.bin"));
        var (code, output) = await Check("0025_anomaly_replayed_nonce.bin");
        Assert.Equal(5, code);
        Assert.StartsWith("rejected replayed_nonce ", output, StringComparison.Ordinal);
    }

    [Fact]
    public void Signing_bytes_equal_those_of_the_independent_producer()
    {
        foreach (var message in Manifest()["messages"]!.AsArray())
        {
            if ((string)message!["expect"]! != "accept") continue;
            var kind = Enum.Parse<AlertKind>((string)message["kind"]!, ignoreCase: true);
            Assert.True(EnvelopeDecoder.TryDecode(kind, File.ReadAllBytes(Path.Combine(Paths.Vectors, (string)message["file"]!)), out var envelope, out _));
            var bytes = SigningBytes.V1(kind, envelope.TimestampSeconds, envelope.Producer, envelope.Nonce, envelope.ContentHash);
            Assert.Equal((string)message["sign_bytes"]!, Convert.ToHexStringLower(bytes));
        }
    }

    [Fact]
    public async Task Through_kafka_accepted_ones_end_in_blocks_and_rejected_ones_in_the_dead_letter_topic()
    {
        var manifest = Manifest();
        var messages = manifest["messages"]!.AsArray().Select(m => (
            File: (string)m!["file"]!, Topic: (string)m["topic"]!, Accept: (string)m["expect"]! == "accept", Defect: (string?)m["defect"],
            Bytes: File.ReadAllBytes(Path.Combine(Paths.Vectors, (string)m["file"]!)))).ToArray();
        Assert.True(PublicKey.TryParse((string)manifest["keys"]!["trusted"]![0]!, out var trusted));
        var producer = new Producer(trusted, "independent", "vectors", AlertKinds.All, SigningProfiles.V1, 1000, default, null, false);
        await using var cluster = await TestCluster.StartAsync([producer], new ShiftedTime(DateTimeOffset.FromUnixTimeSeconds((long)manifest["now"]!)));

        // One partition, so that every validator sees an original before its replay.
        using (var kafka = cluster.Producer())
        {
            foreach (var message in messages)
                kafka.Produce(new TopicPartition(message.Topic, 0), new Message<byte[]?, byte[]?> { Value = message.Bytes });
            kafka.Produce(new TopicPartition("ai.anomalies.v1", 0), new Message<byte[]?, byte[]?> { Value = null });
            kafka.Flush(TimeSpan.FromSeconds(20));
        }

        var rejected = messages.Where(m => !m.Accept).ToArray();
        // A slow start can make two validators write the same one.
        static TopicPartitionOffset? Place(ConsumeResult<byte[]?, byte[]?> letter) => DeadLetters.TryReadPlace(letter.Message.Headers, out var place) ? place : null;
        var dead = (await cluster.ReadAsync("ai.dlq.v1", records => records.Select(Place).Distinct().Count() >= rejected.Length + 1)).DistinctBy(Place);
        var found = dead.Select(d => (Value: d.Message.Value is null ? "" : Convert.ToHexString(d.Message.Value), Code: DeadLetters.Header(d.Message.Headers, "error_code"))).Order();
        var expected = rejected.Select(m => (Value: Convert.ToHexString(m.Bytes), Code: CodeByDefect[m.Defect!])).Append(("", "malformed")).Order();
        Assert.Equal(expected, found);

        var accepted = messages.Where(m => m.Accept).Select(m =>
        {
            Assert.True(EnvelopeDecoder.TryDecode(KindOf(m.Topic), m.Bytes, out var envelope, out _));
            return envelope.Digest.ToString();
        }).Order().ToArray();
        foreach (var node in cluster.Nodes)
        {
            await Eventually.HoldsAsync(() => node.Projection.AllResults().Count(r => r.Result == "accepted") >= accepted.Length, $"{node.Name} committed all");
            Assert.Equal(accepted, node.Projection.AllResults().Where(r => r.Result == "accepted").Select(r => r.Digest).Order());
        }

        await CheckCommitRecords(cluster, accepted.Length);
    }

    private static AlertKind KindOf(string topic) =>
        topic.Contains("evidence", StringComparison.Ordinal) ? AlertKind.Evidence : topic.Contains("policy", StringComparison.Ordinal) ? AlertKind.Policy : AlertKind.Anomaly;

    /// <summary>As an existing consumer does: domain ‖ the record serialised again with signature, pubkey and alg empty, under the control key named in genesis.</summary>
    private static async Task CheckCommitRecords(TestCluster cluster, int accepted)
    {
        var records = await cluster.ReadAsync("control.commits.v1", r => r.Sum(x => { var c = CommitEvent.Parser.ParseFrom(x.Message.Value); return c.AnomalyCount + c.EvidenceCount + c.PolicyCount; }) >= accepted);
        var controlKeys = cluster.Genesis.Chain.Validators.Members.Select(v => v.ControlKey).ToHashSet();
        var verifier = new Ed25519Verifier();
        Assert.NotEmpty(records);
        foreach (var record in records)
        {
            var commit = CommitEvent.Parser.ParseFrom(record.Message.Value);
            var signer = PublicKey.From(commit.ProducerId.Span);
            Assert.Contains(signer, controlKeys);
            Assert.Equal(commit.ProducerId, commit.Pubkey);
            Assert.Equal("Ed25519", commit.Alg);
            var signature = Signature.From(commit.Signature.Span);
            var unsigned = commit.Clone();
            unsigned.Signature = ByteString.Empty;
            unsigned.Pubkey = ByteString.Empty;
            unsigned.Alg = "";
            Assert.True(verifier.Verify(signer, [.. "control.commits.v1"u8, .. unsigned.ToByteArray()], signature));
            Assert.Equal((32, 32), (commit.BlockHash.Length, commit.StateRoot.Length));
            Assert.True(commit.AnomalyCount + commit.EvidenceCount + commit.PolicyCount <= commit.TxCount);
            Assert.Equal((ulong)commit.Height, System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(record.Message.Key));
            Assert.Equal("1", DeadLetters.Header(record.Message.Headers, "version"));
            Assert.Equal("commit", DeadLetters.Header(record.Message.Headers, "type"));
            Assert.Equal(Convert.ToHexStringLower(commit.BlockHash.Span), DeadLetters.Header(record.Message.Headers, "cm-digest"));
        }
    }
}
