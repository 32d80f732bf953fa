using System;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;

namespace CyberMesh.Core.Primitives;

/// <summary>SHA-256 over two parts, one after the other; either may be empty.</summary>
/// <param name="hash">32 bytes.</param>
public delegate void Sha256Function(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash);

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

    /// <summary>A port: who computes digests. .NET, where the host knows nobody who gives the same answers sooner.</summary>
    public static Sha256Function Function { get; set; } = ByDotNet;

    /// <summary>One for each thread: to set one up costs more than to hash what is usual here, and so does a call that needs none.</summary>
    [ThreadStatic]
    private static IncrementalHash? _hasher;

    private static void ByDotNet(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash)
    {
        var hasher = _hasher ?? IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        // One that was given up in the middle would add what it holds to the next digest: it is put back when it is empty again.
        _hasher = null;
        hasher.AppendData(first);
        if (!second.IsEmpty) hasher.AppendData(second);
        hasher.GetHashAndReset(hash);
        _hasher = hasher;
    }

    public static Digest Sha256(ReadOnlySpan<byte> data) => Sha256(data, []);

    /// <summary>SHA-256 over a leading domain byte and the data, so that values of different kinds never share a digest.</summary>
    public static Digest Sha256(byte domain, ReadOnlySpan<byte> data) => Sha256([domain], data);

    /// <summary>SHA-256 over two parts.</summary>
    public static Digest Sha256(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second)
    {
        Span<byte> hash = stackalloc byte[Size];
        Function(first, second, hash);
        return From(hash);
    }

    public bool IsZero => this == default;

    public void CopyTo(Span<byte> destination) => Value.CopyTo(destination);

    public byte[] ToArray() => Value.ToArray();

    public int CompareTo(Digest other) => Value.CompareTo(other.Value);

    public override string ToString() => Value.ToString();
}
