using System.Runtime.CompilerServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Points of the curve, one per lane: x = X/Z, y = Y/Z, xy = XY/Z (Hisil, Wong, Carter, Dawson: Twisted Edwards curves revisited, 2008). The
/// formulas are complete for this curve: they need no exception for equal, opposite or neutral points.
/// </summary>
[SkipLocalsInit]
internal struct Point<T>
    where T : unmanaged, ILanes<T>
{
    public Field<T> X, Y, Z, XY;

    public static Point<T> Neutral => new() { X = Field<T>.Zero, Y = Field<T>.One, Z = Field<T>.One, XY = Field<T>.Zero };

    /// <summary>Adds a point of a table: seven multiplications.</summary>
    public void Add(in Niels<T> q)
    {
        Field<T>.Subtract(out var t, Y, X);
        Field<T>.Multiply(out var a, t, q.Difference);
        Field<T>.Add(out t, Y, X);
        Field<T>.Multiply(out var b, t, q.Sum);
        Field<T>.Multiply(out var c, XY, q.Product);
        Field<T>.Add(out var d, Z, Z);
        Complete(a, b, c, d);
    }

    /// <summary>Adds any point.</summary>
    public void Add(in Prepared<T> q)
    {
        Field<T>.Subtract(out var t, Y, X);
        Field<T>.Multiply(out var a, t, q.Difference);
        Field<T>.Add(out t, Y, X);
        Field<T>.Multiply(out var b, t, q.Sum);
        Field<T>.Multiply(out var c, XY, q.Product);
        Field<T>.Multiply(out var d, Z, q.TwiceZ);
        Complete(a, b, c, d);
    }

    private void Complete(in Field<T> a, in Field<T> b, in Field<T> c, in Field<T> d)
    {
        Field<T>.Subtract(out var e, b, a);
        Field<T>.Subtract(out var f, d, c);
        Field<T>.Add(out var g, d, c);
        Field<T>.Add(out var h, b, a);
        Field<T>.Multiply(out X, f, e);
        Field<T>.Multiply(out Y, g, h);
        Field<T>.Multiply(out XY, h, e);
        Field<T>.Multiply(out Z, f, g);
    }

    public void Double()
    {
        Field<T>.Square(out var xx, X);
        Field<T>.Square(out var yy, Y);
        Field<T>.Square(out var zz, Z);
        Field<T>.Add(out var t, X, Y);
        Field<T>.Square(out var both, t);
        Field<T>.Add(out var h, yy, xx);
        Field<T>.Reduce(out h, h);
        Field<T>.Subtract(out var g, yy, xx);
        Field<T>.Reduce(out g, g);
        Field<T>.Subtract(out var e, both, h);
        Field<T>.Add(out zz, zz, zz);
        Field<T>.Subtract(out var f, zz, g);
        Field<T>.Multiply(out X, f, e);
        Field<T>.Multiply(out Y, g, h);
        Field<T>.Multiply(out XY, h, e);
        Field<T>.Multiply(out Z, f, g);
    }
}

/// <summary>A point with z = 1, as tables hold it: y + x, y - x, 2dxy.</summary>
[SkipLocalsInit]
internal struct Niels<T>
    where T : unmanaged, ILanes<T>
{
    /// <summary>Two limbs make a number of a table.</summary>
    public const int Pairs = Field<T>.Limbs / 2;

    public Field<T> Sum, Difference, Product;

    /// <param name="entries">Of a table, one for each lane.</param>
    /// <param name="negative">All bits where the negative of the entry is meant: y + x and y - x change places, and 2dxy its sign.</param>
    public Niels(ref ulong entries, T negative)
    {
        T.Transpose(ref entries, out var columns);
        var (s0, s1, s2, s3, s4) = (columns[0], columns[1], columns[2], columns[3], columns[4]);
        var (d0, d1, d2, d3, d4) = (columns[5], columns[6], columns[7], columns[8], columns[9]);
        var (p0, p1, p2, p3, p4) = (columns[10], columns[11], columns[12], columns[13], columns[14]);
        Sum = Field<T>.Unpack(T.Select(negative, d0, s0), T.Select(negative, d1, s1), T.Select(negative, d2, s2), T.Select(negative, d3, s3), T.Select(negative, d4, s4));
        Difference = Field<T>.Unpack(T.Select(negative, s0, d0), T.Select(negative, s1, d1), T.Select(negative, s2, d2), T.Select(negative, s3, d3), T.Select(negative, s4, d4));
        // 2p - 2dxy in both halves at once: no limb of 2p is the smaller one.
        var twiceP = T.All(((1UL << 27) - 2) | (((1UL << 26) - 2) << 32));
        var twiceP0 = T.All(((1UL << 27) - 38) | (((1UL << 26) - 2) << 32));
        Product = Field<T>.Unpack(
            T.Select(negative, T.Subtract(twiceP0, p0), p0), T.Select(negative, T.Subtract(twiceP, p1), p1), T.Select(negative, T.Subtract(twiceP, p2), p2),
            T.Select(negative, T.Subtract(twiceP, p3), p3), T.Select(negative, T.Subtract(twiceP, p4), p4));
    }
}

/// <summary>A point that is added more than once: Y + X, Y - X, 2d XY, 2Z.</summary>
[SkipLocalsInit]
internal struct Prepared<T>
    where T : unmanaged, ILanes<T>
{
    public Field<T> Sum, Difference, Product, TwiceZ;

    public Prepared(in Point<T> p)
    {
        Field<T>.Add(out Sum, p.Y, p.X);
        Field<T>.Reduce(out Sum, Sum);
        Field<T>.Subtract(out Difference, p.Y, p.X);
        Field<T>.Reduce(out Difference, Difference);
        Field<T>.Multiply(out Product, p.XY, Field<T>.All(Curve.TwiceD));
        Field<T>.Add(out TwiceZ, p.Z, p.Z);
        Field<T>.Reduce(out TwiceZ, TwiceZ);
    }
}
