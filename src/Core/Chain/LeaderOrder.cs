using System.Collections.Immutable;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>Who leads the attempts of one term. It lists every validator, so everyone has led after n attempts (rule L2).</summary>
public sealed class LeaderOrder(ImmutableArray<ValidatorIndex> attempts)
{
    public ImmutableArray<ValidatorIndex> Attempts { get; } = attempts;

    public ValidatorIndex Leader(uint attempt) => Attempts[(int)(attempt % (uint)Attempts.Length)];
}
