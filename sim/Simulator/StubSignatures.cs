using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Simulator;

/// <summary>
/// Signatures that only this process can make: a keyed hash with the key looked up by public key. As unforgeable inside the
/// simulation as Ed25519, and a hundred times cheaper.
/// </summary>
public sealed class StubSignatures : ISignatureVerifier
{
    private readonly Dictionary<PublicKey, byte[]> _secrets = [];

    public ISigner NewSigner(string name)
    {
        var secret = SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(name));
        var signer = new Signer(secret);
        _secrets[signer.PublicKey] = secret;
        return signer;
    }

    public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature) =>
        _secrets.TryGetValue(key, out var secret) && Mac(secret, message) == signature;

    private static Signature Mac(byte[] secret, ReadOnlySpan<byte> message)
    {
        Span<byte> input = stackalloc byte[256];
        Span<byte> hash = stackalloc byte[32];
        if (message.Length > input.Length - 32) message = SHA256.HashData(message);
        secret.CopyTo(input);
        message.CopyTo(input[32..]);
        SHA256.HashData(input[..(32 + message.Length)], hash);
        var half = Bytes32.From(hash);
        return new Signature(half, half);
    }

    private sealed class Signer(byte[] secret) : ISigner
    {
        public PublicKey PublicKey { get; } = PublicKey.From(SHA256.HashData(secret));

        public Signature Sign(ReadOnlySpan<byte> message) => Mac(secret, message);
    }
}
