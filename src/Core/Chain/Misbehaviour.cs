using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>A statement and one validator's signature over it, apart from the message it came in.</summary>
public sealed record SignedVote(StatementType Type, View View, Height Height, Digest Digest, ReadOnlyMemory<byte> Extra, Signature Signature)
{
    private const int ExtraMax = 64;

    public bool Verify(ChainContext chain, ValidatorIndex signer, ISignatureVerifier verifier) =>
        SignedStatement.Verify(verifier, chain, signer, Signature, Type, View, Height, Digest, Extra.Span);

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt8((byte)Type);
        writer.View(View);
        writer.Height(Height);
        writer.Digest(Digest);
        writer.Bytes(Extra.Span);
        writer.Signature(Signature);
    }

    internal static SignedVote Read(ref CanonicalReader reader) =>
        new((StatementType)reader.UInt8(), reader.View(), reader.Height(), reader.Digest(), reader.Bytes(ExtraMax), reader.Signature());
}

public enum MisbehaviourKind : byte
{
    /// <summary>Two PRE-PREPAREs, PREPAREs or COMMITs for one height of one view, two NEW-VIEWs for one view, or two CHECKPOINTs of one term.</summary>
    TwoVotes = 1,

    /// <summary>A COMMIT, and a VIEW-CHANGE for a later view of the term that claims to know less than the COMMIT took: forgotten, or denied.</summary>
    Understated = 2,
}

/// <summary>
/// Two signatures of one key that an honest validator never makes (rule E1). Anyone can check it offline with the set of its epoch.
/// One pair of statements has one encoding.
/// </summary>
public sealed class Misbehaviour
{
    private Misbehaviour(ValidatorIndex offender, MisbehaviourKind kind, SignedVote first, SignedVote second) =>
        (Offender, Kind, First, Second) = (offender, kind, first, second);

    public ValidatorIndex Offender { get; }
    public MisbehaviourKind Kind { get; }
    public SignedVote First { get; }
    public SignedVote Second { get; }

    /// <summary>Both statements are of this term, so of one epoch.</summary>
    public ulong Term => First.View.Term;

    /// <summary>Null when the two statements do not contradict each other. The signatures are for <see cref="Verify"/>.</summary>
    public static Misbehaviour? TryCreate(ValidatorIndex offender, SignedVote one, SignedVote other)
    {
        if (one.Type == other.Type)
        {
            var sameSlot = one.View == other.View && one.Height == other.Height && Compare(one, other) != 0;
            if (!sameSlot || one.Type is not (StatementType.PrePrepare or StatementType.Prepare or StatementType.Commit or StatementType.NewView or StatementType.Checkpoint)) return null;
            return Compare(one, other) < 0
                ? new Misbehaviour(offender, MisbehaviourKind.TwoVotes, one, other)
                : new Misbehaviour(offender, MisbehaviourKind.TwoVotes, other, one);
        }

        if (one.Type == StatementType.ViewChange) (one, other) = (other, one);
        return one.Type == StatementType.Commit && other.Type == StatementType.ViewChange && Denies(other, one)
            ? new Misbehaviour(offender, MisbehaviourKind.Understated, one, other)
            : null;
    }

    /// <summary>Only a CHECKPOINT says more than its digest: the roots.</summary>
    private static int Compare(SignedVote one, SignedVote other)
    {
        var byDigest = one.Digest.CompareTo(other.Digest);
        return byDigest != 0 || one.Type != StatementType.Checkpoint ? byDigest : one.Extra.Span.SequenceCompareTo(other.Extra.Span);
    }

    /// <summary>Whoever signed COMMIT(v, h) holds a prepare certificate of that rank, and every later claim must be at least as high.</summary>
    private static bool Denies(SignedVote viewChange, SignedVote commit)
    {
        var extra = viewChange.Extra.Span;
        if (extra.Length < 21 || viewChange.View.Term != commit.View.Term || viewChange.View <= commit.View) return false;
        var claimed = new Rank(
            new View(BinaryPrimitives.ReadUInt64BigEndian(extra), BinaryPrimitives.ReadUInt32BigEndian(extra[8..])),
            new Height(BinaryPrimitives.ReadUInt64BigEndian(extra[12..])), CertificateKind.Prepare);
        return claimed < new Rank(commit.View, commit.Height, CertificateKind.Prepare);
    }

    public bool Verify(ChainContext chain, ISignatureVerifier verifier) =>
        First.Verify(chain, Offender, verifier) && Second.Verify(chain, Offender, verifier);

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        Write(new CanonicalWriter(buffer));
        return buffer.WrittenSpan.ToArray();
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.Index(Offender);
        First.Write(writer);
        Second.Write(writer);
    }

    internal static Misbehaviour? Read(ref CanonicalReader reader)
    {
        var offender = reader.Index();
        var (first, second) = (SignedVote.Read(ref reader), SignedVote.Read(ref reader));
        if (reader.Error != DecodeError.None) return null;
        var proof = TryCreate(offender, first, second);
        // The other order of the same pair would be a second encoding.
        if (proof is null || !ReferenceEquals(proof.First, first)) reader.Fail(DecodeError.NotCanonical);
        return reader.Error == DecodeError.None ? proof : null;
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out Misbehaviour? proof)
    {
        var reader = new CanonicalReader(bytes);
        proof = Read(ref reader);
        if (reader.Finish(out _) && proof is not null) return true;
        proof = null;
        return false;
    }
}
