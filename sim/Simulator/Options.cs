using System.Text;

namespace CyberMesh.Simulator;

/// <summary>What one seed means: every number is drawn from it, so the seed alone replays a run.</summary>
public sealed record Options
{
    public required ulong Seed { get; init; }
    public required int Validators { get; init; }
    public required int ChaosMs { get; init; }
    public required int LossPercent { get; init; }
    public required int DuplicatePercent { get; init; }
    public required int DelayMinMs { get; init; }
    public required int DelayMaxMs { get; init; }
    public required int SyncMaxMs { get; init; }
    public required int CrashEveryMs { get; init; }
    public required int PartitionEveryMs { get; init; }
    public required int ClockSkewMs { get; init; }
    public required int AlertEveryMs { get; init; }

    /// <summary>Short terms, so that a run crosses many borders.</summary>
    public required int TermBlocks { get; init; }

    /// <summary>How many validators lie, at most f; they run <see cref="Strategy"/>.</summary>
    public required int Liars { get; init; }

    public required Strategy Strategy { get; init; }

    public static Options FromSeed(ulong seed)
    {
        var prng = new Prng(seed, "options");
        var n = prng.Pick<int>([4, 4, 4, 4, 5, 6, 7]);
        var liars = prng.Chance(50) ? prng.Between(1, (n - 1) / 3) : 0;
        var delay = prng.Between(1, 20);
        return new Options
        {
            Seed = seed,
            Validators = n,
            ChaosMs = prng.Between(4_000, 12_000),
            LossPercent = prng.Chance(60) ? prng.Between(1, 20) : 0,
            DuplicatePercent = prng.Chance(50) ? prng.Between(1, 20) : 0,
            DelayMinMs = delay,
            DelayMaxMs = delay + (prng.Chance(30) ? prng.Between(50, 400) : prng.Between(0, 30)),
            SyncMaxMs = prng.Chance(20) ? prng.Between(50, 300) : prng.Between(0, 8),
            CrashEveryMs = prng.Chance(60) ? prng.Between(300, 4_000) : 0,
            PartitionEveryMs = prng.Chance(50) ? prng.Between(500, 4_000) : 0,
            ClockSkewMs = prng.Chance(50) ? prng.Between(1, 800) : 0,
            AlertEveryMs = prng.Between(3, 60),
            TermBlocks = prng.Chance(70) ? prng.Between(4, 40) : 128,
            Liars = liars,
            Strategy = liars == 0 ? Strategy.None : prng.Pick<Strategy>([Strategy.SilentLeader, Strategy.Equivocate, Strategy.Equivocate, Strategy.Silent]),
        };
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        PrintMembers(text);
        return text.ToString();
    }
}

/// <summary>How a lying validator lies. It holds real keys and otherwise runs the real replica.</summary>
public enum Strategy
{
    None,

    /// <summary>Sends nothing at all.</summary>
    Silent,

    /// <summary>Votes, but never proposes.</summary>
    SilentLeader,

    /// <summary>Shows different proposals, votes and new views to different validators.</summary>
    Equivocate,
}
