using System;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Hosting;

/// <summary>
/// The time given to the replica: runs with the monotonic clock, so timers never see it jump back, and follows the wall clock: forward
/// at once, backward by running at half speed until it agrees.
/// </summary>
public sealed class Clock(TimeProvider time)
{
    private long _lastMonotonic = time.GetTimestamp();
    private long _nowMs = time.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Not thread-safe: the replica's loop owns it.</summary>
    public Timestamp Now()
    {
        var elapsedMs = (long)time.GetElapsedTime(_lastMonotonic).TotalMilliseconds;
        if (elapsedMs > 0) _lastMonotonic += elapsedMs * time.TimestampFrequency / 1000;
        var wallMs = time.GetUtcNow().ToUnixTimeMilliseconds();
        var advancedMs = _nowMs + elapsedMs;
        _nowMs = wallMs >= advancedMs ? wallMs : Math.Max(_nowMs + elapsedMs / 2, Math.Min(advancedMs, wallMs));
        return new Timestamp(_nowMs);
    }
}
