using System;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>What is the same for every field.</summary>
internal static class Numbers<F>
    where F : unmanaged, IField<F>
{
    /// <summary>The same number in every lane.</summary>
    public static F All(Field51 number)
    {
        Span<Field51> lanes = stackalloc Field51[F.Lanes];
        lanes.Fill(number);
        return F.Load(lanes);
    }

    /// <summary>f^(p - 2): the inverse, by Fermat; zero of zero.</summary>
    public static void Invert(out F result, in F f)
    {
        PowerOf250(out var t, out var eleventh, f);
        SquareTimes(out t, t, 5);
        F.Multiply(out result, t, eleventh);
    }

    /// <summary>f^((p - 5) / 8), of which square roots are made (RFC 8032, 5.1.3).</summary>
    public static void PowerForRoot(out F result, in F f)
    {
        PowerOf250(out var t, out _, f);
        SquareTimes(out t, t, 2);
        F.Multiply(out result, t, f);
    }

    /// <summary>All of them for the price of one and three multiplications each (Montgomery's trick); none may be zero.</summary>
    /// <param name="prefixes">Room for as many.</param>
    public static void InvertAll(Span<F> values, Span<F> prefixes)
    {
        // Prefix i is the product of the first i + 1.
        prefixes[0] = values[0];
        for (var i = 1; i < values.Length; i++) F.Multiply(out prefixes[i], prefixes[i - 1], values[i]);
        Invert(out var rest, prefixes[values.Length - 1]);
        for (var i = values.Length - 1; i > 0; i--)
        {
            F.Multiply(out var inverse, rest, prefixes[i - 1]);
            F.Multiply(out rest, rest, values[i]);
            values[i] = inverse;
        }

        values[0] = rest;
    }

    /// <summary>f^(2^250 - 1), and f^11 on the way: the beginning of both powers.</summary>
    private static void PowerOf250(out F result, out F eleventh, in F f)
    {
        F.Square(out var second, f);
        SquareTimes(out var t, second, 2);
        F.Multiply(out var ninth, t, f);
        F.Multiply(out eleventh, ninth, second);
        F.Square(out t, eleventh);
        F.Multiply(out var to5, t, ninth); // 2^5 - 1
        SquareTimes(out t, to5, 5);
        F.Multiply(out var to10, t, to5);
        SquareTimes(out t, to10, 10);
        F.Multiply(out var to20, t, to10);
        SquareTimes(out t, to20, 20);
        F.Multiply(out var to40, t, to20);
        SquareTimes(out t, to40, 10);
        F.Multiply(out var to50, t, to10);
        SquareTimes(out t, to50, 50);
        F.Multiply(out var to100, t, to50);
        SquareTimes(out t, to100, 100);
        F.Multiply(out var to200, t, to100);
        SquareTimes(out t, to200, 50);
        F.Multiply(out result, t, to50);
    }

    private static void SquareTimes(out F result, in F f, int times)
    {
        F.Square(out result, f);
        for (var i = 1; i < times; i++) F.Square(out result, result);
    }
}
