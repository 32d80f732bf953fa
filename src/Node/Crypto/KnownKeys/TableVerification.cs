using System;
using System.Buffers;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Accepts a signature when R' = s B - k A, encoded, is R byte for byte, s is below L and R is not of small order; A was checked when its table was
/// made. That is what libsodium accepts at most (README.md says why); what is not accepted here counts as refused only when libsodium says so too.
/// </summary>
[SkipLocalsInit]
internal static class TableVerification
{
    /// <summary>More are done in runs of so many: one inversion is shared by a run, and its points stand on the stack.</summary>
    public const int RunMax = 64;

    private const int DigitsPerSignature = 2 * Scalars.Windows;

    /// <summary>The widest that this machine has.</summary>
    public static string Instructions => Lanes8.IsSupported ? "AVX-512" : Lanes4.IsSupported ? "AVX2" : "scalar";

    public static bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table) =>
        Lanes8.IsSupported ? VerifyOne<FieldLanes<Lanes8>>(key, message, signature, table)
        : Lanes4.IsSupported ? VerifyOne<FieldLanes<Lanes4>>(key, message, signature, table)
        : VerifyOne<Field51>(key, message, signature, table);

    /// <param name="tables">Of the key of each check.</param>
    public static void Verify(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
    {
        if (Lanes8.IsSupported) Verify<FieldLanes<Lanes8>>(checks, tables, accepted);
        else if (Lanes4.IsSupported) Verify<FieldLanes<Lanes4>>(checks, tables, accepted);
        else Verify<Field51>(checks, tables, accepted);
    }

    internal static void Verify<F>(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
        where F : unmanaged, IField<F>
    {
        // One signature over all lanes is quicker than lanes that stay empty.
        if (checks.Length <= 2)
        {
            for (var i = 0; i < checks.Length; i++) accepted[i] = VerifyOne<F>(checks[i].Key, checks[i].Message.Span, checks[i].Signature, tables[i]);
            return;
        }

        for (var from = 0; from < checks.Length; from += RunMax)
        {
            var count = Math.Min(RunMax, checks.Length - from);
            VerifyRun<F>(checks.Slice(from, count), tables.Slice(from, count), accepted.Slice(from, count));
        }
    }

    /// <summary>A signature per lane; what is left to do after the sums is done one by one, with one inversion for all.</summary>
    private static void VerifyRun<F>(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
        where F : unmanaged, IField<F>
    {
        Span<sbyte> digits = stackalloc sbyte[RunMax * DigitsPerSignature];
        for (var i = 0; i < checks.Length; i++) accepted[i] = TryPrepare(checks[i].Key, checks[i].Message.Span, checks[i].Signature, digits.Slice(i * DigitsPerSignature, DigitsPerSignature));
        Span<Field51> x = stackalloc Field51[checks.Length];
        Span<Field51> y = stackalloc Field51[checks.Length];
        Span<Field51> z = stackalloc Field51[checks.Length];
        for (var i = 0; i < checks.Length; i += F.Lanes)
        {
            var count = Math.Min(F.Lanes, checks.Length - i);
            SumInLanes<F>(digits.Slice(i * DigitsPerSignature, count * DigitsPerSignature), tables.Slice(i, count), out var sum);
            F.Store(sum.X, x[i..]);
            F.Store(sum.Y, y[i..]);
            F.Store(sum.Z, z[i..]);
        }

        Span<Field51> prefixes = stackalloc Field51[checks.Length];
        Numbers<Field51>.InvertAll(z, prefixes);
        for (var i = 0; i < checks.Length; i++) accepted[i] = accepted[i] && IsR(x[i], y[i], z[i], checks[i].Signature);
    }

    /// <summary>The 64 terms of one sum spread over the lanes, which are added up at the end.</summary>
    internal static bool VerifyOne<F>(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table)
        where F : unmanaged, IField<F>
    {
        Span<sbyte> digits = stackalloc sbyte[DigitsPerSignature];
        if (!TryPrepare(key, message, signature, digits)) return false;
        var tables = default(TableOfLane);
        Span<int> entries = stackalloc int[LanesMax];
        var sum = default(Point<F>);
        for (var term = 0; term < DigitsPerSignature; term += F.Lanes)
        {
            for (var lane = 0; lane < F.Lanes; lane++)
            {
                tables[lane] = term + lane < Scalars.Windows ? KeyTable.Base : table;
                entries[lane] = KeyTable.EntryOf((term + lane) % Scalars.Windows, digits[term + lane]);
            }

            F.Take(tables, entries, out var points);
            if (term == 0) sum = new Point<F>(points);
            else sum.Add(points);
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
    private static F Moved<F>(in F value, int lanes)
        where F : unmanaged, IField<F>
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
    private static void SumInLanes<F>(ReadOnlySpan<sbyte> digits, ReadOnlySpan<KeyTable> tables, out Point<F> sum)
        where F : unmanaged, IField<F>
    {
        // Lanes without a signature add the same as the last one with one.
        var (bases, keys) = (default(TableOfLane), default(TableOfLane));
        for (var lane = 0; lane < F.Lanes; lane++) (bases[lane], keys[lane]) = (KeyTable.Base, tables[Math.Min(lane, tables.Length - 1)]);
        Span<int> entries = stackalloc int[LanesMax];
        sum = default;
        for (var window = 0; window < Scalars.Windows; window++)
        {
            Choose(digits[window..], window, tables.Length, entries[..F.Lanes]);
            F.Take(bases, entries, out var points);
            if (window == 0) sum = new Point<F>(points);
            else sum.Add(points);
            Choose(digits[(Scalars.Windows + window)..], window, tables.Length, entries[..F.Lanes]);
            F.Take(keys, entries, out points);
            sum.Add(points);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Choose(ReadOnlySpan<sbyte> digits, int window, int signatures, Span<int> entries)
    {
        for (var lane = 0; lane < entries.Length; lane++) entries[lane] = KeyTable.EntryOf(window, digits[Math.Min(lane, signatures - 1) * DigitsPerSignature]);
    }

    /// <summary>The digits of s, then those of k = SHA-512(R, A, message) mod L.</summary>
    /// <returns>False when s is not below L.</returns>
    private static bool TryPrepare(PublicKey key, ReadOnlySpan<byte> message, Signature signature, Span<sbyte> digits)
    {
        const int head = 2 * Bytes32.Size;
        Span<byte> scalar = stackalloc byte[32];
        signature.S.CopyTo(scalar);
        if (!Scalars.IsCanonical(scalar))
        {
            digits.Clear();
            return false;
        }

        Scalars.Digits(scalar, digits);
        var length = head + message.Length;
        byte[]? rented = null;
        var hashed = length <= 1024 ? stackalloc byte[1024] : rented = ArrayPool<byte>.Shared.Rent(length);
        signature.R.CopyTo(hashed);
        key.CopyTo(hashed[Bytes32.Size..]);
        message.CopyTo(hashed[head..]);
        Span<byte> wide = stackalloc byte[64];
        SHA512.HashData(hashed[..length], wide);
        if (rented is not null) ArrayPool<byte>.Shared.Return(rented);
        Scalars.Reduce(wide, scalar);
        Scalars.Digits(scalar, digits[Scalars.Windows..]);
        return true;
    }

    /// <summary>Encodes the point and compares.</summary>
    private static bool IsR(in Field51 x, in Field51 y, in Field51 inverseOfZ, Signature signature)
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
