using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace CyberMesh.Simulator;

/// <summary>Runs many seeds on all cores and keeps what they reached.</summary>
public static class SeedRun
{
    public sealed record Failure(ulong Seed, string Problem, Options Options)
    {
        /// <summary>The one command that replays it.</summary>
        public string Command => $"./cybermesh simulate --seed {Seed}";
    }

    public sealed record Outcome(int Seeds, IReadOnlyList<Failure> Failures, Report Report, TimeSpan Elapsed);

    /// <summary>Seeds <paramref name="first"/> to first + count − 1; stops early after a handful of failures.</summary>
    public static Outcome Run(ulong first, int count, CancellationToken stop = default, int failuresMax = 5)
    {
        var clock = Stopwatch.StartNew();
        var failures = new List<Failure>();
        var report = new Report();
        var done = 0;
        // One by one: seeds differ in length by an order of magnitude, and a core that took many at once would be waited for.
        var seeds = Partitioner.Create(Enumerable.Range(0, count), EnumerablePartitionerOptions.NoBuffering);
        Parallel.ForEach(seeds, new ParallelOptions { CancellationToken = stop, MaxDegreeOfParallelism = Environment.ProcessorCount }, (i, state) =>
        {
            var (failure, reached) = RunOne(Options.FromSeed(first + (ulong)i));
            lock (failures)
            {
                done++;
                report.Add(reached);
                if (failure is not null) failures.Add(failure);
                if (failures.Count >= failuresMax) state.Stop();
            }
        });
        failures.Sort((x, y) => x.Seed.CompareTo(y.Seed));
        return new Outcome(done, failures, report, clock.Elapsed);
    }

    /// <summary>One run; a broken property or any exception of the replica is a failure of that seed.</summary>
    public static (Failure? Failure, Report Report) RunOne(Options options)
    {
        var (failure, report, _) = Trace(options);
        return (failure, report);
    }

    /// <summary>One run with the digest of everything that happened in it.</summary>
    public static (Failure? Failure, Report Report, string Digest) Trace(Options options)
    {
        var cluster = new Cluster(options);
        try
        {
            cluster.Run();
            return (null, cluster.Report, cluster.TraceDigest());
        }
        catch (Exception problem)
        {
            var where = problem is PropertyViolation ? "" : Environment.NewLine + problem.StackTrace;
            return (new Failure(options.Seed, problem.Message + where, options), cluster.Report, cluster.TraceDigest());
        }
    }
}
