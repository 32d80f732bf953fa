using System;
using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// What the transparency log says of one committed transaction: where it stands, when, what came of it, and the digest of its bytes. The
/// content stays off the log.
/// </summary>
/// <param name="Index">The place of the transaction in its block.</param>
public sealed record LogEntry(Digest ChainId, Height Height, uint Index, Timestamp BlockTime, AlertKind Kind, RejectionReason Result, Digest Transaction)
{
    /// <summary>Bytes of the encoded form: every field has a fixed length.</summary>
    public const int Size = 18 + 32 + 8 + 4 + 8 + 1 + 2 + 32;

    private static ReadOnlySpan<byte> Domain => "cybermesh/entry/v1"u8;

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(Size);
        Write(new CanonicalWriter(buffer));
        return buffer.WrittenSpan.ToArray();
    }

    private void Write(CanonicalWriter writer)
    {
        writer.Raw(Domain);
        writer.Digest(ChainId);
        writer.Height(Height);
        writer.UInt32(Index);
        writer.Time(BlockTime);
        writer.UInt8((byte)Kind);
        writer.UInt16((ushort)Result);
        writer.Digest(Transaction);
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out LogEntry? entry)
    {
        entry = null;
        if (!bytes.StartsWith(Domain)) return false;
        var reader = new CanonicalReader(bytes[Domain.Length..]);
        var (chain, height, index, time) = (reader.Digest(), reader.Height(), reader.UInt32(), reader.Time());
        var (kind, result, transaction) = ((AlertKind)reader.UInt8(), reader.UInt16(), reader.Digest());
        if (!reader.Finish(out _) || kind is < AlertKind.Anomaly or > AlertKind.Decision || !RejectionReasons.IsKnown(result)) return false;
        entry = new LogEntry(chain, height, index, time, kind, (RejectionReason)result, transaction);
        return true;
    }

    [ThreadStatic]
    private static ArrayBufferWriter<byte>? s_buffer;

    public Digest LeafHash()
    {
        var buffer = s_buffer ??= new ArrayBufferWriter<byte>(Size);
        buffer.ResetWrittenCount();
        Write(new CanonicalWriter(buffer));
        return LeafHash(buffer.WrittenSpan);
    }

    /// <summary>RFC 6962: SHA-256 over a zero byte and the entry.</summary>
    public static Digest LeafHash(ReadOnlySpan<byte> entry)
    {
        Span<byte> bytes = stackalloc byte[1 + Size];
        Invariant.Holds(entry.Length == Size, "an entry has one length");
        bytes[0] = DigestDomain.MerkleLeaf;
        entry.CopyTo(bytes[1..]);
        return Digest.Sha256(bytes);
    }
}
