using System;
using System.Buffers;
using System.Buffers.Binary;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Encoding;

/// <summary>Writes the canonical form: big-endian, fixed width, length prefixes in front of everything of variable size, nothing optional.</summary>
public readonly ref struct CanonicalWriter(ArrayBufferWriter<byte> output)
{
    public void UInt8(byte value)
    {
        output.GetSpan(1)[0] = value;
        output.Advance(1);
    }

    public void UInt16(ushort value)
    {
        BinaryPrimitives.WriteUInt16BigEndian(output.GetSpan(2), value);
        output.Advance(2);
    }

    public void UInt32(uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(output.GetSpan(4), value);
        output.Advance(4);
    }

    public void UInt64(ulong value)
    {
        BinaryPrimitives.WriteUInt64BigEndian(output.GetSpan(8), value);
        output.Advance(8);
    }

    public void Int64(long value) => UInt64(unchecked((ulong)value));

    public void Bytes32(Bytes32 value)
    {
        value.CopyTo(output.GetSpan(Primitives.Bytes32.Size));
        output.Advance(Primitives.Bytes32.Size);
    }

    public void Digest(Digest value) => Bytes32(value.Value);

    public void Key(PublicKey value) => Bytes32(value.Value);

    public void Signature(Signature value)
    {
        Bytes32(value.R);
        Bytes32(value.S);
    }

    public void Index(ValidatorIndex value) => UInt16(value.Value);

    public void Height(Height value) => UInt64(value.Value);

    public void View(View value)
    {
        UInt64(value.Term);
        UInt32(value.Attempt);
    }

    public void Time(Timestamp value) => Int64(value.Milliseconds);

    /// <summary>Bytes whose length the reader knows.</summary>
    public void Raw(ReadOnlySpan<byte> value) => output.Write(value);

    /// <summary>A 32-bit length, then the bytes.</summary>
    public void Bytes(ReadOnlySpan<byte> value)
    {
        UInt32((uint)value.Length);
        Raw(value);
    }

    /// <summary>As <see cref="Bytes"/>, in UTF-8.</summary>
    public void Text(string value)
    {
        var length = System.Text.Encoding.UTF8.GetByteCount(value);
        UInt32((uint)length);
        System.Text.Encoding.UTF8.GetBytes(value, output.GetSpan(length));
        output.Advance(length);
    }

    /// <summary>The number of items that follow.</summary>
    public void Count(int value) => UInt32((uint)value);
}
