using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using CyberMesh.Core.Chain;

namespace CyberMesh.Node.Configuration;

/// <summary>
/// What a deployment believes about the set of validators and the chain. All of it follows from genesis and the orders of the operators, so it is only ever compared,
/// never used (rule Q1): whoever copied a file from another cluster learns of it.
/// </summary>
/// <param name="Nodes">Numbers, of CONSENSUS_NODES.</param>
/// <param name="Trusted">Numbers, of TRUSTED_NODES.</param>
public sealed record SetExpectation(int? QuorumSize, int? Validators, ImmutableArray<int> Nodes, ImmutableArray<int> Trusted, TimeSpan? NonceTtl)
{
    /// <summary>What does not agree, with what to do.</summary>
    public IEnumerable<(string What, string Fix)> Disagreements(ValidatorSet set, ChainParameters parameters)
    {
        const string Fix = "remove it: this follows from genesis and from the orders of the operators";
        if (QuorumSize is { } quorum && quorum != set.Quorum) yield return ($"QUORUM_SIZE is {quorum}, but {set.Count} validators need {set.Quorum}", Fix);
        if (Validators is { } count && count != set.Count) yield return ($"CLUSTER_TOPOLOGY says {count} validators, but the set has {set.Count}", Fix);
        foreach (var (name, nodes) in new[] { ("CONSENSUS_NODES", Nodes), ("TRUSTED_NODES", Trusted) })
            if (nodes.Length > 0 && !nodes.Order().SequenceEqual(Enumerable.Range(1, set.Count)))
                yield return ($"{name} is {string.Join(',', nodes)}, but the set has validators 1 to {set.Count}", Fix);
        if (NonceTtl is { } ttl && ttl > TimeSpan.FromMilliseconds(parameters.AlertAgeMaxMs))
            yield return ($"MEMPOOL_NONCE_TTL is {ttl}, but the chain remembers nonces for {TimeSpan.FromMilliseconds(parameters.AlertAgeMaxMs)}", "remove it, or have the operators change alert_age_max_ms");
    }

    /// <exception cref="UserError">It does not agree.</exception>
    public void Check(ValidatorSet set, ChainParameters parameters)
    {
        foreach (var (what, fix) in Disagreements(set, parameters)) throw new UserError(what, fix);
    }
}
