using System;
using System.Runtime.CompilerServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Numbers modulo p = 2^255 - 19, one per lane, in five signed limbs of radix 2^51 that are whole numbers in doubles: processors without 52-bit integer
/// products for vectors have a fused multiply-add, which gives both halves of a product of 53 bits exactly
/// (<see cref="ILanes{T}.Split"/>; Emmart, Zheng, Weems: Faster modular exponentiation using double precision floating point arithmetic on the GPU, 2018).
/// A unit is 2^50 + 2^11 up and down; products of two limbs have to stay within 2^102, which is four.
/// </summary>
[SkipLocalsInit]
internal struct FieldLanes<T> : IField<FieldLanes<T>>
    where T : unmanaged, ILanes<T>
{
    private T _0, _1, _2, _3, _4;

    public static int Lanes => T.Count;

    public static FieldLanes<T> Load(ReadOnlySpan<Field51> lanes)
    {
        Span<double> limbs = stackalloc double[T.Count];
        FieldLanes<T> result;
        result._0 = Limb(lanes, 0, limbs);
        result._1 = Limb(lanes, 1, limbs);
        result._2 = Limb(lanes, 2, limbs);
        result._3 = Limb(lanes, 3, limbs);
        result._4 = Limb(lanes, 4, limbs);
        Reduce(out result, result);
        return result;

        static T Limb(ReadOnlySpan<Field51> lanes, int limb, Span<double> limbs)
        {
            for (var lane = 0; lane < limbs.Length; lane++) limbs[lane] = lanes[lane][limb];
            return T.Load(ref limbs[0]);
        }
    }

    public static void Store(in FieldLanes<T> value, Span<Field51> lanes)
    {
        Span<double> limbs = stackalloc double[KeyTable.Limbs * T.Count];
        T.Store(value._0, ref limbs[0]);
        T.Store(value._1, ref limbs[T.Count]);
        T.Store(value._2, ref limbs[2 * T.Count]);
        T.Store(value._3, ref limbs[3 * T.Count]);
        T.Store(value._4, ref limbs[4 * T.Count]);
        for (var lane = 0; lane < Math.Min(T.Count, lanes.Length); lane++)
            lanes[lane] = Field51.FromSigned(limbs[lane], limbs[T.Count + lane], limbs[(2 * T.Count) + lane], limbs[(3 * T.Count) + lane], limbs[(4 * T.Count) + lane]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Add(out FieldLanes<T> sum, in FieldLanes<T> f, in FieldLanes<T> g)
    {
        sum._0 = T.Add(f._0, g._0);
        sum._1 = T.Add(f._1, g._1);
        sum._2 = T.Add(f._2, g._2);
        sum._3 = T.Add(f._3, g._3);
        sum._4 = T.Add(f._4, g._4);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Subtract(out FieldLanes<T> difference, in FieldLanes<T> f, in FieldLanes<T> g)
    {
        difference._0 = T.Subtract(f._0, g._0);
        difference._1 = T.Subtract(f._1, g._1);
        difference._2 = T.Subtract(f._2, g._2);
        difference._3 = T.Subtract(f._3, g._3);
        difference._4 = T.Subtract(f._4, g._4);
    }

    /// <summary>Of each limb the nearest multiple of 2^51 goes to the next one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Reduce(out FieldLanes<T> result, in FieldLanes<T> f)
    {
        var (c0, c1, c2, c3, c4) = (T.Above51(f._0), T.Above51(f._1), T.Above51(f._2), T.Above51(f._3), T.Above51(f._4));
        const double one = 1.0 / (1L << 51);
        result._0 = T.MultiplyAdd(c4, 19 * one, T.Subtract(f._0, c0));
        result._1 = T.MultiplyAdd(c0, one, T.Subtract(f._1, c1));
        result._2 = T.MultiplyAdd(c1, one, T.Subtract(f._2, c2));
        result._3 = T.MultiplyAdd(c2, one, T.Subtract(f._3, c3));
        result._4 = T.MultiplyAdd(c3, one, T.Subtract(f._4, c4));
    }

    // What limb k has too much when the products are summed up: a bias for each low part (k + 1 directly, 4 - k folded in 19 times) and for each high part
    // (k directly, 5 - k folded in). Taken away together, with two terms that make carrying simple: 2^59 keeps the sum positive, because it is within 2^58
    // (20 times five low and five high parts of at most 2^50), and 2^50 makes rounding down rounding to the nearest. Constants, because the one method that
    // needs them is compiled before static fields are set.

    private const long Positive = (1L << 59) + (1L << 50);
    private const long Bias0 = unchecked(Positive - ((1 + (4 * 19)) * ProductSplit.LowBits) - ((5 * 19) * ProductSplit.HighBits));
    private const long Bias1 = unchecked(Positive - ((2 + (3 * 19)) * ProductSplit.LowBits) - ((1 + (4 * 19)) * ProductSplit.HighBits));
    private const long Bias2 = unchecked(Positive - ((3 + (2 * 19)) * ProductSplit.LowBits) - ((2 + (3 * 19)) * ProductSplit.HighBits));
    private const long Bias3 = unchecked(Positive - ((4 + (1 * 19)) * ProductSplit.LowBits) - ((3 + (2 * 19)) * ProductSplit.HighBits));
    private const long Bias4 = unchecked(Positive - (5 * ProductSplit.LowBits) - ((4 + (1 * 19)) * ProductSplit.HighBits));

    /// <summary>Column by column from the highest, so that few numbers are on the way at a time; the upper ones are folded in, because 2^255 is 19.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(out FieldLanes<T> product, in FieldLanes<T> f, in FieldLanes<T> g)
    {
        T.Split(f._4, g._4, out var low8, out var high9);
        var h4 = T.Nineteenfold(high9, Bias4);
        T.Split(f._3, g._4, out var low7, out var high8);
        T.AddSplit(f._4, g._3, ref low7, ref high8);
        var h3 = T.Nineteenfold(T.AddIntegers(low8, high8), Bias3);
        T.Split(f._2, g._4, out var low6, out var high7);
        T.AddSplit(f._3, g._3, ref low6, ref high7);
        T.AddSplit(f._4, g._2, ref low6, ref high7);
        var h2 = T.Nineteenfold(T.AddIntegers(low7, high7), Bias2);
        T.Split(f._1, g._4, out var low5, out var high6);
        T.AddSplit(f._2, g._3, ref low5, ref high6);
        T.AddSplit(f._3, g._2, ref low5, ref high6);
        T.AddSplit(f._4, g._1, ref low5, ref high6);
        var h1 = T.Nineteenfold(T.AddIntegers(low6, high6), Bias1);
        T.Split(f._0, g._4, out var low4, out var high5);
        T.AddSplit(f._1, g._3, ref low4, ref high5);
        T.AddSplit(f._2, g._2, ref low4, ref high5);
        T.AddSplit(f._3, g._1, ref low4, ref high5);
        T.AddSplit(f._4, g._0, ref low4, ref high5);
        var h0 = T.Nineteenfold(T.AddIntegers(low5, high5), Bias0);
        T.Split(f._0, g._3, out var low3, out var high4);
        T.AddSplit(f._1, g._2, ref low3, ref high4);
        T.AddSplit(f._2, g._1, ref low3, ref high4);
        T.AddSplit(f._3, g._0, ref low3, ref high4);
        h4 = T.AddIntegers(h4, T.AddIntegers(low4, high4));
        T.Split(f._0, g._2, out var low2, out var high3);
        T.AddSplit(f._1, g._1, ref low2, ref high3);
        T.AddSplit(f._2, g._0, ref low2, ref high3);
        h3 = T.AddIntegers(h3, T.AddIntegers(low3, high3));
        T.Split(f._0, g._1, out var low1, out var high2);
        T.AddSplit(f._1, g._0, ref low1, ref high2);
        h2 = T.AddIntegers(h2, T.AddIntegers(low2, high2));
        T.Split(f._0, g._0, out var low0, out var high1);
        h1 = T.AddIntegers(h1, T.AddIntegers(low1, high1));
        h0 = T.AddIntegers(h0, low0);
        var (p0, p1, p2, p3, p4) = (T.Carried(h0, h4, 19), T.Carried(h1, h0, 1), T.Carried(h2, h1, 1), T.Carried(h3, h2, 1), T.Carried(h4, h3, 1));
        // Not before: it may be one of the factors.
        (product._0, product._1, product._2, product._3, product._4) = (p0, p1, p2, p3, p4);
    }

    public static void Square(out FieldLanes<T> square, in FieldLanes<T> f) => Multiply(out square, f, f);

    public static void Take(ReadOnlySpan<KeyTable> tables, ReadOnlySpan<int> entries, out Niels<FieldLanes<T>> points)
    {
        T.Transpose(tables, entries, out var c);
        var negative = T.Negative(entries);
        points.Sum._0 = T.Select(negative, c[5], c[0]);
        points.Sum._1 = T.Select(negative, c[6], c[1]);
        points.Sum._2 = T.Select(negative, c[7], c[2]);
        points.Sum._3 = T.Select(negative, c[8], c[3]);
        points.Sum._4 = T.Select(negative, c[9], c[4]);
        points.Difference._0 = T.Select(negative, c[0], c[5]);
        points.Difference._1 = T.Select(negative, c[1], c[6]);
        points.Difference._2 = T.Select(negative, c[2], c[7]);
        points.Difference._3 = T.Select(negative, c[3], c[8]);
        points.Difference._4 = T.Select(negative, c[4], c[9]);
        points.Product._0 = T.ChangeSign(negative, c[10]);
        points.Product._1 = T.ChangeSign(negative, c[11]);
        points.Product._2 = T.ChangeSign(negative, c[12]);
        points.Product._3 = T.ChangeSign(negative, c[13]);
        points.Product._4 = T.ChangeSign(negative, c[14]);
    }
}
