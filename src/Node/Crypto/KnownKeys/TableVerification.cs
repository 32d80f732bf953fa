using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Accepts a signature when R' = s B - k A, encoded, is R byte for byte, s is below L and R is not of small order; A was checked when its table was
/// made. That is what libsodium accepts at most (README.md says why); what is not accepted here counts as refused only when libsodium says so too.
/// </summary>
[SkipLocalsInit]
internal abstract class TableVerification
{
    /// <summary>More are done in runs of so many: one inversion is shared by a run, and its points stand on the stack.</summary>
    public const int RunMax = 64;

    protected const int DigitsPerSignature = 2 * Scalars.Windows;

    /// <summary>Those that this machine can do, the quickest first.</summary>
    public static IReadOnlyList<TableVerification> Widths { get; } =
    [
        .. Lanes8.IsSupported ? [new TableVerification<FieldLanes<Lanes8>>("AVX-512")] : Array.Empty<TableVerification>(),
        .. Lanes4.IsSupported ? [new TableVerification<FieldLanes<Lanes4>>("AVX2")] : Array.Empty<TableVerification>(),
        new TableVerification<Field51>("scalar"),
    ];

    public abstract string Instructions { get; }

    public abstract int Lanes { get; }

    public abstract bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table);

    /// <param name="tables">Of the key of each check.</param>
    public abstract void Verify(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted);

    /// <summary>The digits of s, then those of k = SHA-512(R, A, message) mod L.</summary>
    /// <returns>False when s is not below L.</returns>
    protected static bool TryPrepare(PublicKey key, ReadOnlySpan<byte> message, Signature signature, Span<sbyte> digits)
    {
        Span<byte> scalar = stackalloc byte[32];
        signature.S.CopyTo(scalar);
        if (!Scalars.IsCanonical(scalar))
        {
            digits.Clear();
            return false;
        }

        Scalars.Digits(scalar, digits);
        Span<byte> wide = stackalloc byte[64];
        signature.R.CopyTo(wide);
        key.CopyTo(wide[Bytes32.Size..]);
        OpenSslHash.Sha512(wide, message, wide);
        Scalars.Reduce(wide, scalar);
        Scalars.Digits(scalar, digits[Scalars.Windows..]);
        return true;
    }

    /// <summary>Encodes the point and compares.</summary>
    protected static bool IsR(in Field51 x, in Field51 y, in Field51 inverseOfZ, Signature signature)
    {
        Field51.Multiply(out var number, x, inverseOfZ);
        Span<byte> encoded = stackalloc byte[32];
        number.ToBytes(encoded);
        var sign = (byte)((encoded[0] & 1) << 7);
        Field51.Multiply(out number, y, inverseOfZ);
        number.ToBytes(encoded);
        encoded[31] |= sign;
        return signature.R == Bytes32.From(encoded) && !IsOfSmallOrder(encoded);
    }

    /// <summary>The encodings of the eight points of small order: y is 0, 1, -1 or a coordinate of the points of order 8.</summary>
    private static bool IsOfSmallOrder(ReadOnlySpan<byte> encoded)
    {
        Span<byte> y = stackalloc byte[32];
        encoded.CopyTo(y);
        y[31] &= 0x7f;
        foreach (var small in Curve.SmallOrder)
            if (y.SequenceEqual(small))
                return true;
        return false;
    }
}

/// <summary>As many side by side as there are lanes.</summary>
[SkipLocalsInit]
internal sealed class TableVerification<F>(string instructions) : TableVerification
    where F : unmanaged, IField<F>
{
    public override string Instructions => instructions;

    public override int Lanes => F.Lanes;

    public override bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table) => VerifyOne(key, message, signature, table);

    public override void Verify(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
    {
        // One signature over all lanes is quicker than lanes that stay empty.
        if (checks.Length <= 2)
        {
            for (var i = 0; i < checks.Length; i++) accepted[i] = VerifyOne(checks[i].Key, checks[i].Message.Span, checks[i].Signature, tables[i]);
            return;
        }

        for (var from = 0; from < checks.Length; from += RunMax)
        {
            var count = Math.Min(RunMax, checks.Length - from);
            VerifyRun(checks.Slice(from, count), tables.Slice(from, count), accepted.Slice(from, count));
        }
    }

    /// <summary>A signature per lane; what is left to do after the sums is done one by one, with one inversion for all.</summary>
    private static void VerifyRun(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
    {
        Span<sbyte> digits = stackalloc sbyte[RunMax * DigitsPerSignature];
        for (var i = 0; i < checks.Length; i++) accepted[i] = TryPrepare(checks[i].Key, checks[i].Message.Span, checks[i].Signature, digits.Slice(i * DigitsPerSignature, DigitsPerSignature));
        Span<Field51> x = stackalloc Field51[checks.Length];
        Span<Field51> y = stackalloc Field51[checks.Length];
        Span<Field51> z = stackalloc Field51[checks.Length];
        for (var i = 0; i < checks.Length; i += F.Lanes)
        {
            var count = Math.Min(F.Lanes, checks.Length - i);
            SumInLanes(digits.Slice(i * DigitsPerSignature, count * DigitsPerSignature), tables.Slice(i, count), out var sum);
            F.Store(sum.X, x[i..]);
            F.Store(sum.Y, y[i..]);
            F.Store(sum.Z, z[i..]);
        }

        Span<Field51> prefixes = stackalloc Field51[checks.Length];
        Numbers<Field51>.InvertAll(z, prefixes);
        for (var i = 0; i < checks.Length; i++) accepted[i] = accepted[i] && IsR(x[i], y[i], z[i], checks[i].Signature);
    }

    /// <summary>The 64 terms of one sum spread over the lanes, which are added up at the end.</summary>
    private static bool VerifyOne(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table)
    {
        Span<sbyte> digits = stackalloc sbyte[DigitsPerSignature];
        if (!TryPrepare(key, message, signature, digits)) return false;
        var (bases, keys) = (default(TableOfLane), default(TableOfLane));
        for (var lane = 0; lane < F.Lanes; lane++) (bases[lane], keys[lane]) = (KeyTable.Base, table);
        Span<int> entries = stackalloc int[DigitsPerSignature];
        for (var term = 0; term < DigitsPerSignature; term++)
        {
            entries[term] = KeyTable.EntryOf(term % Scalars.Windows, digits[term]);
            (term < Scalars.Windows ? KeyTable.Base : table).Prefetch(entries[term]);
        }

        F.Take(bases, entries, out var points);
        var sum = new Point<F>(points);
        for (var term = F.Lanes; term < DigitsPerSignature; term += F.Lanes)
        {
            if (term < Scalars.Windows) F.Take(bases, entries[term..], out points);
            else F.Take(keys, entries[term..], out points);
            sum.Add(points);
        }

        for (var half = F.Lanes / 2; half > 0; half /= 2)
        {
            var other = new Point<F> { X = Moved(sum.X, half), Y = Moved(sum.Y, half), Z = Moved(sum.Z, half), XY = Moved(sum.XY, half) };
            sum.Add(new Prepared<F>(other));
        }

        Span<Field51> first = stackalloc Field51[3];
        F.Store(sum.X, first[..1]);
        F.Store(sum.Y, first.Slice(1, 1));
        F.Store(sum.Z, first[2..]);
        Numbers<Field51>.Invert(out var inverse, first[2]);
        return IsR(first[0], first[1], inverse, signature);
    }

    /// <summary>Each lane gets what stood so many lanes above it.</summary>
    private static F Moved(in F value, int lanes)
    {
        Span<Field51> numbers = stackalloc Field51[F.Lanes];
        F.Store(value, numbers);
        numbers[lanes..(2 * lanes)].CopyTo(numbers);
        return F.Load(numbers);
    }

    private const int LanesMax = 8;

    [InlineArray(LanesMax)]
    private struct TableOfLane
    {
        private KeyTable _first;
    }

    /// <summary>As many sums as there are lanes, or fewer.</summary>
    private static void SumInLanes(ReadOnlySpan<sbyte> digits, ReadOnlySpan<KeyTable> tables, out Point<F> sum)
    {
        // Lanes without a signature add the same as the last one with one.
        var (bases, keys) = (default(TableOfLane), default(TableOfLane));
        for (var lane = 0; lane < F.Lanes; lane++) (bases[lane], keys[lane]) = (KeyTable.Base, tables[Math.Min(lane, tables.Length - 1)]);
        Span<int> ofBase = stackalloc int[LanesMax];
        Span<int> ofKey = stackalloc int[LanesMax];
        Choose(digits, 0, tables.Length, bases, ofBase[..F.Lanes]);
        Choose(digits[Scalars.Windows..], 0, tables.Length, keys, ofKey[..F.Lanes]);
        F.Take(bases, ofBase, out var points);
        sum = new Point<F>(points);
        for (var window = 1; window < Scalars.Windows; window++)
        {
            // The tables are larger than the nearest caches: an entry is asked for a turn before it is added.
            Choose(digits[window..], window, tables.Length, bases, ofBase[..F.Lanes]);
            F.Take(keys, ofKey, out points);
            sum.Add(points);
            Choose(digits[(Scalars.Windows + window)..], window, tables.Length, keys, ofKey[..F.Lanes]);
            F.Take(bases, ofBase, out points);
            sum.Add(points);
        }

        F.Take(keys, ofKey, out points);
        sum.Add(points);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Choose(ReadOnlySpan<sbyte> digits, int window, int signatures, in TableOfLane tables, Span<int> entries)
    {
        for (var lane = 0; lane < entries.Length; lane++)
        {
            entries[lane] = KeyTable.EntryOf(window, digits[Math.Min(lane, signatures - 1) * DigitsPerSignature]);
            tables[lane].Prefetch(entries[lane]);
        }
    }
}
