using System;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// How long transactions have waited here when the leader's block with them comes (rule T8; Prime bounds its leaders' turnaround time likewise: Amir, Coan, Kirsch,
/// Lane, 2011). A leader that stays just below the progress timeout would delay everything by that much, and more when its proposals overlap. What is usual follows
/// from the leaders of the last terms; a machine or network that becomes slow for all shows in the time that agreement takes.
/// </summary>
public sealed class ProposalDelay
{
    /// <summary>So many late blocks in a row are no accident: after a disk or a scheduler has held a leader up, its next blocks are in time.</summary>
    public const int LateMax = 4;

    private readonly TermMedians _waits = new();
    private Timestamp? _lateAt;
    private int _late;
    private bool _spoken;

    /// <summary>What no leader is blamed for.</summary>
    /// <param name="agreementMs">From proposal to commit, with a margin.</param>
    public long AllowedMs(long agreementMs, ChainParameters parameters) =>
        Math.Max(agreementMs, _waits.Usual is { } usual ? Math.Max(4 * usual, parameters.ProgressTimeoutMinMs / 25) : parameters.ProgressTimeoutMinMs / 5);

    public void EnterTerm()
    {
        _waits.EnterTerm();
        (_lateAt, _late, _spoken) = (null, 0, false);
    }

    /// <summary>A block of the leader, with room for more, is accepted. True once a term, with one late block too many.</summary>
    /// <param name="waitedMs">Since the oldest of its transactions was admitted here.</param>
    public bool Proposed(long waitedMs, long allowedMs, Timestamp now)
    {
        _waits.Add(waitedMs);
        if (waitedMs <= allowedMs)
        {
            _late = 0;
            return false;
        }

        // Those that come together were held up together.
        if (_lateAt is { } last && now.Since(last) < allowedMs) return false;
        _lateAt = now;
        if (++_late < LateMax || _spoken) return false;
        _spoken = true;
        return true;
    }
}
