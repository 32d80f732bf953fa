using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>
/// One request at a time, to one validator after the other: a silent or lying peer costs one timeout. Each request without an answer
/// doubles the patience, or answers over a slow link would always come too late.
/// </summary>
public sealed class PeerRotation(ChainContext chain, ValidatorIndex me, long timeoutMs)
{
    private const int DoublingsMax = 5;

    private Timestamp? _deadline;
    private int _doublings;
    private int _next = me.Value + 1;

    /// <summary>The validator that was asked and has not answered yet.</summary>
    public ValidatorIndex? Asked { get; private set; }

    /// <summary>Picks the next peer to ask, unless an answer is still awaited.</summary>
    public bool TryNext(Timestamp now, out ValidatorIndex peer)
    {
        peer = default;
        if (chain.Validators.Count == 1 || (_deadline is { } deadline && now < deadline)) return false;
        if (_next % chain.Validators.Count == me.Value) _next++;
        peer = new ValidatorIndex((ushort)(_next++ % chain.Validators.Count));
        Asked = peer;
        _deadline = now.PlusMs(timeoutMs << _doublings);
        _doublings = _doublings < DoublingsMax ? _doublings + 1 : DoublingsMax;
        return true;
    }

    /// <summary>The answer was good: stay with this peer.</summary>
    public void Answered()
    {
        if (Asked is { } peer) _next = peer.Value;
        Reset();
    }

    public void Reset()
    {
        Asked = null;
        _deadline = null;
        _doublings = 0;
    }
}
