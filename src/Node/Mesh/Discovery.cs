using System;
using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// Where the others are: signed records, pushed when a connection is made and when one is new, and all of them to a peer drawn by chance every few seconds,
/// so that what was lost on the way arrives later (anti-entropy: Demers et al., 1987).
/// </summary>
/// <param name="signer">The consensus key in use.</param>
/// <param name="addresses">Of this node; empty when it is only reached over connections it makes itself.</param>
/// <param name="others">The connections there are, one for each peer.</param>
internal sealed class Discovery(
    PeerBook book, Func<ISigner> signer, Func<bool> isMember, ImmutableArray<string> addresses, Func<ImmutableArray<PeerConnection>> others, MeshLimits limits, TimeProvider time)
{
    private const int QuestionsMax = 64;
    private static readonly TimeSpan AnswerTimeout = TimeSpan.FromSeconds(2);

    private readonly ConcurrentDictionary<(ValidatorIndex, uint), TaskCompletionSource<ImmutableArray<PeerRecord>>> _questions = new();
    private uint _question;
    private long _gossiped = time.GetTimestamp();

    public PeerBook Book => book;

    public void Greet(PeerConnection connection)
    {
        if (limits.Gossip) Send(connection, book.All);
    }

    /// <summary>Regular work, a few times a second.</summary>
    public void Tick()
    {
        if (isMember() && book.Publish(signer(), addresses) is { } own) Spread(own, null);
        book.Tidy();
        if (!limits.Gossip || time.GetElapsedTime(_gossiped) < limits.GossipPeriod) return;
        _gossiped = time.GetTimestamp();
        var connections = others();
        if (connections.Length > 0) Send(connections[Random.Shared.Next(connections.Length)], book.All);
    }

    /// <summary>False when the frame is none, or holds a forged record.</summary>
    public bool TryReceive(PeerConnection from, byte[] bytes)
    {
        if (!MeshFrame.TryDecode(bytes, out var frame)) return false;
        switch (frame)
        {
            case MeshFrame.Records m:
                return m.Items.All(record => TryTake(record, from));
            case MeshFrame.FindNode m:
                from.TrySend(MessageClass.Sync, new MeshFrame.Nodes(m.Question, book.Nearest(m.Target, Lookup.Width)).Encode());
                return true;
            case MeshFrame.Nodes m:
                if (_questions.TryRemove((from.Peer, m.Question), out var waiting)) waiting.TrySetResult(m.Items);
                return true;
            default:
                return false;
        }
    }

    private bool TryTake(PeerRecord record, PeerConnection from)
    {
        var verdict = book.Offer(record);
        if (verdict == RecordVerdict.New) Spread(record, from);
        return verdict != RecordVerdict.Forged;
    }

    private void Spread(PeerRecord record, PeerConnection? except)
    {
        if (!limits.Gossip) return;
        foreach (var connection in others())
            if (connection.Peer != except?.Peer)
                Send(connection, [record]);
    }

    private static void Send(PeerConnection to, ImmutableArray<PeerRecord> records)
    {
        foreach (var some in records.Chunk(MeshFrame.RecordsMax)) to.TrySend(MessageClass.Sync, new MeshFrame.Records([.. some]).Encode());
    }

    /// <summary>A lookup that asks over the connections of the mesh; what it finds is in the book then.</summary>
    /// <param name="reach">The connection to a member; it may wait a little for one.</param>
    public Lookup NewLookup(Func<PublicKey, CancellationToken, Task<PeerConnection?>> reach) => new(
        book, async (record, target, cancel) => await reach(record.Key, cancel).ConfigureAwait(false) is { } connection ? await AskAsync(connection, target, cancel).ConfigureAwait(false) : []);

    private async Task<ImmutableArray<PeerRecord>> AskAsync(PeerConnection connection, Digest target, CancellationToken stop)
    {
        if (_questions.Count >= QuestionsMax) return [];
        var question = Interlocked.Increment(ref _question);
        var answer = _questions[(connection.Peer, question)] = new TaskCompletionSource<ImmutableArray<PeerRecord>>(TaskCreationOptions.RunContinuationsAsynchronously);
        try
        {
            connection.TrySend(MessageClass.Sync, new MeshFrame.FindNode(question, target).Encode());
            return await answer.Task.WaitAsync(AnswerTimeout, time, stop).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            return [];
        }
        finally
        {
            _questions.TryRemove((connection.Peer, question), out _);
        }
    }
}
