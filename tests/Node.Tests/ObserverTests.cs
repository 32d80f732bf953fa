using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Http;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Mesh;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class ObserverTests
{
    private static ValidatorNode Observer(string home, TestCluster cluster, string firstAddress)
    {
        var settings = Settings.Load("/nowhere/config.json", new Dictionary<string, string>
        {
            ["NODE_ID"] = "9",
            ["NODE_ROLE"] = "observer",
            ["P2P_LISTEN_PORT"] = $"127.0.0.1:{Testnet.FreePorts(1)[0]}",
            ["P2P_BOOTSTRAP_PEERS"] = firstAddress,
            ["API_LISTEN_ADDR"] = $"127.0.0.1:{Testnet.FreePorts(1)[0]}",
        });
        return new ValidatorNode(new ValidatorOptions(home, cluster.Genesis, settings, TimeProvider.System, NullLogger.Instance));
    }

    [Fact]
    public async Task An_observer_follows_verifies_and_serves_though_a_validator_is_away_and_it_was_away_itself()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        using var identity = Identity.Create(Path.Combine(directory.Path, Identity.FileName));
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, environment: new Dictionary<string, string> { ["P2P_OBSERVERS"] = identity.Consensus.PublicKey.ToString() });
        using var kafka = cluster.Producer();
        var published = 0;
        var observer = Observer(directory.Path, cluster, cluster.Nodes[0].MeshEndPoint.ToString());
        await using (observer)
        {
            await observer.StartAsync();
            await FollowAsync();
            Assert.Equal(ValidatorIndex.None, observer.Index);
            // One address was enough to find all four.
            await Eventually.HoldsAsync(() => observer.ConnectedPeers.Length == 4, "it is connected to all validators");
            using var http = new HttpClient { BaseAddress = observer.ApiAddress };
            Assert.Contains("alpha-sensor", await http.GetStringAsync("/v1/alerts?limit=1", TestContext.Current.CancellationToken), StringComparison.Ordinal);
            Assert.Contains("\"validators\"", await http.GetStringAsync("/validators", TestContext.Current.CancellationToken), StringComparison.Ordinal);

            // The one it knew first goes; it has the others by now.
            await cluster.KillAsync(0);
            await FollowAsync();
        }

        await PublishAsync();
        await using var again = Observer(directory.Path, cluster, cluster.Nodes[0].MeshEndPoint.ToString());
        observer = again;
        await again.StartAsync();
        await FollowAsync();

        async Task PublishAsync()
        {
            for (var i = 0; i < 20; i++) kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
            kafka.Flush(TimeSpan.FromSeconds(30));
            published += 20;
            await Eventually.HoldsAsync(() => cluster.Nodes[1].Projection.AlertCount() == published, "the validators commit");
        }

        async Task FollowAsync()
        {
            await PublishAsync();
            await Eventually.HoldsAsync(() => observer.Projection.AlertCount() == published && observer.Status.StateRoot == cluster.Nodes[1].Status.StateRoot, "the observer has the same state");
        }
    }

    [Fact]
    public async Task Nobody_observes_who_is_not_on_the_list_and_an_observer_may_only_ask()
    {
        await using var mesh = new TestMesh(4);
        using var directory = new TemporaryDirectory();
        using var listed = Identity.Create(Path.Combine(directory.Path, "one.key"));
        using var stranger = Identity.Create(Path.Combine(directory.Path, "two.key"));
        var node = mesh.Start(0, [], TestMesh.Patient with { FramesNotGenuine = 0 }, observers: [listed.Consensus.PublicKey]);
        using (var peer = await RawPeer.ConnectAsync(node.EndPoint, MeshCertificate.Create(stranger.Consensus, mesh.Genesis.Chain.ChainId, TimeProvider.System)))
            Assert.True(await peer.EndsAsync());
        Assert.Equal(0, node.Transport.ConnectedObservers);

        using var observer = await RawPeer.ConnectAsync(node.EndPoint, MeshCertificate.Create(listed.Consensus, mesh.Genesis.Chain.ChainId, TimeProvider.System));
        await Eventually.HoldsAsync(() => node.Transport.ConnectedObservers == 1, "the listed one is let in");
        Assert.Empty(node.Transport.Connected);
        await SendAsync(MessageCodec.Encode(new PeerMessage.GetBlocks(new Height(1))));
        await Eventually.HoldsAsync(() => !node.Received.IsEmpty, "its question arrives");
        var question = Assert.Single(node.Received);
        Assert.True(question.From.Value >= CyberMesh.Core.Encoding.Limits.PlacesMax);
        // A vote, and be it a validator's own: it is not the observer's to bring.
        using var validator = new Keyring(mesh.Home(1));
        var place = mesh.Epochs.TryIdentify(validator.Active.Consensus.PublicKey, out var index) ? index : default;
        var vote = new MessageSigner(mesh.Genesis.Chain, place, validator.Active.Consensus).Prepare(default, new Height(1), Digest.Sha256([1]));
        await SendAsync(MessageCodec.Encode(vote));
        Assert.True(await observer.EndsAsync());
        Assert.Single(node.Received);

        async Task SendAsync(byte[] frame)
        {
            var buffer = new System.Buffers.ArrayBufferWriter<byte>();
            Frames.Write(buffer, frame);
            await observer.Stream.WriteAsync(buffer.WrittenMemory);
        }
    }

    [Fact]
    public void What_contradicts_an_observer_is_an_error()
    {
        var settings = new Dictionary<string, string> { ["NODE_ID"] = "1", ["NODE_ROLE"] = "observer", ["KAFKA_BROKERS"] = "b:9092", ["P2P_OBSERVERS"] = "abc", ["P2P_ADVERTISE"] = "here" };
        var problem = Assert.Throws<UserError>(() => Settings.Load("/nowhere/config.json", settings)).Message;
        Assert.Contains("KAFKA_BROKERS is set, and NODE_ROLE is observer", problem, StringComparison.Ordinal);
        Assert.Contains("P2P_OBSERVERS contains 'abc'", problem, StringComparison.Ordinal);
        Assert.Contains("P2P_ADVERTISE contains 'here'", problem, StringComparison.Ordinal);
    }
}
