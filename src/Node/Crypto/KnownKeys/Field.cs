using System.Runtime.CompilerServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Numbers modulo p = 2^255 - 19, one per lane, in ten limbs of 26 and 25 bits by turns (radix 2^25.5, as in Bernstein, Duif, Lange, Schwabe, Yang:
/// High-speed high-security signatures, section 4), unsigned. One unit is 2^26 in an even and 2^25 in an odd limb: what a multiplication returns is
/// below one unit and a little; sums and differences add up and may be multiplied as long as the left factor is below six and the right one below
/// 3.3 units and their product below 30: no product, sum of products or 19-fold limb then overflows.
/// </summary>
[SkipLocalsInit]
internal struct Field<T>
    where T : unmanaged, ILanes<T>
{
    private T _0, _1, _2, _3, _4, _5, _6, _7, _8, _9;

    public const int Limbs = 10;

    public static Field<T> Zero => Small(0);

    public static Field<T> One => Small(1);

    private static Field<T> Small(ulong value)
    {
        Field<T> result = default;
        result._0 = T.All(value);
        return result;
    }

    /// <param name="limbs">Limb by limb, for each the lanes one after the other.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Field<T> Load(ref ulong limbs)
    {
        Field<T> result;
        result._0 = T.Load(ref Unsafe.Add(ref limbs, 0 * T.Count));
        result._1 = T.Load(ref Unsafe.Add(ref limbs, 1 * T.Count));
        result._2 = T.Load(ref Unsafe.Add(ref limbs, 2 * T.Count));
        result._3 = T.Load(ref Unsafe.Add(ref limbs, 3 * T.Count));
        result._4 = T.Load(ref Unsafe.Add(ref limbs, 4 * T.Count));
        result._5 = T.Load(ref Unsafe.Add(ref limbs, 5 * T.Count));
        result._6 = T.Load(ref Unsafe.Add(ref limbs, 6 * T.Count));
        result._7 = T.Load(ref Unsafe.Add(ref limbs, 7 * T.Count));
        result._8 = T.Load(ref Unsafe.Add(ref limbs, 8 * T.Count));
        result._9 = T.Load(ref Unsafe.Add(ref limbs, 9 * T.Count));
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly void Store(ref ulong limbs)
    {
        T.Store(_0, ref Unsafe.Add(ref limbs, 0 * T.Count));
        T.Store(_1, ref Unsafe.Add(ref limbs, 1 * T.Count));
        T.Store(_2, ref Unsafe.Add(ref limbs, 2 * T.Count));
        T.Store(_3, ref Unsafe.Add(ref limbs, 3 * T.Count));
        T.Store(_4, ref Unsafe.Add(ref limbs, 4 * T.Count));
        T.Store(_5, ref Unsafe.Add(ref limbs, 5 * T.Count));
        T.Store(_6, ref Unsafe.Add(ref limbs, 6 * T.Count));
        T.Store(_7, ref Unsafe.Add(ref limbs, 7 * T.Count));
        T.Store(_8, ref Unsafe.Add(ref limbs, 8 * T.Count));
        T.Store(_9, ref Unsafe.Add(ref limbs, 9 * T.Count));
    }

    /// <summary>From five numbers of two limbs each, the first in the lower half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Field<T> Unpack(T first, T second, T third, T fourth, T fifth)
    {
        var low = T.All(uint.MaxValue);
        Field<T> result;
        result._0 = T.And(first, low);
        result._1 = T.ShiftRight(first, 32);
        result._2 = T.And(second, low);
        result._3 = T.ShiftRight(second, 32);
        result._4 = T.And(third, low);
        result._5 = T.ShiftRight(third, 32);
        result._6 = T.And(fourth, low);
        result._7 = T.ShiftRight(fourth, 32);
        result._8 = T.And(fifth, low);
        result._9 = T.ShiftRight(fifth, 32);
        return result;
    }

    /// <summary>The same number in every lane.</summary>
    public static Field<T> All(System.ReadOnlySpan<ulong> limbs)
    {
        Field<T> result;
        result._0 = T.All(limbs[0]);
        result._1 = T.All(limbs[1]);
        result._2 = T.All(limbs[2]);
        result._3 = T.All(limbs[3]);
        result._4 = T.All(limbs[4]);
        result._5 = T.All(limbs[5]);
        result._6 = T.All(limbs[6]);
        result._7 = T.All(limbs[7]);
        result._8 = T.All(limbs[8]);
        result._9 = T.All(limbs[9]);
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Add(out Field<T> result, in Field<T> f, in Field<T> g)
    {
        result._0 = T.Add(f._0, g._0);
        result._1 = T.Add(f._1, g._1);
        result._2 = T.Add(f._2, g._2);
        result._3 = T.Add(f._3, g._3);
        result._4 = T.Add(f._4, g._4);
        result._5 = T.Add(f._5, g._5);
        result._6 = T.Add(f._6, g._6);
        result._7 = T.Add(f._7, g._7);
        result._8 = T.Add(f._8, g._8);
        result._9 = T.Add(f._9, g._9);
    }

    /// <summary>f + 2p - g; <paramref name="g"/> is a product (below 1.9 units), the result is two units above f.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Subtract(out Field<T> result, in Field<T> f, in Field<T> g)
    {
        var even = T.All((1UL << 27) - 2);
        var odd = T.All((1UL << 26) - 2);
        result._0 = T.Subtract(T.Add(f._0, T.All((1UL << 27) - 38)), g._0);
        result._1 = T.Subtract(T.Add(f._1, odd), g._1);
        result._2 = T.Subtract(T.Add(f._2, even), g._2);
        result._3 = T.Subtract(T.Add(f._3, odd), g._3);
        result._4 = T.Subtract(T.Add(f._4, even), g._4);
        result._5 = T.Subtract(T.Add(f._5, odd), g._5);
        result._6 = T.Subtract(T.Add(f._6, even), g._6);
        result._7 = T.Subtract(T.Add(f._7, odd), g._7);
        result._8 = T.Subtract(T.Add(f._8, even), g._8);
        result._9 = T.Subtract(T.Add(f._9, odd), g._9);
    }

    /// <summary>The same number with limbs as of a product.</summary>
    public static void Reduce(out Field<T> result, in Field<T> f)
    {
        Carry(out result, f._0, f._1, f._2, f._3, f._4, f._5, f._6, f._7, f._8, f._9);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(out Field<T> result, in Field<T> f, in Field<T> g)
    {
        var f0 = f._0;
        var f1 = f._1;
        var f2 = f._2;
        var f3 = f._3;
        var f4 = f._4;
        var f5 = f._5;
        var f6 = f._6;
        var f7 = f._7;
        var f8 = f._8;
        var f9 = f._9;
        var g0 = g._0;
        var g1 = g._1;
        var g2 = g._2;
        var g3 = g._3;
        var g4 = g._4;
        var g5 = g._5;
        var g6 = g._6;
        var g7 = g._7;
        var g8 = g._8;
        var g9 = g._9;
        var f1d = T.Add(f1, f1);
        var f3d = T.Add(f3, f3);
        var f5d = T.Add(f5, f5);
        var f7d = T.Add(f7, f7);
        var f9d = T.Add(f9, f9);
        var nineteen = T.All(19);
        var g1x = T.Multiply(g1, nineteen);
        var g2x = T.Multiply(g2, nineteen);
        var g3x = T.Multiply(g3, nineteen);
        var g4x = T.Multiply(g4, nineteen);
        var g5x = T.Multiply(g5, nineteen);
        var g6x = T.Multiply(g6, nineteen);
        var g7x = T.Multiply(g7, nineteen);
        var g8x = T.Multiply(g8, nineteen);
        var g9x = T.Multiply(g9, nineteen);
        var h0 = T.Dot(f0, g0, f1d, g9x, f2, g8x, f3d, g7x, f4, g6x, f5d, g5x, f6, g4x, f7d, g3x, f8, g2x, f9d, g1x);
        var h1 = T.Dot(f0, g1, f1, g0, f2, g9x, f3, g8x, f4, g7x, f5, g6x, f6, g5x, f7, g4x, f8, g3x, f9, g2x);
        var h2 = T.Dot(f0, g2, f1d, g1, f2, g0, f3d, g9x, f4, g8x, f5d, g7x, f6, g6x, f7d, g5x, f8, g4x, f9d, g3x);
        var h3 = T.Dot(f0, g3, f1, g2, f2, g1, f3, g0, f4, g9x, f5, g8x, f6, g7x, f7, g6x, f8, g5x, f9, g4x);
        var h4 = T.Dot(f0, g4, f1d, g3, f2, g2, f3d, g1, f4, g0, f5d, g9x, f6, g8x, f7d, g7x, f8, g6x, f9d, g5x);
        var h5 = T.Dot(f0, g5, f1, g4, f2, g3, f3, g2, f4, g1, f5, g0, f6, g9x, f7, g8x, f8, g7x, f9, g6x);
        var h6 = T.Dot(f0, g6, f1d, g5, f2, g4, f3d, g3, f4, g2, f5d, g1, f6, g0, f7d, g9x, f8, g8x, f9d, g7x);
        var h7 = T.Dot(f0, g7, f1, g6, f2, g5, f3, g4, f4, g3, f5, g2, f6, g1, f7, g0, f8, g9x, f9, g8x);
        var h8 = T.Dot(f0, g8, f1d, g7, f2, g6, f3d, g5, f4, g4, f5d, g3, f6, g2, f7d, g1, f8, g0, f9d, g9x);
        var h9 = T.Dot(f0, g9, f1, g8, f2, g7, f3, g6, f4, g5, f5, g4, f6, g3, f7, g2, f8, g1, f9, g0);
        Carry(out result, h0, h1, h2, h3, h4, h5, h6, h7, h8, h9);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Square(out Field<T> result, in Field<T> f)
    {
        var f0 = f._0;
        var f1 = f._1;
        var f2 = f._2;
        var f3 = f._3;
        var f4 = f._4;
        var f5 = f._5;
        var f6 = f._6;
        var f7 = f._7;
        var f8 = f._8;
        var f9 = f._9;
        var f0d = T.Add(f0, f0);
        var f1d = T.Add(f1, f1);
        var f1q = T.Add(f1d, f1d);
        var f2d = T.Add(f2, f2);
        var f3d = T.Add(f3, f3);
        var f3q = T.Add(f3d, f3d);
        var f4d = T.Add(f4, f4);
        var f5d = T.Add(f5, f5);
        var f5q = T.Add(f5d, f5d);
        var f6d = T.Add(f6, f6);
        var f7d = T.Add(f7, f7);
        var f7q = T.Add(f7d, f7d);
        var f8d = T.Add(f8, f8);
        var f9d = T.Add(f9, f9);
        var nineteen = T.All(19);
        var f5x = T.Multiply(f5, nineteen);
        var f6x = T.Multiply(f6, nineteen);
        var f7x = T.Multiply(f7, nineteen);
        var f8x = T.Multiply(f8, nineteen);
        var f9x = T.Multiply(f9, nineteen);
        var h0 = T.Multiply(f0, f0);
        h0 = T.MultiplyAdd(h0, f1q, f9x);
        h0 = T.MultiplyAdd(h0, f2d, f8x);
        h0 = T.MultiplyAdd(h0, f3q, f7x);
        h0 = T.MultiplyAdd(h0, f4d, f6x);
        h0 = T.MultiplyAdd(h0, f5d, f5x);
        var h1 = T.Multiply(f0d, f1);
        h1 = T.MultiplyAdd(h1, f2d, f9x);
        h1 = T.MultiplyAdd(h1, f3d, f8x);
        h1 = T.MultiplyAdd(h1, f4d, f7x);
        h1 = T.MultiplyAdd(h1, f5d, f6x);
        var h2 = T.Multiply(f0d, f2);
        h2 = T.MultiplyAdd(h2, f1d, f1);
        h2 = T.MultiplyAdd(h2, f3q, f9x);
        h2 = T.MultiplyAdd(h2, f4d, f8x);
        h2 = T.MultiplyAdd(h2, f5q, f7x);
        h2 = T.MultiplyAdd(h2, f6, f6x);
        var h3 = T.Multiply(f0d, f3);
        h3 = T.MultiplyAdd(h3, f1d, f2);
        h3 = T.MultiplyAdd(h3, f4d, f9x);
        h3 = T.MultiplyAdd(h3, f5d, f8x);
        h3 = T.MultiplyAdd(h3, f6d, f7x);
        var h4 = T.Multiply(f0d, f4);
        h4 = T.MultiplyAdd(h4, f1q, f3);
        h4 = T.MultiplyAdd(h4, f2, f2);
        h4 = T.MultiplyAdd(h4, f5q, f9x);
        h4 = T.MultiplyAdd(h4, f6d, f8x);
        h4 = T.MultiplyAdd(h4, f7d, f7x);
        var h5 = T.Multiply(f0d, f5);
        h5 = T.MultiplyAdd(h5, f1d, f4);
        h5 = T.MultiplyAdd(h5, f2d, f3);
        h5 = T.MultiplyAdd(h5, f6d, f9x);
        h5 = T.MultiplyAdd(h5, f7d, f8x);
        var h6 = T.Multiply(f0d, f6);
        h6 = T.MultiplyAdd(h6, f1q, f5);
        h6 = T.MultiplyAdd(h6, f2d, f4);
        h6 = T.MultiplyAdd(h6, f3d, f3);
        h6 = T.MultiplyAdd(h6, f7q, f9x);
        h6 = T.MultiplyAdd(h6, f8, f8x);
        var h7 = T.Multiply(f0d, f7);
        h7 = T.MultiplyAdd(h7, f1d, f6);
        h7 = T.MultiplyAdd(h7, f2d, f5);
        h7 = T.MultiplyAdd(h7, f3d, f4);
        h7 = T.MultiplyAdd(h7, f8d, f9x);
        var h8 = T.Multiply(f0d, f8);
        h8 = T.MultiplyAdd(h8, f1q, f7);
        h8 = T.MultiplyAdd(h8, f2d, f6);
        h8 = T.MultiplyAdd(h8, f3q, f5);
        h8 = T.MultiplyAdd(h8, f4, f4);
        h8 = T.MultiplyAdd(h8, f9d, f9x);
        var h9 = T.Multiply(f0d, f9);
        h9 = T.MultiplyAdd(h9, f1d, f8);
        h9 = T.MultiplyAdd(h9, f2d, f7);
        h9 = T.MultiplyAdd(h9, f3d, f6);
        h9 = T.MultiplyAdd(h9, f4d, f5);

        Carry(out result, h0, h1, h2, h3, h4, h5, h6, h7, h8, h9);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Carry(out Field<T> result, T h0, T h1, T h2, T h3, T h4, T h5, T h6, T h7, T h8, T h9)
    {
        T carry;
        var low26 = T.All((1UL << 26) - 1);
        var low25 = T.All((1UL << 25) - 1);
        carry = T.ShiftRight(h0, 26);
        h1 = T.Add(h1, carry);
        h0 = T.And(h0, low26);
        carry = T.ShiftRight(h4, 26);
        h5 = T.Add(h5, carry);
        h4 = T.And(h4, low26);
        carry = T.ShiftRight(h1, 25);
        h2 = T.Add(h2, carry);
        h1 = T.And(h1, low25);
        carry = T.ShiftRight(h5, 25);
        h6 = T.Add(h6, carry);
        h5 = T.And(h5, low25);
        carry = T.ShiftRight(h2, 26);
        h3 = T.Add(h3, carry);
        h2 = T.And(h2, low26);
        carry = T.ShiftRight(h6, 26);
        h7 = T.Add(h7, carry);
        h6 = T.And(h6, low26);
        carry = T.ShiftRight(h3, 25);
        h4 = T.Add(h4, carry);
        h3 = T.And(h3, low25);
        carry = T.ShiftRight(h7, 25);
        h8 = T.Add(h8, carry);
        h7 = T.And(h7, low25);
        carry = T.ShiftRight(h4, 26);
        h5 = T.Add(h5, carry);
        h4 = T.And(h4, low26);
        carry = T.ShiftRight(h8, 26);
        h9 = T.Add(h9, carry);
        h8 = T.And(h8, low26);
        carry = T.ShiftRight(h9, 25);
        // 2^255 is 19 modulo the prime; the carry may have more than 32 bits.
        h0 = T.Add(h0, T.Add(T.Add(T.ShiftLeft(carry, 4), T.ShiftLeft(carry, 1)), carry));
        h9 = T.And(h9, low25);
        carry = T.ShiftRight(h0, 26);
        h1 = T.Add(h1, carry);
        h0 = T.And(h0, low26);
        result._0 = h0;
        result._1 = h1;
        result._2 = h2;
        result._3 = h3;
        result._4 = h4;
        result._5 = h5;
        result._6 = h6;
        result._7 = h7;
        result._8 = h8;
        result._9 = h9;
    }

    private static void SquareTimes(out Field<T> result, in Field<T> f, int times)
    {
        Square(out result, f);
        for (var i = 1; i < times; i++) Square(out result, result);
    }

    /// <summary>f^(2^250 - 1), and f^11 on the way: the beginning of both powers below.</summary>
    private static void PowerOf250(out Field<T> result, out Field<T> eleventh, in Field<T> f)
    {
        Square(out var second, f);
        SquareTimes(out var t, second, 2);
        Multiply(out var ninth, t, f);
        Multiply(out eleventh, ninth, second);
        Square(out t, eleventh);
        Multiply(out var to5, t, ninth); // 2^5 - 1
        SquareTimes(out t, to5, 5);
        Multiply(out var to10, t, to5);
        SquareTimes(out t, to10, 10);
        Multiply(out var to20, t, to10);
        SquareTimes(out t, to20, 20);
        Multiply(out var to40, t, to20);
        SquareTimes(out t, to40, 10);
        Multiply(out var to50, t, to10);
        SquareTimes(out t, to50, 50);
        Multiply(out var to100, t, to50);
        SquareTimes(out t, to100, 100);
        Multiply(out var to200, t, to100);
        SquareTimes(out t, to200, 50);
        Multiply(out result, t, to50);
    }

    /// <summary>f^(p - 2): the inverse, by Fermat; zero of zero.</summary>
    public static void Invert(out Field<T> result, in Field<T> f)
    {
        PowerOf250(out var t, out var eleventh, f);
        SquareTimes(out t, t, 5);
        Multiply(out result, t, eleventh);
    }

    /// <summary>All of them for the price of one and three multiplications each (Montgomery's trick); none may be zero.</summary>
    /// <param name="prefixes">Room for as many.</param>
    public static void InvertAll(System.Span<Field<T>> values, System.Span<Field<T>> prefixes)
    {
        // Prefix i is the product of the first i + 1.
        prefixes[0] = values[0];
        for (var i = 1; i < values.Length; i++) Multiply(out prefixes[i], prefixes[i - 1], values[i]);
        Invert(out var rest, prefixes[values.Length - 1]);
        for (var i = values.Length - 1; i >= 0; i--)
        {
            var inverse = rest;
            if (i > 0) Multiply(out inverse, rest, prefixes[i - 1]);
            Multiply(out rest, rest, values[i]);
            values[i] = inverse;
        }
    }

    /// <summary>f^((p - 5) / 8), of which square roots are made (RFC 8032, 5.1.3).</summary>
    public static void PowerForRoot(out Field<T> result, in Field<T> f)
    {
        PowerOf250(out var t, out _, f);
        SquareTimes(out t, t, 2);
        Multiply(out result, t, f);
    }
}
