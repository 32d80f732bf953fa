using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Multiples of one point: for each of the 32 windows of 8 bits, 0 to 128 times 256^window times the point. A product with any scalar is then a sum of
/// 32 entries, added or subtracted. Half a megabyte.
/// </summary>
internal sealed class KeyTable
{
    public const int Limbs = 5;

    /// <summary>Numbers of an entry: (y + x) / 2, (y - x) / 2, dxy in limbs between -2^50 and 2^50, and one more, which fills two cache lines.</summary>
    public const int EntrySize = (3 * Limbs) + 1;

    private const int CacheLine = 64;

    /// <summary>Nothing times the point is one of them.</summary>
    private const int EntriesPerWindow = 129;

    public const int Bytes = Scalars.Windows * EntriesPerWindow * EntrySize * sizeof(double);

    /// <summary>Pinned: the collector does not move half a megabyte about, and entries stay where cache lines begin.</summary>
    private readonly double[] _entries = GC.AllocateArray<double>((Bytes + CacheLine) / sizeof(double), pinned: true);

    private readonly int _start;

    private KeyTable()
    {
        var address = (long)Marshal.UnsafeAddrOfPinnedArrayElement(_entries, 0);
        _start = (int)((CacheLine - (address % CacheLine)) % CacheLine / sizeof(double));
    }

    /// <summary>Of the base point.</summary>
    public static KeyTable Base { get; } = TryCreate(Curve.BasePoint, false, out var table) ? table : throw Core.Primitives.Invariant.Unreachable("the base point");

    /// <summary>Of the negative of a public key, which is what verification adds.</summary>
    /// <returns>False when it is no key that libsodium would verify with: not the one encoding of a point of the curve, or a point of small order.</returns>
    public static bool TryCreate(ReadOnlySpan<byte> key, [NotNullWhen(true)] out KeyTable? table) => TryCreate(key, true, out table);

    private static bool TryCreate(ReadOnlySpan<byte> key, bool negate, [NotNullWhen(true)] out KeyTable? table)
    {
        table = null;
        if (!TryDecode(key, out var point) || IsOfSmallOrder(point)) return false;
        if (negate) point = new Point<Field51> { X = Negative(point.X), Y = point.Y, Z = point.Z, XY = Negative(point.XY) };
        table = new KeyTable();
        if (Lanes8.IsSupported) table.Fill<FieldLanes<Lanes8>>(point);
        else if (Lanes4.IsSupported) table.Fill<FieldLanes<Lanes4>>(point);
        else table.Fill<Field51>(point);
        return true;
    }

    /// <summary>RFC 8032, 5.1.3; only the one encoding that encoding would give.</summary>
    internal static bool TryDecode(ReadOnlySpan<byte> encoded, out Point<Field51> point)
    {
        var y = Field51.FromBytes(encoded);
        point = new Point<Field51> { Y = y, Z = Field51.One };
        var negative = encoded[31] >> 7 == 1;
        Span<byte> bytes = stackalloc byte[32];
        y.ToBytes(bytes);
        bytes[31] |= (byte)(negative ? 0x80 : 0);
        if (!bytes.SequenceEqual(encoded)) return false;

        // x^2 = u / v with u = y^2 - 1, v = d y^2 + 1; the root is u v^3 (u v^7)^((p-5)/8), or that times the root of -1, or there is none.
        Field51.Square(out var yy, y);
        Field51.Subtract(out var u, yy, Field51.One);
        Field51.Reduce(out u, u);
        Field51.Multiply(out var v, yy, Curve.D);
        Field51.Add(out v, v, Field51.One);
        Field51.Reduce(out v, v);
        Field51.Square(out var v3, v);
        Field51.Multiply(out v3, v3, v);
        Field51.Square(out var v7, v3);
        Field51.Multiply(out v7, v7, v);
        Field51.Multiply(out var x, u, v7);
        Numbers<Field51>.PowerForRoot(out x, x);
        Field51.Multiply(out x, x, v3);
        Field51.Multiply(out x, x, u);
        if (!IsRoot(x, u, v))
        {
            Field51.Multiply(out x, x, Curve.RootOfMinusOne);
            if (!IsRoot(x, u, v)) return false;
        }

        if (IsOdd(x) != negative)
        {
            x = Negative(x);
            if (IsOdd(x) != negative) return false; // zero has no negative
        }

        point.X = x;
        Field51.Multiply(out point.XY, x, y);
        return true;
    }

    private static bool IsRoot(in Field51 x, in Field51 u, in Field51 v)
    {
        Field51.Square(out var xx, x);
        Field51.Multiply(out xx, xx, v);
        return AreEqual(xx, u);
    }

    private static bool IsOdd(in Field51 value)
    {
        Span<byte> bytes = stackalloc byte[32];
        value.ToBytes(bytes);
        return (bytes[0] & 1) == 1;
    }

    private static Field51 Negative(in Field51 value)
    {
        Field51.Subtract(out var negative, Field51.Zero, value);
        Field51.Reduce(out negative, negative);
        return negative;
    }

    /// <summary>The eight points whose order divides 8: what is signed with them says nothing.</summary>
    internal static bool IsOfSmallOrder(Point<Field51> point)
    {
        for (var i = 0; i < 3; i++) point.Double();
        return AreEqual(point.X, Field51.Zero);
    }

    private static bool AreEqual(in Field51 a, in Field51 b)
    {
        Span<byte> first = stackalloc byte[32];
        Span<byte> second = stackalloc byte[32];
        a.ToBytes(first);
        b.ToBytes(second);
        return first.SequenceEqual(second);
    }

    /// <summary>As many windows at a time as there are lanes.</summary>
    private void Fill<F>(Point<Field51> point)
        where F : unmanaged, IField<F>
    {
        var multiples = new Point<F>[EntriesPerWindow - 1]; // number i is i + 1 times the point
        var inverses = new F[multiples.Length];
        var prefixes = new F[multiples.Length];
        var (half, d) = (Numbers<F>.All(Curve.Half), Numbers<F>.All(Curve.D));
        var of = new Point<Field51>[F.Lanes];
        for (var window = 0; window < Scalars.Windows; window += F.Lanes)
        {
            for (var lane = 0; lane < F.Lanes; lane++)
            {
                of[lane] = point;
                for (var i = 0; i < 8; i++) point.Double();
            }

            multiples[0] = new Point<F> { X = Load(of, p => p.X), Y = Load(of, p => p.Y), Z = Load(of, p => p.Z), XY = Load(of, p => p.XY) };
            var prepared = new Prepared<F>(multiples[0]);
            for (var i = 1; i < multiples.Length; i++)
            {
                multiples[i] = multiples[i - 1];
                multiples[i].Add(prepared);
            }

            for (var i = 0; i < multiples.Length; i++) inverses[i] = multiples[i].Z;
            Numbers<F>.InvertAll(inverses, prefixes);
            for (var i = 0; i < multiples.Length; i++)
            {
                F.Multiply(out var x, multiples[i].X, inverses[i]);
                F.Multiply(out var y, multiples[i].Y, inverses[i]);
                F.Multiply(out var product, x, y);
                F.Multiply(out product, product, d);
                F.Add(out var sum, y, x);
                F.Multiply(out sum, sum, half);
                F.Subtract(out var difference, y, x);
                F.Multiply(out difference, difference, half);
                Write(sum, window, i + 1, 0);
                Write(difference, window, i + 1, 1);
                Write(product, window, i + 1, 2);
            }

            Write(half, window, 0, 0);
            Write(half, window, 0, 1);
        }

        static F Load(Point<Field51>[] of, Func<Point<Field51>, Field51> coordinate) => F.Load(Array.ConvertAll(of, p => coordinate(p)));
    }

    /// <param name="coordinate">0 for (y + x) / 2, 1 for (y - x) / 2, 2 for dxy.</param>
    private void Write<F>(in F value, int window, int entry, int coordinate)
        where F : unmanaged, IField<F>
    {
        Span<Field51> lanes = stackalloc Field51[F.Lanes];
        F.Store(value, lanes);
        for (var lane = 0; lane < lanes.Length; lane++)
            lanes[lane].ToSigned(MemoryMarshal.CreateSpan(ref Unsafe.Add(ref Entry(EntryOf(window + lane, entry)), coordinate * Limbs), Limbs));
    }

    /// <summary>The number of the entry with |digit| times 256^window times the point; negative for a negative digit.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int EntryOf(int window, int digit) => digit < 0 ? digit - (window * EntriesPerWindow) : digit + (window * EntriesPerWindow);

    /// <summary>The first of the <see cref="EntrySize"/> numbers of an entry, or of the one whose negative is meant.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref double Entry(int number) => ref Unsafe.Add(ref MemoryMarshal.GetArrayDataReference(_entries), _start + (Math.Abs(number) * EntrySize));

    /// <summary>Brings an entry nearer.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public unsafe void Prefetch(int number)
    {
        if (!Sse.IsSupported) return;
        // An address of a pinned array, and one that is only looked at.
        var address = Unsafe.AsPointer(ref Entry(number));
        Sse.Prefetch0(address);
        Sse.Prefetch0((byte*)address + CacheLine);
    }
}
