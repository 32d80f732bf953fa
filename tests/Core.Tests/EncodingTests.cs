using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CsCheck;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class EncodingTests
{
    private static readonly Samples Samples = new();

    /// <summary>Checked-in bytes: a change of any encoding or preimage is a change of the protocol and must be seen in review.</summary>
    public static IEnumerable<(string Name, byte[] Bytes)> GoldenValues()
    {
        foreach (var message in Samples.EveryMessage()) yield return ("message-" + message.GetType().Name, MessageCodec.Encode(message));
        foreach (var record in Samples.EveryRecord()) yield return ("record-" + record.GetType().Name, DurableRecordCodec.Encode(record));
        foreach (var transaction in Samples.EveryControlTransaction()) yield return ("transaction-" + transaction.Kind, transaction.Body.ToArray());
        foreach (var order in Samples.EveryOrder()) yield return ("order-" + order.Change.GetType().Name, order.Encode());
        var header = new ArrayBufferWriter<byte>();
        Samples.Genesis.Block.Header.Write(new CanonicalWriter(header));
        yield return ("genesis-header", header.WrittenSpan.ToArray());
        yield return ("genesis-chain-id", Samples.Genesis.Chain.ChainId.ToArray());
        yield return ("genesis-block-digest", Samples.Genesis.Block.Digest.ToArray());
        yield return ("parameters-hash", Samples.Parameters.Hash().ToArray());
        var statement = new byte[256];
        var length = SignedStatement.Write(statement, Samples.Genesis.Chain, StatementType.Suspect, new View(1, 2), new Height(3), Samples.Digest(4), [5]);
        yield return ("statement-suspect", statement[..length]);
    }

    [Fact]
    public void Every_encoding_equals_its_golden_vector()
    {
        var directory = Path.Combine(AppContext.BaseDirectory, "Golden");
        if (Environment.GetEnvironmentVariable("CYBERMESH_WRITE_GOLDEN") is { Length: > 0 } target)
            foreach (var (name, bytes) in GoldenValues())
                File.WriteAllText(Path.Combine(target, name + ".hex"), Convert.ToHexStringLower(bytes) + "\n");
        var checkedIn = Directory.GetFiles(directory, "*.hex").Select(f => Path.GetFileNameWithoutExtension(f)).ToHashSet();
        Assert.Equal(GoldenValues().Select(v => v.Name).ToHashSet(), checkedIn);
        foreach (var (name, bytes) in GoldenValues())
            Assert.Equal(File.ReadAllText(Path.Combine(directory, name + ".hex")).Trim(), Convert.ToHexStringLower(bytes));
    }

    [Fact]
    public void Every_order_decodes_to_itself()
    {
        foreach (var order in Samples.EveryOrder())
        {
            Assert.True(ChangeOrder.TryDecode(order.Encode(), out var decoded), order.Change.GetType().Name);
            Assert.Equal(order.Change, decoded.Change);
            Assert.Equal(order.Encode(), decoded.Encode());
        }
    }

    [Fact]
    public void Every_message_decodes_to_itself()
    {
        foreach (var message in Samples.EveryMessage())
        {
            var bytes = MessageCodec.Encode(message);
            Assert.True(MessageCodec.TryDecode(bytes, out var decoded, out var error), $"{message.GetType().Name}: {error}");
            Assert.Equal(bytes, MessageCodec.Encode(decoded));
        }

        Assert.Equal(23, Samples.EveryMessage().Select(m => m.GetType()).Distinct().Count());
    }

    [Fact]
    public void Trailing_bytes_and_every_truncation_are_refused()
    {
        foreach (var message in Samples.EveryMessage())
        {
            var bytes = MessageCodec.Encode(message);
            Assert.False(MessageCodec.TryDecode([.. bytes, 0], out _, out var error));
            Assert.Equal(DecodeError.TrailingBytes, error);
            for (var length = 0; length < bytes.Length; length++) Assert.False(MessageCodec.TryDecode(bytes.AsSpan(0, length), out _, out _));
        }
    }

    [Fact]
    public void No_value_has_a_second_encoding()
    {
        // Whatever a changed byte makes of a message: it is refused, or it is exactly the encoding of what was decoded.
        var samples = Samples.EveryMessage().Select(MessageCodec.Encode).ToArray();
        Gen.Select(Gen.Int[0, samples.Length - 1], Gen.Int[0, int.MaxValue], Gen.Byte).Sample(
            (which, at, value) =>
            {
                var bytes = samples[which].ToArray();
                bytes[at % bytes.Length] = value;
                return !MessageCodec.TryDecode(bytes, out var decoded, out _) || MessageCodec.Encode(decoded).AsSpan().SequenceEqual(bytes);
            }, iter: 20_000);
    }

    [Fact]
    public void Records_have_one_encoding_too()
    {
        var samples = Samples.EveryRecord().Select(DurableRecordCodec.Encode).ToArray();
        foreach (var bytes in samples)
        {
            Assert.True(DurableRecordCodec.TryDecode(bytes, out var record, out _));
            Assert.Equal(bytes, DurableRecordCodec.Encode(record));
        }

        Gen.Select(Gen.Int[0, samples.Length - 1], Gen.Int[0, int.MaxValue], Gen.Byte).Sample(
            (which, at, value) =>
            {
                var bytes = samples[which].ToArray();
                bytes[at % bytes.Length] = value;
                return !DurableRecordCodec.TryDecode(bytes, out var decoded, out _) || DurableRecordCodec.Encode(decoded).AsSpan().SequenceEqual(bytes);
            }, iter: 5_000);
    }

    [Fact]
    public void A_count_beyond_its_limit_is_refused_before_anything_is_allocated()
    {
        var buffer = new ArrayBufferWriter<byte>();
        var writer = new CanonicalWriter(buffer);
        writer.UInt8(32); // GetTransactions
        writer.UInt32(uint.MaxValue);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.False(MessageCodec.TryDecode(buffer.WrittenSpan, out _, out var error));
        Assert.Equal(DecodeError.LengthBeyondLimit, error);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 10_000);
    }

    [Fact]
    public void A_count_the_input_cannot_hold_is_refused()
    {
        var reader = new CanonicalReader([0, 0, 0, 5, 1, 2, 3]);
        Assert.Equal(0, reader.Count(100, 1));
        Assert.Equal(DecodeError.Truncated, reader.Error);
    }

    [Fact]
    public void Pieces_read_as_one_and_no_value_stands_in_two()
    {
        var whole = Enumerable.Range(0, 24).Select(i => (byte)i).ToArray();
        foreach (var cuts in new int[][] { [], [8], [0, 8, 8, 16, 24], [16] })
        {
            int[] ends = [.. cuts, whole.Length];
            var pieces = ends.Select((end, i) => (ReadOnlyMemory<byte>)whole.AsMemory((i == 0 ? 0 : ends[i - 1])..end)).ToArray();
            var reader = new CanonicalReader(pieces);
            Assert.Equal(24, reader.Remaining);
            Assert.Equal(0x0001020304050607UL, reader.UInt64());
            Assert.Equal(16, reader.Remaining);
            Assert.Equal(0x08090a0b0c0d0e0fUL, reader.UInt64());
            Assert.Equal(whole[16..], reader.Raw(8).ToArray());
            Assert.True(reader.Finish(out _));
        }

        var unread = new CanonicalReader(new ReadOnlyMemory<byte>[] { whole.AsMemory(..8), whole.AsMemory(8..) });
        unread.UInt64();
        Assert.False(unread.Finish(out var error));
        Assert.Equal(DecodeError.TrailingBytes, error);
        var cut = new CanonicalReader(new ReadOnlyMemory<byte>[] { whole.AsMemory(..6), whole.AsMemory(6..) });
        Assert.Equal(0UL, cut.UInt64());
        Assert.Equal((DecodeError.Truncated, 0L), (cut.Error, cut.Remaining));
        // A count is held against all that is still to come.
        var counted = new CanonicalReader(new ReadOnlyMemory<byte>[] { new byte[] { 0, 0, 0, 3 }, whole });
        Assert.Equal(3, counted.Count(10, 8));
        counted = new CanonicalReader(new ReadOnlyMemory<byte>[] { new byte[] { 0, 0, 0, 4 }, whole });
        Assert.Equal((0, DecodeError.Truncated), (counted.Count(10, 8), counted.Error));
    }

    [Fact]
    public void Signers_of_a_certificate_must_ascend()
    {
        var twice = new QuorumCertificate(CertificateKind.Commit, 0, default, new Height(1), default,
            [new SignerSignature(new ValidatorIndex(1), default), new SignerSignature(new ValidatorIndex(1), default)]);
        var bytes = MessageCodec.Encode(new PeerMessage.Blocks([], twice));
        Assert.False(MessageCodec.TryDecode(bytes, out _, out var error));
        Assert.Equal(DecodeError.NotCanonical, error);
    }

    [Fact]
    public void An_attempt_beyond_the_limit_is_refused()
    {
        var vote = new PeerMessage.Prepare(default, new View(0, Limits.AttemptsMax + 1), default, default, default);
        Assert.False(MessageCodec.TryDecode(MessageCodec.Encode(vote), out _, out var error));
        Assert.Equal(DecodeError.OutOfRange, error);
    }
}
