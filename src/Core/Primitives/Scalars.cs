using System;
using System.Globalization;

namespace CyberMesh.Core.Primitives;

/// <summary>The place a validator keeps for life in the sets it belongs to.</summary>
public readonly record struct ValidatorIndex(ushort Value) : IComparable<ValidatorIndex>
{
    /// <summary>Of a process that holds no key of the set: it follows the chain and signs nothing.</summary>
    public static readonly ValidatorIndex None = new(ushort.MaxValue);

    public int CompareTo(ValidatorIndex other) => Value.CompareTo(other.Value);

    public override string ToString() => Value.ToString(CultureInfo.InvariantCulture);
}

/// <summary>Position of a block in the chain; genesis is 0.</summary>
public readonly record struct Height(ulong Value) : IComparable<Height>
{
    public Height Next => new(Value + 1);

    public Height Plus(ulong distance) => new(Value + distance);

    /// <summary>The height <paramref name="distance"/> below, or genesis.</summary>
    public Height Minus(ulong distance) => new(Value > distance ? Value - distance : 0);

    public int CompareTo(Height other) => Value.CompareTo(other.Value);

    public static bool operator <(Height left, Height right) => left.Value < right.Value;
    public static bool operator >(Height left, Height right) => left.Value > right.Value;
    public static bool operator <=(Height left, Height right) => left.Value <= right.Value;
    public static bool operator >=(Height left, Height right) => left.Value >= right.Value;

    public override string ToString() => Value.ToString(CultureInfo.InvariantCulture);
}

/// <summary>A view: the attempt-th leader of a term. Ordered by term, then attempt.</summary>
public readonly record struct View(ulong Term, uint Attempt) : IComparable<View>
{
    public View Next => new(Term, Attempt + 1);

    public int CompareTo(View other) => Term != other.Term ? Term.CompareTo(other.Term) : Attempt.CompareTo(other.Attempt);

    public static bool operator <(View left, View right) => left.CompareTo(right) < 0;
    public static bool operator >(View left, View right) => left.CompareTo(right) > 0;
    public static bool operator <=(View left, View right) => left.CompareTo(right) <= 0;
    public static bool operator >=(View left, View right) => left.CompareTo(right) >= 0;

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Term}.{Attempt}");
}

/// <summary>Milliseconds since the Unix epoch. Core never reads a clock: every timestamp is an argument or agreed data.</summary>
public readonly record struct Timestamp(long Milliseconds) : IComparable<Timestamp>
{
    public static Timestamp FromSeconds(long seconds) => new(seconds * 1000);

    public Timestamp PlusMs(long milliseconds) => new(Milliseconds + milliseconds);

    /// <summary>Milliseconds from <paramref name="earlier"/> to this.</summary>
    public long Since(Timestamp earlier) => Milliseconds - earlier.Milliseconds;

    public int CompareTo(Timestamp other) => Milliseconds.CompareTo(other.Milliseconds);

    public static bool operator <(Timestamp left, Timestamp right) => left.Milliseconds < right.Milliseconds;
    public static bool operator >(Timestamp left, Timestamp right) => left.Milliseconds > right.Milliseconds;
    public static bool operator <=(Timestamp left, Timestamp right) => left.Milliseconds <= right.Milliseconds;
    public static bool operator >=(Timestamp left, Timestamp right) => left.Milliseconds >= right.Milliseconds;

    public override string ToString() => Milliseconds.ToString(CultureInfo.InvariantCulture);
}
