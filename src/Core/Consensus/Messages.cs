using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

public enum SuspectReason : byte
{
    /// <summary>Work is waiting and nothing was committed for T_progress.</summary>
    NoProgress = 1,

    /// <summary>No sign of life from the leader for T_idle.</summary>
    Silent = 2,

    /// <summary>A transaction waits for twice T_tx.</summary>
    Censorship = 3,

    /// <summary>The leader proposed a block that breaks a rule every validator can check.</summary>
    InvalidProposal = 4,

    /// <summary>The leader signed two proposals for one height.</summary>
    Equivocation = 5,

    /// <summary>Transactions wait and the leader delivers far less than leaders of earlier terms did.</summary>
    Slow = 6,
}

public enum StatusKind : byte
{
    /// <summary>Answered with whatever the sender lacks.</summary>
    Question = 0,

    Answer = 1,

    /// <summary>The sender has lost its votes: answered in any case, with the best certificate (rule A1).</summary>
    Quarantined = 2,
}

/// <summary>What a VIEW-CHANGE says about its sender: its best certificate, and how far it has committed.</summary>
public readonly record struct Claim(Rank Best, Digest BestBlock, Digest CertificateDigest, Height Committed);

public readonly record struct SignedClaim(ValidatorIndex Sender, Claim Claim, Signature Signature);

public readonly record struct SignedSuspicion(ValidatorIndex Sender, SuspectReason Reason, Signature Signature);

public readonly record struct SignedHandover(ValidatorIndex Sender, Signature Signature);

/// <summary>Why a replica left its view: f+1 suspicions or the leader's own resignation. Empty when it only follows others.</summary>
public sealed record Justification(View LeftView, ImmutableArray<SignedSuspicion> Suspicions, SignedHandover? Handover)
{
    public static readonly Justification None = new(default, [], null);
}

public sealed record BlockWithBodies(Block Block, ImmutableArray<ReadOnlyMemory<byte>> Bodies);

/// <summary>Everything validators send one another. Consensus sees transactions only as digests and opaque bodies.</summary>
public abstract record PeerMessage
{
    private PeerMessage() { }

    /// <summary>A message signed by a validator; its sender is whoever signed it, not whoever delivered it.</summary>
    public abstract record Signed(ValidatorIndex Sender, Signature Signature) : PeerMessage;

    public sealed record PrePrepare(ValidatorIndex Sender, Block Block, Signature Signature) : Signed(Sender, Signature);

    public sealed record Prepare(ValidatorIndex Sender, View View, Height Height, Digest Digest, Signature Signature) : Signed(Sender, Signature);

    public sealed record Commit(ValidatorIndex Sender, View View, Height Height, Digest Digest, Signature Signature) : Signed(Sender, Signature);

    public sealed record Suspect(ValidatorIndex Sender, View View, SuspectReason Reason, Signature Signature) : Signed(Sender, Signature);

    public sealed record ViewChange(
        ValidatorIndex Sender, View View, Claim Claim, QuorumCertificate Best, Justification Justification, Signature Signature)
        : Signed(Sender, Signature);

    public sealed record NewView(
        ValidatorIndex Sender, View View, ImmutableArray<SignedClaim> Claims, QuorumCertificate Best, Signature Signature)
        : Signed(Sender, Signature);

    /// <summary>The leader is alive; carries its last commit certificate for those who missed it.</summary>
    public sealed record Heartbeat(ValidatorIndex Sender, View View, QuorumCertificate Committed, Signature Signature) : Signed(Sender, Signature);

    /// <summary>Where the sender stands.</summary>
    /// <param name="Best">Its best certificate, when that is another one than <paramref name="Committed"/>.</param>
    public sealed record Status(
        ValidatorIndex Sender, View View, Height Tip, StatusKind Kind, QuorumCertificate Committed, QuorumCertificate? Best, Signature Signature)
        : Signed(Sender, Signature);

    /// <summary>The leader resigns (a planned stop): counts like f+1 suspicions.</summary>
    public sealed record Handover(ValidatorIndex Sender, View View, Signature Signature) : Signed(Sender, Signature);

    /// <summary>What its sender has after the last block of a term.</summary>
    public sealed record Checkpoint(ValidatorIndex Sender, Chain.Checkpoint Content, Signature Signature) : Signed(Sender, Signature);

    /// <summary>The transparency log after a block, signed with the cosigner key; the time is the block's (rule W2).</summary>
    public sealed record Cosignature(
        ValidatorIndex Signer, ulong Term, Height Height, ulong Size, Digest Root, long TimeSeconds, Signature Signature) : PeerMessage;

    /// <summary>For one who still asks for signatures: the checkpoint is stable.</summary>
    public sealed record StableCheckpoint(CheckpointCertificate Certificate) : PeerMessage;

    /// <summary>Asks for the newest snapshot above a height.</summary>
    public sealed record GetSnapshot(Height Above) : PeerMessage;

    /// <summary>A snapshot the sender has: its checkpoint, the commit of the block it was taken after, and the digests of its chunks.</summary>
    public sealed record SnapshotOffer(CheckpointCertificate Certificate, QuorumCertificate Committed, ImmutableArray<Digest> Chunks) : PeerMessage;

    public sealed record GetChunk(Height Height, uint Index) : PeerMessage;

    public sealed record Chunk(Height Height, uint Index, ReadOnlyMemory<byte> Bytes) : PeerMessage;

    /// <summary>Never on the wire: stands for a message of a term whose validators are not known here yet (rule S4). It only says that the sender may be ahead.</summary>
    public sealed record Beyond(ulong Term) : PeerMessage;

    /// <summary>Transactions the sender has waited for; who lacks one asks for it (rule T4).</summary>
    public sealed record Announcement(ImmutableArray<Digest> Digests) : PeerMessage;

    public sealed record GetTransactions(ImmutableArray<Digest> Digests) : PeerMessage;

    public sealed record Transactions(ImmutableArray<ReadOnlyMemory<byte>> Bodies) : PeerMessage;

    /// <summary>Asks for one uncommitted block.</summary>
    public sealed record GetProposal(Digest Block) : PeerMessage;

    public sealed record Proposal(BlockWithBodies Block) : PeerMessage;

    /// <summary>Asks for committed blocks from a height on.</summary>
    public sealed record GetBlocks(Height From) : PeerMessage;

    /// <summary>Consecutive committed blocks and the commit certificate of the last: it speaks for all of them.</summary>
    public sealed record Blocks(ImmutableArray<BlockWithBodies> Items, QuorumCertificate Certificate) : PeerMessage;
}
