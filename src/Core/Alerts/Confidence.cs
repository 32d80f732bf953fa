using System;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// A confidence in [0, 1]. It arrives as an IEEE double and as JSON text; both are turned into integers with exact
/// arithmetic on the bits and digits, so no floating point ever decides anything validators must agree on.
/// </summary>
public readonly record struct Confidence
{
    private const ulong One = 1_000_000_000_000_000_000;

    /// <summary>1e-6 in units of 1e-18: how far field and payload may differ.</summary>
    private const ulong Tolerance = One / 1_000_000;

    private readonly ulong _mantissa;
    private readonly int _shift;

    private Confidence(ulong mantissa, int shift)
    {
        _mantissa = mantissa;
        _shift = shift;
    }

    /// <summary>From the bits of a double; false for NaN, infinities, negatives and anything above 1.</summary>
    public static bool TryFromBits(ulong bits, out Confidence confidence)
    {
        confidence = default;
        if (bits is 0 or 1UL << 63) return true;
        var exponent = (int)(bits >> 52 & 0x7ff);
        var fraction = bits & (1UL << 52) - 1;
        if (bits >> 63 == 1 || exponent > 1023 || (exponent == 1023 && fraction != 0)) return false;
        // value = mantissa / 2^shift; subnormals have no implicit bit
        confidence = exponent == 0 ? new Confidence(fraction, 1074) : new Confidence(fraction | 1UL << 52, 1075 - exponent);
        return true;
    }

    /// <summary>Ten-thousandths, rounded half to even: the form in agreed state.</summary>
    public uint BasisPoints
    {
        get
        {
            if (_shift >= 127) return 0;
            var scaled = (UInt128)_mantissa * 10_000;
            var whole = (uint)(scaled >> _shift);
            var rest = scaled & ((UInt128.One << _shift) - 1);
            if (_shift == 0) return whole;
            var half = UInt128.One << (_shift - 1);
            var up = rest > half || (rest == half && (whole & 1) == 1);
            return up ? whole + 1 : whole;
        }
    }

    /// <summary>True when a number written in JSON is within 1e-6 of this value.</summary>
    public bool IsNear(JsonNumber number)
    {
        if (number.Negative || number.TooLarge) return number.Negative && number.Units <= Tolerance && Units <= Tolerance;
        var units = Units;
        return (units > number.Units ? units - number.Units : number.Units - units) <= Tolerance;
    }

    private UInt128 Units => _shift >= 127 ? 0 : (UInt128)_mantissa * One >> _shift;
}
