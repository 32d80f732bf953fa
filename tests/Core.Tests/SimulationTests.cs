using System;
using System.Globalization;
using System.IO;
using System.Linq;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class SimulationTests(ITestOutputHelper output)
{
    /// <summary>CYBERMESH_SEEDS sets the number; CI runs 1000.</summary>
    private static int Seeds => int.TryParse(Environment.GetEnvironmentVariable("CYBERMESH_SEEDS"), NumberStyles.None, CultureInfo.InvariantCulture, out var seeds) ? seeds : 1000;

    [Fact]
    public void Seeds_that_failed_once_hold()
    {
        var seeds = File.ReadLines(Path.Combine(AppContext.BaseDirectory, "regressions.txt")).Where(l => !l.StartsWith('#')).Select(l => ulong.Parse(l.Split(' ')[0], CultureInfo.InvariantCulture)).ToArray();
        Assert.NotEmpty(seeds);
        foreach (var seed in seeds) Assert.Null(SeedRun.RunOne(Options.FromSeed(seed)).Failure);
    }

    [Fact]
    public void Safety_holds_at_every_event_and_everything_commits_after_the_faults_heal()
    {
        var outcome = SeedRun.Run(1, Seeds);
        foreach (var (name, value) in outcome.Report.Counters()) output.WriteLine($"{name}: {value}");
        Assert.True(outcome.Failures.Count == 0, string.Join("\n", outcome.Failures.Select(f => $"seed {f.Seed}: {f.Problem}\n  replay: {f.Command}\n  {f.Options}")));
        // A counter at zero means the simulator no longer reaches what it claims to test.
        if (Seeds >= 1000) Assert.Empty(outcome.Report.Missing());
    }

    /// <summary>
    /// The canary: with more liars than the protocol tolerates the checker must see forks, or it checks nothing. And what it sees the honest
    /// validators prove (rule F1): every fork, at least f + 1 names, nobody honest.
    /// </summary>
    [Fact]
    public void F1_more_than_f_liars_fork_the_chain_and_are_convicted()
    {
        var report = new Report();
        for (ulong seed = 1; seed <= 60; seed++)
        {
            var (failure, reached) = SeedRun.RunOne(Options.Fork(seed));
            Assert.Null(failure);
            report.Add(reached);
        }

        output.WriteLine($"{report["forks"]} forks in 60 runs, {report["forks proven"]} proven");
        Assert.True(report["forks"] >= 5, "the canary is dead: " + report["forks"]);
        Assert.Equal(report["forks"], report["forks proven"]);
    }

    [Fact]
    public void One_seed_is_one_run()
    {
        for (ulong seed = 1; seed <= 5; seed++)
            Assert.Equal(SeedRun.Trace(Options.FromSeed(seed)).Digest, SeedRun.Trace(Options.FromSeed(seed)).Digest);
    }

    /// <summary>Economy: without faults nobody suspects anybody, and a block costs what the protocol says.</summary>
    [Theory]
    [InlineData(4)]
    [InlineData(7)]
    public void A_calm_run_changes_no_view_and_sends_no_more_messages_than_the_protocol_needs(int validators)
    {
        for (ulong seed = 1; seed <= 5; seed++)
        {
            var (failure, report) = SeedRun.RunOne(new Options { Seed = seed, Validators = validators, ChaosMs = 20_000, AlertEveryMs = 50, TermBlocks = 64 });
            Assert.Null(failure);
            Assert.Equal(0, report["view changes"]);
            // PRE-PREPARE from one to all, PREPARE and COMMIT from all to all, and some heartbeats.
            var perBlock = (double)report["messages"] / report["blocks"];
            Assert.InRange(perBlock, validators + validators * validators, 1.3 * (validators + 2 * validators * validators));
        }
    }

    /// <summary>It sends each proposal 450 ms late, which no timer minds, and is found out within its first term; from then on it leads ever more rarely (rule L6).</summary>
    [Fact]
    public void T8_a_leader_just_below_the_timeout_is_replaced_each_time_it_leads_which_is_soon_hardly_ever()
    {
        for (ulong seed = 1; seed <= 3; seed++)
        {
            var (failure, report) = SeedRun.RunOne(new Options { Seed = seed, Validators = 4, ChaosMs = 60_000, AlertEveryMs = 20, TermBlocks = 32, Liars = 1, Strategy = Strategy.SlowLeader });
            Assert.Null(failure);
            output.WriteLine($"{report["terms entered"]} terms entered, {report["view changes"]} view changes, {report["suspicions Slow"]} suspicions");
            // All four count: one loss, and one after each rest of 8, 16 and 32 of some 90 terms.
            Assert.InRange(report["view changes"], 4, 4 * 4);
            Assert.True(report["suspicions Slow"] >= report["view changes"] / 2, "somebody else was suspected");
        }
    }

    [Fact]
    public void A_failing_seed_prints_the_command_that_replays_it() =>
        Assert.Equal("./cybermesh simulate --seed 42", new SeedRun.Failure(42, "", Options.FromSeed(42)).Command);

    [Fact]
    public void Shrinking_keeps_only_the_faults_a_failure_needs()
    {
        var options = Options.FromSeed(1) with { Faults = [.. Enumerable.Range(0, 40).Select(i => new Fault(100 * i, (FaultKind)(i % 11), 0, 1, i))] };
        var smallest = Shrinker.Shrink(options, o => o.Faults!.Value.Any(f => f.Value == 7) && o.Faults.Value.Any(f => f.Value == 31));
        Assert.Equal([7, 31], smallest.Faults!.Value.Select(f => f.Value));
    }
}
