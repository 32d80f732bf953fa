using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// One number modulo p = 2^255 - 19 in five limbs of 51 bits and a little (radix 2^51, as in Bernstein, Duif, Lange, Schwabe, Yang: High-speed
/// high-security signatures, section 3): a processor multiplies 64 by 64 bits as quickly as 32 by 32, so one computation alone is quicker this way
/// than in ten limbs. What operations take and return has limbs below 2^52.
/// </summary>
[SkipLocalsInit]
internal readonly struct Field51(ulong l0, ulong l1, ulong l2, ulong l3, ulong l4)
{
    private const ulong Low = (1UL << 51) - 1;

    private readonly ulong _0 = l0, _1 = l1, _2 = l2, _3 = l3, _4 = l4;

    /// <summary>Of ten limbs of 26 and 25 bits by turns, each a little above at most.</summary>
    /// <param name="stride">From one limb to the next.</param>
    public static Field51 FromTen(ReadOnlySpan<ulong> limbs, int stride) => Reduce(
        limbs[0] + (limbs[stride] << 26), limbs[2 * stride] + (limbs[3 * stride] << 26), limbs[4 * stride] + (limbs[5 * stride] << 26),
        limbs[6 * stride] + (limbs[7 * stride] << 26), limbs[8 * stride] + (limbs[9 * stride] << 26));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Field51 Reduce(ulong h0, ulong h1, ulong h2, ulong h3, ulong h4) => unchecked(new(
        (h0 & Low) + (19 * (h4 >> 51)), (h1 & Low) + (h0 >> 51), (h2 & Low) + (h1 >> 51), (h3 & Low) + (h2 >> 51), (h4 & Low) + (h3 >> 51)));

    // Written out, because the JIT does not inline as many small methods into one. The sums are below 2^111: five products of 2^52 and 19 times 2^52.

    public static Field51 operator *(in Field51 f, in Field51 g)
    {
        ulong f0 = f._0, f1 = f._1, f2 = f._2, f3 = f._3, f4 = f._4;
        ulong g0 = g._0, g1 = g._1, g2 = g._2, g3 = g._3, g4 = g._4;
        unchecked
        {
            ulong g1x = 19 * g1, g2x = 19 * g2, g3x = 19 * g3, g4x = 19 * g4;
            ulong high, low, carry;
            var high0 = Math.BigMul(f0, g0, out var low0);
            high = Math.BigMul(f1, g4x, out low);
            low0 += low;
            high0 += high + (low0 < low ? 1UL : 0UL);
            high = Math.BigMul(f2, g3x, out low);
            low0 += low;
            high0 += high + (low0 < low ? 1UL : 0UL);
            high = Math.BigMul(f3, g2x, out low);
            low0 += low;
            high0 += high + (low0 < low ? 1UL : 0UL);
            high = Math.BigMul(f4, g1x, out low);
            low0 += low;
            high0 += high + (low0 < low ? 1UL : 0UL);
            var high1 = Math.BigMul(f0, g1, out var low1);
            high = Math.BigMul(f1, g0, out low);
            low1 += low;
            high1 += high + (low1 < low ? 1UL : 0UL);
            high = Math.BigMul(f2, g4x, out low);
            low1 += low;
            high1 += high + (low1 < low ? 1UL : 0UL);
            high = Math.BigMul(f3, g3x, out low);
            low1 += low;
            high1 += high + (low1 < low ? 1UL : 0UL);
            high = Math.BigMul(f4, g2x, out low);
            low1 += low;
            high1 += high + (low1 < low ? 1UL : 0UL);
            carry = (high0 << 13) | (low0 >> 51);
            low1 += carry;
            high1 += low1 < carry ? 1UL : 0UL;
            var high2 = Math.BigMul(f0, g2, out var low2);
            high = Math.BigMul(f1, g1, out low);
            low2 += low;
            high2 += high + (low2 < low ? 1UL : 0UL);
            high = Math.BigMul(f2, g0, out low);
            low2 += low;
            high2 += high + (low2 < low ? 1UL : 0UL);
            high = Math.BigMul(f3, g4x, out low);
            low2 += low;
            high2 += high + (low2 < low ? 1UL : 0UL);
            high = Math.BigMul(f4, g3x, out low);
            low2 += low;
            high2 += high + (low2 < low ? 1UL : 0UL);
            carry = (high1 << 13) | (low1 >> 51);
            low2 += carry;
            high2 += low2 < carry ? 1UL : 0UL;
            var high3 = Math.BigMul(f0, g3, out var low3);
            high = Math.BigMul(f1, g2, out low);
            low3 += low;
            high3 += high + (low3 < low ? 1UL : 0UL);
            high = Math.BigMul(f2, g1, out low);
            low3 += low;
            high3 += high + (low3 < low ? 1UL : 0UL);
            high = Math.BigMul(f3, g0, out low);
            low3 += low;
            high3 += high + (low3 < low ? 1UL : 0UL);
            high = Math.BigMul(f4, g4x, out low);
            low3 += low;
            high3 += high + (low3 < low ? 1UL : 0UL);
            carry = (high2 << 13) | (low2 >> 51);
            low3 += carry;
            high3 += low3 < carry ? 1UL : 0UL;
            var high4 = Math.BigMul(f0, g4, out var low4);
            high = Math.BigMul(f1, g3, out low);
            low4 += low;
            high4 += high + (low4 < low ? 1UL : 0UL);
            high = Math.BigMul(f2, g2, out low);
            low4 += low;
            high4 += high + (low4 < low ? 1UL : 0UL);
            high = Math.BigMul(f3, g1, out low);
            low4 += low;
            high4 += high + (low4 < low ? 1UL : 0UL);
            high = Math.BigMul(f4, g0, out low);
            low4 += low;
            high4 += high + (low4 < low ? 1UL : 0UL);
            carry = (high3 << 13) | (low3 >> 51);
            low4 += carry;
            high4 += low4 < carry ? 1UL : 0UL;
            // 2^255 is 19 modulo the prime. No product of the last limb has that factor, so its carry is below 2^60 and this fits.
            var first = (low0 & Low) + (19 * ((high4 << 13) | (low4 >> 51)));
            return new Field51(first & Low, (low1 & Low) + (first >> 51), low2 & Low, low3 & Low, low4 & Low);
        }
    }

    public Field51 Squared(int times = 1)
    {
        var value = this;
        for (; times > 0; times--) value = value.Square();
        return value;
    }

    private Field51 Square()
    {
        ulong f0 = _0, f1 = _1, f2 = _2, f3 = _3, f4 = _4;
        unchecked
        {
            ulong f0d = 2 * f0, f1d = 2 * f1, f2x = 38 * f2, f3y = 19 * f3, f3x = 38 * f3, f4x = 19 * f4;
            ulong high, low, carry;
            var high0 = Math.BigMul(f0, f0, out var low0);
            high = Math.BigMul(f1d, f4x, out low);
            low0 += low;
            high0 += high + (low0 < low ? 1UL : 0UL);
            high = Math.BigMul(f2x, f3, out low);
            low0 += low;
            high0 += high + (low0 < low ? 1UL : 0UL);
            var high1 = Math.BigMul(f0d, f1, out var low1);
            high = Math.BigMul(f2x, f4, out low);
            low1 += low;
            high1 += high + (low1 < low ? 1UL : 0UL);
            high = Math.BigMul(f3y, f3, out low);
            low1 += low;
            high1 += high + (low1 < low ? 1UL : 0UL);
            carry = (high0 << 13) | (low0 >> 51);
            low1 += carry;
            high1 += low1 < carry ? 1UL : 0UL;
            var high2 = Math.BigMul(f0d, f2, out var low2);
            high = Math.BigMul(f1, f1, out low);
            low2 += low;
            high2 += high + (low2 < low ? 1UL : 0UL);
            high = Math.BigMul(f3x, f4, out low);
            low2 += low;
            high2 += high + (low2 < low ? 1UL : 0UL);
            carry = (high1 << 13) | (low1 >> 51);
            low2 += carry;
            high2 += low2 < carry ? 1UL : 0UL;
            var high3 = Math.BigMul(f0d, f3, out var low3);
            high = Math.BigMul(f1d, f2, out low);
            low3 += low;
            high3 += high + (low3 < low ? 1UL : 0UL);
            high = Math.BigMul(f4x, f4, out low);
            low3 += low;
            high3 += high + (low3 < low ? 1UL : 0UL);
            carry = (high2 << 13) | (low2 >> 51);
            low3 += carry;
            high3 += low3 < carry ? 1UL : 0UL;
            var high4 = Math.BigMul(f0d, f4, out var low4);
            high = Math.BigMul(f1d, f3, out low);
            low4 += low;
            high4 += high + (low4 < low ? 1UL : 0UL);
            high = Math.BigMul(f2, f2, out low);
            low4 += low;
            high4 += high + (low4 < low ? 1UL : 0UL);
            carry = (high3 << 13) | (low3 >> 51);
            low4 += carry;
            high4 += low4 < carry ? 1UL : 0UL;
            // 2^255 is 19 modulo the prime. No product of the last limb has that factor, so its carry is below 2^60 and this fits.
            var first = (low0 & Low) + (19 * ((high4 << 13) | (low4 >> 51)));
            return new Field51(first & Low, (low1 & Low) + (first >> 51), low2 & Low, low3 & Low, low4 & Low);
        }
    }

    /// <summary>To the power of p - 2: the inverse, by Fermat; zero of zero. The chain of <see cref="Field{T}.Invert"/>.</summary>
    public Field51 Inverted()
    {
        var second = Squared();
        var ninth = second.Squared(2) * this;
        var eleventh = ninth * second;
        var to5 = eleventh.Squared() * ninth; // 2^5 - 1
        var to10 = to5.Squared(5) * to5;
        var to20 = to10.Squared(10) * to10;
        var to40 = to20.Squared(20) * to20;
        var to50 = to40.Squared(10) * to10;
        var to100 = to50.Squared(50) * to50;
        var to200 = to100.Squared(100) * to100;
        return (to200.Squared(50) * to50).Squared(5) * eleventh;
    }

    /// <summary>All of them for the price of one and three multiplications each (Montgomery's trick); none may be zero.</summary>
    public static void InvertAll(Span<Field51> values)
    {
        // Prefix i is the product of the first i + 1.
        Span<Field51> prefixes = stackalloc Field51[values.Length];
        prefixes[0] = values[0];
        for (var i = 1; i < values.Length; i++) prefixes[i] = prefixes[i - 1] * values[i];
        var rest = prefixes[^1].Inverted();
        for (var i = values.Length - 1; i > 0; i--)
        {
            var inverse = rest * prefixes[i - 1];
            rest *= values[i];
            values[i] = inverse;
        }

        values[0] = rest;
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
                h0 &= Low;
                h2 += h1 >> 51;
                h1 &= Low;
                h3 += h2 >> 51;
                h2 &= Low;
                h4 += h3 >> 51;
                h3 &= Low;
                h0 += 19 * (h4 >> 51);
                h4 &= Low;
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
            (h0, h1, h2, h3, h4) = (h0 & Low, h1 & Low, h2 & Low, h3 & Low, h4 & Low);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, h0 | (h1 << 51));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], (h1 >> 13) | (h2 << 38));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], (h2 >> 26) | (h3 << 25));
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[24..], (h3 >> 39) | (h4 << 12));
        }
    }
}
