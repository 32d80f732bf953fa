using System;
using System.Collections.Concurrent;
using CyberMesh.Core.Primitives;
using NSec.Cryptography;
using PublicKey = CyberMesh.Core.Primitives.PublicKey;

namespace CyberMesh.Node.Crypto;

/// <summary>Ed25519 by libsodium: its acceptance rule is the protocol's. Thread-safe.</summary>
public sealed class Ed25519Verifier : ISignatureVerifier
{
    /// <summary>Parsed keys; the keys of validators and producers are few, strangers' are not kept beyond this.</summary>
    private const int CachedKeysMax = 4096;

    private readonly ConcurrentDictionary<PublicKey, NSec.Cryptography.PublicKey> _keys = new();

    public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        if (!TryParse(key, out var parsed)) return false;
        Span<byte> bytes = stackalloc byte[Signature.Size];
        signature.CopyTo(bytes);
        return SignatureAlgorithm.Ed25519.Verify(parsed, message, bytes);
    }

    private bool TryParse(PublicKey key, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out NSec.Cryptography.PublicKey? parsed)
    {
        if (_keys.TryGetValue(key, out parsed)) return true;
        Span<byte> bytes = stackalloc byte[PublicKey.Size];
        key.CopyTo(bytes);
        if (!NSec.Cryptography.PublicKey.TryImport(SignatureAlgorithm.Ed25519, bytes, KeyBlobFormat.RawPublicKey, out parsed)) return false;
        if (_keys.Count < CachedKeysMax) _keys.TryAdd(key, parsed!);
        return parsed is not null;
    }
}

/// <summary>Signs with a private key that stays in libsodium's guarded memory.</summary>
public sealed class Ed25519Signer : ISigner, IDisposable
{
    private readonly Key _key;

    public Ed25519Signer(ReadOnlySpan<byte> seed)
    {
        _key = Key.Import(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey);
        PublicKey = PublicKey.From(_key.PublicKey.Export(KeyBlobFormat.RawPublicKey));
    }

    public PublicKey PublicKey { get; }

    public Signature Sign(ReadOnlySpan<byte> message)
    {
        Span<byte> signature = stackalloc byte[Signature.Size];
        SignatureAlgorithm.Ed25519.Sign(_key, message, signature);
        return Signature.From(signature);
    }

    public void Dispose() => _key.Dispose();
}
