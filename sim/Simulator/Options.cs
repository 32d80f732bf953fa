using System.Collections.Immutable;
using System.Text;

namespace CyberMesh.Simulator;

/// <summary>What one seed means: every number is drawn from it, so the seed alone replays a run.</summary>
public sealed record Options
{
    public required ulong Seed { get; init; }
    public required int Validators { get; init; }
    public required int ChaosMs { get; init; }
    public required int AlertEveryMs { get; init; }

    /// <summary>Short terms, so that a run crosses many borders.</summary>
    public required int TermBlocks { get; init; }

    public int SnapshotTerms { get; init; } = 1;

    // Network.
    public int LossPercent { get; init; }
    public int DuplicatePercent { get; init; }
    public int DelayMinMs { get; init; } = 1;
    public int DelayMaxMs { get; init; } = 2;

    /// <summary>Every message takes this much longer, also after the healing: more than the timers begin with.</summary>
    public int FarMs { get; init; }

    public int PartitionEveryMs { get; init; }
    public int IsolateEveryMs { get; init; }
    public int OneWayEveryMs { get; init; }
    public int FlapEveryMs { get; init; }

    // Processes and disks.
    public int CrashEveryMs { get; init; }
    public int PauseEveryMs { get; init; }
    public int SyncMaxMs { get; init; }
    public int SlowDiskEveryMs { get; init; }
    public int FailingDiskEveryMs { get; init; }

    /// <summary>One honest validator loses its blocks and keeps its votes.</summary>
    public bool LosesBlocks { get; init; }

    // Clocks: an offset per validator within the skew, drawn again at each jump, and a drift.
    public int ClockSkewMs { get; init; }
    public int ClockJumpEveryMs { get; init; }
    public int DriftPerMille { get; init; }

    /// <summary>The operators change the set or the parameters this often.</summary>
    public int ChangeEveryMs { get; init; }

    /// <summary>A producer signs two messages with one nonce this often.</summary>
    public int RivalsEveryMs { get; init; }

    /// <summary>Of the messages so many reach one validator only, of those that are to stay honest and up.</summary>
    public int OneHolderPercent { get; init; }

    /// <summary>Transactions the pool of a validator holds.</summary>
    public int PoolMax { get; init; } = 1000;

    /// <summary>Messages per second of the busiest producer.</summary>
    public int Quota { get; init; } = 1000;

    /// <summary>Validators 0 to this run <see cref="Strategy"/>.</summary>
    public int Liars { get; init; }

    /// <summary>The next ones forget their votes at some time; with the liars at most f, where safety is claimed.</summary>
    public int Amnesiacs { get; init; }

    public Strategy Strategy { get; init; }

    /// <summary>When the rest heals, this many of the last validators stay down for good; with liars and amnesiacs at most f.</summary>
    public int StayDown { get; init; }

    /// <summary>More than f validators lie: the run is about what the honest ones see and prove.</summary>
    public bool ExpectFork { get; init; }

    /// <summary>One crash at exactly this point (see <see cref="CrashPoints"/>).</summary>
    public CrashPoint? CrashAt { get; init; }

    /// <summary>The faults to inject instead of those the seed gives: set when a failing run is cut down.</summary>
    public ImmutableArray<Fault>? Faults { get; init; }

    public static Options FromSeed(ulong seed)
    {
        var prng = new Prng(seed, "options");
        var n = prng.Pick<int>([4, 4, 4, 4, 5, 6, 7]);
        var f = (n - 1) / 3;
        var liars = prng.Chance(55) ? prng.Between(1, f) : 0;
        var amnesiacs = liars < f && prng.Chance(40) ? prng.Between(1, f - liars) : 0;
        var delay = prng.Between(1, 20);
        var options = new Options
        {
            Seed = seed,
            Validators = n,
            ChaosMs = prng.Between(4_000, 12_000),
            // Now and then there is nothing to do for longer than the idle timer.
            AlertEveryMs = prng.Chance(8) ? prng.Between(2_500, 4_000) : prng.Between(4, 80),
            TermBlocks = prng.Chance(70) ? prng.Between(4, 40) : 128,
            LossPercent = prng.Chance(50) ? prng.Between(1, 20) : 0,
            DuplicatePercent = prng.Chance(40) ? prng.Between(1, 20) : 0,
            DelayMinMs = delay,
            DelayMaxMs = delay + (prng.Chance(30) ? prng.Between(50, 400) : prng.Between(0, 30)),
            FarMs = prng.Chance(4) ? prng.Between(400, 900) : 0,
            PartitionEveryMs = Every(30),
            IsolateEveryMs = Every(20),
            OneWayEveryMs = Every(20),
            FlapEveryMs = Every(10),
            CrashEveryMs = Every(50),
            PauseEveryMs = Every(20),
            SyncMaxMs = prng.Chance(15) ? prng.Between(50, 300) : prng.Between(0, 8),
            SlowDiskEveryMs = Every(15),
            ClockSkewMs = prng.Chance(50) ? prng.Between(1, 800) : 0,
            ClockJumpEveryMs = Every(15),
            DriftPerMille = prng.Chance(20) ? prng.Between(1, 5) : 0,
            Liars = liars,
            Amnesiacs = amnesiacs,
            Strategy = liars == 0 ? Strategy.None : (Strategy)prng.Between((int)Strategy.Silent, (int)Strategy.Collude),
            StayDown = liars + amnesiacs < f && prng.Chance(30) ? f - liars - amnesiacs : 0,
        };
        // Streams of their own, so that the seeds in regressions.txt still mean the same runs.
        var disks = new Prng(seed, "disks");
        options = options with { FailingDiskEveryMs = disks.Chance(15) ? disks.Between(400, 4_000) : 0, LosesBlocks = disks.Chance(20) };
        var rivals = new Prng(seed, "rivals");
        if (rivals.Chance(25)) options = options with { RivalsEveryMs = rivals.Between(50, 1_000) };
        var pool = new Prng(seed, "pool");
        options = options with
        {
            // Small blocks and delays beyond the timers together would only take long.
            PoolMax = pool.Chance(20) && options.FarMs == 0 ? pool.Between(5, 60) : 1000,
            Quota = pool.Chance(15) ? pool.Between(5, 60) : 1000,
            OneHolderPercent = pool.Chance(20) ? pool.Between(1, 50) : 0,
        };
        var changes = new Prng(seed, "changes");
        if (!changes.Chance(30)) return options;
        // Two borders have to be crossed: with long terms few runs would see a change take effect.
        return options with { OneHolderPercent = 0, ChangeEveryMs = changes.Between(500, 3_000), TermBlocks = changes.Between(4, 40) };

        int Every(int percent) => prng.Chance(percent) ? prng.Between(400, 4_000) : 0;
    }

    /// <summary>A run with f + 1 equivocating liars.</summary>
    public static Options Fork(ulong seed) => FromSeed(seed) with
    {
        Validators = 4,
        Liars = 2,
        Amnesiacs = 0,
        StayDown = 0,
        Strategy = new Prng(seed, "fork").Pick<Strategy>([Strategy.Collude, Strategy.Collude, Strategy.Understate]),
        ChaosMs = 8000,
        IsolateEveryMs = 400,
        ChangeEveryMs = 0,
        OneHolderPercent = 0,
        LosesBlocks = false,
        ExpectFork = true,
        Faults = null,
    };

    public override string ToString()
    {
        var text = new StringBuilder();
        (this with { Faults = null }).PrintMembers(text);
        return text.ToString();
    }
}
