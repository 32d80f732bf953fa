using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Core.Replica;

/// <summary>A block in its final place, with what execution said about it.</summary>
/// <param name="Certificate">Present on the last block of a run; it commits the earlier ones of the run as well.</param>
/// <param name="Events">What else it changed.</param>
/// <param name="StateRoot">State after this block.</param>
public sealed record CommittedBlock(
    Block Block, QuorumCertificate? Certificate, ImmutableArray<AlertEnvelope> Bodies, ImmutableArray<Receipt> Receipts, ImmutableArray<LedgerEvent> Events,
    Digest StateRoot)
{
    public BlockWithBodies ToBlockWithBodies() => new(Block, BodiesOf(Bodies.AsSpan()));

    internal static ImmutableArray<ReadOnlyMemory<byte>> BodiesOf(ReadOnlySpan<AlertEnvelope> envelopes)
    {
        var bodies = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>(envelopes.Length);
        foreach (var envelope in envelopes) bodies.Add(envelope.Body);
        return bodies.MoveToImmutable();
    }
}

/// <summary>A peer asks for committed blocks; the host reads them from its store, outside the replica's loop. An answer never crosses the end of a term.</summary>
public readonly record struct BlockRequest(ValidatorIndex From, Height FirstHeight, Height LastHeight);

/// <summary>A peer asks for a snapshot above a height, or for one chunk of the snapshot of a height.</summary>
public readonly record struct SnapshotRequest(ValidatorIndex From, Height Height, uint? Chunk);

/// <summary>The state after the last block of a term, with the commit of that block.</summary>
public sealed record TakenSnapshot(Checkpoint Checkpoint, QuorumCertificate Commit, Snapshot Snapshot);

/// <summary>A transaction that waited and can never be accepted any more (rule T7): final like a rejection at admission.</summary>
public sealed record Refusal(Digest Transaction, AlertKind Kind, Rejection Rejection);

/// <summary>
/// What one step wants done. The host drains the lists in exactly this order: <see cref="Outbox.Records"/> durable, then
/// <see cref="Outbox.Messages"/>, then <see cref="Decided"/> in height order, then <see cref="Outbox.Notices"/>.
/// Reused between steps.
/// </summary>
public sealed class Effects : Outbox
{
    public List<CommittedBlock> Decided { get; } = [];
    public List<BlockRequest> BlockRequests { get; } = [];
    public List<SnapshotRequest> SnapshotRequests { get; } = [];

    /// <summary>Out of the pool without a block; whoever submitted them has to know.</summary>
    public List<Refusal> Refused { get; } = [];

    /// <summary>Out of the pool to make room (rule M2): to be offered again by whoever submitted them.</summary>
    public List<Mempool.Mempool.Entry> Evicted { get; } = [];

    /// <summary>Own snapshots, to be kept; they may be served once their checkpoint is stable.</summary>
    public List<TakenSnapshot> Snapshots { get; } = [];

    /// <summary>Checkpoints that have become stable.</summary>
    public List<CheckpointCertificate> Stable { get; } = [];

    /// <summary>
    /// The replica has gone on to this snapshot of the others. The host makes it durable with its certificate, as the state everything later
    /// rests on, and then reports its height stored.
    /// </summary>
    public (CheckpointCertificate Certificate, TakenSnapshot Taken)? Installed { get; set; }

    /// <summary>The transparency log up to some block, cosigned by Q validators (rule W3).</summary>
    public SignedNote? LogCheckpoint { get; set; }

    /// <summary>The chain has forked: the host keeps the proof and stops.</summary>
    public ForkProof? Fork { get; set; }

    /// <summary>This validator's state is not the certified one: the host keeps the account, stops, and starts over with an empty block store.</summary>
    public Divergence? Divergence { get; set; }

    public bool IsEmpty => Fork is null && Divergence is null && Records.Count + Messages.Count + Notices.Count + Decided.Count + BlockRequests.Count
        + SnapshotRequests.Count + Refused.Count + Evicted.Count + Snapshots.Count + Stable.Count == 0 && Installed is null && LogCheckpoint is null;

    public void Clear()
    {
        Records.Clear();
        Messages.Clear();
        Notices.Clear();
        Decided.Clear();
        BlockRequests.Clear();
        SnapshotRequests.Clear();
        Refused.Clear();
        Evicted.Clear();
        Snapshots.Clear();
        Stable.Clear();
        Installed = null;
        LogCheckpoint = null;
        Fork = null;
        Divergence = null;
    }
}
