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

    private readonly Lock _adding = new();
    private readonly ConcurrentDictionary<ValidatorIndex, Channel<PeerInput>> _queues = new();
    private volatile Channel<PeerInput>[] _turns = [];
    private int _turn;
    private int _count;

    /// <summary>Waits while the queue of this peer is full.</summary>
    public async ValueTask WriteAsync(PeerInput input, CancellationToken stop)
    {
        var queue = _queues.TryGetValue(input.From, out var known) ? known : Add(input.From);
        await queue.Writer.WriteAsync(input, stop).ConfigureAwait(false);
        Interlocked.Increment(ref _count);
    }

    private Channel<PeerInput> Add(ValidatorIndex peer)
    {
        lock (_adding)
        {
            if (_queues.TryGetValue(peer, out var known)) return known;
            var queue = _queues[peer] = Channel.CreateBounded<PeerInput>(PerPeerMax);
            _turns = [.. _turns, queue];
            return queue;
        }
    }

    /// <summary>The next peer's oldest. For one reader at a time.</summary>
    public bool TryRead(out PeerInput input)
    {
        var turns = _turns;
        for (var i = 0; i < turns.Length; i++)
        {
            _turn = (_turn + 1) % turns.Length;
            if (!turns[_turn].Reader.TryRead(out input)) continue;
            Interlocked.Decrement(ref _count);
            return true;
        }

        input = default;
        return false;
    }

    /// <summary>For a moment also while something that was written just now can be read already.</summary>
    public bool IsEmpty => Volatile.Read(ref _count) <= 0;
}
