using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>
/// Bodies missing for the block to be voted on next: asked of the leader first, then of one validator after the other. Only
/// what was asked for is kept, so it is bounded by one block.
/// </summary>
public sealed class BodyFetch(EpochSchedule epochs)
{
    /// <summary>A body that is only late on Kafka usually comes by itself within this time.</summary>
    private const long PatienceMs = 25;

    /// <summary>For the first answer, then twice as long each time: where everything is slow, asking more makes it slower.</summary>
    private const long RetryMs = 60;

    private const int DoublingsMax = 3;

    private readonly Dictionary<Digest, AlertEnvelope> _fetched = [];
    private readonly HashSet<Digest> _wanted = [];
    private ImmutableArray<Digest> _missing = [];
    private Digest _block;
    private Timestamp _askAt;
    private int _attempt;

    public int Count => _fetched.Count;

    public bool TryFind(Digest transaction, out AlertEnvelope? envelope) => _fetched.TryGetValue(transaction, out envelope);

    /// <summary>Something of this block has not arrived yet, so there is no use in looking again.</summary>
    public bool Awaits(Digest block) => _block == block && _wanted.Count > 0;

    /// <summary>It is in the pool now.</summary>
    public void Arrived(Digest transaction) => _wanted.Remove(transaction);

    public void Want(Block block, ImmutableArray<Digest> missing, Timestamp now)
    {
        if (_block != block.Digest)
        {
            Clear();
            _block = block.Digest;
            _askAt = now.PlusMs(PatienceMs);
        }

        _wanted.Clear();
        _missing = missing;
        foreach (var digest in missing) _wanted.Add(digest);
    }

    public void Receive(AlertEnvelope envelope)
    {
        if (_wanted.Remove(envelope.Digest)) _fetched[envelope.Digest] = envelope;
    }

    public void Ask(Block block, ValidatorIndex me, Timestamp now, Outbox outbox)
    {
        if (now < _askAt) return;
        if (_wanted.Count < _missing.Length) _missing = _missing.RemoveAll(digest => !_wanted.Contains(digest));
        _askAt = now.PlusMs(RetryMs << Math.Min(_attempt, DoublingsMax));
        var members = epochs.Current.Validators.Indices;
        var first = members.IndexOf(block.Header.Proposer);
        if (members[(first + _attempt) % members.Length] == me) _attempt++;
        var peer = members[(first + _attempt++) % members.Length];
        if (peer == me) return;
        outbox.Send(peer, new PeerMessage.GetTransactions(_missing));
        outbox.Notices.Add(new Notice.BodiesRequested(block.Height, _missing.Length, peer));
    }

    public void Clear()
    {
        _fetched.Clear();
        _wanted.Clear();
        _missing = [];
        _block = default;
        _attempt = 0;
    }
}
