using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Chaos;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The tool that spoils connections does spoil them, each way as it says, or what is tested with it is not tested.</summary>
public sealed class FaultProxyTests
{
    /// <summary>Sends numbered pieces through a proxy, one a time, and returns what arrives.</summary>
    private static async Task<byte[]> PassAsync(Action<FaultProxy> spoil, int pieces)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        await using var proxy = new FaultProxy((IPEndPoint)listener.LocalEndpoint);
        spoil(proxy);
        using var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync(proxy.EndPoint);
        using var server = await listener.AcceptTcpClientAsync();
        var arrived = new MemoryStream();
        var reading = Task.Run(async () =>
        {
            using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(180));
            await server.GetStream().CopyToAsync(arrived, deadline.Token);
        });
        for (var i = 0; i < pieces; i++)
        {
            await client.GetStream().WriteAsync(new byte[] { (byte)i, (byte)i });
            await Task.Delay(20);
        }

        client.Client.Shutdown(SocketShutdown.Send);
        await reading;
        return arrived.ToArray();
    }

    private static readonly byte[] Whole = [.. Enumerable.Range(0, 40).SelectMany(i => new[] { (byte)i, (byte)i })];

    [Fact]
    public async Task Without_faults_everything_passes_as_it_is() => Assert.Equal(Whole, await PassAsync(_ => { }, 40));

    [Fact]
    public async Task Lost_pieces_are_missing()
    {
        var arrived = await PassAsync(p => p.Pieces = new PieceFaults(Lost: 0.5), 40);
        Assert.InRange(arrived.Length, 2, Whole.Length - 2);
        Assert.Equal(arrived, arrived.Order());
    }

    [Fact]
    public async Task Corrupted_pieces_differ_in_one_bit()
    {
        var arrived = await PassAsync(p => p.Pieces = new PieceFaults(Corrupted: 1), 40);
        Assert.Equal(Whole.Length, arrived.Length);
        Assert.InRange(Whole.Zip(arrived).Sum(pair => System.Numerics.BitOperations.PopCount((uint)(pair.First ^ pair.Second))), 1, 40);
    }

    [Fact]
    public async Task Doubled_pieces_come_twice()
    {
        var arrived = await PassAsync(p => p.Pieces = new PieceFaults(Doubled: 1), 40);
        Assert.Equal(Whole.Length * 2, arrived.Length);
    }

    [Fact]
    public async Task Swapped_pieces_come_in_another_order()
    {
        var arrived = await PassAsync(p => p.Pieces = new PieceFaults(Swapped: 1), 40);
        Assert.Equal(Whole, arrived.Order());
        Assert.NotEqual(Whole, arrived);
    }

    [Fact]
    public async Task A_trickle_and_a_jitter_take_their_time()
    {
        var clock = Stopwatch.StartNew();
        Assert.Equal(Whole, await PassAsync(p => p.TricklePerSecond = 20, 40));
        Assert.InRange(clock.Elapsed.TotalSeconds, 3.9, double.MaxValue); // 80 bytes at 20 a second
        clock.Restart();
        Assert.Equal(Whole, await PassAsync(p => p.Jitter = TimeSpan.FromMilliseconds(100), 40));
    }
}
