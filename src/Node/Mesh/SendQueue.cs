using System.Collections.Generic;
using System.Threading;
using CyberMesh.Core.Consensus;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// What waits to be sent to one peer. Each class has its own budget in bytes, and consensus goes first, so that neither transactions nor blocks for
/// somebody who catches up delay a vote.
/// </summary>
internal sealed class SendQueue(MeshLimits limits)
{
    private readonly Lock _lock = new();
    private readonly Queue<byte[]>[] _frames = [new(), new(), new()];
    private readonly long[] _bytes = new long[3];
    private MessageClass _turn = MessageClass.Transactions;
    private bool _complete;

    /// <summary>False when the budget of its class is used up. A frame larger than the budget passes alone.</summary>
    public bool TryEnqueue(MessageClass of, byte[] frame)
    {
        lock (_lock)
        {
            if (_complete || (_bytes[(int)of] > 0 && _bytes[(int)of] + frame.Length > Budget(of))) return false;
            _frames[(int)of].Enqueue(frame);
            _bytes[(int)of] += frame.Length;
            return true;
        }
    }

    /// <summary>The oldest of consensus; when there is none, of the other two in turn.</summary>
    public bool TryDequeue(out byte[] frame)
    {
        lock (_lock)
        {
            if (Take(MessageClass.Consensus, out frame)) return true;
            var first = _turn;
            var second = first == MessageClass.Transactions ? MessageClass.Sync : MessageClass.Transactions;
            _turn = second;
            return Take(first, out frame) || Take(second, out frame);
        }
    }

    public long Bytes
    {
        get
        {
            lock (_lock) return _bytes[0] + _bytes[1] + _bytes[2];
        }
    }

    public bool IsEmpty
    {
        get
        {
            lock (_lock) return _frames[0].Count + _frames[1].Count + _frames[2].Count == 0;
        }
    }

    private bool Take(MessageClass of, out byte[] frame)
    {
        if (!_frames[(int)of].TryDequeue(out frame!)) return false;
        _bytes[(int)of] -= frame.Length;
        return true;
    }

    private long Budget(MessageClass of) => of switch
    {
        MessageClass.Consensus => limits.QueuedConsensusBytes,
        MessageClass.Transactions => limits.QueuedTransactionBytes,
        _ => limits.QueuedSyncBytes,
    };

    /// <summary>Nobody sends what is in here any more.</summary>
    public void Complete()
    {
        lock (_lock) _complete = true;
    }
}
