using System;
using System.Collections.Generic;
using System.Linq;

namespace CyberMesh.Simulator;

/// <summary>
/// Cuts a failing run down to what the failure needs: delta debugging over the list of faults (Zeller 1999), then over the other
/// options. Concerns draw from separate random streams, so taking one away leaves the others as they were.
/// </summary>
public static class Shrinker
{
    /// <param name="fails">Runs the options and says whether they still fail.</param>
    /// <param name="runsMax">Stops after so many runs with the best found by then.</param>
    public static Options Shrink(Options failing, Func<Options, bool> fails, int runsMax = 200)
    {
        var runs = 0;
        var best = failing with { Faults = failing.Faults ?? Fault.Plan(failing) };
        bool Try(Options candidate)
        {
            if (runs++ >= runsMax || !fails(candidate)) return false;
            best = candidate;
            return true;
        }

        for (var chunk = Math.Max(1, best.Faults.Value.Length / 2); chunk > 0; chunk /= 2)
        {
            for (var from = 0; from < best.Faults.Value.Length;)
            {
                var faults = best.Faults.Value;
                if (!Try(best with { Faults = faults.RemoveRange(from, Math.Min(chunk, faults.Length - from)) })) from += chunk;
            }
        }

        foreach (var simpler in Simpler()) Try(simpler(best));
        return best;
    }

    private static IEnumerable<Func<Options, Options>> Simpler() =>
    [
        o => o with { Liars = 0, Strategy = Strategy.None },
        o => o with { Amnesiacs = 0 },
        o => o with { StayDown = 0 },
        o => o with { LossPercent = 0 },
        o => o with { DuplicatePercent = 0 },
        o => o with { ClockSkewMs = 0, DriftPerMille = 0 },
        o => o with { SyncMaxMs = 0 },
        o => o with { DelayMaxMs = o.DelayMinMs },
        o => o with { TermBlocks = 128 },
        o => o with { AlertEveryMs = o.AlertEveryMs * 4 },
        o => o with { ChaosMs = o.ChaosMs / 2, Faults = [.. o.Faults!.Value.Where(f => f.AtMs < o.ChaosMs / 2)] },
    ];
}
