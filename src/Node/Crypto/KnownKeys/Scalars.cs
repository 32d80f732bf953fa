using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>Numbers modulo L, the order of the base point. 32 or 64 bytes, the lowest first.</summary>
internal static class Scalars
{
    public const int Windows = 32;

    /// <summary>The lower half of L; the upper one is 2^252.</summary>
    private const ulong C0 = 0x5812631a5cf5d3ed;
    private const ulong C1 = 0x14def9dea2f79cd6;

    private const ulong Eighties = 0x8080808080808080;

    private static ReadOnlySpan<ulong> L => [C0, C1, 0, 1UL << 60];

    /// <summary>Below L: a signature with a larger S could be had from one with a smaller one.</summary>
    public static bool IsCanonical(ReadOnlySpan<byte> s)
    {
        Span<ulong> words = stackalloc ulong[4];
        Read(s, words);
        return !IsAtLeastL(words);
    }

    /// <summary>
    /// 512 bits modulo L = 2^252 + c. What stands above bit 252 counts -c each: x = low - c high, and again for c high, until nothing is above.
    /// </summary>
    public static void Reduce(ReadOnlySpan<byte> wide, Span<byte> scalar)
    {
        Span<ulong> x = stackalloc ulong[8];
        Span<ulong> low = stackalloc ulong[4];
        Span<ulong> high = stackalloc ulong[5];
        Span<ulong> product = stackalloc ulong[7];
        Span<ulong> sum = [2 * C0, (2 * C1) + (C0 >> 63), 0, 1UL << 61]; // 2 L, which keeps it positive
        Read(wide, x);

        Split(x, low, high); // 260 bits above
        Add(sum, low);
        TimesC(high, product);
        Split(product, low, high); // 133 bits above
        Subtract(sum, low);
        TimesC(high[..3], product);
        Split(product[..5], low, high); // 6 bits above
        Add(sum, low);
        TimesC(high[..1], product);
        Subtract(sum, product[..4]);

        while (IsAtLeastL(sum)) Subtract(sum, L);
        for (var i = 0; i < 4; i++) BinaryPrimitives.WriteUInt64LittleEndian(scalar[(8 * i)..], sum[i]);
    }

    /// <summary>
    /// Signed digits of radix 256: the sum of digit i times 256^i, each in -128 to 127. They are the digits of the scalar with 128 added in every place, less
    /// these 128; below 2^253 nothing is carried out of the last one.
    /// </summary>
    public static void Digits(ReadOnlySpan<byte> scalar, Span<sbyte> digits)
    {
        Span<ulong> words = stackalloc ulong[4];
        Read(scalar, words);
        Add(words, [Eighties, Eighties, Eighties, Eighties]);
        for (var i = 0; i < 4; i++) BinaryPrimitives.WriteUInt64LittleEndian(MemoryMarshal.AsBytes(digits)[(8 * i)..], words[i] ^ Eighties);
    }

    private static void Read(ReadOnlySpan<byte> bytes, Span<ulong> words)
    {
        for (var i = 0; i < words.Length; i++) words[i] = BinaryPrimitives.ReadUInt64LittleEndian(bytes[(8 * i)..]);
    }

    private static bool IsAtLeastL(ReadOnlySpan<ulong> words)
    {
        for (var i = 3; i >= 0; i--)
            if (words[i] != L[i])
                return words[i] > L[i];
        return true;
    }

    private static void Split(ReadOnlySpan<ulong> x, Span<ulong> low, Span<ulong> high)
    {
        x[..4].CopyTo(low);
        low[3] &= (1UL << 60) - 1;
        high.Clear();
        for (var i = 3; i < x.Length; i++) high[i - 3] = (x[i] >> 60) | (i + 1 < x.Length ? x[i + 1] << 4 : 0);
    }

    // Words wrap on purpose; the project's arithmetic is checked otherwise.

    private static void TimesC(ReadOnlySpan<ulong> x, Span<ulong> product)
    {
        product.Clear();
        for (var i = 0; i < x.Length; i++)
        {
            var first = ((UInt128)x[i] * C0) + product[i];
            product[i] = unchecked((ulong)first);
            var second = ((UInt128)x[i] * C1) + product[i + 1] + (first >> 64);
            product[i + 1] = unchecked((ulong)second);
            product[i + 2] = (ulong)(second >> 64);
        }
    }

    private static void Add(Span<ulong> sum, ReadOnlySpan<ulong> x)
    {
        var carry = UInt128.Zero;
        for (var i = 0; i < 4; i++)
        {
            carry += (UInt128)sum[i] + x[i];
            sum[i] = unchecked((ulong)carry);
            carry >>= 64;
        }
    }

    private static void Subtract(Span<ulong> sum, ReadOnlySpan<ulong> x)
    {
        var borrow = 0UL;
        for (var i = 0; i < 4; i++)
        {
            var difference = unchecked((UInt128)sum[i] - x[i] - borrow);
            sum[i] = unchecked((ulong)difference);
            borrow = unchecked((ulong)(difference >> 64)) & 1;
        }
    }
}
