using System;
using System.Buffers;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>What a peer message is about; each has its own queues and budgets, so that one never delays another (protocol, section 16).</summary>
public enum MessageClass : byte
{
    Consensus = 0,
    Transactions = 1,

    /// <summary>Blocks and snapshots for whoever is behind.</summary>
    Sync = 2,
}

/// <summary>Transport form of <see cref="PeerMessage"/>: a tag byte, then the fields. One encoding per value.</summary>
public static class MessageCodec
{
    private enum Tag : byte
    {
        PrePrepare = 1, Prepare = 2, Commit = 3, Suspect = 4, ViewChange = 5, NewView = 6, Checkpoint = 7, Heartbeat = 8, Status = 9, Handover = 10,
        GetTransactions = 32, Transactions = 33, GetProposal = 34, Proposal = 35, GetBlocks = 36, Blocks = 37, StableCheckpoint = 38,
        GetSnapshot = 39, SnapshotOffer = 40, GetChunk = 41, Chunk = 42, Cosignature = 43, Announcement = 44,
    }

    /// <summary>A buffer that grew beyond this, as for an answer in catch-up, is not kept.</summary>
    private const int BufferKeptMax = 1 << 20;

    [ThreadStatic]
    private static ArrayBufferWriter<byte>? s_buffer;

    public static byte[] Encode(PeerMessage message)
    {
        var buffer = s_buffer ??= new ArrayBufferWriter<byte>(256);
        buffer.ResetWrittenCount();
        Write(new CanonicalWriter(buffer), message);
        var encoded = buffer.WrittenSpan.ToArray();
        if (buffer.Capacity > BufferKeptMax) s_buffer = null;
        return encoded;
    }

    /// <summary>By the tag alone, before anything else of an encoded message is looked at.</summary>
    public static MessageClass ClassOf(ReadOnlySpan<byte> encoded) => encoded.IsEmpty ? MessageClass.Consensus : (Tag)encoded[0] switch
    {
        Tag.GetTransactions or Tag.Transactions or Tag.GetProposal or Tag.Proposal or Tag.Announcement => MessageClass.Transactions,
        Tag.GetBlocks or Tag.Blocks or Tag.GetSnapshot or Tag.SnapshotOffer or Tag.GetChunk or Tag.Chunk => MessageClass.Sync,
        _ => MessageClass.Consensus,
    };

    /// <summary>Asks for something that was committed or proposed, and says nothing itself.</summary>
    public static bool IsQuestion(ReadOnlySpan<byte> encoded) =>
        !encoded.IsEmpty && (Tag)encoded[0] is Tag.GetTransactions or Tag.GetProposal or Tag.GetBlocks or Tag.GetSnapshot or Tag.GetChunk;

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out PeerMessage? message, out DecodeError error)
    {
        var reader = new CanonicalReader(bytes);
        message = Read(ref reader);
        if (reader.Finish(out error) && message is not null) return true;
        message = null;
        return false;
    }

    private static void Write(CanonicalWriter writer, PeerMessage message)
    {
        switch (message)
        {
            case PeerMessage.PrePrepare m:
                Begin(writer, Tag.PrePrepare, m);
                m.Block.Write(writer);
                break;
            case PeerMessage.Prepare m:
                Begin(writer, Tag.Prepare, m);
                WriteVote(writer, m.View, m.Height, m.Digest);
                break;
            case PeerMessage.Commit m:
                Begin(writer, Tag.Commit, m);
                WriteVote(writer, m.View, m.Height, m.Digest);
                break;
            case PeerMessage.Suspect m:
                Begin(writer, Tag.Suspect, m);
                writer.View(m.View);
                writer.UInt8((byte)m.Reason);
                break;
            case PeerMessage.ViewChange m:
                Begin(writer, Tag.ViewChange, m);
                writer.View(m.View);
                writer.Height(m.Claim.Committed);
                m.Best.Write(writer);
                WriteJustification(writer, m.Justification);
                break;
            case PeerMessage.NewView m:
                Begin(writer, Tag.NewView, m);
                writer.View(m.View);
                WriteClaims(writer, m.Claims);
                m.Best.Write(writer);
                break;
            case PeerMessage.Heartbeat m:
                Begin(writer, Tag.Heartbeat, m);
                writer.View(m.View);
                m.Committed.Write(writer);
                break;
            case PeerMessage.Status m:
                Begin(writer, Tag.Status, m);
                writer.View(m.View);
                writer.Height(m.Tip);
                writer.UInt8((byte)m.Kind);
                m.Committed.Write(writer);
                writer.UInt8(m.Best is null ? (byte)0 : (byte)1);
                m.Best?.Write(writer);
                break;
            case PeerMessage.Handover m:
                Begin(writer, Tag.Handover, m);
                writer.View(m.View);
                break;
            case PeerMessage.Announcement m:
                writer.UInt8((byte)Tag.Announcement);
                WriteDigests(writer, m.Digests);
                break;
            case PeerMessage.GetTransactions m:
                writer.UInt8((byte)Tag.GetTransactions);
                WriteDigests(writer, m.Digests);
                break;
            case PeerMessage.Transactions m:
                writer.UInt8((byte)Tag.Transactions);
                WriteBodies(writer, m.Bodies);
                break;
            case PeerMessage.GetProposal m:
                writer.UInt8((byte)Tag.GetProposal);
                writer.Digest(m.Block);
                break;
            case PeerMessage.Proposal m:
                writer.UInt8((byte)Tag.Proposal);
                Write(writer, m.Block);
                break;
            case PeerMessage.GetBlocks m:
                writer.UInt8((byte)Tag.GetBlocks);
                writer.Height(m.From);
                break;
            case PeerMessage.Blocks m:
                writer.UInt8((byte)Tag.Blocks);
                writer.Count(m.Items.Length);
                foreach (var item in m.Items) Write(writer, item);
                m.Certificate.Write(writer);
                break;
            case PeerMessage.Checkpoint m:
                Begin(writer, Tag.Checkpoint, m);
                m.Content.Write(writer);
                break;
            case PeerMessage.StableCheckpoint m:
                writer.UInt8((byte)Tag.StableCheckpoint);
                m.Certificate.Write(writer);
                break;
            case PeerMessage.GetSnapshot m:
                writer.UInt8((byte)Tag.GetSnapshot);
                writer.Height(m.Above);
                break;
            case PeerMessage.SnapshotOffer m:
                writer.UInt8((byte)Tag.SnapshotOffer);
                m.Certificate.Write(writer);
                m.Committed.Write(writer);
                writer.Count(m.Chunks.Length);
                foreach (var chunk in m.Chunks) writer.Digest(chunk);
                break;
            case PeerMessage.GetChunk m:
                writer.UInt8((byte)Tag.GetChunk);
                writer.Height(m.Height);
                writer.UInt32(m.Index);
                break;
            case PeerMessage.Chunk m:
                writer.UInt8((byte)Tag.Chunk);
                writer.Height(m.Height);
                writer.UInt32(m.Index);
                writer.Bytes(m.Bytes.Span);
                break;
            case PeerMessage.Cosignature m:
                writer.UInt8((byte)Tag.Cosignature);
                writer.Index(m.Signer);
                writer.UInt64(m.Term);
                writer.Height(m.Height);
                writer.UInt64(m.Size);
                writer.Digest(m.Root);
                writer.Int64(m.TimeSeconds);
                writer.Signature(m.Signature);
                break;
            case PeerMessage.Beyond:
            default:
                throw Invariant.Unreachable(message);
        }
    }

    private static PeerMessage? Read(ref CanonicalReader reader)
    {
        var tag = (Tag)reader.UInt8();
        if (tag >= Tag.GetTransactions) return ReadUnsigned(ref reader, tag);
        var sender = reader.Index();
        var signature = reader.Signature();
        switch (tag)
        {
            case Tag.PrePrepare:
                return new PeerMessage.PrePrepare(sender, Block.Read(ref reader), signature);
            case Tag.Prepare:
                return new PeerMessage.Prepare(sender, reader.View(), reader.Height(), reader.Digest(), signature);
            case Tag.Commit:
                return new PeerMessage.Commit(sender, reader.View(), reader.Height(), reader.Digest(), signature);
            case Tag.Suspect:
                return new PeerMessage.Suspect(sender, reader.View(), ReadReason(ref reader), signature);
            case Tag.ViewChange:
                return ReadViewChange(ref reader, sender, signature);
            case Tag.NewView:
                return new PeerMessage.NewView(sender, reader.View(), ReadClaims(ref reader), QuorumCertificate.Read(ref reader), signature);
            case Tag.Heartbeat:
                return new PeerMessage.Heartbeat(sender, reader.View(), QuorumCertificate.Read(ref reader), signature);
            case Tag.Status:
                return new PeerMessage.Status(sender, reader.View(), reader.Height(), ReadStatusKind(ref reader), QuorumCertificate.Read(ref reader),
                    ReadFlag(ref reader) ? QuorumCertificate.Read(ref reader) : null, signature);
            case Tag.Checkpoint:
                return new PeerMessage.Checkpoint(sender, Chain.Checkpoint.Read(ref reader), signature);
            case Tag.Handover:
                return new PeerMessage.Handover(sender, reader.View(), signature);
            default:
                reader.Fail(DecodeError.UnknownTag);
                return null;
        }
    }

    private static PeerMessage? ReadUnsigned(ref CanonicalReader reader, Tag tag)
    {
        switch (tag)
        {
            case Tag.GetTransactions:
                return new PeerMessage.GetTransactions(ReadDigests(ref reader, Limits.BlockTransactionsMax));
            case Tag.Announcement:
                return new PeerMessage.Announcement(ReadDigests(ref reader, Limits.AnnouncedMax));
            case Tag.Transactions:
                return new PeerMessage.Transactions(ReadBodies(ref reader));
            case Tag.GetProposal:
                return new PeerMessage.GetProposal(reader.Digest());
            case Tag.Proposal:
                return new PeerMessage.Proposal(ReadBlockWithBodies(ref reader));
            case Tag.GetBlocks:
                return new PeerMessage.GetBlocks(reader.Height());
            case Tag.Blocks:
                var items = ImmutableArray.CreateBuilder<BlockWithBodies>();
                for (var left = reader.Count(Limits.BlocksPerAnswerMax, 1); left > 0 && reader.Error == DecodeError.None; left--)
                    items.Add(ReadBlockWithBodies(ref reader));
                return new PeerMessage.Blocks(items.ToImmutable(), QuorumCertificate.Read(ref reader));
            case Tag.GetSnapshot:
                return new PeerMessage.GetSnapshot(reader.Height());
            case Tag.SnapshotOffer:
                return ReadOffer(ref reader);
            case Tag.GetChunk:
                return new PeerMessage.GetChunk(reader.Height(), reader.UInt32());
            case Tag.Chunk:
                return new PeerMessage.Chunk(reader.Height(), reader.UInt32(), reader.Bytes(Limits.SnapshotChunkBytesMax));
            case Tag.Cosignature:
                return new PeerMessage.Cosignature(
                    reader.Index(), reader.UInt64(), reader.Height(), reader.UInt64(), reader.Digest(), reader.Int64(), reader.Signature());
            case Tag.StableCheckpoint:
                return new PeerMessage.StableCheckpoint(CheckpointCertificate.Read(ref reader));
            default:
                reader.Fail(DecodeError.UnknownTag);
                return null;
        }
    }

    private static PeerMessage.SnapshotOffer ReadOffer(ref CanonicalReader reader)
    {
        var (certificate, commit) = (CheckpointCertificate.Read(ref reader), QuorumCertificate.Read(ref reader));
        return new PeerMessage.SnapshotOffer(certificate, commit, ReadDigests(ref reader, Limits.SnapshotChunksMax));
    }

    private static void WriteDigests(CanonicalWriter writer, ImmutableArray<Digest> digests)
    {
        writer.Count(digests.Length);
        foreach (var digest in digests) writer.Digest(digest);
    }

    private static ImmutableArray<Digest> ReadDigests(ref CanonicalReader reader, int max)
    {
        var digests = ImmutableArray.CreateBuilder<Digest>();
        for (var left = reader.Count(max, Digest.Size); left > 0; left--) digests.Add(reader.Digest());
        return digests.ToImmutable();
    }

    private static void Begin(CanonicalWriter writer, Tag tag, PeerMessage.Signed message)
    {
        writer.UInt8((byte)tag);
        writer.Index(message.Sender);
        writer.Signature(message.Signature);
    }

    private static void WriteVote(CanonicalWriter writer, View view, Height height, Digest digest)
    {
        writer.View(view);
        writer.Height(height);
        writer.Digest(digest);
    }

    private static PeerMessage.ViewChange ReadViewChange(ref CanonicalReader reader, ValidatorIndex sender, Signature signature)
    {
        var view = reader.View();
        var committed = reader.Height();
        var best = QuorumCertificate.Read(ref reader);
        var claim = new Claim(best.Rank, best.Digest, best.Hash(), committed);
        return new PeerMessage.ViewChange(sender, view, claim, best, ReadJustification(ref reader), signature);
    }

    private static void WriteJustification(CanonicalWriter writer, Justification justification)
    {
        writer.View(justification.LeftView);
        writer.UInt8(justification.Handover is null ? (byte)0 : (byte)1);
        if (justification.Handover is { } handover)
        {
            writer.Index(handover.Sender);
            writer.Signature(handover.Signature);
        }


        writer.Count(justification.Suspicions.Length);
        foreach (var suspicion in justification.Suspicions)
        {
            writer.Index(suspicion.Sender);
            writer.UInt8((byte)suspicion.Reason);
            writer.Signature(suspicion.Signature);
        }
    }

    private static Justification ReadJustification(ref CanonicalReader reader)
    {
        var left = reader.View();
        SignedHandover? handover = ReadFlag(ref reader) ? new SignedHandover(reader.Index(), reader.Signature()) : null;
        var suspicions = ImmutableArray.CreateBuilder<SignedSuspicion>();
        var previous = -1;
        for (var count = reader.Count(Limits.ValidatorsMax, 67); count > 0; count--)
        {
            var sender = reader.Index();
            if (sender.Value <= previous) reader.Fail(DecodeError.NotCanonical);
            previous = sender.Value;
            suspicions.Add(new SignedSuspicion(sender, ReadReason(ref reader), reader.Signature()));
        }

        return new Justification(left, suspicions.ToImmutable(), handover);
    }

    /// <summary>Claims as they stand in a NEW-VIEW and in its digest.</summary>
    internal static void WriteClaims(CanonicalWriter writer, ImmutableArray<SignedClaim> claims)
    {
        writer.Count(claims.Length);
        foreach (var (sender, claim, signature) in claims)
        {
            writer.Index(sender);
            writer.View(claim.Best.View);
            writer.Height(claim.Best.Height);
            writer.UInt8((byte)claim.Best.Kind);
            writer.Digest(claim.BestBlock);
            writer.Digest(claim.CertificateDigest);
            writer.Height(claim.Committed);
            writer.Signature(signature);
        }
    }

    private static ImmutableArray<SignedClaim> ReadClaims(ref CanonicalReader reader)
    {
        var claims = ImmutableArray.CreateBuilder<SignedClaim>();
        var previous = -1;
        for (var count = reader.Count(Limits.ValidatorsMax, 167); count > 0; count--)
        {
            var sender = reader.Index();
            if (sender.Value <= previous) reader.Fail(DecodeError.NotCanonical);
            previous = sender.Value;
            var view = reader.View();
            var height = reader.Height();
            var kind = reader.UInt8();
            if (kind is not ((byte)CertificateKind.Prepare or (byte)CertificateKind.Commit)) reader.Fail(DecodeError.UnknownTag);
            var claim = new Claim(new Rank(view, height, (CertificateKind)kind), reader.Digest(), reader.Digest(), reader.Height());
            claims.Add(new SignedClaim(sender, claim, reader.Signature()));
        }

        return claims.ToImmutable();
    }

    internal static void Write(CanonicalWriter writer, BlockWithBodies item)
    {
        item.Block.Write(writer);
        WriteBodies(writer, item.Bodies);
    }

    internal static BlockWithBodies ReadBlockWithBodies(ref CanonicalReader reader)
    {
        var block = Block.Read(ref reader);
        return new BlockWithBodies(block, ReadBodies(ref reader));
    }

    /// <summary>The bodies stay where they are, in the bytes that the reader was made of.</summary>
    internal static BlockWithBodies ReadBlockWithBodies(ref CanonicalReader reader, ReadOnlyMemory<byte> source)
    {
        var block = Block.Read(ref reader);
        var bodies = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>(block.Transactions.Length);
        for (var left = reader.Count(Limits.BlockTransactionsMax, 4); left > 0 && reader.Error == DecodeError.None; left--)
        {
            var length = reader.Skip(Limits.RecordBytesMax + 1);
            bodies.Add(source.Slice(source.Length - (int)reader.Remaining - length, length));
        }

        return new BlockWithBodies(block, bodies.DrainToImmutable());
    }

    internal static void WriteBodies(CanonicalWriter writer, ImmutableArray<ReadOnlyMemory<byte>> bodies)
    {
        writer.Count(bodies.Length);
        foreach (var body in bodies) writer.Bytes(body.Span);
    }

    private static ImmutableArray<ReadOnlyMemory<byte>> ReadBodies(ref CanonicalReader reader)
    {
        var bodies = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>();
        for (var left = reader.Count(Limits.BlockTransactionsMax, 4); left > 0 && reader.Error == DecodeError.None; left--)
            bodies.Add(reader.Bytes(Limits.RecordBytesMax + 1));
        return bodies.ToImmutable();
    }

    private static SuspectReason ReadReason(ref CanonicalReader reader)
    {
        var reason = reader.UInt8();
        if (reason is < (byte)SuspectReason.NoProgress or > (byte)SuspectReason.Slow) reader.Fail(DecodeError.UnknownTag);
        return (SuspectReason)reason;
    }

    private static StatusKind ReadStatusKind(ref CanonicalReader reader)
    {
        var kind = reader.UInt8();
        if (kind > (byte)StatusKind.Quarantined) reader.Fail(DecodeError.UnknownTag);
        return (StatusKind)kind;
    }

    private static bool ReadFlag(ref CanonicalReader reader)
    {
        var flag = reader.UInt8();
        if (flag > 1) reader.Fail(DecodeError.NotCanonical);
        return flag == 1;
    }
}
