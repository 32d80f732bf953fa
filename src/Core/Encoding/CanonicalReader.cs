using System;
using System.Buffers.Binary;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Encoding;

/// <summary>
/// Reads the canonical form. The first error sticks and every later read returns zero, so a decoder reads straight
/// through and asks once, with <see cref="Finish"/>, whether all of it held.
/// </summary>
public ref struct CanonicalReader
{
    private ReadOnlySpan<byte> _rest;

    /// <summary>What comes when the rest is used up.</summary>
    private ReadOnlySpan<ReadOnlyMemory<byte>> _later;
    private long _laterBytes;

    public CanonicalReader(ReadOnlySpan<byte> input) => _rest = input;

    /// <summary>Reads one piece after the other, as if they were one; no value may stand in two of them.</summary>
    public CanonicalReader(ReadOnlySpan<ReadOnlyMemory<byte>> pieces)
    {
        _later = pieces;
        foreach (var piece in pieces) _laterBytes += piece.Length;
    }

    public DecodeError Error { get; private set; }

    public readonly long Remaining => _rest.Length + _laterBytes;

    public void Fail(DecodeError error)
    {
        if (Error == DecodeError.None) Error = error;
        _rest = default;
        _later = default;
        _laterBytes = 0;
    }

    /// <summary>True when nothing failed and nothing is left over.</summary>
    public bool Finish(out DecodeError error)
    {
        if (Error == DecodeError.None && Remaining != 0) Error = DecodeError.TrailingBytes;
        error = Error;
        return error == DecodeError.None;
    }

    public byte UInt8() => Take(1) is [var value] ? value : (byte)0;

    public ushort UInt16() => Take(2) is { Length: 2 } bytes ? BinaryPrimitives.ReadUInt16BigEndian(bytes) : (ushort)0;

    public uint UInt32() => Take(4) is { Length: 4 } bytes ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : 0;

    /// <summary>A 32-bit number that must not be above <see cref="int.MaxValue"/>.</summary>
    public int Int32()
    {
        var value = UInt32();
        if (value <= int.MaxValue) return (int)value;
        Fail(DecodeError.NotCanonical);
        return 0;
    }

    public ulong UInt64() => Take(8) is { Length: 8 } bytes ? BinaryPrimitives.ReadUInt64BigEndian(bytes) : 0;

    public long Int64() => unchecked((long)UInt64());

    public Bytes32 Bytes32() => Take(Primitives.Bytes32.Size) is { Length: Primitives.Bytes32.Size } bytes ? Primitives.Bytes32.From(bytes) : default;

    public Digest Digest() => new(Bytes32());

    public PublicKey Key() => new(Bytes32());

    public Signature Signature() => new(Bytes32(), Bytes32());

    public ValidatorIndex Index() => new(UInt16());

    public Height Height() => new(UInt64());

    public View View()
    {
        var view = new View(UInt64(), UInt32());
        if (view.Attempt > Limits.AttemptsMax) Fail(DecodeError.OutOfRange);
        return Error == DecodeError.None ? view : default;
    }

    public Timestamp Time() => new(Int64());

    /// <summary>A number of items, refused beyond <paramref name="max"/> or when the rest of the input cannot hold them.</summary>
    public int Count(int max, int bytesEachAtLeast)
    {
        var count = UInt32();
        if (count > (uint)max)
        {
            Fail(DecodeError.LengthBeyondLimit);
            return 0;
        }

        if (count * (ulong)bytesEachAtLeast > (ulong)Remaining) Fail(DecodeError.Truncated);
        return Error == DecodeError.None ? (int)count : 0;
    }

    /// <summary>Bytes whose length the reader knows; they stand in the input.</summary>
    public ReadOnlySpan<byte> Raw(int count) => Take(count);

    /// <summary>A 32-bit length and that many bytes; a copy, so the input buffer can be reused.</summary>
    public byte[] Bytes(int max) => Take(Count(max, 1)).ToArray();

    /// <summary>Goes past a 32-bit length and that many bytes, and returns how many; they end where what remains begins.</summary>
    public int Skip(int max) => Take(Count(max, 1)).Length;

    public string Text(int maxBytes)
    {
        var bytes = Take(Count(maxBytes, 1));
        if (System.Text.Unicode.Utf8.IsValid(bytes)) return System.Text.Encoding.UTF8.GetString(bytes);
        Fail(DecodeError.NotCanonical);
        return "";
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        while (_rest.IsEmpty && !_later.IsEmpty)
        {
            _rest = _later[0].Span;
            _later = _later[1..];
            _laterBytes -= _rest.Length;
        }

        if (_rest.Length < count)
        {
            Fail(DecodeError.Truncated);
            return default;
        }

        var taken = _rest[..count];
        _rest = _rest[count..];
        return taken;
    }
}
