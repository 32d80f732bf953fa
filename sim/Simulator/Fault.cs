using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;

namespace CyberMesh.Simulator;

public enum FaultKind
{
    /// <summary>The process dies; of what it had not seen synced, a prefix of <see cref="Fault.Value"/> batches is on disk all the same.</summary>
    Crash,

    /// <summary>As a crash, and the consensus log is gone.</summary>
    LoseLog,

    /// <summary>As a crash, and everything on disk is gone.</summary>
    LoseDisk,

    /// <summary>As a crash, and the blocks are gone, with an odd <see cref="Fault.Value"/> the snapshots too; the consensus log is there.</summary>
    LoseBlocks,

    /// <summary>As a crash, and the disk is an image taken earlier; with an odd <see cref="Fault.Value"/> the mark too, and then it can be an empty disk.</summary>
    RestoreOldImage,

    /// <summary>The process stands still and then goes on (a frozen machine).</summary>
    Pause,

    /// <summary>Two groups by the bits of <see cref="Fault.Value"/>.</summary>
    Partition,

    /// <summary>One validator alone.</summary>
    Isolate,

    /// <summary>What <see cref="Fault.Node"/> sends does not reach <see cref="Fault.Value"/>.</summary>
    OneWay,

    /// <summary>Isolated and connected again, in quick turns.</summary>
    Flap,

    /// <summary>Every sync takes up to <see cref="Fault.Value"/> ms longer.</summary>
    SlowDisk,

    /// <summary>Writes fail, and a validator whose write fails stops; what failed may be on disk all the same. It is started again and again.</summary>
    FailingDisk,

    /// <summary>The clock is off by <see cref="Fault.Value"/> ms from now on.</summary>
    ClockJump,
}

/// <summary>One fault of a run. The list of a seed can be cut down to what a failure needs.</summary>
public sealed record Fault(int AtMs, FaultKind Kind, int Node, int DurationMs, int Value)
{
    public override string ToString() => $"{AtMs} ms: {Kind} v{Node} for {DurationMs} ms ({Value})";

    /// <summary>Faults that can make a validator forget its votes count among the f; the options say who may have them.</summary>
    public static ImmutableArray<Fault> Plan(Options options)
    {
        var prng = new Prng(options.Seed, "faults");
        var faults = new List<Fault>();
        void Every(int periodMs, FaultKind kind, int durationMin, int durationMax, int valueMin, int valueMax)
        {
            if (periodMs == 0) return;
            for (var at = periodMs; at < options.ChaosMs; at += prng.Between(periodMs / 2, periodMs * 2))
                faults.Add(new Fault(at, kind, prng.Below(options.Validators), prng.Between(durationMin, durationMax), prng.Between(valueMin, valueMax)));
        }

        Every(options.CrashEveryMs, FaultKind.Crash, 50, 3_000, 0, 3);
        Every(options.PauseEveryMs, FaultKind.Pause, 100, 5_000, 0, 0);
        Every(options.PartitionEveryMs, FaultKind.Partition, 200, 4_000, 1, (1 << options.Validators) - 2);
        Every(options.IsolateEveryMs, FaultKind.Isolate, 200, 4_000, 0, 0);
        Every(options.OneWayEveryMs, FaultKind.OneWay, 200, 6_000, 0, options.Validators - 1);
        Every(options.FlapEveryMs, FaultKind.Flap, 500, 3_000, 20, 200);
        Every(options.SlowDiskEveryMs, FaultKind.SlowDisk, 500, 4_000, 50, 1_500);
        Every(options.ClockJumpEveryMs, FaultKind.ClockJump, 0, 0, -options.ClockSkewMs, options.ClockSkewMs);
        for (var amnesiac = options.Liars; amnesiac < options.Liars + options.Amnesiacs; amnesiac++)
        {
            var at = prng.Between(options.ChaosMs / 4, options.ChaosMs);
            var kind = prng.Pick<FaultKind>([FaultKind.LoseLog, FaultKind.LoseDisk, FaultKind.RestoreOldImage]);
            faults.Add(new Fault(at, kind, amnesiac, prng.Between(50, 2_000), prng.Between(500, 4_000)));
        }

        // A stream of its own, as in Options.FromSeed.
        prng = new Prng(options.Seed, "disk faults");
        Every(options.FailingDiskEveryMs, FaultKind.FailingDisk, 200, 3_000, 20, 80);
        if (options.LosesBlocks)
        {
            // One honest validator of a run: what all have lost nobody can bring back.
            var node = prng.Between(options.Liars + options.Amnesiacs, options.Validators - 1);
            faults.Add(new Fault(prng.Between(options.ChaosMs / 4, options.ChaosMs), FaultKind.LoseBlocks, node, prng.Between(50, 2_000), prng.Between(0, 1)));
        }

        return [.. faults.OrderBy(f => f.AtMs)];
    }
}
