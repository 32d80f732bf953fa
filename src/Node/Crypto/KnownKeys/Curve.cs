using System;
using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>The constants of edwards25519 (RFC 8032, 5.1), computed from their definitions, and the encoding of numbers modulo p.</summary>
internal static class Curve
{
    public static readonly BigInteger P = BigInteger.Pow(2, 255) - 19;

    /// <summary>The order of the base point.</summary>
    public static readonly BigInteger L = BigInteger.Pow(2, 252) + BigInteger.Parse("27742317777372353535851937790883648493", CultureInfo.InvariantCulture);

    /// <summary>-x^2 + y^2 = 1 + d x^2 y^2.</summary>
    public static readonly ulong[] D = Limbs(Quotient(-121665, 121666));

    public static readonly ulong[] TwiceD = Limbs(2 * Quotient(-121665, 121666));

    public static readonly ulong[] RootOfMinusOne = Limbs(BigInteger.ModPow(2, (P - 1) / 4, P));

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

    public static ulong[] Limbs(BigInteger value)
    {
        var limbs = new ulong[Field<Lanes1>.Limbs];
        ToLimbs(Encode(Modulo(value)), limbs);
        return limbs;
    }

    /// <summary>The lower 255 bits; the highest is somebody else's.</summary>
    public static void ToLimbs(ReadOnlySpan<byte> bytes, Span<ulong> limbs)
    {
        const ulong low26 = (1UL << 26) - 1;
        const ulong low25 = (1UL << 25) - 1;
        var (w0, w1) = (BinaryPrimitives.ReadUInt64LittleEndian(bytes), BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]));
        var (w2, w3) = (BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]));
        limbs[0] = w0 & low26;
        limbs[1] = (w0 >> 26) & low25;
        limbs[2] = ((w0 >> 51) | (w1 << 13)) & low26;
        limbs[3] = (w1 >> 13) & low25;
        limbs[4] = w1 >> 38;
        limbs[5] = w2 & low25;
        limbs[6] = (w2 >> 25) & low26;
        limbs[7] = ((w2 >> 51) | (w3 << 13)) & low25;
        limbs[8] = (w3 >> 12) & low26;
        limbs[9] = (w3 >> 38) & low25;
    }

    /// <summary>The one encoding of a number whose limbs are those of a product.</summary>
    /// <param name="stride">How far its limbs are apart.</param>
    public static void ToBytes(ReadOnlySpan<ulong> limbs, int stride, Span<byte> bytes)
    {
        var (h0, h1, h2, h3, h4) = (limbs[0], limbs[stride], limbs[2 * stride], limbs[3 * stride], limbs[4 * stride]);
        var (h5, h6, h7, h8, h9) = (limbs[5 * stride], limbs[6 * stride], limbs[7 * stride], limbs[8 * stride], limbs[9 * stride]);
        // 2^255 is 19 modulo p. After the first turn it is below 2^255 and 19 times the little that went beyond, after the second below 2^255.
        var beyond = Carry(ref h0, ref h1, ref h2, ref h3, ref h4, ref h5, ref h6, ref h7, ref h8, ref h9);
        h0 += 19 * beyond; // not in one: h0 would be read before it changes
        beyond = Carry(ref h0, ref h1, ref h2, ref h3, ref h4, ref h5, ref h6, ref h7, ref h8, ref h9);
        h0 += 19 * beyond;
        // If it is p or more, 19 more make a carry; subtracting p is adding 19 and forgetting that.
        var (m0, m1, m2, m3, m4, m5, m6, m7, m8, m9) = (h0 + 19, h1, h2, h3, h4, h5, h6, h7, h8, h9);
        if (Carry(ref m0, ref m1, ref m2, ref m3, ref m4, ref m5, ref m6, ref m7, ref m8, ref m9) == 1) (h0, h1, h2, h3, h4, h5, h6, h7, h8, h9) = (m0, m1, m2, m3, m4, m5, m6, m7, m8, m9);
        else Carry(ref h0, ref h1, ref h2, ref h3, ref h4, ref h5, ref h6, ref h7, ref h8, ref h9);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, h0 | (h1 << 26) | (h2 << 51));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], (h2 >> 13) | (h3 << 13) | (h4 << 38));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], h5 | (h6 << 25) | (h7 << 51));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[24..], (h7 >> 13) | (h8 << 12) | (h9 << 38));
    }

    /// <returns>What goes beyond 2^255.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Carry(
        ref ulong h0, ref ulong h1, ref ulong h2, ref ulong h3, ref ulong h4, ref ulong h5, ref ulong h6, ref ulong h7, ref ulong h8, ref ulong h9)
    {
        const ulong low26 = (1UL << 26) - 1;
        const ulong low25 = (1UL << 25) - 1;
        (h1, h0) = (h1 + (h0 >> 26), h0 & low26);
        (h2, h1) = (h2 + (h1 >> 25), h1 & low25);
        (h3, h2) = (h3 + (h2 >> 26), h2 & low26);
        (h4, h3) = (h4 + (h3 >> 25), h3 & low25);
        (h5, h4) = (h5 + (h4 >> 26), h4 & low26);
        (h6, h5) = (h6 + (h5 >> 25), h5 & low25);
        (h7, h6) = (h7 + (h6 >> 26), h6 & low26);
        (h8, h7) = (h8 + (h7 >> 25), h7 & low25);
        (h9, h8) = (h9 + (h8 >> 26), h8 & low26);
        (var beyond, h9) = (h9 >> 25, h9 & low25);
        return beyond;
    }
}
