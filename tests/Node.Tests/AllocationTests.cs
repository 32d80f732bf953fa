using System;
using System.Linq;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>What is done for every message allocates nothing, or exactly what it gives back. Bytes are exact; times are not, and are nowhere asserted.</summary>
public sealed class AllocationTests
{
    private readonly Ed25519Signer _key = new([.. Enumerable.Repeat((byte)5, 32)]);

    /// <summary>The least of a few rounds: what each call allocates is in all of them, what the runtime does once, while it compiles, is not.</summary>
    private static long PerCall(Action call)
    {
        const int calls = 20;
        for (var i = 0; i < 10; i++) call();
        return Enumerable.Range(0, 4).Min(_ =>
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < calls; i++) call();
            return (GC.GetAllocatedBytesForCurrentThread() - before) / calls;
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(64)]
    [InlineData(100)]
    public void A_signature_of_a_known_key_is_checked_without_allocation(int together)
    {
        var verifier = new KnownKeyVerifier(new Ed25519Verifier());
        var checks = Enumerable.Range(0, together).Select(i => new SignatureCheck(_key.PublicKey, new byte[93], _key.Sign(new byte[93]))).ToArray();
        var verdicts = new bool[together];
        while (verifier.Tables == 0) verifier.Verify(checks, verdicts);
        // A round has fewer than KnownKeyVerifier.CheckedAgain: where one is checked again by libsodium, that allocates.
        Assert.Equal(0, PerCall(() => verifier.Verify(checks, verdicts)));
        Assert.All(verdicts, Assert.True);
        Assert.Equal(0, PerCall(() => Assert.True(verifier.Verify(checks[0].Key, checks[0].Message.Span, checks[0].Signature))));
    }

    [Fact]
    public void A_signature_that_was_accepted_before_is_remembered_without_allocation()
    {
        var verifier = new RememberingVerifier(new Ed25519Verifier());
        var message = new byte[93];
        var signature = _key.Sign(message);
        Assert.True(verifier.Verify(_key.PublicKey, message, signature));
        Assert.Equal(0, PerCall(() => Assert.True(verifier.Verify(_key.PublicKey, message, signature))));
    }

    [Fact]
    public void A_digest_and_a_signature_are_values()
    {
        var message = new byte[93];
        Assert.Equal(0, PerCall(() => Digest.Sha256(message)));
        Assert.Equal(0, PerCall(() => Signature.From(new ReadOnlySpan<byte>(message)[..64])));
    }
}
