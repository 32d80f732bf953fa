using System;
using System.Globalization;
using System.Linq;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class SimulationTests(ITestOutputHelper output)
{
    /// <summary>CYBERMESH_SEEDS sets the number; CI runs 500.</summary>
    private static int Seeds => int.TryParse(Environment.GetEnvironmentVariable("CYBERMESH_SEEDS"), NumberStyles.None, CultureInfo.InvariantCulture, out var seeds) ? seeds : 500;

    [Fact]
    public void Safety_holds_at_every_event_and_everything_commits_after_the_faults_heal()
    {
        var outcome = SeedRun.Run(1, Seeds);
        foreach (var (name, value) in outcome.Report.Counters()) output.WriteLine($"{name}: {value}");
        Assert.True(outcome.Failures.Count == 0, string.Join("\n", outcome.Failures.Select(f => $"seed {f.Seed}: {f.Problem}\n  replay: {f.Command}\n  {f.Options}")));
        if (Seeds < 100) return;
        // A counter at zero means the simulator no longer reaches what it claims to test.
        foreach (var (name, value) in outcome.Report.Counters()) Assert.True(value > 0, name + " is zero");
    }

    /// <summary>The canary: with more liars than the protocol tolerates the checker must see a violation, or it checks nothing.</summary>
    [Fact]
    public void More_than_f_liars_are_found_out()
    {
        var failures = Enumerable.Range(1, 20).Select(seed => SeedRun.RunOne(Options.FromSeed((ulong)seed) with
        {
            Validators = 4,
            Liars = 2,
            Strategy = Strategy.Equivocate,
            ChaosMs = 4000,
        }).Failure).OfType<SeedRun.Failure>().ToArray();
        Assert.NotEmpty(failures);
        output.WriteLine($"{failures.Length} of 20 failed, the first: {failures[0].Problem}");
    }

    [Fact]
    public void One_seed_is_one_run()
    {
        for (ulong seed = 1; seed <= 5; seed++)
            Assert.Equal(SeedRun.Trace(Options.FromSeed(seed)).Digest, SeedRun.Trace(Options.FromSeed(seed)).Digest);
    }

    [Fact]
    public void A_failing_seed_prints_the_command_that_replays_it() =>
        Assert.Equal("./cybermesh simulate --seed 42", new SeedRun.Failure(42, "", Options.FromSeed(42)).Command);
}
