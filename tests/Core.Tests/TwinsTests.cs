using System.Diagnostics;
using System.Linq;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>All Twins scenarios of a size. The counts are those of the orbits, computed independently: a generator that skips some is found out.</summary>
public sealed class TwinsTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(TwinsRounds.Views, 2, 510)]
    [InlineData(TwinsRounds.Views, 3, 25_740)]
    [InlineData(TwinsRounds.Phases, 2, 50)]
    [InlineData(TwinsRounds.Phases, 3, 540)]
    [InlineData(TwinsRounds.Phases, 5, 98_736)]
    public void Every_scenario_with_f_twins_is_safe_and_ends_in_agreement(TwinsRounds kind, int rounds, long scenarios)
    {
        var clock = Stopwatch.StartNew();
        var outcome = Twins.Run(kind, rounds);
        output.WriteLine($"{outcome.Scenarios} scenarios ({kind}, {rounds} rounds), {outcome.Forks} forks, {outcome.Scenarios / clock.Elapsed.TotalMinutes:F0}/min");
        Assert.Equal(scenarios, outcome.Scenarios);
        Assert.True(outcome.Violations.IsEmpty, string.Join("\n", outcome.Violations.Take(5)));
    }

    [Fact]
    public void F1_f_plus_one_twins_fork_and_are_convicted()
    {
        var outcome = Twins.Run(TwinsRounds.Views, 1, twins: 2);
        output.WriteLine($"{outcome.Scenarios} scenarios, {outcome.Forks} forks, {outcome.Proven} proven");
        Assert.True(outcome.Forks > 0, "two twins of four must fork");
        Assert.Equal(outcome.Forks, outcome.Proven);
        Assert.True(outcome.Violations.IsEmpty, string.Join("\n", outcome.Violations.Take(5)));
    }
}
