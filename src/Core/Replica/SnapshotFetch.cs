using System;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>
/// Brings in a snapshot from peers that may lie, stall or have forgotten it: one certified offer at a time, chunk by chunk, each compared
/// with the certified digests as it arrives (rule C2). What is kept is bounded by the size of a state that Q validators have signed.
/// </summary>
public sealed class SnapshotFetch(EpochSchedule epochs)
{
    private readonly PeerRotation _peers = new(epochs, 1000);
    private ReadOnlyMemory<byte>[] _chunks = [];
    private int _next;
    private int _futile;

    /// <summary>The offer being fetched.</summary>
    public PeerMessage.SnapshotOffer? Offer { get; private set; }

    public int ChunkCount => _next;

    /// <summary>Two peers had no offer that can be checked here, or everybody was asked for a chunk in vain: blocks must do meanwhile.</summary>
    public bool IsFutile => _futile > (Offer is null ? 2 : epochs.Current.Validators.Count);

    public void Drop()
    {
        Offer = null;
        _chunks = [];
        (_next, _futile) = (0, 0);
        _peers.Reset();
    }

    /// <summary>Asks for an offer, or for the next chunk of the one accepted.</summary>
    public void Ask(ValidatorIndex me, Height committed, Timestamp now, Outbox outbox)
    {
        // Everybody was asked in vain: the snapshot is gone, or blocks were faster.
        if (Offer is { } offer && (committed >= offer.Certificate.Checkpoint.Height || IsFutile)) Drop();
        if (!_peers.TryNext(me, now, out var peer)) return;
        _futile++;
        outbox.Send(peer, Offer is null ? new PeerMessage.GetSnapshot(committed) : new PeerMessage.GetChunk(Offer.Certificate.Checkpoint.Height, (uint)_next));
    }

    /// <summary>A genuine offer of the peer that was asked, maybe instead of a chunk it no longer has: the later snapshot is the better one.</summary>
    public void Take(ValidatorIndex from, PeerMessage.SnapshotOffer offer, ValidatorIndex me, Height committed, Timestamp now, Outbox outbox)
    {
        if (_peers.Asked != from || offer.Certificate.Checkpoint.Height <= committed || Offer?.Certificate.Checkpoint.Height >= offer.Certificate.Checkpoint.Height) return;
        Offer = offer;
        _chunks = new ReadOnlyMemory<byte>[offer.Chunks.Length];
        (_next, _futile) = (0, 0);
        _peers.Answered();
        Ask(me, committed, now, outbox);
    }

    /// <summary>All chunks once the last one is here; null before.</summary>
    public Snapshot? Take(ValidatorIndex from, PeerMessage.Chunk chunk, ValidatorIndex me, Height committed, Timestamp now, Outbox outbox)
    {
        if (Offer is not { } offer || _peers.Asked != from || chunk.Height != offer.Certificate.Checkpoint.Height || chunk.Index != (uint)_next) return null;
        if (Snapshot.ChunkDigest(chunk.Bytes.Span) != offer.Chunks[_next]) return null;
        _chunks[_next++] = chunk.Bytes;
        _futile = 0;
        _peers.Answered();
        if (_next < _chunks.Length)
        {
            Ask(me, committed, now, outbox);
            return null;
        }

        return new Snapshot([.. _chunks], offer.Chunks);
    }
}
