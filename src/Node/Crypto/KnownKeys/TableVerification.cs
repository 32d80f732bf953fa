using System;
using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
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
    public static string Instructions => Avx512F.IsSupported ? "AVX-512" : Avx2.IsSupported ? "AVX2" : "scalar";

    public static bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table) =>
        Avx512F.IsSupported ? VerifyOne<Lanes8>(key, message, signature, table)
        : Avx2.IsSupported ? VerifyOne<Lanes4>(key, message, signature, table)
        : VerifyOne<Lanes1>(key, message, signature, table);

    /// <param name="tables">Of the key of each check.</param>
    public static void Verify(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
    {
        if (Avx512F.IsSupported) Verify<Lanes8>(checks, tables, accepted);
        else if (Avx2.IsSupported) Verify<Lanes4>(checks, tables, accepted);
        else Verify<Lanes1>(checks, tables, accepted);
    }

    internal static void Verify<T>(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
        where T : unmanaged, ILanes<T>
    {
        // One signature over all lanes is quicker than lanes that stay empty.
        if (checks.Length <= 2)
        {
            for (var i = 0; i < checks.Length; i++) accepted[i] = VerifyOne<T>(checks[i].Key, checks[i].Message.Span, checks[i].Signature, tables[i]);
            return;
        }

        for (var from = 0; from < checks.Length; from += RunMax)
        {
            var count = Math.Min(RunMax, checks.Length - from);
            VerifyRun<T>(checks.Slice(from, count), tables.Slice(from, count), accepted.Slice(from, count));
        }
    }

    /// <summary>A signature per lane; what is left to do after the sums is done one by one, with one inversion for all.</summary>
    private static void VerifyRun<T>(ReadOnlySpan<SignatureCheck> checks, ReadOnlySpan<KeyTable> tables, Span<bool> accepted)
        where T : unmanaged, ILanes<T>
    {
        Span<sbyte> digits = stackalloc sbyte[RunMax * DigitsPerSignature];
        for (var i = 0; i < checks.Length; i++) accepted[i] = TryPrepare(checks[i].Key, checks[i].Message.Span, checks[i].Signature, digits.Slice(i * DigitsPerSignature, DigitsPerSignature));
        Span<Field51> x = stackalloc Field51[checks.Length];
        Span<Field51> y = stackalloc Field51[checks.Length];
        Span<Field51> z = stackalloc Field51[checks.Length];
        for (var i = 0; i < checks.Length; i += T.Count)
        {
            var count = Math.Min(T.Count, checks.Length - i);
            SumInLanes<T>(digits.Slice(i * DigitsPerSignature, count * DigitsPerSignature), tables.Slice(i, count), x[i..], y[i..], z[i..]);
        }

        Field51.InvertAll(z);
        for (var i = 0; i < checks.Length; i++) accepted[i] = accepted[i] && IsR(x[i] * z[i], y[i] * z[i], checks[i].Signature);
    }

    /// <summary>The 64 terms of one sum spread over the lanes, which are added up at the end.</summary>
    internal static bool VerifyOne<T>(PublicKey key, ReadOnlySpan<byte> message, Signature signature, KeyTable table)
        where T : unmanaged, ILanes<T>
    {
        Span<sbyte> digits = stackalloc sbyte[DigitsPerSignature];
        if (!TryPrepare(key, message, signature, digits)) return false;
        var point = Point<T>.Neutral;
        Span<ulong> entries = stackalloc ulong[KeyTable.EntrySize * T.Count];
        Span<ulong> negative = stackalloc ulong[T.Count];
        for (var term = 0; term < DigitsPerSignature; term += T.Count)
        {
            for (var lane = 0; lane < T.Count; lane++)
            {
                var of = term + lane < Scalars.Windows ? KeyTable.Base : table;
                Take(of, (term + lane) % Scalars.Windows, digits[term + lane], lane, entries, negative);
            }

            point.Add(new Niels<T>(ref entries[0], T.Load(ref negative[0])));
        }

        Span<ulong> buffer = stackalloc ulong[2 * Field<T>.Limbs * T.Count];
        for (var half = T.Count / 2; half > 0; half /= 2)
        {
            var other = new Point<T> { X = Moved(point.X, half, buffer), Y = Moved(point.Y, half, buffer), Z = Moved(point.Z, half, buffer), XY = Moved(point.XY, half, buffer) };
            point.Add(new Prepared<T>(other));
        }

        Span<Field51> sum = stackalloc Field51[3];
        Spread(point.X, sum, 1);
        Spread(point.Y, sum[1..], 1);
        Spread(point.Z, sum[2..], 1);
        var inverse = sum[2].Inverted();
        return IsR(sum[0] * inverse, sum[1] * inverse, signature);
    }

    /// <summary>Each lane gets what stood so many lanes above it.</summary>
    private static Field<T> Moved<T>(in Field<T> value, int lanes, Span<ulong> buffer)
        where T : unmanaged, ILanes<T>
    {
        value.Store(ref buffer[0]);
        for (var i = 0; i < Field<T>.Limbs; i++)
            for (var lane = 0; lane < lanes; lane++)
                buffer[(i * T.Count) + lane] = buffer[(i * T.Count) + lane + lanes];
        return Field<T>.Load(ref buffer[0]);
    }

    /// <summary>As many sums as there are lanes, or fewer.</summary>
    private static void SumInLanes<T>(ReadOnlySpan<sbyte> digits, ReadOnlySpan<KeyTable> tables, Span<Field51> x, Span<Field51> y, Span<Field51> z)
        where T : unmanaged, ILanes<T>
    {
        Span<ulong> entries = stackalloc ulong[KeyTable.EntrySize * T.Count];
        Span<ulong> negative = stackalloc ulong[T.Count];
        var point = Point<T>.Neutral;
        for (var window = 0; window < Scalars.Windows; window++)
        {
            // Lanes without a signature add the same as the last one with one.
            for (var lane = 0; lane < T.Count; lane++)
                Take(KeyTable.Base, window, digits[(Math.Min(lane, tables.Length - 1) * DigitsPerSignature) + window], lane, entries, negative);
            point.Add(new Niels<T>(ref entries[0], T.Load(ref negative[0])));
            for (var lane = 0; lane < tables.Length; lane++)
                Take(tables[lane], window, digits[(lane * DigitsPerSignature) + Scalars.Windows + window], lane, entries, negative);
            point.Add(new Niels<T>(ref entries[0], T.Load(ref negative[0])));
        }

        Spread(point.X, x, tables.Length);
        Spread(point.Y, y, tables.Length);
        Spread(point.Z, z, tables.Length);
    }

    private static void Spread<T>(in Field<T> value, Span<Field51> numbers, int count)
        where T : unmanaged, ILanes<T>
    {
        Span<ulong> limbs = stackalloc ulong[Field<T>.Limbs * T.Count];
        value.Store(ref limbs[0]);
        for (var lane = 0; lane < count; lane++) numbers[lane] = Field51.FromTen(limbs[lane..], T.Count);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Take(KeyTable table, int window, int digit, int lane, Span<ulong> entries, Span<ulong> negative)
    {
        table.CopyEntry(window, digit, ref entries[lane * KeyTable.EntrySize]);
        negative[lane] = digit < 0 ? ulong.MaxValue : 0;
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

    /// <summary>Encodes (x, y) and compares.</summary>
    private static bool IsR(in Field51 x, in Field51 y, Signature signature)
    {
        Span<byte> encoded = stackalloc byte[32];
        x.ToBytes(encoded);
        var sign = (byte)((encoded[0] & 1) << 7);
        y.ToBytes(encoded);
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
