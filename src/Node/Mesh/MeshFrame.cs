using System;
using System.Buffers;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>What the mesh says for itself; the replica never sees it. Tags from 0xf0 on, where no peer message has its tag.</summary>
public abstract record MeshFrame
{
    /// <summary>Records in one frame.</summary>
    public const int RecordsMax = 64;

    private const byte FirstTag = 0xf0;

    private MeshFrame() { }

    /// <summary>Tag 0xf0: where validators are.</summary>
    public sealed record Records(ImmutableArray<PeerRecord> Items) : MeshFrame;

    /// <summary>Tag 0xf1: asks for the records nearest to an id (<see cref="NodeId"/>).</summary>
    public sealed record FindNode(uint Question, Digest Target) : MeshFrame;

    /// <summary>Tag 0xf2: the answer.</summary>
    public sealed record Nodes(uint Question, ImmutableArray<PeerRecord> Items) : MeshFrame;

    public static bool IsOne(ReadOnlySpan<byte> frame) => !frame.IsEmpty && frame[0] >= FirstTag;

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        var writer = new CanonicalWriter(buffer);
        switch (this)
        {
            case Records m:
                writer.UInt8(FirstTag);
                Write(writer, m.Items);
                break;
            case FindNode m:
                writer.UInt8(FirstTag + 1);
                writer.UInt32(m.Question);
                writer.Digest(m.Target);
                break;
            case Nodes m:
                writer.UInt8(FirstTag + 2);
                writer.UInt32(m.Question);
                Write(writer, m.Items);
                break;
        }

        return buffer.WrittenSpan.ToArray();
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out MeshFrame? frame)
    {
        var reader = new CanonicalReader(bytes);
        frame = reader.UInt8() switch
        {
            FirstTag => new Records(PeerRecord.ReadAll(ref reader, RecordsMax)),
            FirstTag + 1 => new FindNode(reader.UInt32(), reader.Digest()),
            FirstTag + 2 => new Nodes(reader.UInt32(), PeerRecord.ReadAll(ref reader, RecordsMax)),
            _ => null,
        };
        if (reader.Finish(out _) && frame is not null) return true;
        frame = null;
        return false;
    }

    private static void Write(CanonicalWriter writer, ImmutableArray<PeerRecord> records)
    {
        writer.Count(records.Length);
        foreach (var record in records) record.Write(writer);
    }
}
