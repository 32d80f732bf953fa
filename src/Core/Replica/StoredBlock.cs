using System;
using System.Buffers;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>A committed block as a validator stores it: everything needed to execute it again and to prove it to others.</summary>
public sealed record StoredBlock(BlockWithBodies Block, QuorumCertificate? Certificate)
{
    public static StoredBlock Of(CommittedBlock committed) => new(committed.ToBlockWithBodies(), committed.Certificate);

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        Encode(buffer);
        return buffer.WrittenSpan.ToArray();
    }

    public void Encode(ArrayBufferWriter<byte> to)
    {
        var writer = new CanonicalWriter(to);
        MessageCodec.Write(writer, Block);
        writer.UInt8(Certificate is null ? (byte)0 : (byte)1);
        Certificate?.Write(writer);
    }

    /// <summary>The bodies have expired: header, transaction digests and certificate are left.</summary>
    public bool IsPruned => Block.Bodies.Length < Block.Block.Transactions.Length;

    public StoredBlock Pruned() => this with { Block = Block with { Bodies = [] } };

    /// <param name="bytes">Kept by the block: the caller must not change them afterwards.</param>
    /// <exception cref="InvariantViolation">The bytes are not what <see cref="Encode()"/> wrote: the store is damaged.</exception>
    public static StoredBlock Decode(ReadOnlyMemory<byte> bytes)
    {
        var reader = new CanonicalReader(bytes.Span);
        var block = MessageCodec.ReadBlockWithBodies(ref reader, bytes);
        var flag = reader.UInt8();
        if (flag > 1) reader.Fail(DecodeError.NotCanonical);
        var certificate = flag == 1 ? QuorumCertificate.Read(ref reader) : null;
        Invariant.Holds(reader.Finish(out var error), "a stored block is damaged: " + error);
        return new StoredBlock(block, certificate);
    }
}
