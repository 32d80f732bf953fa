using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Unsigned 64-bit numbers side by side, each of another computation. All arithmetic of this folder is written once against this interface; the JIT
/// makes one body per implementation, with the operations as single instructions.
/// </summary>
internal interface ILanes<T>
    where T : unmanaged, ILanes<T>
{
    static abstract int Count { get; }

    static abstract T All(ulong value);

    /// <summary><see cref="Count"/> numbers that stand one after the other.</summary>
    static abstract T Load(ref ulong source);

    static abstract void Store(T value, ref ulong destination);

    static abstract T Add(T a, T b);

    static abstract T Subtract(T a, T b);

    static abstract T And(T a, T b);

    static abstract T ShiftLeft(T a, [ConstantExpected] byte bits);

    static abstract T ShiftRight(T a, [ConstantExpected] byte bits);

    /// <summary>Of the lower 32 bits of each; what is above is ignored or must be zero.</summary>
    static abstract T Multiply(T a, T b);

    /// <summary>The sum of a[i] * b[i], as <see cref="Multiply"/>. One operation, because the JIT does not inline hundreds of small ones into one method.</summary>
    static abstract T Dot(
        T a0, T b0, T a1, T b1, T a2, T b2, T a3, T b3, T a4, T b4, T a5, T b5, T a6, T b6, T a7, T b7, T a8, T b8, T a9, T b9);

    /// <summary><paramref name="sum"/> + a * b, as <see cref="Multiply"/>.</summary>
    static abstract T MultiplyAdd(T sum, T a, T b);

    /// <summary>Where <paramref name="mask"/> has bits those of <paramref name="a"/>, elsewhere those of <paramref name="b"/>.</summary>
    static abstract T Select(T mask, T a, T b);

    /// <summary>Makes columns of rows: lane i of column j is number j of row i, which has <see cref="Columns{T}.Count"/> of them.</summary>
    static abstract void Transpose(ref ulong rows, out Columns<T> columns);
}

/// <summary>One number: for machines without wide vectors, and for what is done one by one.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly struct Lanes1(ulong value) : ILanes<Lanes1>
{
    private readonly ulong _value = value;

    public static int Count => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 All(ulong value) => new(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 Load(ref ulong source) => new(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes1 value, ref ulong destination) => destination = value._value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 Add(Lanes1 a, Lanes1 b) => new(unchecked(a._value + b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 Subtract(Lanes1 a, Lanes1 b) => new(unchecked(a._value - b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 And(Lanes1 a, Lanes1 b) => new(a._value & b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 ShiftLeft(Lanes1 a, [ConstantExpected] byte bits) => new(a._value << bits);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 ShiftRight(Lanes1 a, [ConstantExpected] byte bits) => new(a._value >> bits);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 Multiply(Lanes1 a, Lanes1 b) => new(unchecked(a._value * b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 MultiplyAdd(Lanes1 sum, Lanes1 a, Lanes1 b) => new(unchecked(sum._value + (a._value * b._value)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 Dot(
        Lanes1 a0, Lanes1 b0, Lanes1 a1, Lanes1 b1, Lanes1 a2, Lanes1 b2, Lanes1 a3, Lanes1 b3, Lanes1 a4, Lanes1 b4, Lanes1 a5, Lanes1 b5, Lanes1 a6, Lanes1 b6, Lanes1 a7, Lanes1 b7, Lanes1 a8, Lanes1 b8, Lanes1 a9, Lanes1 b9) =>
        new(unchecked(
            (a0._value * b0._value)
            + (a1._value * b1._value)
            + (a2._value * b2._value)
            + (a3._value * b3._value)
            + (a4._value * b4._value)
            + (a5._value * b5._value)
            + (a6._value * b6._value)
            + (a7._value * b7._value)
            + (a8._value * b8._value)
            + (a9._value * b9._value)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes1 Select(Lanes1 mask, Lanes1 a, Lanes1 b) => new((mask._value & a._value) | (~mask._value & b._value));

    public static void Transpose(ref ulong rows, out Columns<Lanes1> columns)
    {
        columns = default;
        for (var i = 0; i < Columns<Lanes1>.Count; i++) columns[i] = new Lanes1(Unsafe.Add(ref rows, i));

    }
}

/// <summary>AVX2.</summary>
internal readonly struct Lanes4(Vector256<ulong> value) : ILanes<Lanes4>
{
    private readonly Vector256<ulong> _value = value;

    public static int Count => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 All(ulong value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Load(ref ulong source) => new(Vector256.LoadUnsafe(ref source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes4 value, ref ulong destination) => value._value.StoreUnsafe(ref destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Add(Lanes4 a, Lanes4 b) => new(Avx2.Add(a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Subtract(Lanes4 a, Lanes4 b) => new(Avx2.Subtract(a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 And(Lanes4 a, Lanes4 b) => new(Avx2.And(a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 ShiftLeft(Lanes4 a, [ConstantExpected] byte bits) => new(Avx2.ShiftLeftLogical(a._value, bits));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 ShiftRight(Lanes4 a, [ConstantExpected] byte bits) => new(Avx2.ShiftRightLogical(a._value, bits));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Multiply(Lanes4 a, Lanes4 b) => new(Avx2.Multiply(a._value.AsUInt32(), b._value.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 MultiplyAdd(Lanes4 sum, Lanes4 a, Lanes4 b) => new(Avx2.Add(sum._value, Avx2.Multiply(a._value.AsUInt32(), b._value.AsUInt32())));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Dot(
        Lanes4 a0, Lanes4 b0, Lanes4 a1, Lanes4 b1, Lanes4 a2, Lanes4 b2, Lanes4 a3, Lanes4 b3, Lanes4 a4, Lanes4 b4, Lanes4 a5, Lanes4 b5, Lanes4 a6, Lanes4 b6, Lanes4 a7, Lanes4 b7, Lanes4 a8, Lanes4 b8, Lanes4 a9, Lanes4 b9) =>
        new(
            Avx2.Multiply(a0._value.AsUInt32(), b0._value.AsUInt32())
            + Avx2.Multiply(a1._value.AsUInt32(), b1._value.AsUInt32())
            + Avx2.Multiply(a2._value.AsUInt32(), b2._value.AsUInt32())
            + Avx2.Multiply(a3._value.AsUInt32(), b3._value.AsUInt32())
            + Avx2.Multiply(a4._value.AsUInt32(), b4._value.AsUInt32())
            + Avx2.Multiply(a5._value.AsUInt32(), b5._value.AsUInt32())
            + Avx2.Multiply(a6._value.AsUInt32(), b6._value.AsUInt32())
            + Avx2.Multiply(a7._value.AsUInt32(), b7._value.AsUInt32())
            + Avx2.Multiply(a8._value.AsUInt32(), b8._value.AsUInt32())
            + Avx2.Multiply(a9._value.AsUInt32(), b9._value.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes4 Select(Lanes4 mask, Lanes4 a, Lanes4 b) => new(Vector256.ConditionalSelect(mask._value, a._value, b._value));

    public static void Transpose(ref ulong rows, out Columns<Lanes4> columns)
    {
        Unsafe.SkipInit(out columns);
        for (var i = 0; i < Columns<Lanes4>.Count; i += 4)
        {
            var first = Vector256.LoadUnsafe(ref rows, (nuint)i);
            var second = Vector256.LoadUnsafe(ref rows, (nuint)(Columns<Lanes4>.Count + i));
            var third = Vector256.LoadUnsafe(ref rows, (nuint)((2 * Columns<Lanes4>.Count) + i));
            var fourth = Vector256.LoadUnsafe(ref rows, (nuint)((3 * Columns<Lanes4>.Count) + i));
            var (even, odd) = (Avx2.UnpackLow(first, second), Avx2.UnpackHigh(first, second));
            var (evenBelow, oddBelow) = (Avx2.UnpackLow(third, fourth), Avx2.UnpackHigh(third, fourth));
            columns[i] = new Lanes4(Avx2.Permute2x128(even, evenBelow, 0x20));
            columns[i + 1] = new Lanes4(Avx2.Permute2x128(odd, oddBelow, 0x20));
            columns[i + 2] = new Lanes4(Avx2.Permute2x128(even, evenBelow, 0x31));
            columns[i + 3] = new Lanes4(Avx2.Permute2x128(odd, oddBelow, 0x31));
        }

    }
}

/// <summary>AVX-512.</summary>
internal readonly struct Lanes8(Vector512<ulong> value) : ILanes<Lanes8>
{
    private readonly Vector512<ulong> _value = value;

    public static int Count => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 All(ulong value) => new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Load(ref ulong source) => new(Vector512.LoadUnsafe(ref source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes8 value, ref ulong destination) => value._value.StoreUnsafe(ref destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Add(Lanes8 a, Lanes8 b) => new(Avx512F.Add(a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Subtract(Lanes8 a, Lanes8 b) => new(Avx512F.Subtract(a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 And(Lanes8 a, Lanes8 b) => new(Avx512F.And(a._value, b._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 ShiftLeft(Lanes8 a, [ConstantExpected] byte bits) => new(Avx512F.ShiftLeftLogical(a._value, bits));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 ShiftRight(Lanes8 a, [ConstantExpected] byte bits) => new(Avx512F.ShiftRightLogical(a._value, bits));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Multiply(Lanes8 a, Lanes8 b) => new(Avx512F.Multiply(a._value.AsUInt32(), b._value.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 MultiplyAdd(Lanes8 sum, Lanes8 a, Lanes8 b) => new(Avx512F.Add(sum._value, Avx512F.Multiply(a._value.AsUInt32(), b._value.AsUInt32())));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Dot(
        Lanes8 a0, Lanes8 b0, Lanes8 a1, Lanes8 b1, Lanes8 a2, Lanes8 b2, Lanes8 a3, Lanes8 b3, Lanes8 a4, Lanes8 b4, Lanes8 a5, Lanes8 b5, Lanes8 a6, Lanes8 b6, Lanes8 a7, Lanes8 b7, Lanes8 a8, Lanes8 b8, Lanes8 a9, Lanes8 b9) =>
        new(
            Avx512F.Multiply(a0._value.AsUInt32(), b0._value.AsUInt32())
            + Avx512F.Multiply(a1._value.AsUInt32(), b1._value.AsUInt32())
            + Avx512F.Multiply(a2._value.AsUInt32(), b2._value.AsUInt32())
            + Avx512F.Multiply(a3._value.AsUInt32(), b3._value.AsUInt32())
            + Avx512F.Multiply(a4._value.AsUInt32(), b4._value.AsUInt32())
            + Avx512F.Multiply(a5._value.AsUInt32(), b5._value.AsUInt32())
            + Avx512F.Multiply(a6._value.AsUInt32(), b6._value.AsUInt32())
            + Avx512F.Multiply(a7._value.AsUInt32(), b7._value.AsUInt32())
            + Avx512F.Multiply(a8._value.AsUInt32(), b8._value.AsUInt32())
            + Avx512F.Multiply(a9._value.AsUInt32(), b9._value.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes8 Select(Lanes8 mask, Lanes8 a, Lanes8 b) => new(Vector512.ConditionalSelect(mask._value, a._value, b._value));

    public static void Transpose(ref ulong rows, out Columns<Lanes8> columns)
    {
        Unsafe.SkipInit(out columns);
        for (var i = 0; i < Columns<Lanes8>.Count; i += 8)
        {
            // Pairs of rows first; then the parts of 128 bits of four such pairs.
            Pair(ref rows, 0, i, out var even0, out var odd0);
            Pair(ref rows, 2, i, out var even2, out var odd2);
            Pair(ref rows, 4, i, out var even4, out var odd4);
            Pair(ref rows, 6, i, out var even6, out var odd6);
            Four(even0, even2, even4, even6, out columns[i], out columns[i + 2], out columns[i + 4], out columns[i + 6]);
            Four(odd0, odd2, odd4, odd6, out columns[i + 1], out columns[i + 3], out columns[i + 5], out columns[i + 7]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pair(ref ulong rows, int row, int column, out Vector512<ulong> even, out Vector512<ulong> odd)
    {
        var first = Vector512.LoadUnsafe(ref rows, (nuint)((row * Columns<Lanes8>.Count) + column));
        var second = Vector512.LoadUnsafe(ref rows, (nuint)(((row + 1) * Columns<Lanes8>.Count) + column));
        even = Avx512F.UnpackLow(first, second);
        odd = Avx512F.UnpackHigh(first, second);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Four(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c, Vector512<ulong> d, out Lanes8 first, out Lanes8 second, out Lanes8 third, out Lanes8 fourth)
    {
        var (ab02, ab13) = (Avx512F.Shuffle4x128(a, b, 0x88), Avx512F.Shuffle4x128(a, b, 0xdd));
        var (cd02, cd13) = (Avx512F.Shuffle4x128(c, d, 0x88), Avx512F.Shuffle4x128(c, d, 0xdd));
        first = new Lanes8(Avx512F.Shuffle4x128(ab02, cd02, 0x88));
        second = new Lanes8(Avx512F.Shuffle4x128(ab13, cd13, 0x88));
        third = new Lanes8(Avx512F.Shuffle4x128(ab02, cd02, 0xdd));
        fourth = new Lanes8(Avx512F.Shuffle4x128(ab13, cd13, 0xdd));

    }
}

/// <summary>An entry of a table in every lane: 16 numbers.</summary>
[InlineArray(Count)]
internal struct Columns<T>
{
    public const int Count = 16;

    private T _first;
}
