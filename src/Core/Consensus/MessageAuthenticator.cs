using System;
using System.Collections.Generic;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Checks every signature a peer message carries: the sender's own and those of the certificates, claims and suspicions inside, each
/// with the validators of its term (rule S4). The only maker of a verified message. Not thread-safe: one instance per receive loop.
/// </summary>
public sealed class MessageAuthenticator(EpochSchedule epochs, Digest genesisBlock, ISignatureVerifier verifier)
{
    private const int RememberedCertificates = 64;
    private readonly HashSet<Digest> _verifiedCertificates = [];
    private readonly Queue<Digest> _verifiedOrder = new();

    public bool TryVerify(PeerMessage message, out Verified<PeerMessage> verified)
    {
        var genuine = Check(message);
        verified = genuine ? new Verified<PeerMessage>(message) : default;
        return genuine;
    }

    /// <summary>The last term a message speaks of; null when it has none.</summary>
    public static ulong? TermOf(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m => m.Block.Header.View.Term,
        PeerMessage.Prepare m => m.View.Term,
        PeerMessage.Commit m => m.View.Term,
        PeerMessage.Suspect m => m.View.Term,
        PeerMessage.ViewChange m => m.View.Term,
        PeerMessage.NewView m => m.View.Term,
        PeerMessage.Heartbeat m => m.View.Term,
        // Whoever has lost blocks shows certificates of terms it has not reached again.
        PeerMessage.Status m => Math.Max(m.View.Term, m.Best?.View.Term ?? 0),
        PeerMessage.Handover m => m.View.Term,
        PeerMessage.Checkpoint m => m.Content.Term,
        PeerMessage.StableCheckpoint m => m.Certificate.Checkpoint.Term,
        PeerMessage.Blocks m => m.Certificate.View.Term,
        PeerMessage.Cosignature m => m.Term,
        _ => null,
    };

    private bool Check(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m =>
            Signed(m, StatementType.PrePrepare, m.Block.Header.View, m.Block.Height, m.Block.Digest)
            && (m.Block.Seal is not { } seal || Certificate(seal)),
        PeerMessage.Prepare m => Signed(m, StatementType.Prepare, m.View, m.Height, m.Digest),
        PeerMessage.Commit m => Signed(m, StatementType.Commit, m.View, m.Height, m.Digest),
        PeerMessage.Suspect m => Signed(m, StatementType.Suspect, m.View, default, default, [(byte)m.Reason]),
        PeerMessage.ViewChange m => ViewChange(m),
        PeerMessage.NewView m => NewView(m),
        PeerMessage.Heartbeat m =>
            Signed(m, StatementType.Heartbeat, m.View, m.Committed.Height, m.Committed.Digest) && CommitCertificate(m.Committed),
        PeerMessage.Status m => Status(m),
        PeerMessage.Handover m => Signed(m, StatementType.Handover, m.View, default, default),
        PeerMessage.Checkpoint m => Signed(m, StatementType.Checkpoint, m.Content.View, m.Content.Height, m.Content.Block, m.Content.Extra()),
        PeerMessage.StableCheckpoint m => epochs.At(m.Certificate.Checkpoint.Term) is { } chain && m.Certificate.Verify(chain, verifier),
        PeerMessage.Blocks m => CommitCertificate(m.Certificate),
        PeerMessage.Announcement or PeerMessage.GetTransactions or PeerMessage.Transactions or PeerMessage.GetProposal or PeerMessage.Proposal
            or PeerMessage.GetBlocks or PeerMessage.GetSnapshot or PeerMessage.GetChunk or PeerMessage.Chunk => true,
        PeerMessage.SnapshotOffer m => Offer(m),
        PeerMessage.Cosignature m => Cosignature(m),
        PeerMessage.Beyond => false,
        _ => throw Invariant.Unreachable(message),
    };

    /// <summary>
    /// Rule C2: of whatever term; beyond what is known the last epoch decided is taken to last. Whoever holds a quorum of its keys could
    /// mislead this replica with blocks just as well.
    /// </summary>
    private bool Offer(PeerMessage.SnapshotOffer m)
    {
        var checkpoint = m.Certificate.Checkpoint;
        var chain = epochs.Decided(checkpoint.Term);
        return m.Certificate.Verify(chain, verifier)
               && m.Committed.Kind == CertificateKind.Commit && m.Committed.Height == checkpoint.Height && m.Committed.Digest == checkpoint.Block
               && m.Committed.Verify(chain, genesisBlock, verifier)
               && !m.Chunks.IsEmpty && MerkleTree.Root(m.Chunks.AsSpan()) == checkpoint.SnapshotRoot;
    }

    private bool Cosignature(PeerMessage.Cosignature m)
    {
        if (epochs.At(m.Term) is not { } chain || chain.Parameters.TermOf(m.Height) != m.Term || !chain.Validators.Contains(m.Signer)) return false;
        var text = new LogCheckpoint(LogNames.Origin(chain.ChainId), m.Size, m.Root).Text;
        return verifier.Verify(chain.Validators[m.Signer].CosignerKey, NoteKey.CosignedBytes(text, m.TimeSeconds), m.Signature);
    }

    private bool ViewChange(PeerMessage.ViewChange m) =>
        m.Best.View < m.View
        && Claim(m.View, new SignedClaim(m.Sender, m.Claim, m.Signature))
        && Certificate(m.Best)
        && Justified(m.Justification);

    private bool NewView(PeerMessage.NewView m)
    {
        // Rule V4: Q distinct claims (the codec keeps them ascending), and the certificate is the best claimed.
        if (epochs.At(m.View.Term) is not { } chain || m.Claims.Length < chain.Validators.Quorum || m.Best.View >= m.View) return false;
        if (!Signed(m, StatementType.NewView, m.View, default, Statements.NewViewDigest(m.Claims, m.Best))) return false;
        var best = default(Rank);
        foreach (var (_, claim, _) in m.Claims)
            if (claim.Best > best)
                best = claim.Best;
        if (m.Best.Rank != best || !Certificate(m.Best)) return false;
        foreach (var signed in m.Claims)
        {
            if (signed.Claim.Best == best && signed.Claim.BestBlock != m.Best.Digest) return false;
            if (!Claim(m.View, signed)) return false;
        }

        return true;
    }

    private bool Claim(View view, SignedClaim signed)
    {
        Span<byte> extra = stackalloc byte[Statements.ViewChangeExtraSize];
        Statements.WriteViewChangeExtra(extra, signed.Claim);
        return Verify(signed.Sender, signed.Signature, StatementType.ViewChange, view, default, Statements.ViewChangeDigest(signed.Claim), extra);
    }

    /// <summary>An empty justification is fine: it only means the sender joined others.</summary>
    private bool Justified(Justification justification)
    {
        foreach (var (sender, reason, signature) in justification.Suspicions)
            if (!Verify(sender, signature, StatementType.Suspect, justification.LeftView, default, default, [(byte)reason]))
                return false;
        if (justification.Handover is not { } handover) return true;
        return Verify(handover.Sender, handover.Signature, StatementType.Handover, justification.LeftView, default, default);
    }

    private bool Status(PeerMessage.Status m)
    {
        Span<byte> extra = stackalloc byte[9];
        Statements.WriteStatusExtra(extra, m.Tip, m.Kind);
        return Signed(m, StatementType.Status, m.View, m.Committed.Height, m.Committed.Digest, extra) && CommitCertificate(m.Committed)
               && (m.Best is not { } best || Certificate(best));
    }

    private bool CommitCertificate(QuorumCertificate certificate) =>
        certificate.Kind == CertificateKind.Commit && Certificate(certificate);

    private bool Certificate(QuorumCertificate certificate)
    {
        var hash = certificate.Hash();
        if (_verifiedCertificates.Contains(hash)) return true;
        if (epochs.At(certificate.View.Term) is not { } chain || !certificate.Verify(chain, genesisBlock, verifier)) return false;
        if (_verifiedOrder.Count == RememberedCertificates) _verifiedCertificates.Remove(_verifiedOrder.Dequeue());
        if (_verifiedCertificates.Add(hash)) _verifiedOrder.Enqueue(hash);
        return true;
    }

    private bool Signed(
        PeerMessage.Signed message, StatementType type, View view, Height height, Digest digest, ReadOnlySpan<byte> extra = default) =>
        Verify(message.Sender, message.Signature, type, view, height, digest, extra);

    private bool Verify(
        ValidatorIndex signer, Signature signature, StatementType type, View view, Height height, Digest digest, ReadOnlySpan<byte> extra = default) =>
        epochs.At(view.Term) is { } chain && SignedStatement.Verify(verifier, chain, signer, signature, type, view, height, digest, extra);
}
