using System;
using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Feedback;

/// <summary>A network that is to be blocked, and until when.</summary>
public sealed record BlockedNetwork(IpPrefix Network, string Policy, DateTimeOffset Until);

/// <summary>
/// Which policies are in force, from records in any order, repeated and old ones among them: of what is proven about a policy the latest counts. What
/// nobody tells of any more ends by itself, because every policy names its end.
/// </summary>
public sealed class EnforcedPolicies
{
    private const int PoliciesMax = 100_000;

    /// <param name="End">The latest its policy was ever said to be in force: until then an old record could bring it back.</param>
    private sealed record Known(ProvenPolicy Latest, DateTimeOffset End);

    private readonly Dictionary<Digest, Known> _policies = [];

    /// <returns>Whether this changes what is in force.</returns>
    public bool Apply(ProvenPolicy policy, DateTimeOffset now)
    {
        var known = _policies.GetValueOrDefault(policy.Digest);
        if (known is not null && known.Latest.After >= policy.After) return false;
        _policies[policy.Digest] = new Known(policy, EndOf(policy) is { } end && end > known?.End ? end : known?.End ?? EndOf(policy) ?? now);
        if (_policies.Count > PoliciesMax)
            foreach (var digest in _policies.Where(p => p.Value.End < now).Select(p => p.Key).ToArray())
                _policies.Remove(digest);
        return known?.Latest.Until != policy.Until;
    }

    private static DateTimeOffset? EndOf(ProvenPolicy policy) => policy.Until is { } until ? DateTimeOffset.FromUnixTimeMilliseconds(until.Milliseconds) : null;

    /// <summary>The networks to block now, in order.</summary>
    public List<BlockedNetwork> Blocked(DateTimeOffset now) =>
    [
        .. from policy in _policies.Values.Select(p => p.Latest)
           where EndOf(policy) > now && policy.Content.RuleType is "block" or "blacklist"
           from network in policy.Content.Targets
           orderby network.ToString(), policy.Id
           select new BlockedNetwork(network, policy.Id, EndOf(policy)!.Value),
    ];
}
