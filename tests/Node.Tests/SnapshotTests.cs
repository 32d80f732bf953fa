using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Sensors;
using CyberMesh.Node.Storage;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Snapshots with real validators, disks and sockets; short terms, so that there are many.</summary>
public sealed class SnapshotTests
{
    private static readonly ChainParameters Parameters = new() { TermBlocks = 8, SnapshotTerms = 2 };

    [Fact]
    public async Task C2_a_validator_far_behind_takes_over_a_snapshot_and_restarts_begin_at_one()
    {
        using var key = new Ed25519Signer(Enumerable.Repeat((byte)7, 32).ToArray());
        var producer = new Producer(key.PublicKey, "sensor", "org", AlertKinds.All, SigningProfiles.V1, 1000, default, null, false);
        await using var cluster = await TestCluster.StartAsync([producer], TimeProvider.System, parameters: Parameters);
        using var kafka = cluster.Producer();
        var signer = new AlertSigner(key, SigningProfile.V1, TimeProvider.System);
        await PublishUntilAsync(cluster.Nodes[0], 20);

        await cluster.KillAsync(3);
        Directory.Delete(Path.Combine(cluster.Home(3), "data"), recursive: true);
        await PublishUntilAsync(cluster.Nodes[0], 120);
        await cluster.StartAsync(3);
        await PublishUntilAsync(cluster.Nodes[3], 140);
        await EqualAsync();
        var store = new SnapshotStore(Path.Combine(cluster.Home(3), "data", "snapshots"));
        Assert.NotNull(store.Newest());
        // Its copy lacks the entries below and says so; its cosignature is as good as any: without it only two would be left.
        await Eventually.HoldsAsync(() => cluster.Nodes[3].Projection.Height == cluster.Nodes[3].Status.Height, "the copy goes on above the hole");
        Assert.False(cluster.Nodes[3].Projection.TransparencyLog.IsComplete);
        Assert.Null(cluster.Nodes[3].Projection.TransparencyLog.Checkpoint);
        await PublishUntilAsync(cluster.Nodes[3], cluster.Nodes[3].Status.Height.Value + (3 * (ulong)Parameters.TermBlocks));
        await Eventually.HoldsAsync(() => cluster.Nodes[3].Status.MayVote, "it votes again (A2)");
        await cluster.KillAsync(1);
        await PublishUntilAsync(cluster.Nodes[0], cluster.Nodes[0].Status.Height.Value + 10);
        await Eventually.HoldsAsync(() => CheckpointSize(cluster.Nodes[0]) == (ulong)cluster.Nodes[0].Projection.AlertCount(), "the log is cosigned by the three, up to its end");
        await cluster.StartAsync(1);

        // It lacks blocks now and goes on after a restart all the same; so does one that has them all.
        foreach (var number in new[] { 3, 1 })
        {
            await cluster.KillAsync(number);
            await cluster.StartAsync(number);
            await PublishUntilAsync(cluster.Nodes[number], cluster.Nodes[0].Status.Height.Value + 20);
            await EqualAsync();
        }

        // A damaged chunk is no snapshot; whoever has the blocks does without.
        await cluster.KillAsync(1);
        foreach (var chunk in Directory.GetFiles(Path.Combine(cluster.Home(1), "data", "snapshots", "chunks"))) await File.WriteAllBytesAsync(chunk, [1, 2, 3]);
        await cluster.StartAsync(1);
        await PublishUntilAsync(cluster.Nodes[1], cluster.Nodes[0].Status.Height.Value + 5);
        await EqualAsync();
        await cluster.KillAsync(3);
        foreach (var chunk in Directory.GetFiles(Path.Combine(cluster.Home(3), "data", "snapshots", "chunks"))) File.Delete(chunk);
        var problem = await Assert.ThrowsAsync<UserError>(() => cluster.StartAsync(3));
        Assert.Contains("no snapshot", problem.Message, StringComparison.Ordinal);
        Directory.Delete(Path.Combine(cluster.Home(3), "data"), recursive: true);
        await cluster.StartAsync(3);

        static ulong CheckpointSize(ValidatorNode node) =>
            node.Projection.TransparencyLog.Checkpoint is { } note && LogCheckpoint.TryParse(note.Text, out var checkpoint) ? checkpoint.Size : 0;

        async Task PublishUntilAsync(ValidatorNode node, ulong height)
        {
            for (var i = 0; i < 1500 && !node.Completion.IsCompleted && node.Status.Height.Value < height; i++)
            {
                var detection = Formats.Ndjson($$"""{"type":"scan","source":"10.0.0.1","severity":5,"confidence":0.5,"number":{{i}}}""", out var _);
                kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = signer.Anomaly(detection!).ToByteArray() });
                await Task.Delay(10);
            }

            Assert.False(node.Completion.IsFaulted, node.Completion.Exception?.ToString());
            Assert.True(node.Status.Height.Value >= height, $"height {node.Status.Height} instead of {height}");
        }

        // All come to one height with one state.
        async Task EqualAsync() => await Eventually.HoldsAsync(
            () => cluster.Nodes.Select(n => (n.Status.Height, n.Status.StateRoot, n.Status.PoolCount)).Distinct().Count() == 1, "one state on all validators");
    }
}
