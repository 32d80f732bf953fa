using System;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>
/// One request at a time, to one validator after the other: a silent or lying peer costs one timeout. Each request without an answer
/// doubles the patience, or answers over a slow link would always come too late.
/// </summary>
public sealed class PeerRotation(EpochSchedule epochs, long timeoutMs)
{
    private const int DoublingsMax = 5;

    private Timestamp? _deadline;
    private int _doublings;
    private int _next;

    /// <summary>The validator that was asked and has not answered yet.</summary>
    public ValidatorIndex? Asked { get; private set; }

    /// <summary>Picks the next member of the set other than <paramref name="me"/>, unless an answer is still awaited.</summary>
    public bool TryNext(ValidatorIndex me, Timestamp now, out ValidatorIndex peer)
    {
        peer = default;
        if (_deadline is { } deadline && now < deadline) return false;
        var members = epochs.Current.Validators.Indices;
        if (members[_next % members.Length] == me) _next++;
        peer = members[_next % members.Length];
        if (peer == me) return false;
        _next = (_next + 1) % members.Length;
        Asked = peer;
        _deadline = now.PlusMs(timeoutMs << _doublings);
        _doublings = _doublings < DoublingsMax ? _doublings + 1 : DoublingsMax;
        return true;
    }

    /// <summary>The answer was good: stay with this peer.</summary>
    public void Answered()
    {
        if (Asked is { } peer) _next = Math.Max(0, epochs.Current.Validators.Rank(peer));
        Reset();
    }

    public void Reset()
    {
        Asked = null;
        _deadline = null;
        _doublings = 0;
    }
}
