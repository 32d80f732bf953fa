using System;
using System.Buffers.Binary;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>The exact bytes a producer signs (docs/wire-format.md, "Exact bytes signed").</summary>
public static class SigningBytes
{
    /// <summary>
    /// Profile v1: domain ‖ ts i64 ‖ len(producer_id) u16 ‖ producer_id ‖ nonce ‖ content_hash. The policy domain alone is
    /// followed by one zero byte. Every field is of fixed length, so no two field tuples share bytes.
    /// </summary>
    public static byte[] V1(AlertKind kind, long timestampSeconds, PublicKey producer, Nonce nonce, Digest contentHash)
    {
        var domain = DomainV1(kind);
        var bytes = new byte[domain.Length + 8 + 2 + PublicKey.Size + Limits.NonceBytes + Digest.Size];
        domain.CopyTo(bytes);
        var rest = bytes.AsSpan(domain.Length);
        BinaryPrimitives.WriteInt64BigEndian(rest, timestampSeconds);
        BinaryPrimitives.WriteUInt16BigEndian(rest[8..], PublicKey.Size);
        producer.CopyTo(rest[10..]);
        BinaryPrimitives.WriteUInt128BigEndian(rest[42..], nonce.Value);
        contentHash.CopyTo(rest[58..]);
        return bytes;
    }

    /// <summary>Profile v2: domain ‖ 0x00 ‖ SHA-256 of the canonical record without its signature field.</summary>
    public static byte[] V2(AlertKind kind, ReadOnlySpan<byte> recordBeforeSignature, ReadOnlySpan<byte> recordAfterSignature)
    {
        var domain = DomainV2(kind);
        var bytes = new byte[domain.Length + 1 + Digest.Size];
        domain.CopyTo(bytes);
        Digest.Sha256(recordBeforeSignature, recordAfterSignature).CopyTo(bytes.AsSpan(domain.Length + 1));
        return bytes;
    }

    /// <summary>What the actor of a chain-of-custody entry signs.</summary>
    public static byte[] Custody(CustodyEntry entry)
    {
        var domain = "cybermesh/coc/v1"u8;
        var bytes = new byte[domain.Length + Digest.Size + PublicKey.Size + 8];
        domain.CopyTo(bytes);
        var rest = bytes.AsSpan(domain.Length);
        entry.RefHash.CopyTo(rest);
        entry.Actor.CopyTo(rest[32..]);
        BinaryPrimitives.WriteInt64BigEndian(rest[64..], entry.TimestampSeconds);
        return bytes;
    }

    private static ReadOnlySpan<byte> DomainV1(AlertKind kind) => kind switch
    {
        AlertKind.Anomaly => "ai.anomaly.v1"u8,
        AlertKind.Evidence => "ai.evidence.v1"u8,
        AlertKind.Policy => "ai.policy.v1\0"u8,
        _ => throw Invariant.Unreachable(kind),
    };

    private static ReadOnlySpan<byte> DomainV2(AlertKind kind) => kind switch
    {
        AlertKind.Anomaly => "ai.anomaly.v2"u8,
        AlertKind.Evidence => "ai.evidence.v2"u8,
        AlertKind.Policy => "ai.policy.v2"u8,
        _ => throw Invariant.Unreachable(kind),
    };
}
