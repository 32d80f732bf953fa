using System;
using System.Linq;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Real validators under attack at the port of the mesh.</summary>
[Collection<RunsAlone>]
public sealed class FloodTests
{
    private const int Attackers = 2_000;

    /// <summary>T4, T5: two thousand connections that say nothing, trickle, send garbage or begin TLS for ever.</summary>
    [Fact]
    public async Task T4_T5_commits_go_on_while_thousands_of_connections_come_and_memory_stays_bounded()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System);
        using var kafka = cluster.Producer();
        var published = 0;
        await CommitAsync(20);
        var memory = GC.GetTotalMemory(forceFullCollection: true);
        var target = cluster.Nodes[0].MeshEndPoint;
        using var stop = new CancellationTokenSource();
        var most = 0;
        var attackers = Enumerable.Range(0, Attackers).Select(i => AttackAsync(i)).ToArray();
        var watch = Task.Run(async () =>
        {
            for (; !stop.IsCancellationRequested; await Task.Delay(10)) most = Math.Max(most, Gauge("cybermesh_peer_handshakes"));
        }, TestContext.Current.CancellationToken);
        for (var round = 0; round < 5; round++) await CommitAsync(20);

        // One that comes back in the middle of it finds its way in, to the one under attack too.
        await cluster.KillAsync(3);
        await CommitAsync(20);
        await cluster.StartAsync(3);
        await Eventually.HoldsAsync(() => cluster.Nodes[3].ConnectedPeers.Length == 3 && cluster.Nodes[0].ConnectedPeers.Length == 3, "all are connected again");
        await CommitAsync(20);
        Assert.InRange(most, 1, 128);
        Assert.InRange(GC.GetTotalMemory(forceFullCollection: true) - memory, long.MinValue, 64 << 20);
        Assert.True(Gauge("cybermesh_peer_messages_refused_total") > 0);
        await stop.CancelAsync();
        await Task.WhenAll(attackers);
        await watch;

        int Gauge(string name) => int.Parse(
            cluster.Nodes[0].Metrics.Render().Split('\n').Single(l => l.StartsWith(name + " ", StringComparison.Ordinal)).Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);

        async Task CommitAsync(int count)
        {
            for (var i = 0; i < count; i++) kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
            kafka.Flush(TimeSpan.FromSeconds(30));
            published += count;
            await Eventually.HoldsAsync(() => cluster.Nodes.Where(n => !n.Completion.IsCompleted).All(n => n.Projection.AlertCount() == published), $"{published} alerts are committed");
        }

        async Task AttackAsync(int number)
        {
            // The first bytes of a ClientHello of TLS 1.3, then whatever comes.
            byte[] hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
            var garbage = RandomNumberGenerator.GetBytes(4096);
            await Task.Yield();
            while (!stop.IsCancellationRequested)
            {
                try
                {
                    using var client = new TcpClient();
                    await client.ConnectAsync(target, stop.Token);
                    switch (number % 4)
                    {
                        case 1:
                            await client.GetStream().WriteAsync(garbage, stop.Token);
                            break;
                        case 2:
                            foreach (var part in hello)
                            {
                                await client.GetStream().WriteAsync(new[] { part }, stop.Token);
                                await Task.Delay(200, stop.Token);
                            }

                            break;
                        case 3:
                            await client.GetStream().WriteAsync(hello, stop.Token);
                            break;
                    }

                    while (await client.GetStream().ReadAsync(garbage, stop.Token) > 0)
                    {
                        // an alert of TLS
                    }
                }
                catch (Exception problem) when (problem is SocketException or System.IO.IOException or OperationCanceledException)
                {
                    // thrown out
                }

                await Task.Delay(500 + number % 500, CancellationToken.None);
            }
        }
    }
}
