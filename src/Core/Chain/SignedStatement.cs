using System;
using System.Buffers.Binary;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>Number of a statement a validator signs; part of the signed bytes, never reused.</summary>
public enum StatementType : byte
{
    PrePrepare = 1,
    Prepare = 2,
    Commit = 3,
    Suspect = 4,
    ViewChange = 5,
    NewView = 6,
    Checkpoint = 7,
    Heartbeat = 8,
    Status = 9,
    Handover = 10,
}

/// <summary>
/// The bytes a validator signs: <c>"CMBFT1" ‖ type ‖ chainId ‖ epoch ‖ term ‖ attempt ‖ height ‖ digest ‖ extra</c>.
/// No timestamp and nothing of the sender, so all votes of a certificate sign identical bytes.
/// </summary>
public static class SignedStatement
{
    /// <summary>Bytes of a statement without extra.</summary>
    public const int FixedSize = 6 + 1 + Digest.Size + 8 + 8 + 4 + 8 + Digest.Size;
    private const int ExtraMax = 64;

    public static Signature Sign(
        ISigner signer, ChainContext chain, StatementType type, View view, Height height, Digest digest, ReadOnlySpan<byte> extra = default)
    {
        Span<byte> bytes = stackalloc byte[FixedSize + ExtraMax];
        return signer.Sign(bytes[..Write(bytes, chain, type, view, height, digest, extra)]);
    }

    public static bool Verify(
        ISignatureVerifier verifier, ChainContext chain, ValidatorIndex signer, Signature signature,
        StatementType type, View view, Height height, Digest digest, ReadOnlySpan<byte> extra = default)
    {
        if (!chain.Validators.Contains(signer)) return false;
        Span<byte> bytes = stackalloc byte[FixedSize + ExtraMax];
        var length = Write(bytes, chain, type, view, height, digest, extra);
        return verifier.Verify(chain.Validators[signer].ConsensusKey, bytes[..length], signature);
    }

    /// <summary>Writes the statement and returns its length.</summary>
    public static int Write(
        Span<byte> to, ChainContext chain, StatementType type, View view, Height height, Digest digest, ReadOnlySpan<byte> extra)
    {
        Invariant.Holds(extra.Length <= ExtraMax, "extra of a statement is at most 64 bytes");
        "CMBFT1"u8.CopyTo(to);
        to[6] = (byte)type;
        chain.ChainId.CopyTo(to[7..]);
        BinaryPrimitives.WriteUInt64BigEndian(to[39..], chain.Epoch);
        BinaryPrimitives.WriteUInt64BigEndian(to[47..], view.Term);
        BinaryPrimitives.WriteUInt32BigEndian(to[55..], view.Attempt);
        BinaryPrimitives.WriteUInt64BigEndian(to[59..], height.Value);
        digest.CopyTo(to[67..]);
        extra.CopyTo(to[FixedSize..]);
        return FixedSize + extra.Length;
    }
}
