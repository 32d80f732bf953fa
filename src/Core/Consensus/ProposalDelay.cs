using System;
using System.Collections.Generic;
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

    private const int TermsRemembered = 8;
    private const int TermsBeforeTypical = 3;
    private const int WaitsMax = 256;

    private readonly Queue<long> _terms = new();
    private readonly List<long> _waits = [];
    private Timestamp? _lateAt;
    private int _late;
    private bool _spoken;

    /// <summary>Median over the last terms; null while too few are known.</summary>
    private long? _typicalMs;

    /// <summary>What no leader is blamed for.</summary>
    /// <param name="agreementMs">From proposal to commit, with a margin.</param>
    public long AllowedMs(long agreementMs, ChainParameters parameters) =>
        Math.Max(agreementMs, _typicalMs is { } typical ? Math.Max(4 * typical, parameters.ProgressTimeoutMinMs / 25) : parameters.ProgressTimeoutMinMs / 5);

    public void EnterTerm()
    {
        if (_waits.Count > 0)
        {
            if (_terms.Count == TermsRemembered) _terms.Dequeue();
            _terms.Enqueue(Median.Of(_waits));
            _waits.Clear();
        }

        _typicalMs = _terms.Count < TermsBeforeTypical ? null : Median.Of([.. _terms]);
        (_lateAt, _late, _spoken) = (null, 0, false);
    }

    /// <summary>A block of the leader, with room for more, is accepted. True once a term, with one late block too many.</summary>
    /// <param name="waitedMs">Since the oldest of its transactions was admitted here.</param>
    public bool Proposed(long waitedMs, long allowedMs, Timestamp now)
    {
        if (_waits.Count < WaitsMax) _waits.Add(waitedMs);
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
