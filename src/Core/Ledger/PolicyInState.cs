using System;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>What the state holds under the key of a policy that is proposed or in force; for others it holds nothing.</summary>
/// <param name="Until">End of the time in force, or of the wait for approval.</param>
/// <param name="Params">SHA-256 of the params its producer signed.</param>
public sealed record PolicyInState(string Id, string Producer, Height Height, PolicyStatus Status, Timestamp Until, Digest Params)
{
    public static bool TryRead(ReadOnlySpan<byte> value, [NotNullWhen(true)] out PolicyInState? policy)
    {
        var reader = new CanonicalReader(value);
        var head = PolicyBook.ReadHead(ref reader);
        var parameters = reader.Digest();
        policy = reader.Finish(out _) && head is not null ? new PolicyInState(head.Id, head.Producer, head.Height, head.Status, head.Until, parameters) : null;
        return policy is not null;
    }
}
