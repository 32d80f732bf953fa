using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Multiples of one point: for each of the 32 windows of 8 bits, 0 to 128 times 256^window times the point. A product with any scalar is then a sum of
/// 32 entries, added or subtracted. Half a megabyte.
/// </summary>
internal sealed class KeyTable
{
    /// <summary>Numbers of an entry: y + x, y - x, 2dxy with two limbs in each number, the first in its lower half, and one that fills two cache lines.</summary>
    public const int EntrySize = Columns<Lanes1>.Count;

    private const int CacheLine = 64;

    /// <summary>Nothing times the point is one of them.</summary>
    private const int EntriesPerWindow = 129;

    public const int Bytes = Scalars.Windows * EntriesPerWindow * EntrySize * sizeof(ulong);

    /// <summary>Pinned: the collector does not move half a megabyte about, and entries stay where cache lines begin.</summary>
    private readonly ulong[] _entries = GC.AllocateArray<ulong>((Bytes + CacheLine) / sizeof(ulong), pinned: true);

    private readonly int _start;

    private KeyTable()
    {
        var address = (long)Marshal.UnsafeAddrOfPinnedArrayElement(_entries, 0);
        _start = (int)((CacheLine - (address % CacheLine)) % CacheLine / sizeof(ulong));
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
        if (negate)
        {
            Field<Lanes1>.Subtract(out point.X, Field<Lanes1>.Zero, point.X);
            Field<Lanes1>.Reduce(out point.X, point.X);
            Field<Lanes1>.Subtract(out point.XY, Field<Lanes1>.Zero, point.XY);
            Field<Lanes1>.Reduce(out point.XY, point.XY);
        }

        table = new KeyTable();
        if (Avx512F.IsSupported) table.Fill<Lanes8>(point);
        else if (Avx2.IsSupported) table.Fill<Lanes4>(point);
        else table.Fill<Lanes1>(point);
        return true;
    }

    /// <summary>RFC 8032, 5.1.3; only the one encoding that encoding would give.</summary>
    internal static bool TryDecode(ReadOnlySpan<byte> encoded, out Point<Lanes1> point)
    {
        Span<ulong> limbs = stackalloc ulong[Field<Lanes1>.Limbs];
        Curve.ToLimbs(encoded, limbs);
        point = Point<Lanes1>.Neutral;
        point.Y = Field<Lanes1>.Load(ref limbs[0]);
        var negative = encoded[31] >> 7 == 1;
        Span<byte> again = stackalloc byte[32];
        Curve.ToBytes(limbs, 1, again);
        again[31] |= (byte)(negative ? 0x80 : 0);
        if (!again.SequenceEqual(encoded)) return false;

        // x^2 = u / v with u = y^2 - 1, v = d y^2 + 1; the root is u v^3 (u v^7)^((p-5)/8), or that times the root of -1, or there is none.
        Field<Lanes1>.Square(out var yy, point.Y);
        Field<Lanes1>.Subtract(out var u, yy, Field<Lanes1>.One);
        Field<Lanes1>.Reduce(out u, u);
        Field<Lanes1>.Multiply(out var v, yy, Field<Lanes1>.All(Curve.D));
        Field<Lanes1>.Add(out v, v, Field<Lanes1>.One);
        Field<Lanes1>.Square(out var v3, v);
        Field<Lanes1>.Multiply(out v3, v3, v);
        Field<Lanes1>.Square(out var v7, v3);
        Field<Lanes1>.Multiply(out v7, v7, v);
        Field<Lanes1>.Multiply(out var x, u, v7);
        Field<Lanes1>.PowerForRoot(out x, x);
        Field<Lanes1>.Multiply(out x, x, v3);
        Field<Lanes1>.Multiply(out x, x, u);
        Field<Lanes1>.Square(out var check, x);
        Field<Lanes1>.Multiply(out check, check, v);
        if (!AreEqual(check, u))
        {
            Field<Lanes1>.Multiply(out x, x, Field<Lanes1>.All(Curve.RootOfMinusOne));
            Field<Lanes1>.Square(out check, x);
            Field<Lanes1>.Multiply(out check, check, v);
            if (!AreEqual(check, u)) return false;
        }

        Span<byte> bytes = stackalloc byte[32];
        Encode(x, bytes);
        if ((bytes[0] & 1) == 1 != negative)
        {
            Field<Lanes1>.Subtract(out x, Field<Lanes1>.Zero, x);
            Field<Lanes1>.Reduce(out x, x);
            Encode(x, bytes);
            if ((bytes[0] & 1) == 1 != negative) return false; // zero has no negative
        }

        point.X = x;
        Field<Lanes1>.Multiply(out point.XY, x, point.Y);
        return true;
    }

    /// <summary>The eight points whose order divides 8: what is signed with them says nothing.</summary>
    internal static bool IsOfSmallOrder(Point<Lanes1> point)
    {
        for (var i = 0; i < 3; i++) point.Double();
        return AreEqual(point.X, Field<Lanes1>.Zero);
    }

    private static bool AreEqual(in Field<Lanes1> a, in Field<Lanes1> b)
    {
        Span<byte> first = stackalloc byte[32];
        Span<byte> second = stackalloc byte[32];
        Encode(a, first);
        Encode(b, second);
        return first.SequenceEqual(second);
    }

    private static void Encode(in Field<Lanes1> value, Span<byte> bytes)
    {
        Span<ulong> limbs = stackalloc ulong[Field<Lanes1>.Limbs];
        value.Store(ref limbs[0]);
        Curve.ToBytes(limbs, 1, bytes);
    }

    /// <summary>As many windows at a time as there are lanes.</summary>
    private void Fill<T>(Point<Lanes1> point)
        where T : unmanaged, ILanes<T>
    {
        var multiples = new Point<T>[EntriesPerWindow - 1]; // number i is i + 1 times the point
        var inverses = new Field<T>[multiples.Length];
        var prefixes = new Field<T>[multiples.Length];
        Span<ulong> limbs = stackalloc ulong[4 * Field<Lanes1>.Limbs * T.Count];
        for (var window = 0; window < Scalars.Windows; window += T.Count)
        {
            for (var lane = 0; lane < T.Count; lane++)
            {
                Spread<T>(point.X, lane, limbs);
                Spread<T>(point.Y, lane, limbs[(Field<T>.Limbs * T.Count)..]);
                Spread<T>(point.Z, lane, limbs[(2 * Field<T>.Limbs * T.Count)..]);
                Spread<T>(point.XY, lane, limbs[(3 * Field<T>.Limbs * T.Count)..]);
                for (var i = 0; i < 8; i++) point.Double();
            }

            multiples[0].X = Field<T>.Load(ref limbs[0]);
            multiples[0].Y = Field<T>.Load(ref limbs[Field<T>.Limbs * T.Count]);
            multiples[0].Z = Field<T>.Load(ref limbs[2 * Field<T>.Limbs * T.Count]);
            multiples[0].XY = Field<T>.Load(ref limbs[3 * Field<T>.Limbs * T.Count]);
            var prepared = new Prepared<T>(multiples[0]);
            for (var i = 1; i < multiples.Length; i++)
            {
                multiples[i] = multiples[i - 1];
                multiples[i].Add(prepared);
            }

            for (var i = 0; i < multiples.Length; i++) inverses[i] = multiples[i].Z;
            Field<T>.InvertAll(inverses, prefixes);
            for (var i = 0; i < multiples.Length; i++)
            {
                Field<T>.Multiply(out var x, multiples[i].X, inverses[i]);
                Field<T>.Multiply(out var y, multiples[i].Y, inverses[i]);
                Field<T>.Add(out var sum, y, x);
                Field<T>.Reduce(out sum, sum);
                Field<T>.Subtract(out var difference, y, x);
                Field<T>.Reduce(out difference, difference);
                Field<T>.Multiply(out var product, x, y);
                Field<T>.Multiply(out product, product, Field<T>.All(Curve.TwiceD));
                Write(sum, window, i + 1, 0);
                Write(difference, window, i + 1, 1);
                Write(product, window, i + 1, 2);
            }

            Write(Field<T>.One, window, 0, 0);
            Write(Field<T>.One, window, 0, 1);
        }
    }

    private static void Spread<T>(in Field<Lanes1> value, int lane, Span<ulong> limbs)
        where T : unmanaged, ILanes<T>
    {
        Span<ulong> one = stackalloc ulong[Field<T>.Limbs];
        value.Store(ref one[0]);
        for (var i = 0; i < one.Length; i++) limbs[(i * T.Count) + lane] = one[i];
    }

    /// <param name="coordinate">0 for y + x, 1 for y - x, 2 for 2dxy.</param>
    private void Write<T>(in Field<T> value, int window, int entry, int coordinate)
        where T : unmanaged, ILanes<T>
    {
        Span<ulong> limbs = stackalloc ulong[Field<T>.Limbs * T.Count];
        value.Store(ref limbs[0]);
        for (var lane = 0; lane < T.Count; lane++)
        {
            var at = _start + ((((window + lane) * EntriesPerWindow) + entry) * EntrySize) + (coordinate * Niels<T>.Pairs);
            for (var i = 0; i < Niels<T>.Pairs; i++) _entries[at + i] = limbs[(2 * i * T.Count) + lane] | (limbs[(((2 * i) + 1) * T.Count) + lane] << 32);
        }
    }

    /// <summary>Copies |digit| times 256^window times the point.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void CopyEntry(int window, int digit, ref ulong entry)
    {
        ref var from = ref Unsafe.Add(ref MemoryMarshal.GetArrayDataReference(_entries), _start + (((window * EntriesPerWindow) + Math.Abs(digit)) * EntrySize));
        for (nuint i = 0; i < EntrySize; i += 4) Vector256.LoadUnsafe(ref from, i).StoreUnsafe(ref entry, i);
    }
}
