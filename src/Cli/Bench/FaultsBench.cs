using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
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

/// <summary>What a fault costs: commit latency at a fixed rate, and throughput, as shares of those without it (design testing.md, G15 and G16).</summary>
internal static class FaultsBench
{
    private sealed record Row(string Fault, Quantiles Latency, double P99OfCalm, double PerSecond, double PerSecondOfCalm);

    private sealed record Report(BenchMachine Machine, int Validators, int Rate, double Seconds, Row[] Rows);

    public static Command Create()
    {
        var validators = new Option<int>("--validators") { Description = "So many, all in this process.", DefaultValueFactory = _ => 4 };
        var rate = new Option<int>("--rate") { Description = "Alerts per second while latency is measured.", DefaultValueFactory = _ => 100 };
        var duration = Duration.Option("For so long each time, after the warm-up; twice for each fault.", 10);
        var only = new Option<string>("--only") { Description = "Faults with this in their name." };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("faults", "Commit latency and throughput with validators that lie and strangers that flood, beside those without.") { validators, rate, duration, only, json };
        command.SetAction(async (parsed, stop) =>
        {
            var (count, perSecond, length) = (parsed.GetValue(validators), parsed.GetValue(rate), parsed.GetValue(duration).Length);
            if (count < 4) throw new UserError($"--validators is {count}", "with fewer than 4 none may lie; choose 4 or more");
            var faults = BenchFault.All.Where(f => f.Name.Contains(parsed.GetValue(only) ?? "", StringComparison.OrdinalIgnoreCase)).ToArray();
            if (faults.Length == 0) throw new UserError($"--only is '{parsed.GetValue(only)}'", $"choose a part of: {string.Join("; ", BenchFault.All.Select(f => f.Name))}");
            var (calm, full) = await MeasureAsync(BenchFault.None);
            var rows = new List<Row> { new(BenchFault.None.Name, calm.Latency, 1, full.PerSecond, 1) };
            foreach (var fault in faults)
            {
                var (troubled, loaded) = await MeasureAsync(fault);
                rows.Add(new Row(fault.Name, troubled.Latency, troubled.Latency.P99Ms / calm.Latency.P99Ms, loaded.PerSecond, loaded.PerSecond / full.PerSecond));
            }

            var report = new Report(BenchMachine.Here(), count, perSecond, length.TotalSeconds, [.. rows]);
            if (parsed.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
                return ExitCode.Ok;
            }

            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                {report.Machine}
                {count} validators, f is {(count - 1) / 3}; latency at {perSecond} alerts/s, then as many as are committed, {length.TotalSeconds:F0} s each
                """));
            foreach (var row in report.Rows)
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{row.Fault,-26} p50 {row.Latency.P50Ms,6:F1} ms, p99 {row.Latency.P99Ms,7:F1} ms ({row.P99OfCalm,5:F1} x), max {row.Latency.MaxMs,7:F1} ms; {row.PerSecond,6:F0} alerts/s ({100 * row.PerSecondOfCalm,3:F0} %)"));
            return ExitCode.Ok;

            async Task<(ConsensusReport AtRate, ConsensusReport Saturated)> MeasureAsync(BenchFault fault) => (
                await ConsensusRun.MeasureAsync(new NetworkLoad(count, 512, perSecond, length), 1, fault, stop),
                await ConsensusRun.MeasureAsync(new NetworkLoad(count, 512, 0, length), 1, fault, stop));
        });
        return command;
    }
}
