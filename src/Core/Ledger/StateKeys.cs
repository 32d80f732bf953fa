using System;
using System.Buffers.Binary;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>Keys of the state tree: one letter for the table, then the identity. Fixed lengths within a table, so no key is a prefix of another.</summary>
internal static class StateKeys
{
    public const int TransactionLength = 2 + Digest.Size;
    public const int ProducerLength = 1 + PublicKey.Size;
    public const int ConvictionLength = 1 + Digest.Size;
    public const int LeaderLength = 1 + 2;
    public const int EpochLength = 1 + 8;
    public const int NoncesLength = 1 + 8;
    public const int StandingLength = 1 + Digest.Size;

    /// <summary>Size and root of the transparency log.</summary>
    public static ReadOnlySpan<byte> Log => "l"u8;

    /// <summary>The switch over all policies, and when the last of them came into force.</summary>
    public static ReadOnlySpan<byte> Policies => "c"u8;

    /// <summary>The open order and the number of the last one.</summary>
    public static ReadOnlySpan<byte> Orders => "g"u8;

    public static ReadOnlySpan<byte> Transaction(Span<byte> key, AlertKind kind, Digest digest)
    {
        key[0] = (byte)'t';
        key[1] = (byte)kind;
        digest.CopyTo(key[2..]);
        return key;
    }

    public static ReadOnlySpan<byte> Producer(Span<byte> key, PublicKey producer)
    {
        key[0] = (byte)'p';
        producer.CopyTo(key[1..]);
        return key;
    }

    public static ReadOnlySpan<byte> Conviction(Span<byte> key, Digest transaction)
    {
        key[0] = (byte)'m';
        transaction.CopyTo(key[1..]);
        return key;
    }

    public static ReadOnlySpan<byte> Leader(Span<byte> key, ValidatorIndex validator)
    {
        key[0] = (byte)'v';
        BinaryPrimitives.WriteUInt16BigEndian(key[1..], validator.Value);
        return key;
    }

    public static ReadOnlySpan<byte> Epoch(Span<byte> key, ulong epoch)
    {
        key[0] = (byte)'e';
        BinaryPrimitives.WriteUInt64BigEndian(key[1..], epoch);
        return key;
    }

    /// <summary>What was used and expires at one time.</summary>
    public static ReadOnlySpan<byte> Nonces(Span<byte> key, Timestamp expiresAt)
    {
        key[0] = (byte)'n';
        BinaryPrimitives.WriteInt64BigEndian(key[1..], expiresAt.Milliseconds);
        return key;
    }

    /// <summary>Of a producer by name: it outlives its keys.</summary>
    public static ReadOnlySpan<byte> Standing(Span<byte> key, string producer)
    {
        key[0] = (byte)'r';
        Digest.Sha256(DigestDomain.Name, System.Text.Encoding.UTF8.GetBytes(producer)).CopyTo(key[1..]);
        return key;
    }
}
