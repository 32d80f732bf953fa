using System;
using System.Threading;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// Checks no signature twice, for messages that show the same ones again and again: a vote comes alone, then in the certificate of every validator.
/// Only what was accepted is remembered, under the SHA-256 of key, signature and message, and of two in one place the younger. Thread-safe.
/// </summary>
public sealed class RememberingVerifier(ISignatureVerifier verifier) : ISignatureVerifier
{
    private const int Places = 8192;
    private const int ShortMax = 512;

    /// <summary>References, because they change as a whole.</summary>
    private readonly Remembered?[] _accepted = new Remembered?[Places];

    private sealed class Remembered(Digest digest)
    {
        public readonly Digest Digest = digest;
    }

    public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        const int head = PublicKey.Size + Signature.Size;
        if (message.Length > ShortMax - head) return verifier.Verify(key, message, signature);
        Span<byte> all = stackalloc byte[ShortMax];
        key.CopyTo(all);
        signature.CopyTo(all[PublicKey.Size..]);
        message.CopyTo(all[head..]);
        var digest = Digest.Sha256(all[..(head + message.Length)]);
        ref var place = ref _accepted[digest.GetHashCode() & (Places - 1)];
        if (Volatile.Read(ref place)?.Digest == digest) return true;
        if (!verifier.Verify(key, message, signature)) return false;
        Volatile.Write(ref place, new Remembered(digest));
        return true;
    }

    /// <summary>These come once.</summary>
    public void Verify(ReadOnlySpan<SignatureCheck> checks, Span<bool> verdicts) => verifier.Verify(checks, verdicts);
}
