using System;
using System.Buffers;
using System.Threading;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// Checks no signature twice, for what comes again and again: a vote alone, then in the certificate of every validator; an alert from Kafka, and from the peers that had it earlier.
/// Only what was accepted is remembered, under the SHA-256 of key, signature and message, and of two in one place the younger. Thread-safe.
/// </summary>
public sealed class RememberingVerifier(ISignatureVerifier verifier) : ISignatureVerifier
{
    /// <summary>2 MiB: the votes of some terms, and as many alerts as one validator may have read before the others.</summary>
    private const int Places = 1 << 16;

    private readonly Digest[] _accepted = new Digest[Places];

    /// <summary>A digest is written and read as a whole: each of these guards the places that have its number modulo their count.</summary>
    private readonly Lock[] _guards = NewGuards();

    public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        var digest = DigestOf(key, message, signature);
        if (IsRemembered(digest)) return true;
        if (!verifier.Verify(key, message, signature)) return false;
        Remember(digest);
        return true;
    }

    public void Verify(ReadOnlySpan<SignatureCheck> checks, Span<bool> verdicts)
    {
        var left = ArrayPool<SignatureCheck>.Shared.Rent(checks.Length);
        var places = ArrayPool<(Digest Digest, int Check)>.Shared.Rent(checks.Length);
        var answers = ArrayPool<bool>.Shared.Rent(checks.Length);
        var count = 0;
        for (var i = 0; i < checks.Length; i++)
        {
            var check = checks[i];
            var digest = DigestOf(check.Key, check.Message.Span, check.Signature);
            verdicts[i] = IsRemembered(digest);
            if (verdicts[i]) continue;
            places[count] = (digest, i);
            left[count++] = check;
        }

        // It holds what somebody used it for before, and an old true must not become a verdict.
        answers.AsSpan(0, count).Clear();
        verifier.Verify(left.AsSpan(0, count), answers.AsSpan(0, count));
        for (var i = 0; i < count; i++)
        {
            verdicts[places[i].Check] = answers[i];
            if (answers[i]) Remember(places[i].Digest);
        }

        ArrayPool<SignatureCheck>.Shared.Return(left, clearArray: true);
        ArrayPool<(Digest, int)>.Shared.Return(places);
        ArrayPool<bool>.Shared.Return(answers);
    }

    private static Digest DigestOf(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        Span<byte> head = stackalloc byte[PublicKey.Size + Signature.Size];
        key.CopyTo(head);
        signature.CopyTo(head[PublicKey.Size..]);
        return Digest.Sha256(head, message);
    }

    private static int PlaceOf(Digest digest) => digest.GetHashCode() & (Places - 1);

    private bool IsRemembered(Digest digest)
    {
        var place = PlaceOf(digest);
        lock (_guards[place % _guards.Length]) return _accepted[place] == digest;
    }

    private void Remember(Digest digest)
    {
        var place = PlaceOf(digest);
        lock (_guards[place % _guards.Length]) _accepted[place] = digest;
    }

    private static Lock[] NewGuards()
    {
        var guards = new Lock[64];
        for (var i = 0; i < guards.Length; i++) guards[i] = new Lock();
        return guards;
    }
}
