using System;
using System.Buffers;
using System.Linq;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>What is checked once and never again, and what always is.</summary>
public sealed class RememberingVerifierTests : ISignatureVerifier
{
    private static readonly byte[] Message = new byte[2000];
    private readonly Ed25519Signer _key = new(Enumerable.Repeat((byte)7, 32).ToArray());
    private readonly Ed25519Verifier _genuine = new();
    private readonly RememberingVerifier _verifier;

    /// <summary>Signatures that were looked at.</summary>
    private int _checked;

    public RememberingVerifierTests() => _verifier = new RememberingVerifier(this);

    bool ISignatureVerifier.Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        _checked++;
        return _genuine.Verify(key, message, signature);
    }

    void ISignatureVerifier.Verify(ReadOnlySpan<SignatureCheck> checks, Span<bool> verdicts)
    {
        // A false verdict is not written: it has to be false before.
        for (var i = 0; i < checks.Length; i++) verdicts[i] |= ((ISignatureVerifier)this).Verify(checks[i].Key, checks[i].Message.Span, checks[i].Signature);
    }

    private SignatureCheck Check(int length) => new(_key.PublicKey, Message.AsMemory(0, length), _key.Sign(Message.AsSpan(0, length)));

    [Fact]
    public void Of_a_batch_only_what_is_new_is_checked_and_each_verdict_stands_in_its_place()
    {
        var checks = Enumerable.Range(0, 100).Select(i => Check(10 * i)).ToArray();
        var forged = checks[50] with { Message = Message.AsMemory(0, 499) };
        Assert.True(_verifier.Verify(checks[3].Key, checks[3].Message.Span, checks[3].Signature));
        SignatureCheck[] batch = [.. checks[..50], forged, .. checks[50..]];
        var verdicts = new bool[batch.Length];
        _verifier.Verify(batch, verdicts);
        Assert.Equal(batch.Select(c => c != forged), verdicts);
        Assert.Equal(batch.Length, _checked);

        // Again, and alone: what was refused is looked at each time, whatever was in the buffer that its verdict comes in.
        var used = ArrayPool<bool>.Shared.Rent(batch.Length);
        Array.Fill(used, true);
        ArrayPool<bool>.Shared.Return(used);
        _verifier.Verify(batch, verdicts);
        Assert.Equal(batch.Select(c => c != forged), verdicts);
        Assert.True(_verifier.Verify(checks[99].Key, checks[99].Message.Span, checks[99].Signature));
        Assert.False(_verifier.Verify(forged.Key, forged.Message.Span, forged.Signature));
        Assert.Equal(batch.Length + 2, _checked);
    }

    [Fact]
    public void Another_key_message_or_signature_is_not_the_remembered_one()
    {
        using var other = new Ed25519Signer(Enumerable.Repeat((byte)8, 32).ToArray());
        var check = Check(93);
        Assert.True(_verifier.Verify(check.Key, check.Message.Span, check.Signature));
        Assert.False(_verifier.Verify(other.PublicKey, check.Message.Span, check.Signature));
        Assert.False(_verifier.Verify(check.Key, Message.AsSpan(0, 94), check.Signature));
        Assert.False(_verifier.Verify(check.Key, check.Message.Span, other.Sign(check.Message.Span)));
        Assert.Equal(4, _checked);
    }
}
