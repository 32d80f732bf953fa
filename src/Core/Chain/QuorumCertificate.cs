using System;
using System.Buffers;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

public enum CertificateKind : byte
{
    Prepare = 1,
    Commit = 2,
}

/// <summary>Order of certificates: view first, height second (protocol rule R1; the other way round forks). Commit wins ties.</summary>
public readonly record struct Rank(View View, Height Height, CertificateKind Kind) : IComparable<Rank>
{
    public int CompareTo(Rank other)
    {
        if (View != other.View) return View.CompareTo(other.View);
        return Height != other.Height ? Height.CompareTo(other.Height) : Kind.CompareTo(other.Kind);
    }

    public static bool operator <(Rank left, Rank right) => left.CompareTo(right) < 0;
    public static bool operator >(Rank left, Rank right) => left.CompareTo(right) > 0;
    public static bool operator <=(Rank left, Rank right) => left.CompareTo(right) <= 0;
    public static bool operator >=(Rank left, Rank right) => left.CompareTo(right) >= 0;
}

public readonly record struct SignerSignature(ValidatorIndex Signer, Signature Signature)
{
    internal static void Write(CanonicalWriter writer, ImmutableArray<SignerSignature> signatures)
    {
        writer.Count(signatures.Length);
        foreach (var (signer, signature) in signatures)
        {
            writer.Index(signer);
            writer.Signature(signature);
        }
    }

    /// <summary>Strictly ascending, so that one set of signatures has one encoding.</summary>
    internal static ImmutableArray<SignerSignature> Read(ref CanonicalReader reader)
    {
        var count = reader.Count(Limits.ValidatorsMax, 66);
        var signatures = ImmutableArray.CreateBuilder<SignerSignature>(count);
        var previous = -1;
        for (var i = 0; i < count && reader.Error == DecodeError.None; i++)
        {
            var signer = reader.Index();
            if (signer.Value <= previous) reader.Fail(DecodeError.NotCanonical);
            previous = signer.Value;
            signatures.Add(new SignerSignature(signer, reader.Signature()));
        }

        return signatures.DrainToImmutable();
    }
}

/// <summary>
/// Q signatures of distinct validators over one statement. Votes are cumulative: a certificate for a block speaks for
/// all its ancestors. Genesis has a certificate without signatures (<see cref="ForGenesis"/>).
/// </summary>
public sealed class QuorumCertificate(
    CertificateKind kind, ulong epoch, View view, Height height, Digest digest, ImmutableArray<SignerSignature> signatures)
{
    public CertificateKind Kind { get; } = kind;
    public ulong Epoch { get; } = epoch;
    public View View { get; } = view;
    public Height Height { get; } = height;
    public Digest Digest { get; } = digest;

    /// <summary>Strictly ascending by signer: one encoding per set of votes.</summary>
    public ImmutableArray<SignerSignature> Signatures { get; } = signatures;

    public Rank Rank => new(View, Height, Kind);

    public static QuorumCertificate ForGenesis(Digest genesisBlock) =>
        new(CertificateKind.Commit, 0, default, default, genesisBlock, []);

    /// <summary>Checks the number, the membership and every signature.</summary>
    public bool Verify(ChainContext chain, Digest genesisBlock, ISignatureVerifier verifier)
    {
        if (Height.Value == 0)
            return Kind == CertificateKind.Commit && Epoch == 0 && View == default && Digest == genesisBlock && Signatures.IsEmpty;
        // Keys of an old set must not certify heights of a later term (rule S4).
        if (Epoch != chain.Epoch || chain.Parameters.TermOf(Height) != View.Term || Signatures.Length < chain.Validators.Quorum) return false;

        var type = Kind == CertificateKind.Prepare ? StatementType.Prepare : StatementType.Commit;
        var previous = -1;
        foreach (var (signer, signature) in Signatures)
        {
            // Ascending also means distinct: a signature counted twice must not make a quorum (rule Q2).
            if (signer.Value <= previous) return false;
            previous = signer.Value;
            if (!SignedStatement.Verify(verifier, chain, signer, signature, type, View, Height, Digest)) return false;
        }

        return true;
    }

    /// <summary>Digest over the canonical encoding, for seals and claims.</summary>
    public Digest Hash()
    {
        var buffer = new ArrayBufferWriter<byte>(128 + Signatures.Length * 66);
        Write(new CanonicalWriter(buffer));
        return Primitives.Digest.Sha256(DigestDomain.Certificate, buffer.WrittenSpan);
    }

    public void Write(CanonicalWriter writer)
    {
        writer.UInt8((byte)Kind);
        writer.UInt64(Epoch);
        writer.View(View);
        writer.Height(Height);
        writer.Digest(Digest);
        SignerSignature.Write(writer, Signatures);
    }

    public static QuorumCertificate Read(ref CanonicalReader reader)
    {
        var kind = reader.UInt8();
        if (kind is not ((byte)CertificateKind.Prepare or (byte)CertificateKind.Commit)) reader.Fail(DecodeError.UnknownTag);
        var epoch = reader.UInt64();
        var view = reader.View();
        var height = reader.Height();
        var digest = reader.Digest();
        return new QuorumCertificate((CertificateKind)kind, epoch, view, height, digest, SignerSignature.Read(ref reader));
    }
}
