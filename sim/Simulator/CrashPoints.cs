using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;

namespace CyberMesh.Simulator;

public enum CrashMode
{
    /// <summary>What was to be written is lost, and nothing that depends on it was sent.</summary>
    Before,

    /// <summary>It is on disk, and nothing was sent.</summary>
    After,

    /// <summary>It is on disk, and half of the messages were sent.</summary>
    Torn,
}

/// <summary>A crash at the n-th write of one validator.</summary>
public sealed record CrashPoint(int Node, int Write, CrashMode Mode);

/// <summary>Every point of a short run at which a process can die, one run for each: none may lose, double or fork anything.</summary>
public static class CrashPoints
{
    public sealed record Outcome(int Points, IReadOnlyList<(CrashPoint Point, string Problem)> Failures);

    /// <summary>Twenty blocks or a few more over several short terms, nothing else going wrong.</summary>
    private static readonly Options Calm = new() { Seed = 1, Validators = 4, ChaosMs = 1_250, AlertEveryMs = 50, TermBlocks = 8, DelayMinMs = 2, DelayMaxMs = 6, SyncMaxMs = 4 };

    /// <param name="every">1 runs all points, a larger number every n-th.</param>
    public static Outcome Run(int every = 1)
    {
        var reference = new Cluster(Calm);
        reference.Run();
        var points = reference.WritesByNode.SelectMany((writes, node) =>
            Enumerable.Range(1, writes).SelectMany(write => Enum.GetValues<CrashMode>().Select(mode => new CrashPoint(node, write, mode)))).Where((_, i) => i % every == 0).ToArray();
        var failures = new List<(CrashPoint, string)>();
        Parallel.ForEach(points, (point, state) =>
        {
            if (SeedRun.RunOne(Calm with { CrashAt = point }).Failure is not { } failure) return;
            if (failures.Count >= 3) state.Stop();
            lock (failures) failures.Add((point, failure.Problem));
        });
        return new Outcome(points.Length, failures);
    }
}
