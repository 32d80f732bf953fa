using System;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// A JSON number read exactly from its text, in units of 1e-18. Digits below that are cut and remembered in
/// <see cref="Exact"/>; a magnitude of 1e18 or more is only <see cref="TooLarge"/>.
/// </summary>
public readonly record struct JsonNumber(bool Negative, UInt128 Units, bool Exact, bool TooLarge)
{
    private const int Scale = 18;
    private const int DigitsMax = 36;
    private const int ExponentMax = 100_000;
    private static readonly UInt128 One = 1_000_000_000_000_000_000;
    private static readonly UInt128 Limit = One * One;
    private static readonly UInt128 TenthOfLimit = Limit / 10;

    /// <summary>The value as an integer from 0 to <paramref name="max"/>; false when it is anything else.</summary>
    public bool IsInteger(uint max, out uint value)
    {
        value = 0;
        if ((Negative && Units != 0) || TooLarge || !Exact || Units > max * One) return false;
        var whole = Units / One;
        if (whole * One != Units) return false;
        value = (uint)whole;
        return true;
    }

    /// <summary>Reads the text of a number token that a JSON reader has already found well formed.</summary>
    public static JsonNumber Parse(ReadOnlySpan<byte> text)
    {
        var negative = text is [(byte)'-', ..];
        if (negative) text = text[1..];
        UInt128 coefficient = 0;
        int digits = 0, exponent = 0;
        var exact = true;
        var fraction = false;
        var i = 0;
        for (; i < text.Length && text[i] is not ((byte)'e' or (byte)'E'); i++)
        {
            if (text[i] == '.')
            {
                fraction = true;
                continue;
            }

            var digit = text[i] - '0';
            if (digits < DigitsMax)
            {
                coefficient = coefficient * 10 + (uint)digit;
                if (coefficient != 0) digits++;
                if (fraction) exponent--;
            }
            else
            {
                if (digit != 0) exact = false;
                if (!fraction) exponent++;
            }
        }

        if (i < text.Length) exponent += ParseExponent(text[(i + 1)..]);
        return Rescale(negative, coefficient, exponent + Scale, exact);
    }

    private static int ParseExponent(ReadOnlySpan<byte> text)
    {
        var negative = text is [(byte)'-', ..];
        if (text is [(byte)'-' or (byte)'+', ..]) text = text[1..];
        var value = 0;
        foreach (var c in text) value = Math.Min(ExponentMax, value * 10 + (c - '0'));
        return negative ? -value : value;
    }

    private static JsonNumber Rescale(bool negative, UInt128 coefficient, int exponent, bool exact)
    {
        if (coefficient == 0) return new JsonNumber(negative, 0, exact, false);
        for (; exponent > 0; exponent--)
        {
            if (coefficient >= TenthOfLimit) return new JsonNumber(negative, Limit, exact, true);
            coefficient *= 10;
        }

        for (; exponent < 0 && coefficient != 0; exponent++)
        {
            if (coefficient % 10 != 0) exact = false;
            coefficient /= 10;
        }

        return new JsonNumber(negative, coefficient, exact, coefficient >= Limit);
    }
}
