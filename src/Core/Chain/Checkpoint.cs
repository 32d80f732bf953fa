using System;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>What a validator has after the last block of a term (rule P1).</summary>
/// <param name="SnapshotRoot">Merkle root over the chunks of the snapshot taken here; zero where none is due.</param>
public sealed record Checkpoint(ulong Term, Height Height, Digest Block, Digest StateRoot, Digest SnapshotRoot)
{
    internal View View => new(Term, 0);

    /// <summary>The roots as they stand in the signed bytes.</summary>
    internal byte[] Extra()
    {
        var extra = new byte[2 * Digest.Size];
        StateRoot.CopyTo(extra);
        SnapshotRoot.CopyTo(extra.AsSpan(Digest.Size));
        return extra;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt64(Term);
        writer.Height(Height);
        writer.Digest(Block);
        writer.Digest(StateRoot);
        writer.Digest(SnapshotRoot);
    }

    internal static Checkpoint Read(ref CanonicalReader reader) =>
        new(reader.UInt64(), reader.Height(), reader.Digest(), reader.Digest(), reader.Digest());
}

/// <summary>Q signatures over one checkpoint: it is stable, whoever has computed something else is wrong (rule P2).</summary>
/// <param name="Signatures">Strictly ascending by signer.</param>
public sealed record CheckpointCertificate(ulong Epoch, Checkpoint Checkpoint, ImmutableArray<SignerSignature> Signatures)
{
    /// <param name="chain">The epoch of the checkpoint's term.</param>
    public bool Verify(ChainContext chain, ISignatureVerifier verifier)
    {
        if (Epoch != chain.Epoch || Checkpoint.Height != chain.Parameters.LastHeight(Checkpoint.Term) || Signatures.Length < chain.Validators.Quorum) return false;
        var extra = Checkpoint.Extra();
        var previous = -1;
        foreach (var (signer, signature) in Signatures)
        {
            if (signer.Value <= previous) return false;
            previous = signer.Value;
            if (!SignedStatement.Verify(verifier, chain, signer, signature, StatementType.Checkpoint, Checkpoint.View, Checkpoint.Height, Checkpoint.Block, extra)) return false;
        }

        return true;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt64(Epoch);
        Checkpoint.Write(writer);
        SignerSignature.Write(writer, Signatures);
    }

    internal static CheckpointCertificate Read(ref CanonicalReader reader) =>
        new(reader.UInt64(), Checkpoint.Read(ref reader), SignerSignature.Read(ref reader));
}
