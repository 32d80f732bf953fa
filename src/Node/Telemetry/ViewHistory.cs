using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Threading;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Telemetry;

/// <summary>A change of leader that this validator took part in.</summary>
/// <param name="Reason">Why it did.</param>
/// <param name="SuspectedBy">Validators that had told it they suspect the leader.</param>
public sealed record ViewChangeSeen(DateTimeOffset At, View View, string Reason, ImmutableArray<string> SuspectedBy);

/// <summary>Why this validator changed views since its start. Blocks show only that there was a change.</summary>
public sealed class ViewHistory(TimeProvider time)
{
    private const int KeptMax = 500;
    private readonly Lock _lock = new();
    private readonly Queue<ViewChangeSeen> _seen = new();

    public void Add(View view, string reason, ImmutableArray<string> suspectedBy)
    {
        lock (_lock)
        {
            if (_seen.Count == KeptMax) _seen.Dequeue();
            _seen.Enqueue(new ViewChangeSeen(time.GetUtcNow(), view, reason, suspectedBy));
        }
    }

    /// <summary>Oldest first.</summary>
    public ImmutableArray<ViewChangeSeen> Seen
    {
        get
        {
            lock (_lock) return [.. _seen];
        }
    }
}
