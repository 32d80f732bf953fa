using System.Collections.Concurrent;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Hosting;

/// <summary>What peers have sent and the loop has not taken yet: a queue for each peer, taken in turn, so that one that floods delays itself alone.</summary>
internal sealed class PeerQueues
{
    /// <summary>Beyond this the receive loop of the peer waits, and TCP pushes back on the sender.</summary>
    public const int PerPeerMax = 512;

    private readonly ConcurrentDictionary<ValidatorIndex, Channel<PeerInput>> _queues = new();
    private ValidatorIndex[] _turns = [];
    private int _turn;

    /// <summary>Waits while the queue of this peer is full.</summary>
    public ValueTask WriteAsync(PeerInput input, CancellationToken stop) =>
        _queues.GetOrAdd(input.From, _ => Channel.CreateBounded<PeerInput>(PerPeerMax)).Writer.WriteAsync(input, stop);

    /// <summary>The next peer's oldest. For one reader.</summary>
    public bool TryRead(out PeerInput input)
    {
        if (_turns.Length != _queues.Count) _turns = [.. _queues.Keys];
        for (var i = 0; i < _turns.Length; i++)
        {
            _turn = (_turn + 1) % _turns.Length;
            if (_queues[_turns[_turn]].Reader.TryRead(out input)) return true;
        }

        input = default;
        return false;
    }

    public bool IsEmpty
    {
        get
        {
            foreach (var (_, queue) in _queues)
                if (queue.Reader.Count > 0)
                    return false;
            return true;
        }
    }
}
