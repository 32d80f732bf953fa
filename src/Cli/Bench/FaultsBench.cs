using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using CyberMesh.Node;

namespace CyberMesh.Cli.Bench;

/// <summary>What a fault costs: commit latency at a fixed rate, and throughput, as shares of those without it (design testing.md, G15 and G16).</summary>
internal static class FaultsBench
{
    private sealed record Row(string Fault, Quantiles Latency, double P99OfCalm, double PerSecond, double PerSecondOfCalm, long ViewChanges, long ViewChangesLoaded);

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
            var rows = new List<Row> { new(BenchFault.None.Name, calm.Latency, 1, full.PerSecond, 1, calm.ViewChanges, full.ViewChanges) };
            foreach (var fault in faults)
            {
                var (troubled, loaded) = await MeasureAsync(fault);
                rows.Add(new Row(fault.Name, troubled.Latency, troubled.Latency.P99Ms / calm.Latency.P99Ms, loaded.PerSecond, loaded.PerSecond / full.PerSecond, troubled.ViewChanges, loaded.ViewChanges));
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
                    $"{row.Fault,-26} p50 {row.Latency.P50Ms,6:F1} ms, p99 {row.Latency.P99Ms,7:F1} ms ({row.P99OfCalm,5:F1} x), max {row.Latency.MaxMs,7:F1} ms; {row.PerSecond,6:F0} alerts/s ({100 * row.PerSecondOfCalm,3:F0} %); changes of view: {row.ViewChanges}, {row.ViewChangesLoaded}"));
            return ExitCode.Ok;

            async Task<(ConsensusReport AtRate, ConsensusReport Saturated)> MeasureAsync(BenchFault fault) => (
                await ConsensusRun.MeasureAsync(new NetworkLoad(count, 512, perSecond, length), 1, fault, stop),
                await ConsensusRun.MeasureAsync(new NetworkLoad(count, 512, 0, length), 1, fault, stop));
        });
        return command;
    }
}
