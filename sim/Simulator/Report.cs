using System;
using System.Collections.Generic;
using System.Linq;

namespace CyberMesh.Simulator;

/// <summary>What runs reached. Every counter must be above zero over a CI run, or the simulator tests less than it claims.</summary>
public sealed class Report
{
    private readonly SortedDictionary<string, long> _counters = new(StringComparer.Ordinal);

    /// <summary>Everything the simulator claims to reach.</summary>
    public static readonly string[] Expected =
    [
        .. Enum.GetNames<FaultKind>().Select(k => "fault " + k),
        .. Enum.GetNames<Strategy>().Where(s => s != nameof(Strategy.None)).Select(s => "liar " + s),
        "blocks", "messages", "lost", "duplicated", "refused", "terms entered", "view changes", "view changes with a prepared block", "views of attempt 3 or more",
        "catch-ups", "catch-ups over 20 blocks", "equivocations seen", "body fetches", "proposals refused", "quarantines", "abstentions", "forgotten votes noticed",
        "batches that survived a crash unsynced", "suspicions NoProgress", "suspicions Silent", "suspicions Censorship", "suspicions InvalidProposal", "suspicions Equivocation", "suspicions Slow",
        "accusations TwoVotes", "accusations Understated", "convictions", "checkpoints stable", "snapshots installed", "starts from a snapshot", "orders given", "epochs entered", "joined", "log checkpoints", "messages of a term beyond", "runs with delays beyond the timers", "runs with validators down for good", "leaders barred or of the lowest class",
        "alerts Corroborated", "alerts Confirmed", "alerts Disputed", "alerts FalsePositive", "alerts Expired", "policies Proposed", "policies Active", "policies Expired", "policies Revoked",
        "reputation changes", "evidence links", "refused by the state machine", "rivals refused at admission", "rivals given up",
        "messages that reach one validator", "offered in vain: Full", "offered in vain: OverQuota", "made room in the pool",
    ];

    public long this[string name] => _counters.GetValueOrDefault(name);

    public void Count(string name, long by = 1) => _counters[name] = _counters.GetValueOrDefault(name) + by;

    public void Add(Report other)
    {
        foreach (var (name, value) in other._counters) Count(name, value);
    }

    public IEnumerable<(string Name, long Value)> Counters() => _counters.Select(c => (c.Key, c.Value));

    public IEnumerable<string> Missing() => Expected.Where(name => this[name] == 0);
}
