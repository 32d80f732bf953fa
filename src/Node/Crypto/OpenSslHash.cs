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
public static class OpenSslHash
{
    private static readonly Functions? _functions = Load();

    /// <summary>One for each thread, as in <see cref="Digest"/>.</summary>
    [ThreadStatic]
    private static IncrementalHash? _hasher;

    public static bool IsUsed => _functions is not null;

    /// <summary>Whoever loads this assembly makes digests this way: tests, benchmarks and tools as the validators.</summary>
#pragma warning disable CA2255 // No host should have to think of it, and it changes nothing but time.
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Use()
    {
        if (_functions is { } functions) Digest.Function = functions.Sha256.Hash;
    }

    /// <summary>SHA-512 over two parts, by OpenSSL or by .NET.</summary>
    /// <param name="hash">64 bytes; it may lie where a part does.</param>
    public static void Sha512(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash)
    {
        if (_functions is { } functions)
        {
            functions.Sha512.Hash(first, second, hash);
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

    private sealed record Functions(Function Sha256, Function Sha512);

    /// <summary>One of OpenSSL's hash functions: its three steps, which give 1 unless something is wrong.</summary>
    private sealed unsafe class Function(nint library, string name, int size)
    {
        /// <summary>SHA512_CTX of openssl/sha.h has 216 bytes, SHA256_CTX 112; both are the same in every libcrypto 3.</summary>
        private const int StateWords = 27;

        private readonly delegate* unmanaged<ulong*, int> _init = (delegate* unmanaged<ulong*, int>)NativeLibrary.GetExport(library, name + "_Init");
        private readonly delegate* unmanaged<ulong*, byte*, nuint, int> _update = (delegate* unmanaged<ulong*, byte*, nuint, int>)NativeLibrary.GetExport(library, name + "_Update");
        private readonly delegate* unmanaged<byte*, ulong*, int> _final = (delegate* unmanaged<byte*, ulong*, int>)NativeLibrary.GetExport(library, name + "_Final");

        public void Hash(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> hash)
        {
            Invariant.Holds(hash.Length >= size, "there is room for the hash");
            var state = stackalloc ulong[StateWords];
            var done = _init(state);
            fixed (byte* one = first, two = second, result = hash)
            {
                if (!first.IsEmpty) done &= _update(state, one, (nuint)first.Length);
                if (!second.IsEmpty) done &= _update(state, two, (nuint)second.Length);
                done &= _final(result, state);
            }

            Invariant.Holds(done == 1, "OpenSSL hashes any bytes");
        }
    }

    private static unsafe Functions? Load()
    {
        if (!NativeLibrary.TryLoad("libcrypto.so.3", out var library)) return null;
        try
        {
            var isFips = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "EVP_default_properties_is_fips_enabled");
            if (isFips(0) != 0) return null;
            var functions = new Functions(new Function(library, "SHA256", SHA256.HashSizeInBytes), new Function(library, "SHA512", SHA512.HashSizeInBytes));
            return AgreeWithDotNet(functions) ? functions : null;
        }
        catch (EntryPointNotFoundException)
        {
            return null; // built without what is called deprecated
        }
    }

    /// <summary>For each length up to two blocks of the longer hash and more.</summary>
    private static bool AgreeWithDotNet(Functions functions)
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
            functions.Sha512.Hash(first, second, hash);
            if (!hash.SequenceEqual(expected)) return false;
            SHA256.HashData(data[..length], expected);
            functions.Sha256.Hash(first, second, hash);
            if (!hash[..SHA256.HashSizeInBytes].SequenceEqual(expected[..SHA256.HashSizeInBytes])) return false;
        }

        return true;
    }
}
