using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>For each message the statement its sender signs (table in docs/protocol.md). Used alike to sign and to verify.</summary>
public static class Statements
{
    public const int ViewChangeExtraSize = 8 + 4 + 8 + 1 + 8;

    /// <summary>Extra of a VIEW-CHANGE: best rank, its kind and the committed height. The block digest is bound by the certificate's digest.</summary>
    public static void WriteViewChangeExtra(Span<byte> extra, Claim claim)
    {
        BinaryPrimitives.WriteUInt64BigEndian(extra, claim.Best.View.Term);
        BinaryPrimitives.WriteUInt32BigEndian(extra[8..], claim.Best.View.Attempt);
        BinaryPrimitives.WriteUInt64BigEndian(extra[12..], claim.Best.Height.Value);
        extra[20] = (byte)claim.Best.Kind;
        BinaryPrimitives.WriteUInt64BigEndian(extra[21..], claim.Committed.Value);
    }

    /// <summary>What a VIEW-CHANGE signs as its digest: the certificate and the block it is for.</summary>
    public static Digest ViewChangeDigest(Claim claim) =>
        MerkleTree.Pair(DigestDomain.Certificate, claim.CertificateDigest, claim.BestBlock);

    /// <summary>Identity of a NEW-VIEW: its claims and the winning certificate. Blocks of the view carry it in their header.</summary>
    public static Digest NewViewDigest(ImmutableArray<SignedClaim> claims, QuorumCertificate best)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        var writer = new CanonicalWriter(buffer);
        MessageCodec.WriteClaims(writer, claims);
        best.Write(writer);
        return Digest.Sha256(DigestDomain.NewView, buffer.WrittenSpan);
    }

    public static void WriteStatusExtra(Span<byte> extra, Height tip, StatusKind kind)
    {
        BinaryPrimitives.WriteUInt64BigEndian(extra, tip.Value);
        extra[8] = (byte)kind;
    }
}

/// <summary>Messages as the bare statements they sign, for evidence.</summary>
public static class SignedVotes
{
    public static SignedVote Of(PeerMessage.PrePrepare m) =>
        new(StatementType.PrePrepare, m.Block.Header.View, m.Block.Height, m.Block.Digest, default, m.Signature);

    public static SignedVote Of(PeerMessage.NewView m) =>
        new(StatementType.NewView, m.View, default, Statements.NewViewDigest(m.Claims, m.Best), default, m.Signature);

    public static SignedVote Of(PeerMessage.Checkpoint m) =>
        new(StatementType.Checkpoint, m.Content.View, m.Content.Height, m.Content.Block, m.Content.Extra(), m.Signature);

    public static SignedVote Of(View view, SignedClaim claim)
    {
        var extra = new byte[Statements.ViewChangeExtraSize];
        Statements.WriteViewChangeExtra(extra, claim.Claim);
        return new SignedVote(StatementType.ViewChange, view, default, Statements.ViewChangeDigest(claim.Claim), extra, claim.Signature);
    }
}

/// <summary>Signs this validator's messages.</summary>
public sealed class MessageSigner(ChainContext chain, ValidatorIndex me, ISigner signer)
{
    public ValidatorIndex Me { get; } = me;

    public PeerMessage.PrePrepare PrePrepare(Block block) =>
        new(Me, block, Sign(StatementType.PrePrepare, block.Header.View, block.Height, block.Digest));

    public PeerMessage.Prepare Prepare(View view, Height height, Digest digest) =>
        new(Me, view, height, digest, Sign(StatementType.Prepare, view, height, digest));

    public PeerMessage.Commit Commit(View view, Height height, Digest digest) =>
        new(Me, view, height, digest, Sign(StatementType.Commit, view, height, digest));

    public PeerMessage.Suspect Suspect(View view, SuspectReason reason) =>
        new(Me, view, reason, Sign(StatementType.Suspect, view, default, default, [(byte)reason]));

    public PeerMessage.ViewChange ViewChange(View view, QuorumCertificate best, Height committed, Justification justification)
    {
        var claim = new Claim(best.Rank, best.Digest, best.Hash(), committed);
        Span<byte> extra = stackalloc byte[Statements.ViewChangeExtraSize];
        Statements.WriteViewChangeExtra(extra, claim);
        return new(Me, view, claim, best, justification, Sign(StatementType.ViewChange, view, default, Statements.ViewChangeDigest(claim), extra));
    }

    public PeerMessage.NewView NewView(View view, ImmutableArray<SignedClaim> claims, QuorumCertificate best) =>
        new(Me, view, claims, best, Sign(StatementType.NewView, view, default, Statements.NewViewDigest(claims, best)));

    public PeerMessage.Heartbeat Heartbeat(View view, QuorumCertificate committed) =>
        new(Me, view, committed, Sign(StatementType.Heartbeat, view, committed.Height, committed.Digest));

    public PeerMessage.Status Status(View view, Height tip, StatusKind kind, QuorumCertificate committed, QuorumCertificate best)
    {
        Span<byte> extra = stackalloc byte[9];
        Statements.WriteStatusExtra(extra, tip, kind);
        return new(Me, view, tip, kind, committed, best.Rank == committed.Rank ? null : best, Sign(StatementType.Status, view, committed.Height, committed.Digest, extra));
    }

    public PeerMessage.Checkpoint Checkpoint(Checkpoint content) =>
        new(Me, content, Sign(StatementType.Checkpoint, content.View, content.Height, content.Block, content.Extra()));

    public PeerMessage.Handover Handover(View view) => new(Me, view, Sign(StatementType.Handover, view, default, default));

    private Signature Sign(StatementType type, View view, Height height, Digest digest, ReadOnlySpan<byte> extra = default) =>
        SignedStatement.Sign(signer, chain, type, view, height, digest, extra);
}
