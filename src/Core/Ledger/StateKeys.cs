using System;
using System.Buffers.Binary;
using CyberMesh.Core.Alerts;
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
    public const int NonceLength = 1 + PublicKey.Size + 16;

    /// <summary>Size and root of the transparency log.</summary>
    public static ReadOnlySpan<byte> Log => "l"u8;

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

    public static ReadOnlySpan<byte> Nonce(Span<byte> key, PublicKey producer, Nonce nonce)
    {
        key[0] = (byte)'n';
        producer.CopyTo(key[1..]);
        BinaryPrimitives.WriteUInt128BigEndian(key[(1 + PublicKey.Size)..], nonce.Value);
        return key;
    }
}
