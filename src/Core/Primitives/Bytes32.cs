using System;
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;

namespace CyberMesh.Core.Primitives;

/// <summary>Thirty-two bytes by value: compares by content, lives without a heap object, orders as the bytes do.</summary>
public readonly record struct Bytes32(ulong A, ulong B, ulong C, ulong D) : IComparable<Bytes32>
{
    public const int Size = 32;

    /// <exception cref="InvariantViolation">The span is not exactly 32 bytes: callers check lengths at the border.</exception>
    public static Bytes32 From(ReadOnlySpan<byte> bytes)
    {
        Invariant.Holds(bytes.Length == Size, "32 bytes expected");
        return new Bytes32(
            BinaryPrimitives.ReadUInt64BigEndian(bytes),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[16..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[24..]));
    }

    /// <summary>Reads 64 lower- or upper-case hex digits.</summary>
    public static bool TryParse([NotNullWhen(true)] string? hex, out Bytes32 value)
    {
        Span<byte> bytes = stackalloc byte[Size];
        value = default;
        if (hex is null || hex.Length != 2 * Size) return false;
        if (Convert.FromHexString(hex, bytes, out _, out _) != System.Buffers.OperationStatus.Done) return false;
        value = From(bytes);
        return true;
    }

    public void CopyTo(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, A);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], B);
        BinaryPrimitives.WriteUInt64BigEndian(destination[16..], C);
        BinaryPrimitives.WriteUInt64BigEndian(destination[24..], D);
    }

    public byte[] ToArray()
    {
        var bytes = new byte[Size];
        CopyTo(bytes);
        return bytes;
    }

    public int CompareTo(Bytes32 other)
    {
        if (A != other.A) return A.CompareTo(other.A);
        if (B != other.B) return B.CompareTo(other.B);
        if (C != other.C) return C.CompareTo(other.C);
        return D.CompareTo(other.D);
    }

    /// <summary>Bit <paramref name="index"/>, 0 being the most significant bit of the first byte.</summary>
    public bool Bit(int index)
    {
        var word = (index >> 6) switch { 0 => A, 1 => B, 2 => C, _ => D };
        return (word >> (63 - (index & 63)) & 1) == 1;
    }

    public override int GetHashCode() => unchecked((int)(A ^ A >> 32 ^ D));

    public override string ToString()
    {
        Span<byte> bytes = stackalloc byte[Size];
        CopyTo(bytes);
        return Convert.ToHexStringLower(bytes);
    }
}
