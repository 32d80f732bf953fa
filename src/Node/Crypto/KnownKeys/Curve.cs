using System;
using System.Globalization;
using System.Numerics;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>The constants of edwards25519 (RFC 8032, 5.1), computed from their definitions.</summary>
internal static class Curve
{
    public static readonly BigInteger P = BigInteger.Pow(2, 255) - 19;

    /// <summary>The order of the base point.</summary>
    public static readonly BigInteger L = BigInteger.Pow(2, 252) + BigInteger.Parse("27742317777372353535851937790883648493", CultureInfo.InvariantCulture);

    /// <summary>-x^2 + y^2 = 1 + d x^2 y^2.</summary>
    public static readonly Field51 D = Number(Quotient(-121665, 121666));

    public static readonly Field51 TwiceD = Number(2 * Quotient(-121665, 121666));

    public static readonly Field51 Half = Number(Quotient(1, 2));

    public static readonly Field51 RootOfMinusOne = Number(BigInteger.ModPow(2, (P - 1) / 4, P));

    /// <summary>y is 4/5, x is even.</summary>
    public static readonly byte[] BasePoint = Encode(Quotient(4, 5));

    /// <summary>The y of the points whose order divides 8.</summary>
    public static readonly byte[][] SmallOrder =
    [
        Encode(0), Encode(1), Encode(P - 1),
        Convert.FromHexString("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        Convert.FromHexString("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ];

    public static BigInteger Quotient(BigInteger a, BigInteger b) => Modulo(a * BigInteger.ModPow(b, P - 2, P));

    private static BigInteger Modulo(BigInteger value) => ((value % P) + P) % P;

    /// <summary>32 bytes, the lowest first.</summary>
    public static byte[] Encode(BigInteger value)
    {
        var bytes = new byte[32];
        value.TryWriteBytes(bytes, out _, isUnsigned: true);
        return bytes;
    }

    public static Field51 Number(BigInteger value) => Field51.FromBytes(Encode(Modulo(value)));
}
