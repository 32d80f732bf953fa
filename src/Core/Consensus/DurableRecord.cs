using System;
using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>What must be on disk before a message that depends on it is sent (protocol rule D1; table in docs/protocol.md).</summary>
public abstract record DurableRecord
{
    private DurableRecord() { }

    /// <summary>Everything before this record is superseded by what follows in the same batch.</summary>
    public sealed record Reset : DurableRecord;

    /// <summary>Before a PRE-PREPARE: a leader must propose the same block again after a restart, never another.</summary>
    public sealed record Proposed(Block Block) : DurableRecord;

    /// <summary>The last proposal, when a log starts over after its block was committed: should the blocks get lost, it is still known (rule A5).</summary>
    public sealed record ProposedLast(View View, Height Height, Digest Digest) : DurableRecord;

    /// <summary>Before a PREPARE: a certificate promises that f+1 honest validators hold the bodies, also after a crash.</summary>
    public sealed record BlockHeld(BlockWithBodies Block) : DurableRecord;

    /// <summary>Before a PREPARE.</summary>
    public sealed record PrepareVote(View View, Height Height, Digest Digest) : DurableRecord;

    /// <summary>Before a COMMIT, with the prepare certificate: the next VIEW-CHANGE needs it.</summary>
    public sealed record CommitVote(View View, Height Height, Digest Digest, QuorumCertificate Prepared) : DurableRecord;

    /// <summary>Before a VIEW-CHANGE.</summary>
    public sealed record ViewChangeSent(View View) : DurableRecord;

    /// <summary>The best certificate known, when no other record carries it.</summary>
    public sealed record BestCertificate(QuorumCertificate Certificate) : DurableRecord;

    /// <summary>Before a NEW-VIEW: the leader must send the same one again, never another.</summary>
    public sealed record NewViewSent(PeerMessage.NewView Message) : DurableRecord;

    /// <summary>Before the first vote in a view.</summary>
    public sealed record ViewEntered(PeerMessage.NewView Message) : DurableRecord;

    /// <summary>Before a CHECKPOINT: never another one for this term.</summary>
    public sealed record CheckpointSent(Checkpoint Checkpoint) : DurableRecord;

    /// <summary>Votes were lost; nothing is signed until the others have said where they stand (rule A1).</summary>
    public sealed record Quarantined : DurableRecord;

    /// <summary>The first term in which this validator votes again (rule A2).</summary>
    public sealed record VoteFromTerm(ulong Term) : DurableRecord;
}

/// <summary>Stored form of the records.</summary>
public static class DurableRecordCodec
{
    private enum Tag : byte
    {
        Reset = 1, Proposed = 2, BlockHeld = 3, PrepareVote = 4, CommitVote = 5, ViewChangeSent = 6, BestCertificate = 7, NewViewSent = 8, ViewEntered = 9, Quarantined = 10, VoteFromTerm = 11, CheckpointSent = 12,
        ProposedLast = 13,
    }

    public static byte[] Encode(DurableRecord record)
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        Encode(record, buffer);
        return buffer.WrittenSpan.ToArray();
    }

    public static void Encode(DurableRecord record, ArrayBufferWriter<byte> to)
    {
        var writer = new CanonicalWriter(to);
        switch (record)
        {
            case DurableRecord.Reset:
                writer.UInt8((byte)Tag.Reset);
                break;
            case DurableRecord.Proposed r:
                writer.UInt8((byte)Tag.Proposed);
                r.Block.Write(writer);
                break;
            case DurableRecord.ProposedLast r:
                writer.UInt8((byte)Tag.ProposedLast);
                WriteVote(writer, r.View, r.Height, r.Digest);
                break;
            case DurableRecord.BlockHeld r:
                writer.UInt8((byte)Tag.BlockHeld);
                r.Block.Block.Write(writer);
                MessageCodec.WriteBodies(writer, r.Block.Bodies);
                break;
            case DurableRecord.PrepareVote r:
                writer.UInt8((byte)Tag.PrepareVote);
                WriteVote(writer, r.View, r.Height, r.Digest);
                break;
            case DurableRecord.CommitVote r:
                writer.UInt8((byte)Tag.CommitVote);
                WriteVote(writer, r.View, r.Height, r.Digest);
                r.Prepared.Write(writer);
                break;
            case DurableRecord.ViewChangeSent r:
                writer.UInt8((byte)Tag.ViewChangeSent);
                writer.View(r.View);
                break;
            case DurableRecord.BestCertificate r:
                writer.UInt8((byte)Tag.BestCertificate);
                r.Certificate.Write(writer);
                break;
            case DurableRecord.NewViewSent r:
                writer.UInt8((byte)Tag.NewViewSent);
                writer.Bytes(MessageCodec.Encode(r.Message));
                break;
            case DurableRecord.ViewEntered r:
                writer.UInt8((byte)Tag.ViewEntered);
                writer.Bytes(MessageCodec.Encode(r.Message));
                break;
            case DurableRecord.CheckpointSent r:
                writer.UInt8((byte)Tag.CheckpointSent);
                r.Checkpoint.Write(writer);
                break;
            case DurableRecord.Quarantined:
                writer.UInt8((byte)Tag.Quarantined);
                break;
            case DurableRecord.VoteFromTerm r:
                writer.UInt8((byte)Tag.VoteFromTerm);
                writer.UInt64(r.Term);
                break;
            default:
                throw Invariant.Unreachable(record);
        }
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out DurableRecord? record, out DecodeError error)
    {
        var reader = new CanonicalReader(bytes);
        record = Read(ref reader);
        if (reader.Finish(out error) && record is not null) return true;
        record = null;
        return false;
    }

    private static DurableRecord? Read(ref CanonicalReader reader)
    {
        switch ((Tag)reader.UInt8())
        {
            case Tag.Reset:
                return new DurableRecord.Reset();
            case Tag.Proposed:
                return new DurableRecord.Proposed(Block.Read(ref reader));
            case Tag.ProposedLast:
                return new DurableRecord.ProposedLast(reader.View(), reader.Height(), reader.Digest());
            case Tag.BlockHeld:
                return new DurableRecord.BlockHeld(MessageCodec.ReadBlockWithBodies(ref reader));
            case Tag.PrepareVote:
                return new DurableRecord.PrepareVote(reader.View(), reader.Height(), reader.Digest());
            case Tag.CommitVote:
                return new DurableRecord.CommitVote(reader.View(), reader.Height(), reader.Digest(), QuorumCertificate.Read(ref reader));
            case Tag.ViewChangeSent:
                return new DurableRecord.ViewChangeSent(reader.View());
            case Tag.BestCertificate:
                return new DurableRecord.BestCertificate(QuorumCertificate.Read(ref reader));
            case Tag.NewViewSent:
                return ReadNewView(ref reader) is { } sent ? new DurableRecord.NewViewSent(sent) : null;
            case Tag.ViewEntered:
                return ReadNewView(ref reader) is { } entered ? new DurableRecord.ViewEntered(entered) : null;
            case Tag.CheckpointSent:
                return new DurableRecord.CheckpointSent(Checkpoint.Read(ref reader));
            case Tag.Quarantined:
                return new DurableRecord.Quarantined();
            case Tag.VoteFromTerm:
                return new DurableRecord.VoteFromTerm(reader.UInt64());
            default:
                reader.Fail(DecodeError.UnknownTag);
                return null;
        }
    }

    private static PeerMessage.NewView? ReadNewView(ref CanonicalReader reader)
    {
        var bytes = reader.Bytes(Limits.FrameBytesMax);
        if (MessageCodec.TryDecode(bytes, out var message, out var error) && message is PeerMessage.NewView newView) return newView;
        reader.Fail(error == DecodeError.None ? DecodeError.UnknownTag : error);
        return null;
    }

    private static void WriteVote(CanonicalWriter writer, View view, Height height, Digest digest)
    {
        writer.View(view);
        writer.Height(height);
        writer.Digest(digest);
    }
}
