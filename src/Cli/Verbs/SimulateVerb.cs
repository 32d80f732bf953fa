using System;
using System.CommandLine;
using System.Threading.Tasks;
using CyberMesh.Simulator;

namespace CyberMesh.Cli.Verbs;

internal static class SimulateVerb
{
    public static Command Create()
    {
        var seed = new Option<ulong?>("--seed") { Description = "Replay one seed." };
        var seeds = new Option<int>("--seeds") { Description = "Run this many seeds.", DefaultValueFactory = _ => 100 };
        var first = new Option<ulong>("--first") { Description = "First of them.", DefaultValueFactory = _ => 1 };
        var shrink = new Option<bool>("--shrink") { Description = "Cut a failing seed down to the faults it needs." };
        var command = new Command("simulate", "Run the consensus under simulated faults and lies, and check its properties after every event.") { seed, seeds, first, shrink };
        command.SetAction((parsed, stop) =>
        {
            var (from, count) = parsed.GetValue(seed) is { } one ? (one, 1) : (parsed.GetValue(first), parsed.GetValue(seeds));
            var outcome = SeedRun.Run(from, count, stop);
            foreach (var (name, value) in outcome.Report.Counters()) Console.WriteLine($"{name,-40} {value}");
            foreach (var name in outcome.Report.Missing()) Console.WriteLine($"{name,-40} not reached");
            foreach (var failure in outcome.Failures)
            {
                Print(failure);
                if (parsed.GetValue(shrink)) PrintShrunk(failure);
            }

            if (count == 1) Console.WriteLine($"trace {SeedRun.Trace(Options.FromSeed(from)).Digest}");
            Console.WriteLine($"{outcome.Seeds} seeds, {outcome.Failures.Count} failed, {outcome.Elapsed.TotalSeconds:F0} s");
            return Task.FromResult(outcome.Failures.Count == 0 ? ExitCode.Ok : ExitCode.Failure);
        });
        return command;
    }

    private static void Print(SeedRun.Failure failure)
    {
        Console.WriteLine($"seed {failure.Seed} FAILED: {failure.Problem}");
        Console.WriteLine($"  {failure.Options}");
        Console.WriteLine($"  replay: {failure.Command}");
    }

    private static void PrintShrunk(SeedRun.Failure failure)
    {
        var smallest = Shrinker.Shrink(failure.Options, options => SeedRun.RunOne(options).Failure is not null);
        Console.WriteLine($"  it still fails with: {smallest}");
        foreach (var fault in smallest.Faults!.Value) Console.WriteLine($"    {fault}");
    }
}
