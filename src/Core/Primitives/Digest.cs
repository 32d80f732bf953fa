using System;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;

namespace CyberMesh.Core.Primitives;

/// <summary>A SHA-256 value. The all-zero digest means "none" wherever a field is not used.</summary>
public readonly record struct Digest(Bytes32 Value) : IComparable<Digest>
{
    public const int Size = Bytes32.Size;

    public static Digest From(ReadOnlySpan<byte> bytes) => new(Bytes32.From(bytes));

    public static bool TryParse([NotNullWhen(true)] string? hex, out Digest digest)
    {
        var ok = Bytes32.TryParse(hex, out var value);
        digest = new Digest(value);
        return ok;
    }

    private const int ShortMax = 1024;

    public static Digest Sha256(ReadOnlySpan<byte> data)
    {
        Span<byte> hash = stackalloc byte[Size];
        SHA256.HashData(data, hash);
        return From(hash);
    }

    /// <summary>SHA-256 over a leading domain byte and the data, so that values of different kinds never share a digest.</summary>
    public static Digest Sha256(byte domain, ReadOnlySpan<byte> data) => Sha256([domain], data);

    /// <summary>SHA-256 over two parts. In one call where they are short: to set up an incremental hash costs more than to hash them.</summary>
    public static Digest Sha256(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second)
    {
        if (first.Length + second.Length <= ShortMax)
        {
            Span<byte> joined = stackalloc byte[ShortMax];
            first.CopyTo(joined);
            second.CopyTo(joined[first.Length..]);
            return Sha256(joined[..(first.Length + second.Length)]);
        }

        using var hasher = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hasher.AppendData(first);
        hasher.AppendData(second);
        Span<byte> hash = stackalloc byte[Size];
        hasher.GetHashAndReset(hash);
        return From(hash);
    }

    public bool IsZero => this == default;

    public void CopyTo(Span<byte> destination) => Value.CopyTo(destination);

    public byte[] ToArray() => Value.ToArray();

    public int CompareTo(Digest other) => Value.CompareTo(other.Value);

    public override string ToString() => Value.ToString();
}
