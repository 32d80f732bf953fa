using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// One number modulo p = 2^255 - 19 in five unsigned limbs of radix 2^51 (Bernstein, Duif, Lange, Schwabe, Yang: High-speed high-security signatures,
/// section 3). A unit is 2^51 + 2^16; limbs stay below 2^53.
/// </summary>
[SkipLocalsInit]
internal readonly struct Field51(ulong l0, ulong l1, ulong l2, ulong l3, ulong l4) : IField<Field51>
{
    private const ulong Low51 = (1UL << 51) - 1;
    private const ulong Low53 = (1UL << 53) - 1;

    private readonly ulong _0 = l0, _1 = l1, _2 = l2, _3 = l3, _4 = l4;

    public static int Lanes => 1;

    public static Field51 Zero => default;

    public static Field51 One => new(1, 0, 0, 0, 0);

    public ulong this[int limb] => limb switch { 0 => _0, 1 => _1, 2 => _2, 3 => _3, _ => _4 };

    public static Field51 Load(ReadOnlySpan<Field51> lanes) => lanes[0];

    public static void Store(in Field51 value, Span<Field51> lanes) => lanes[0] = value;

    // Products of limbs wrap on purpose, of their lower words only the lower bits are used; everything else fits by the bounds. Unchecked, because the project's arithmetic is checked otherwise.

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Add(out Field51 sum, in Field51 f, in Field51 g) => sum = unchecked(new(f._0 + g._0, f._1 + g._1, f._2 + g._2, f._3 + g._3, f._4 + g._4));

    /// <summary>f + 2p - g.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Subtract(out Field51 difference, in Field51 f, in Field51 g)
    {
        const ulong twice = (1UL << 52) - 2;
        difference = unchecked(new(f._0 + (twice - 36) - g._0, f._1 + twice - g._1, f._2 + twice - g._2, f._3 + twice - g._3, f._4 + twice - g._4));
    }

    public static void Reduce(out Field51 result, in Field51 f) => result = Carry(f._0, f._1, f._2, f._3, f._4);

    /// <summary>Of each limb what is above its 51 bits goes to the next one, from the last one to the first: 2^255 is 19 modulo the prime.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Field51 Carry(ulong h0, ulong h1, ulong h2, ulong h3, ulong h4) => unchecked(new(
        (h0 & Low51) + (19 * (h4 >> 51)), (h1 & Low51) + (h0 >> 51), (h2 & Low51) + (h1 >> 51), (h3 & Low51) + (h2 >> 51), (h4 & Low51) + (h3 >> 51)));

    /// <summary>The upper half of a product. Not the pair: the JIT keeps its lower half in memory, and a second product is quicker than that.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong High(ulong a, ulong b) => Bmi2.X64.IsSupported ? Bmi2.X64.MultiplyNoFlags(a, b) : Math.BigMul(a, b, out _);

    // A product of two limbs is split at bit 53: low + 2^53 high, where high is the upper half with one factor shifted by 11 bits. So columns are sums of
    // words and nothing carries: at most five of each, below 5 * 2^53 + 4 * 5 * 2^53 < 2^58, and 20 times as much after the upper columns have been folded
    // in (2^255 is 19), below 2^63. Written out, because the JIT does not inline as many small methods into one.

    public static void Multiply(out Field51 product, in Field51 f, in Field51 g)
    {
        ulong f0 = f._0, f1 = f._1, f2 = f._2, f3 = f._3, f4 = f._4;
        ulong g0 = g._0, g1 = g._1, g2 = g._2, g3 = g._3, g4 = g._4;
        unchecked
        {
            ulong e0 = f0 << 11, e1 = f1 << 11, e2 = f2 << 11, e3 = f3 << 11, e4 = f4 << 11;
            var low8 = (f4 * g4) & Low53;
            var high9 = High(e4, g4);
            var h4 = 19 * (high9 << 2);
            var low7 = ((f3 * g4) & Low53) + ((f4 * g3) & Low53);
            var high8 = High(e3, g4) + High(e4, g3);
            var h3 = 19 * (low8 + (high8 << 2));
            var low6 = ((f2 * g4) & Low53) + ((f3 * g3) & Low53) + ((f4 * g2) & Low53);
            var high7 = High(e2, g4) + High(e3, g3) + High(e4, g2);
            var h2 = 19 * (low7 + (high7 << 2));
            var low5 = ((f1 * g4) & Low53) + ((f2 * g3) & Low53) + ((f3 * g2) & Low53) + ((f4 * g1) & Low53);
            var high6 = High(e1, g4) + High(e2, g3) + High(e3, g2) + High(e4, g1);
            var h1 = 19 * (low6 + (high6 << 2));
            var low4 = ((f0 * g4) & Low53) + ((f1 * g3) & Low53) + ((f2 * g2) & Low53) + ((f3 * g1) & Low53) + ((f4 * g0) & Low53);
            var high5 = High(e0, g4) + High(e1, g3) + High(e2, g2) + High(e3, g1) + High(e4, g0);
            var h0 = 19 * (low5 + (high5 << 2));
            var low3 = ((f0 * g3) & Low53) + ((f1 * g2) & Low53) + ((f2 * g1) & Low53) + ((f3 * g0) & Low53);
            var high4 = High(e0, g3) + High(e1, g2) + High(e2, g1) + High(e3, g0);
            h4 += low4 + (high4 << 2);
            var low2 = ((f0 * g2) & Low53) + ((f1 * g1) & Low53) + ((f2 * g0) & Low53);
            var high3 = High(e0, g2) + High(e1, g1) + High(e2, g0);
            h3 += low3 + (high3 << 2);
            var low1 = ((f0 * g1) & Low53) + ((f1 * g0) & Low53);
            var high2 = High(e0, g1) + High(e1, g0);
            h2 += low2 + (high2 << 2);
            var low0 = (f0 * g0) & Low53;
            var high1 = High(e0, g0);
            h1 += low1 + (high1 << 2);
            h0 += low0;
            product = Carry(h0, h1, h2, h3, h4);
        }
    }

    public static void Square(out Field51 square, in Field51 f)
    {
        ulong f0 = f._0, f1 = f._1, f2 = f._2, f3 = f._3, f4 = f._4;
        unchecked
        {
            ulong e0 = f0 << 11, e1 = f1 << 11, e2 = f2 << 11, e3 = f3 << 11, e4 = f4 << 11;
            var low8 = (f4 * f4) & Low53;
            var high9 = High(e4, f4);
            var h4 = 19 * (high9 << 2);
            var low7 = 2 * ((f3 * f4) & Low53);
            var high8 = 2 * High(e3, f4);
            var h3 = 19 * (low8 + (high8 << 2));
            var low6 = (2 * ((f2 * f4) & Low53)) + ((f3 * f3) & Low53);
            var high7 = (2 * High(e2, f4)) + High(e3, f3);
            var h2 = 19 * (low7 + (high7 << 2));
            var low5 = 2 * (((f1 * f4) & Low53) + ((f2 * f3) & Low53));
            var high6 = 2 * (High(e1, f4) + High(e2, f3));
            var h1 = 19 * (low6 + (high6 << 2));
            var low4 = (2 * (((f0 * f4) & Low53) + ((f1 * f3) & Low53))) + ((f2 * f2) & Low53);
            var high5 = (2 * (High(e0, f4) + High(e1, f3))) + High(e2, f2);
            var h0 = 19 * (low5 + (high5 << 2));
            var low3 = 2 * (((f0 * f3) & Low53) + ((f1 * f2) & Low53));
            var high4 = 2 * (High(e0, f3) + High(e1, f2));
            h4 += low4 + (high4 << 2);
            var low2 = (2 * ((f0 * f2) & Low53)) + ((f1 * f1) & Low53);
            var high3 = (2 * High(e0, f2)) + High(e1, f1);
            h3 += low3 + (high3 << 2);
            var low1 = 2 * ((f0 * f1) & Low53);
            var high2 = 2 * High(e0, f1);
            h2 += low2 + (high2 << 2);
            var low0 = (f0 * f0) & Low53;
            var high1 = High(e0, f0);
            h1 += low1 + (high1 << 2);
            h0 += low0;
            square = Carry(h0, h1, h2, h3, h4);
        }
    }

    public static void Take(ReadOnlySpan<KeyTable> tables, ReadOnlySpan<int> entries, out Niels<Field51> points)
    {
        var negative = entries[0] < 0;
        ref var entry = ref tables[0].Entry(entries[0]);
        points.Sum = Coordinate(ref entry, negative ? 1 : 0, 1);
        points.Difference = Coordinate(ref entry, negative ? 0 : 1, 1);
        points.Product = Coordinate(ref entry, 2, negative ? -1 : 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Field51 Coordinate(ref double entry, int coordinate, double sign)
    {
        ref var limbs = ref Unsafe.Add(ref entry, coordinate * KeyTable.Limbs);
        return FromSigned(sign * limbs, sign * Unsafe.Add(ref limbs, 1), sign * Unsafe.Add(ref limbs, 2), sign * Unsafe.Add(ref limbs, 3), sign * Unsafe.Add(ref limbs, 4));
    }

    /// <summary>Of whole numbers of at most 2^51 up and down; p is added, which makes them positive.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Field51 FromSigned(double l0, double l1, double l2, double l3, double l4) => unchecked(new(
        (ulong)((long)Low51 - 18 + (long)l0), (ulong)((long)Low51 + (long)l1), (ulong)((long)Low51 + (long)l2), (ulong)((long)Low51 + (long)l3), (ulong)((long)Low51 + (long)l4)));

    /// <summary>Limbs between -2^50 and 2^50.</summary>
    public void ToSigned(Span<double> limbs)
    {
        Span<byte> bytes = stackalloc byte[32];
        ToBytes(bytes);
        var value = FromBytes(bytes);
        var carry = 0L;
        for (var i = 0; i < limbs.Length; i++)
        {
            var limb = (long)value[i] + carry;
            carry = (limb + (1L << 50)) >> 51;
            limbs[i] = limb - (carry << 51);
        }

        limbs[0] += 19 * carry;
    }

    /// <summary>The lower 255 bits; the highest is somebody else's.</summary>
    public static Field51 FromBytes(ReadOnlySpan<byte> bytes)
    {
        var (w0, w1) = (BinaryPrimitives.ReadUInt64LittleEndian(bytes), BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]));
        var (w2, w3) = (BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]));
        return new(w0 & Low51, ((w0 >> 51) | (w1 << 13)) & Low51, ((w1 >> 38) | (w2 << 26)) & Low51, ((w2 >> 25) | (w3 << 39)) & Low51, (w3 >> 12) & Low51);
    }

    /// <summary>The one encoding: 32 bytes, the lowest first, below p.</summary>
    public void ToBytes(Span<byte> bytes)
    {
        unchecked
        {
            var (h0, h1, h2, h3, h4) = (_0, _1, _2, _3, _4);
            for (var round = 0; round < 2; round++)
            {
                h1 += h0 >> 51;
                h0 &= Low51;
                h2 += h1 >> 51;
                h1 &= Low51;
                h3 += h2 >> 51;
                h2 &= Low51;
                h4 += h3 >> 51;
                h3 &= Low51;
                h0 += 19 * (h4 >> 51);
                h4 &= Low51;
            }

            // Is it p or more? Then adding 19 carries out of the last limb.
            var carry = (h0 + 19) >> 51;
            carry = (h1 + carry) >> 51;
            carry = (h2 + carry) >> 51;
            carry = (h3 + carry) >> 51;
            carry = (h4 + carry) >> 51;
            h0 += 19 * carry;
            h1 += h0 >> 51;
            h2 += h1 >> 51;
            h3 += h2 >> 51;
            h4 += h3 >> 51;
            (h0, h1, h2, h3, h4) = (h0 & Low51, h1 & Low51, h2 & Low51, h3 & Low51, h4 & Low51);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, h0 | (h1 << 51));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], (h1 >> 13) | (h2 << 38));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], (h2 >> 26) | (h3 << 25));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[24..], (h3 >> 39) | (h4 << 12));
        }
    }
}
