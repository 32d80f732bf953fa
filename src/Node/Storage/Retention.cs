using System;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Telemetry;

namespace CyberMesh.Node.Storage;

/// <summary>
/// Lets the bodies of old blocks go: those older than a time that no start of this validator needs (a snapshot covers them), no peer a little behind
/// (it would take over a snapshot), and no copy (their rows are in it). Headers, results and certificates stay.
/// </summary>
/// <param name="keep">For so long bodies stay in any case; null for ever.</param>
/// <param name="limit">The height from which on others need the bodies.</param>
public sealed class Retention(Func<BlockReader> open, SnapshotStore snapshots, TimeSpan? keep, Func<Height> limit, TimeProvider time, Counter pruned)
{
    /// <summary>At a time, so that the writer of blocks never waits long.</summary>
    private const int BatchMax = 50;

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Breath = TimeSpan.FromMilliseconds(100);

    public async Task RunAsync(CancellationToken stop)
    {
        using var reader = open();
        while (!stop.IsCancellationRequested)
        {
            var count = keep is { } age ? Prune(reader, age) : 0;
            pruned.Add(count);
            await Task.Delay(count == BatchMax ? Breath : Interval, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private int Prune(BlockReader reader, TimeSpan age)
    {
        if (snapshots.OldestComplete() is not { } covered) return 0;
        var below = Math.Min(covered.Value, limit().Value);
        return reader.Prune(new Height(below), new Timestamp((time.GetUtcNow() - age).ToUnixTimeMilliseconds()), BatchMax);
    }
}
