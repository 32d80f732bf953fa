using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// What a leader must deliver while transactions wait (rule T6, after Aardvark): half the median rate of the last terms under backlog,
/// judged over slices of blocks. It speaks at most once a term and asks for half as much afterwards, so that a slow network, which is
/// no leader's fault, cannot keep the views turning.
/// </summary>
public sealed class ThroughputDemand
{
    public const int SliceBlocks = 16;
    private readonly TermMedians _rates = new();
    private Timestamp? _sliceFrom;
    private int _blocks;
    private long _transactions;
    private int _slowSlices;
    private bool _spoken;

    /// <summary>Transactions per 1000 seconds that a leader must deliver now; 0 while too little is known.</summary>
    public long Demand { get; private set; }

    public void EnterTerm()
    {
        _rates.EnterTerm();
        _spoken = false;
        Demand = (_rates.Usual ?? 0) / 2;
        EnterView();
    }

    public void EnterView()
    {
        _sliceFrom = null;
        _slowSlices = 0;
    }

    /// <summary>One more block of the leader. True when two slices in a row stayed below the demand.</summary>
    /// <param name="backlog">Transactions wait after this block; without them nobody is slow.</param>
    public bool Committed(uint transactions, bool backlog, Timestamp now)
    {
        if (!backlog || _sliceFrom is not { } from)
        {
            _sliceFrom = backlog ? now : null;
            (_blocks, _transactions) = (0, 0);
            return false;
        }

        _transactions += transactions;
        if (++_blocks < SliceBlocks) return false;
        var elapsedMs = now.Since(from) > 0 ? now.Since(from) : 1;
        var rate = _transactions * 1_000_000 / elapsedMs;
        _rates.Add(rate);
        (_sliceFrom, _blocks, _transactions) = (now, 0, 0);
        _slowSlices = rate < Demand ? _slowSlices + 1 : 0;
        if (_slowSlices < 2 || _spoken) return false;
        _spoken = true;
        Demand /= 2;
        return true;
    }
}
