using System;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Mesh;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Cli.Bench;

/// <summary>Two nodes of the mesh over loopback: signed votes one way, and questions there and back.</summary>
internal static class MeshBench
{
    private const int Votes = 200_000;
    private const int RoundTrips = 5_000;
    private static readonly MeshLimits Wide = new() { FramesPerSecond = 100_000_000, KibibytesPerSecond = 1 << 28, QueuedConsensusBytes = 1 << 30 };

    /// <param name="VotesPerSecond">Sent, received, their signatures checked.</param>
    private sealed record Report(BenchMachine Machine, double VotesPerSecond, Quantiles RoundTrip, double HopMs, double OfTheHop);

    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("mesh", "Frames between two nodes over TLS on loopback: votes per second, and round trips of a question.") { json };
        command.SetAction(async (parsed, stop) =>
        {
            var report = await MeasureAsync(stop);
            Console.WriteLine(parsed.GetValue(json) ? JsonSerializer.Serialize(report, BenchVerb.Json) : string.Create(CultureInfo.InvariantCulture, $"""
                {report.Machine}
                votes one way                  {report.VotesPerSecond:F0} per second, each checked
                question there and back        {report.RoundTrip}
                                               the half of it is {report.OfTheHop:F1} times a bare hop of {report.HopMs:F3} ms
                """));
            return ExitCode.Ok;
        });
        return command;
    }

    private static async Task<Report> MeasureAsync(CancellationToken stop)
    {
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        try
        {
            var floors = await Floors.MeasureAsync(directory.FullName);
            var ports = Testnet.FreePorts(2);
            var homes = Testnet.Generate(directory.FullName, ports, Testnet.FreePorts(2), [], null, TimeProvider.System);
            var genesis = GenesisFile.Load(Path.Combine(homes[0], "genesis.json"));
            var keys = homes.Select(h => new Keyring(h)).ToArray();
            var nodes = homes.Select((_, i) => new MeshTransport(
                genesis, new EpochSchedule(genesis.Chain), keys[i], new Node.Crypto.KnownKeys.KnownKeyVerifier(new Ed25519Verifier()),
                new MeshOptions(new(System.Net.IPAddress.Loopback, ports[i]), [$"127.0.0.1:{ports[1 - i]}"], [], [], null, Wide), TimeProvider.System, NullLogger.Instance)).ToArray();
            using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var (received, answered) = (0, new SemaphoreSlim(0));
            var question = new PeerMessage.GetProposal(genesis.Block.Digest);
            Task[] running =
            [
                nodes[0].RunAsync((_, _) => { answered.Release(); return ValueTask.CompletedTask; }, end.Token),
                nodes[1].RunAsync((input, _) =>
                {
                    if (input.Message.Value.Message is PeerMessage.GetProposal) nodes[1].Send(new Outgoing(input.From, question));
                    else Interlocked.Increment(ref received);
                    return ValueTask.CompletedTask;
                }, end.Token),
            ];
            while (nodes.Any(n => n.ConnectedCount == 0)) await Task.Delay(10, stop);
            genesis.Chain.Validators.TryFind(keys[0].Active.Consensus.PublicKey, out var me);
            var signer = new MessageSigner(genesis.Chain, me, keys[0].Active.Consensus);
            var votes = Enumerable.Range(1, 1000).Select(i => new Outgoing(null, signer.Prepare(default, new Height((ulong)i), genesis.Block.Digest))).ToArray();
            for (var i = 0; i < 2000; i++) await AskAsync();
            var trips = new Latency();
            for (var i = 0; i < RoundTrips; i++)
            {
                var begun = Stopwatch.GetTimestamp();
                await AskAsync();
                trips.Record(Stopwatch.GetElapsedTime(begun));
            }

            var clock = Stopwatch.StartNew();
            for (var i = 0; i < Votes; i++)
            {
                nodes[0].Send(votes[i % votes.Length]);
                while (i - Volatile.Read(ref received) > 20_000) Thread.Sleep(1);
            }

            while (Volatile.Read(ref received) < Votes) await Task.Delay(1, stop);
            var perSecond = Votes / clock.Elapsed.TotalSeconds;
            await end.CancelAsync();
            await Task.WhenAll(running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (var node in nodes) await node.DisposeAsync();
            foreach (var key in keys) key.Dispose();
            answered.Dispose();
            return new Report(BenchMachine.Here(), perSecond, trips.Quantiles, floors.HopMs, trips.Quantiles.P50Ms / 2 / floors.HopMs);

            async Task AskAsync()
            {
                nodes[0].Send(new Outgoing(null, question));
                await answered.WaitAsync(stop);
            }
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }
}
