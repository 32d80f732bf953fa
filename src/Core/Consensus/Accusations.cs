using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Contradictions found in what validators signed, for the owner to bring on chain. Bounded: a few for each validator, because
/// one is enough to bar it.
/// </summary>
public sealed class Accusations
{
    private const int PerOffenderMax = 4;

    private readonly Queue<Misbehaviour> _waiting = new();
    private readonly Dictionary<ValidatorIndex, int> _perOffender = [];

    public void Add(ValidatorIndex offender, SignedVote one, SignedVote other)
    {
        var known = _perOffender.GetValueOrDefault(offender);
        if (known == PerOffenderMax || Misbehaviour.TryCreate(offender, one, other) is not { } proof) return;
        _perOffender[offender] = known + 1;
        _waiting.Enqueue(proof);
    }

    public bool TryTake([NotNullWhen(true)] out Misbehaviour? proof) => _waiting.TryDequeue(out proof);

    /// <summary>A new term: everyone may be accused again.</summary>
    public void Clear() => _perOffender.Clear();
}
