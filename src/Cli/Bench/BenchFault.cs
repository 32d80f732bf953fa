using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Simulator;

namespace CyberMesh.Cli.Bench;

/// <summary>Something that is wrong all the time, from before the first alert on.</summary>
/// <param name="Lies">How f of the validators lie.</param>
/// <param name="Votes">Frames with signatures that are not genuine, per second, from the last validator to all others.</param>
/// <param name="Connections">Opened by strangers, held, and made anew a second after they are closed.</param>
internal sealed record BenchFault(string Name, Strategy Lies, int Votes = 0, int Connections = 0)
{
    public bool IsOfValidators => Lies != Strategy.None || Votes > 0;

    public static readonly BenchFault None = new("none", Strategy.None);

    public static readonly BenchFault[] All =
    [
        new("f are silent", Strategy.Silent), new("f lead slowly", Strategy.SlowLeader), new("f vote late", Strategy.LateVotes), new("f show two proposals", Strategy.Equivocate), new("f vote twice", Strategy.DoubleVote),
        new("f propose invalid blocks", Strategy.InvalidProposals), new("f do any of all this", Strategy.Mixed), new("5,000 bad signatures/s", Strategy.None, Votes: 5_000), new("2,000 connections", Strategy.None, Connections: 2_000),
    ];

    /// <summary>Until stopped.</summary>
    /// <param name="liar">Who floods.</param>
    /// <param name="ports">Where the others listen.</param>
    public Task FloodAsync(BenchValidator liar, int[] ports, CancellationToken stop)
    {
        if (Votes > 0) return Task.Factory.StartNew(() => SendVotes(liar, stop), stop, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        return Task.WhenAll(Enumerable.Range(0, Connections).Select(i => ConnectAsync(ports[i % ports.Length], stop)));
    }

    private void SendVotes(BenchValidator liar, CancellationToken stop)
    {
        for (var (begun, sent) = (Stopwatch.GetTimestamp(), 0L); !stop.IsCancellationRequested; sent++)
        {
            while (begun + sent * Stopwatch.Frequency / Votes is var due && due > Stopwatch.GetTimestamp() && !stop.IsCancellationRequested) Pause.Until(due);
            var status = liar.Status;
            liar.Send(new Outgoing(null, new PeerMessage.Prepare(status.Me, status.View, status.Height.Plus((ulong)(1 + sent % 4)), Digest.Sha256(BitConverter.GetBytes(sent)), default)));
        }
    }

    private static async Task ConnectAsync(int port, CancellationToken stop)
    {
        var nothing = new byte[1];
        while (!stop.IsCancellationRequested)
        {
            try
            {
                using var client = new TcpClient();
                await client.ConnectAsync(IPAddress.Loopback, port, stop);
                // Says nothing and waits.
                await client.GetStream().ReadExactlyAsync(nothing, stop);
            }
            catch (Exception problem) when (problem is SocketException or IOException)
            {
                // closed, as it should be
                await Task.Delay(1000, stop);
            }
        }
    }
}
