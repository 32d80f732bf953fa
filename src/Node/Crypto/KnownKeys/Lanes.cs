using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Doubles side by side, each of another computation, all of them whole numbers; or the same bits as integers of 64 bits. <see cref="FieldLanes{T}"/> is
/// written once against this interface; the JIT makes one body per implementation.
/// </summary>
internal interface ILanes<T>
    where T : unmanaged, ILanes<T>
{
    static abstract int Count { get; }

    /// <summary><see cref="Count"/> numbers that stand one after the other.</summary>
    static abstract T Load(ref double source);

    static abstract void Store(T value, ref double destination);

    static abstract T Add(T a, T b);

    static abstract T Subtract(T a, T b);

    /// <summary><paramref name="sum"/> + a b, rounded once.</summary>
    static abstract T MultiplyAdd(T a, double b, T sum);

    /// <summary>The nearest multiple of 2^51, for up to 2^53 up and down.</summary>
    static abstract T Above51(T value);

    /// <summary>
    /// a b = 2^51 high + low, for products within 2^102; both as integers and with a bias: <see cref="ProductSplit.LowBits"/> and
    /// <see cref="ProductSplit.HighBits"/>.
    /// </summary>
    static abstract void Split(T a, T b, out T low, out T high);

    /// <summary>The same, added to sums of integers.</summary>
    static abstract void AddSplit(T a, T b, ref T low, ref T high);

    static abstract T AddIntegers(T a, T b);

    /// <summary>19 times an integer, and another one added.</summary>
    static abstract T Nineteenfold(T value, long term);

    /// <summary>
    /// Of integers that are 2^59 + 2^50 too large and positive: the 51 lower bits of <paramref name="value"/>, and what is above them in
    /// <paramref name="below"/>, so many <paramref name="times"/>, as a double and without what was too much.
    /// </summary>
    static abstract T Carried(T value, T below, [ConstantExpected] int times);

    /// <summary>All bits where a number is negative.</summary>
    /// <param name="numbers">One for each lane.</param>
    static abstract T Negative(ReadOnlySpan<int> numbers);

    /// <summary>Where <paramref name="mask"/> has bits those of <paramref name="a"/>, elsewhere those of <paramref name="b"/>.</summary>
    static abstract T Select(T mask, T a, T b);

    static abstract T ChangeSign(T mask, T value);

    /// <summary>Makes columns of entries: lane i of column j is number j of the entry of table i.</summary>
    static abstract void Transpose(ReadOnlySpan<KeyTable> tables, ReadOnlySpan<int> entries, out Columns<T> columns);
}

/// <summary>
/// How a product is split with two fused multiply-adds (Emmart, Zheng, Weems, 2018). Doubles from 2^103 to 2^104 are multiples of 2^51. So a b + 1.5 * 2^103, rounded, is
/// (1.5 * 2^52 + high) * 2^51, and its bits, as an integer, are those of 1.5 * 2^103 and high more. With that known, a b - 2^51 high is exact; it is at most 2^50 up
/// or down, and 1.5 * 2^52 makes an integer of its bits in the same way.
/// </summary>
internal static class ProductSplit
{
    public const double HighBias = 1.5 * (1L << 52) * (1L << 51);

    public const double LowBias = 1.5 * (1L << 52);

    /// <summary>Less a high part with its bias it leaves -2^51 high + <see cref="LowBias"/>.</summary>
    public const double BothBiases = HighBias + LowBias;

    /// <summary>The bits of the two.</summary>
    public const long HighBits = 0x4668000000000000, LowBits = 0x4338000000000000;

    /// <summary>The bits of 2^52, under which an integer below 2^52 is a double.</summary>
    public const long Exponent = 0x4330000000000000;

    public const long Low51 = (1L << 51) - 1;

    /// <summary>What <see cref="ILanes{T}.Carried"/> takes away: 2^52 of the exponent, 2^50 of the value and 2^59, 51 bits lower, of each carry.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static double Excess([ConstantExpected] int times) => (1L << 52) + (1L << 50) + (times * (1L << 8));
}

/// <summary>AVX2 and FMA.</summary>
internal readonly struct Lanes4(Vector256<double> value) : ILanes<Lanes4>
{
    private readonly Vector256<double> _value = value;

    public static bool IsSupported => Avx2.IsSupported && Fma.IsSupported;

    public static int Count => 4;

    private Vector256<long> Integers => _value.AsInt64();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Load(ref double source) => new(Vector256.LoadUnsafe(ref source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes4 value, ref double destination) => value._value.StoreUnsafe(ref destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Add(Lanes4 a, Lanes4 b) => new(a._value + b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Subtract(Lanes4 a, Lanes4 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 MultiplyAdd(Lanes4 a, double b, Lanes4 sum) => new(Vector256.FusedMultiplyAdd(a._value, Vector256.Create(b), sum._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Above51(Lanes4 value)
    {
        var bias = Vector256.Create(ProductSplit.HighBias);
        return new(value._value + bias - bias);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Split(Lanes4 a, Lanes4 b, out Lanes4 low, out Lanes4 high)
    {
        high = new(Vector256.FusedMultiplyAdd(a._value, b._value, Vector256.Create(ProductSplit.HighBias)));
        low = new(Vector256.FusedMultiplyAdd(a._value, b._value, Vector256.Create(ProductSplit.BothBiases) - high._value));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddSplit(Lanes4 a, Lanes4 b, ref Lanes4 low, ref Lanes4 high)
    {
        Split(a, b, out var addLow, out var addHigh);
        low = AddIntegers(low, addLow);
        high = AddIntegers(high, addHigh);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 AddIntegers(Lanes4 a, Lanes4 b) => new((a.Integers + b.Integers).AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Nineteenfold(Lanes4 value, long term) => new(((Vector256.ShiftLeft(value.Integers, 4) + Vector256.ShiftLeft(value.Integers, 1) + value.Integers) + Vector256.Create(term)).AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Carried(Lanes4 value, Lanes4 below, [ConstantExpected] int times)
    {
        var carry = Vector256.ShiftRightLogical(below.Integers, 51);
        if (times == 19) carry = Vector256.ShiftLeft(carry, 4) + Vector256.ShiftLeft(carry, 1) + carry;
        var low = Vector256.ConditionalSelect(Vector256.Create(ProductSplit.Low51), value.Integers, Vector256.Create(ProductSplit.Exponent));
        return new((low + carry).AsDouble() - Vector256.Create(ProductSplit.Excess(times)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Negative(ReadOnlySpan<int> numbers) => new(Avx2.ConvertToVector256Int64(Vector128.LessThan(Vector128.Create(numbers), Vector128<int>.Zero)).AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Select(Lanes4 mask, Lanes4 a, Lanes4 b) => new(Vector256.ConditionalSelect(mask._value, a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 ChangeSign(Lanes4 mask, Lanes4 value) => new(value._value ^ (mask._value & Vector256.Create(-0.0)));

    public static void Transpose(ReadOnlySpan<KeyTable> tables, ReadOnlySpan<int> entries, out Columns<Lanes4> columns)
    {
        Unsafe.SkipInit(out columns);
        ref var row0 = ref tables[0].Entry(entries[0]);
        ref var row1 = ref tables[1].Entry(entries[1]);
        ref var row2 = ref tables[2].Entry(entries[2]);
        ref var row3 = ref tables[3].Entry(entries[3]);
        for (var i = 0; i < Columns<Lanes4>.Count; i += 4)
        {
            Pair(ref row0, ref row1, i, out var even0, out var odd0);
            Pair(ref row2, ref row3, i, out var even2, out var odd2);
            columns[i] = new(Avx.Permute2x128(even0, even2, 0x20));
            columns[i + 1] = new(Avx.Permute2x128(odd0, odd2, 0x20));
            columns[i + 2] = new(Avx.Permute2x128(even0, even2, 0x31));
            columns[i + 3] = new(Avx.Permute2x128(odd0, odd2, 0x31));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pair(ref double first, ref double second, int column, out Vector256<double> even, out Vector256<double> odd)
    {
        var (a, b) = (Vector256.LoadUnsafe(ref first, (nuint)column), Vector256.LoadUnsafe(ref second, (nuint)column));
        even = Avx.UnpackLow(a, b);
        odd = Avx.UnpackHigh(a, b);
    }
}

/// <summary>AVX-512, with the integer product of 64 bits that Nineteenfold uses.</summary>
internal readonly struct Lanes8(Vector512<double> value) : ILanes<Lanes8>
{
    private readonly Vector512<double> _value = value;

    public static bool IsSupported => Avx512F.IsSupported && Avx512DQ.IsSupported;

    public static int Count => 8;

    private Vector512<long> Integers => _value.AsInt64();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Load(ref double source) => new(Vector512.LoadUnsafe(ref source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes8 value, ref double destination) => value._value.StoreUnsafe(ref destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Add(Lanes8 a, Lanes8 b) => new(a._value + b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Subtract(Lanes8 a, Lanes8 b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 MultiplyAdd(Lanes8 a, double b, Lanes8 sum) => new(Vector512.FusedMultiplyAdd(a._value, Vector512.Create(b), sum._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Above51(Lanes8 value)
    {
        var bias = Vector512.Create(ProductSplit.HighBias);
        return new(value._value + bias - bias);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Split(Lanes8 a, Lanes8 b, out Lanes8 low, out Lanes8 high)
    {
        high = new(Vector512.FusedMultiplyAdd(a._value, b._value, Vector512.Create(ProductSplit.HighBias)));
        low = new(Vector512.FusedMultiplyAdd(a._value, b._value, Vector512.Create(ProductSplit.BothBiases) - high._value));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddSplit(Lanes8 a, Lanes8 b, ref Lanes8 low, ref Lanes8 high)
    {
        Split(a, b, out var addLow, out var addHigh);
        low = AddIntegers(low, addLow);
        high = AddIntegers(high, addHigh);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 AddIntegers(Lanes8 a, Lanes8 b) => new((a.Integers + b.Integers).AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Nineteenfold(Lanes8 value, long term) => new(((value.Integers * 19) + Vector512.Create(term)).AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Carried(Lanes8 value, Lanes8 below, [ConstantExpected] int times)
    {
        var carry = Vector512.ShiftRightLogical(below.Integers, 51);
        if (times == 19) carry = carry * 19;
        var low = Vector512.ConditionalSelect(Vector512.Create(ProductSplit.Low51), value.Integers, Vector512.Create(ProductSplit.Exponent));
        return new((low + carry).AsDouble() - Vector512.Create(ProductSplit.Excess(times)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Negative(ReadOnlySpan<int> numbers) => new(Avx512F.ConvertToVector512Int64(Vector256.LessThan(Vector256.Create(numbers), Vector256<int>.Zero)).AsDouble());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Select(Lanes8 mask, Lanes8 a, Lanes8 b) => new(Vector512.ConditionalSelect(mask._value, a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 ChangeSign(Lanes8 mask, Lanes8 value) => new(value._value ^ (mask._value & Vector512.Create(-0.0)));

    public static void Transpose(ReadOnlySpan<KeyTable> tables, ReadOnlySpan<int> entries, out Columns<Lanes8> columns)
    {
        Unsafe.SkipInit(out columns);
        ref var row0 = ref tables[0].Entry(entries[0]);
        ref var row1 = ref tables[1].Entry(entries[1]);
        ref var row2 = ref tables[2].Entry(entries[2]);
        ref var row3 = ref tables[3].Entry(entries[3]);
        ref var row4 = ref tables[4].Entry(entries[4]);
        ref var row5 = ref tables[5].Entry(entries[5]);
        ref var row6 = ref tables[6].Entry(entries[6]);
        ref var row7 = ref tables[7].Entry(entries[7]);
        for (var i = 0; i < Columns<Lanes8>.Count; i += 8)
        {
            // Pairs of rows first; then the parts of 128 bits of four such pairs.
            Pair(ref row0, ref row1, i, out var even0, out var odd0);
            Pair(ref row2, ref row3, i, out var even2, out var odd2);
            Pair(ref row4, ref row5, i, out var even4, out var odd4);
            Pair(ref row6, ref row7, i, out var even6, out var odd6);
            Four(even0, even2, even4, even6, out columns[i], out columns[i + 2], out columns[i + 4], out columns[i + 6]);
            Four(odd0, odd2, odd4, odd6, out columns[i + 1], out columns[i + 3], out columns[i + 5], out columns[i + 7]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pair(ref double first, ref double second, int column, out Vector512<double> even, out Vector512<double> odd)
    {
        var (a, b) = (Vector512.LoadUnsafe(ref first, (nuint)column), Vector512.LoadUnsafe(ref second, (nuint)column));
        even = Avx512F.UnpackLow(a, b);
        odd = Avx512F.UnpackHigh(a, b);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Four(
        Vector512<double> a, Vector512<double> b, Vector512<double> c, Vector512<double> d, out Lanes8 first, out Lanes8 second, out Lanes8 third, out Lanes8 fourth)
    {
        var (ab02, ab13) = (Avx512F.Shuffle4x128(a, b, 0x88), Avx512F.Shuffle4x128(a, b, 0xdd));
        var (cd02, cd13) = (Avx512F.Shuffle4x128(c, d, 0x88), Avx512F.Shuffle4x128(c, d, 0xdd));
        first = new(Avx512F.Shuffle4x128(ab02, cd02, 0x88));
        second = new(Avx512F.Shuffle4x128(ab13, cd13, 0x88));
        third = new(Avx512F.Shuffle4x128(ab02, cd02, 0xdd));
        fourth = new(Avx512F.Shuffle4x128(ab13, cd13, 0xdd));
    }
}

/// <summary>An entry of a table in every lane: 16 numbers.</summary>
[InlineArray(Count)]
internal struct Columns<T>
{
    public const int Count = KeyTable.EntrySize;

    private T _first;
}
