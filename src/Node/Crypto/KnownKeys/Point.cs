using System.Runtime.CompilerServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Points of the curve, one per lane: x = X/Z, y = Y/Z, xy = XY/Z (Hisil, Wong, Carter, Dawson: Twisted Edwards curves revisited, 2008). The
/// formulas are complete for this curve: they need no exception for equal, opposite or neutral points.
/// </summary>
[SkipLocalsInit]
internal struct Point<F>
    where F : unmanaged, IField<F>
{
    public F X, Y, Z, XY;

    /// <summary>A point of a table.</summary>
    public Point(in Niels<F> q)
    {
        F.Subtract(out X, q.Sum, q.Difference);
        F.Reduce(out X, X);
        F.Add(out Y, q.Sum, q.Difference);
        F.Reduce(out Y, Y);
        Z = Numbers<F>.All(Field51.One);
        F.Multiply(out XY, X, Y);
    }

    /// <summary>Adds a point of a table: seven multiplications. Its coordinates are halves, so the sum's are quarters of what the formulas give: the same point.</summary>
    public void Add(in Niels<F> q)
    {
        F.Subtract(out var t, Y, X);
        F.Multiply(out var a, t, q.Difference);
        F.Add(out t, Y, X);
        F.Multiply(out var b, t, q.Sum);
        F.Multiply(out var c, XY, q.Product);
        Complete(a, b, c, Z);
    }

    /// <summary>Adds any point.</summary>
    public void Add(in Prepared<F> q)
    {
        F.Subtract(out var t, Y, X);
        F.Multiply(out var a, t, q.Difference);
        F.Add(out t, Y, X);
        F.Multiply(out var b, t, q.Sum);
        F.Multiply(out var c, XY, q.Product);
        F.Multiply(out var d, Z, q.TwiceZ);
        Complete(a, b, c, d);
    }

    private void Complete(in F a, in F b, in F c, in F d)
    {
        F.Subtract(out var e, b, a);
        F.Subtract(out var f, d, c);
        F.Reduce(out f, f);
        F.Add(out var g, d, c);
        F.Add(out var h, b, a);
        F.Reduce(out h, h);
        Multiply(e, f, g, h);
    }

    /// <param name="e">Two units, like g.</param>
    /// <param name="f">One unit, like h.</param>
    private void Multiply(in F e, in F f, in F g, in F h)
    {
        F.Multiply(out X, e, f);
        F.Multiply(out Y, g, h);
        F.Multiply(out XY, e, h);
        F.Multiply(out Z, g, f);
    }

    public void Double()
    {
        F.Square(out var xx, X);
        F.Square(out var yy, Y);
        F.Square(out var zz, Z);
        F.Add(out var t, X, Y);
        F.Reduce(out t, t);
        F.Square(out var both, t);
        F.Add(out var h, yy, xx);
        F.Reduce(out h, h);
        F.Subtract(out var g, yy, xx);
        F.Reduce(out g, g);
        F.Subtract(out var e, both, h);
        F.Add(out zz, zz, zz);
        F.Subtract(out var f, zz, g);
        F.Reduce(out f, f);
        Multiply(e, f, g, h);
    }
}

/// <summary>A point with z = 1, as tables hold it: (y + x) / 2, (y - x) / 2, dxy.</summary>
internal struct Niels<F>
    where F : unmanaged, IField<F>
{
    public F Sum, Difference, Product;
}

/// <summary>Any point, ready to be added: Y + X, Y - X, 2d XY, 2Z.</summary>
[SkipLocalsInit]
internal struct Prepared<F>
    where F : unmanaged, IField<F>
{
    public F Sum, Difference, Product, TwiceZ;

    public Prepared(in Point<F> p)
    {
        F.Add(out Sum, p.Y, p.X);
        F.Reduce(out Sum, Sum);
        F.Subtract(out Difference, p.Y, p.X);
        F.Reduce(out Difference, Difference);
        F.Multiply(out Product, p.XY, Numbers<F>.All(Curve.TwiceD));
        F.Add(out TwiceZ, p.Z, p.Z);
    }
}
