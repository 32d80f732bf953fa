using System;
using System.Buffers;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>A certificate and the headers that lead up to its block, lowest first; none when the certificate itself names the block in question.</summary>
public sealed record Branch(ImmutableArray<BlockHeader> Headers, QuorumCertificate Certificate)
{
    /// <summary>The block this branch has at a height, as far as it shows one.</summary>
    public Digest? DigestAt(Height height)
    {
        if (height == Certificate.Height) return Certificate.Digest;
        foreach (var header in Headers)
        {
            if (header.Height == height) return header.Hash();
            if (header.Height == height.Next) return header.Parent;
        }

        return null;
    }

    /// <summary>Each header is the parent of the next and the last one is the certified block.</summary>
    public bool IsLinked()
    {
        for (var i = 0; i < Headers.Length; i++)
        {
            var hash = Headers[i].Hash();
            if (i + 1 == Headers.Length ? hash != Certificate.Digest : hash != Headers[i + 1].Parent) return false;
        }

        return true;
    }
}

/// <summary>What a fork proof says after it was checked.</summary>
public sealed record ForkVerdict(Height Height, ImmutableArray<ValidatorIndex> Culprits);

/// <summary>
/// Two certified branches that differ at one height: more than f validators lied (rule F1). With it the statements that convict at
/// least f + 1 of them, each checkable by itself, so that no honest key is ever named.
/// </summary>
public sealed record ForkProof(Height Height, Branch One, Branch Other, ImmutableArray<Misbehaviour> Proofs)
{
    private const int HeadersMax = 1024;
    private static ReadOnlySpan<byte> Magic => "CMFORK1"u8;

    /// <summary>Checks everything from the certificates down, trusting only the validator sets. False with a sentence when it does not hold.</summary>
    public bool TryVerify(
        EpochSchedule epochs, Digest genesisBlock, ISignatureVerifier verifier, [NotNullWhen(true)] out ForkVerdict? verdict, [NotNullWhen(false)] out string? problem)
    {
        verdict = null;
        problem = Check(epochs, genesisBlock, verifier);
        if (problem is not null) return false;
        verdict = new ForkVerdict(Height, Culprits(epochs, verifier));
        return true;
    }

    private string? Check(EpochSchedule epochs, Digest genesisBlock, ISignatureVerifier verifier)
    {
        if (One.Certificate.Kind != CertificateKind.Commit) return "the first certificate is no commit certificate";
        if (epochs.At(One.Certificate.View.Term) is not { } one || epochs.At(Other.Certificate.View.Term) is not { } other
            || One.Certificate.Epoch > epochs.Latest.Epoch || Other.Certificate.Epoch > epochs.Latest.Epoch)
            return $"the proof is of epoch {Math.Max(One.Certificate.Epoch, Other.Certificate.Epoch)}, and only the validators of epoch {epochs.Latest.Epoch} are known here";
        if (!One.Certificate.Verify(one, genesisBlock, verifier) || !Other.Certificate.Verify(other, genesisBlock, verifier)) return "a certificate is not genuine";
        if (!One.IsLinked() || !Other.IsLinked()) return "the headers do not lead to the certified block";
        if (One.DigestAt(Height) is not { } first || Other.DigestAt(Height) is not { } second) return "a branch does not reach the height in question";
        return first == second ? "both branches have the same block at this height" : null;
    }

    /// <summary>Who is proven guilty: the votes of one view for both branches, and the statements carried along.</summary>
    private ImmutableArray<ValidatorIndex> Culprits(EpochSchedule epochs, ISignatureVerifier verifier)
    {
        var culprits = new SortedSet<ValidatorIndex>();
        // An honest validator enters a view once and accepts one chain in it (protocol, "Why it is safe").
        if (One.Certificate.View == Other.Certificate.View)
            foreach (var (signer, _) in One.Certificate.Signatures)
                foreach (var (same, _) in Other.Certificate.Signatures)
                    if (signer == same)
                        culprits.Add(signer);
        foreach (var proof in Proofs)
            if (epochs.At(proof.Term) is { } chain && proof.Verify(chain, verifier))
                culprits.Add(proof.Offender);
        return [.. culprits];
    }

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(4096);
        var writer = new CanonicalWriter(buffer);
        writer.Raw(Magic);
        writer.Height(Height);
        Write(writer, One);
        Write(writer, Other);
        writer.Count(Proofs.Length);
        foreach (var proof in Proofs) proof.Write(writer);
        return buffer.WrittenSpan.ToArray();
    }

    private static void Write(CanonicalWriter writer, Branch branch)
    {
        writer.Count(branch.Headers.Length);
        foreach (var header in branch.Headers) header.Write(writer);
        branch.Certificate.Write(writer);
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out ForkProof? proof)
    {
        proof = null;
        if (!bytes.StartsWith(Magic)) return false;
        var reader = new CanonicalReader(bytes[Magic.Length..]);
        var height = reader.Height();
        var (one, other) = (ReadBranch(ref reader), ReadBranch(ref reader));
        var proofs = ImmutableArray.CreateBuilder<Misbehaviour>();
        for (var left = reader.Count(Limits.ValidatorsMax, 200); left > 0 && reader.Error == DecodeError.None; left--)
            if (Misbehaviour.Read(ref reader) is { } misbehaviour)
                proofs.Add(misbehaviour);
        if (!reader.Finish(out _)) return false;
        proof = new ForkProof(height, one, other, proofs.ToImmutable());
        return true;
    }

    private static Branch ReadBranch(ref CanonicalReader reader)
    {
        var headers = ImmutableArray.CreateBuilder<BlockHeader>();
        for (var left = reader.Count(HeadersMax, 300); left > 0 && reader.Error == DecodeError.None; left--) headers.Add(BlockHeader.Read(ref reader));
        return new Branch(headers.ToImmutable(), QuorumCertificate.Read(ref reader));
    }
}
