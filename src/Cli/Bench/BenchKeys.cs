using System;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Cli.Bench;

internal sealed class ShiftedClock : TimeProvider
{
    public DateTimeOffset Now { get; set; } = DateTimeOffset.FromUnixTimeSeconds(1_790_000_000);

    public override DateTimeOffset GetUtcNow() => Now;
}

/// <summary>Signatures are not what is measured here.</summary>
internal sealed class TrustsAll : ISignatureVerifier
{
    public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature) => true;
}

internal sealed class SignsNothing(PublicKey key) : ISigner
{
    public PublicKey PublicKey => key;

    public Signature Sign(ReadOnlySpan<byte> message) => default;
}
