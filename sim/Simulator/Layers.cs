using System.Linq;

namespace CyberMesh.Simulator;

/// <summary>The layers of tests that look for faults of the protocol, each as one call that says what it found; null when nothing.</summary>
public static class Layers
{
    public static string? Seeds(int first, int count)
    {
        var outcome = SeedRun.Run((ulong)first, count, failuresMax: 1);
        return outcome.Failures.Count == 0 ? null : $"seed {outcome.Failures[0].Seed}: {outcome.Failures[0].Problem}";
    }

    public static string? TwinsByViews(int rounds) => Found(Twins.Run(TwinsRounds.Views, rounds));

    public static string? TwinsByPhases(int rounds) => Found(Twins.Run(TwinsRounds.Phases, rounds));

    public static string? CrashPointsOf(int every)
    {
        var outcome = CrashPoints.Run(every);
        return outcome.Failures.Count == 0 ? null : $"{outcome.Failures[0].Point}: {outcome.Failures[0].Problem}";
    }

    /// <summary>With f + 1 liars: every fork is proven, and nobody honest is named.</summary>
    public static string? ForkProofs(int count)
    {
        for (ulong seed = 1; seed <= (ulong)count; seed++)
        {
            var (failure, report) = SeedRun.RunOne(Options.Fork(seed));
            if (failure is not null) return $"seed {seed}: {failure.Problem}";
            if (report["forks"] != report["forks proven"]) return $"seed {seed}: a fork was not proven";
        }

        return null;
    }

    /// <summary>Without faults nobody suspects anybody.</summary>
    public static string? Calm()
    {
        var (failure, report) = SeedRun.RunOne(new Options { Seed = 1, Validators = 4, ChaosMs = 10_000, AlertEveryMs = 50, TermBlocks = 32, RivalsEveryMs = 400 });
        if (failure is not null) return failure.Problem;
        return report["view changes"] == 0 ? null : $"{report["view changes"]} view changes in a calm run";
    }

    private static string? Found(Twins.Outcome outcome) => outcome.Violations.FirstOrDefault();
}
