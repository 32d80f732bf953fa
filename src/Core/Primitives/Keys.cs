using System;
using System.Diagnostics.CodeAnalysis;

namespace CyberMesh.Core.Primitives;

/// <summary>An Ed25519 public key as it stands in the trust store and in genesis.</summary>
public readonly record struct PublicKey(Bytes32 Value) : IComparable<PublicKey>
{
    public const int Size = Bytes32.Size;

    public static PublicKey From(ReadOnlySpan<byte> bytes) => new(Bytes32.From(bytes));

    public static bool TryParse([NotNullWhen(true)] string? hex, out PublicKey key)
    {
        var ok = Bytes32.TryParse(hex, out var value);
        key = new PublicKey(value);
        return ok;
    }

    public void CopyTo(Span<byte> destination) => Value.CopyTo(destination);

    public byte[] ToArray() => Value.ToArray();

    public int CompareTo(PublicKey other) => Value.CompareTo(other.Value);

    public override string ToString() => Value.ToString();
}

/// <summary>An Ed25519 signature: R then S. Never used to identify a message (one message can have many signatures).</summary>
public readonly record struct Signature(Bytes32 R, Bytes32 S)
{
    public const int Size = 64;

    public static Signature From(ReadOnlySpan<byte> bytes)
    {
        Invariant.Holds(bytes.Length == Size, "64 bytes expected");
        return new Signature(Bytes32.From(bytes[..32]), Bytes32.From(bytes[32..]));
    }

    public void CopyTo(Span<byte> destination)
    {
        R.CopyTo(destination);
        S.CopyTo(destination[32..]);
    }

    public byte[] ToArray()
    {
        var bytes = new byte[Size];
        CopyTo(bytes);
        return bytes;
    }

    public override string ToString() => R.ToString() + S;
}

/// <summary>Signs with one key. Deterministic (RFC 8032): the same bytes give the same signature after a restart.</summary>
public interface ISigner
{
    PublicKey PublicKey { get; }

    Signature Sign(ReadOnlySpan<byte> message);
}

/// <summary>The keys one process may sign with; more than one while a rotation is under way.</summary>
public interface IKeyring
{
    /// <summary>Null when the key is somebody else's.</summary>
    ISigner? Find(PublicKey key);
}

/// <summary>A keyring with one key.</summary>
public sealed class SingleKey(ISigner signer) : IKeyring
{
    public ISigner? Find(PublicKey key) => key == signer.PublicKey ? signer : null;
}

/// <summary>
/// The only door to signature verification. The acceptance rule is libsodium's and part of the protocol
/// (docs/protocol.md, "One signature rule"): validators that disagree on one signature could be split by it.
/// </summary>
public interface ISignatureVerifier
{
    bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature);

    /// <summary>Many at once, which may be quicker; the verdicts are those of each alone.</summary>
    void Verify(ReadOnlySpan<SignatureCheck> checks, Span<bool> verdicts)
    {
        for (var i = 0; i < checks.Length; i++) verdicts[i] = Verify(checks[i].Key, checks[i].Message.Span, checks[i].Signature);
    }
}

/// <summary>Whether this key has signed this.</summary>
public readonly record struct SignatureCheck(PublicKey Key, ReadOnlyMemory<byte> Message, Signature Signature);
