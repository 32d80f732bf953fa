using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// SHA-256 and SHA-512 (FIPS 180-4) of OpenSSL, on which .NET's are built too, without what .NET and OpenSSL's general interface set up for each hash: for the
/// 65 bytes of a tree's node that is four fifths of the time. Used where libcrypto 3 is, OpenSSL is not told to keep to validated modules, and all answers of
/// a check at the start are those of .NET; elsewhere .NET hashes.
/// </summary>
public static unsafe partial class OpenSslHash
{
    private const string Library = "libcrypto.so.3";

    /// <summary>One for each thread, as in <see cref="Digest"/>.</summary>
    [ThreadStatic]
    private static IncrementalHash? _hasher;

    public static bool IsUsed { get; } = CanBeUsed();

    /// <summary>Whoever loads this assembly makes digests this way: tests, benchmarks and tools as the validators.</summary>
#pragma warning disable CA2255 // No host should have to think of it, and it changes nothing but time.
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Use()
    {
        if (IsUsed) Digest.Function = Direct256;
    }

    /// <summary>SHA-512 over two parts, by OpenSSL or by .NET.</summary>
    /// <param name="hash">64 bytes; it may lie where a part does.</param>
    public static void Sha512(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash)
    {
        if (IsUsed)
        {
            Direct512(first, second, hash);
            return;
        }

        var hasher = _hasher ?? IncrementalHash.CreateHash(HashAlgorithmName.SHA512);
        // One that was given up halfway would add what it holds to the next hash: it is put back when it is empty again.
        _hasher = null;
        hasher.AppendData(first);
        hasher.AppendData(second);
        hasher.GetHashAndReset(hash);
        _hasher = hasher;
    }

    private static void Direct256(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash)
    {
        Invariant.Holds(hash.Length >= SHA256.HashSizeInBytes, "there is room for the hash");
        // SHA256_CTX of openssl/sha.h, the same in every libcrypto 3: 112 bytes.
        var state = stackalloc ulong[14];
        var done = SHA256_Init(state);
        fixed (byte* one = first, two = second, result = hash)
        {
            // OpenSSL knows no empty part: what an empty span points at is anything.
            if (!first.IsEmpty) done &= SHA256_Update(state, one, (nuint)first.Length);
            if (!second.IsEmpty) done &= SHA256_Update(state, two, (nuint)second.Length);
            done &= SHA256_Final(result, state);
        }

        Invariant.Holds(done == 1, "OpenSSL hashes any bytes");
    }

    private static void Direct512(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash)
    {
        Invariant.Holds(hash.Length >= SHA512.HashSizeInBytes, "there is room for the hash");
        // SHA512_CTX: 216 bytes.
        var state = stackalloc ulong[27];
        var done = SHA512_Init(state);
        fixed (byte* one = first, two = second, result = hash)
        {
            if (!first.IsEmpty) done &= SHA512_Update(state, one, (nuint)first.Length);
            if (!second.IsEmpty) done &= SHA512_Update(state, two, (nuint)second.Length);
            done &= SHA512_Final(result, state);
        }

        Invariant.Holds(done == 1, "OpenSSL hashes any bytes");
    }

    private static bool CanBeUsed()
    {
        try
        {
            return EVP_default_properties_is_fips_enabled(0) == 0 && AgreesWithDotNet();
        }
        catch (Exception problem) when (problem is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            return false;
        }
    }

    /// <summary>For each length up to two blocks of the longer hash and more.</summary>
    private static bool AgreesWithDotNet()
    {
        Span<byte> data = stackalloc byte[280];
        for (var i = 0; i < data.Length; i++) data[i] = (byte)(i % 251);
        Span<byte> expected = stackalloc byte[SHA512.HashSizeInBytes];
        Span<byte> hash = stackalloc byte[SHA512.HashSizeInBytes];
        for (var length = 0; length <= data.Length; length++)
        {
            var first = data[..(length / 3)];
            var second = data[first.Length..length];
            SHA512.HashData(data[..length], expected);
            Direct512(first, second, hash);
            if (!hash.SequenceEqual(expected)) return false;
            SHA256.HashData(data[..length], expected);
            Direct256(first, second, hash);
            if (!hash[..SHA256.HashSizeInBytes].SequenceEqual(expected[..SHA256.HashSizeInBytes])) return false;
        }

        return true;
    }

    [LibraryImport(Library)]
    private static partial int SHA256_Init(ulong* state);

    [LibraryImport(Library)]
    private static partial int SHA256_Update(ulong* state, byte* data, nuint length);

    [LibraryImport(Library)]
    private static partial int SHA256_Final(byte* hash, ulong* state);

    [LibraryImport(Library)]
    private static partial int SHA512_Init(ulong* state);

    [LibraryImport(Library)]
    private static partial int SHA512_Update(ulong* state, byte* data, nuint length);

    [LibraryImport(Library)]
    private static partial int SHA512_Final(byte* hash, ulong* state);

    [LibraryImport(Library)]
    private static partial int EVP_default_properties_is_fips_enabled(nint library);
}
