using System;
using System.Linq;
using System.Threading.Tasks;
using CyberMesh.Cli.Bench;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The benchmark of a network measures one: small, short, and with a validator that lies. How fast it was is nobody's business here.</summary>
public sealed class BenchTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(100)]
    public async Task A_network_with_a_liar_commits_what_it_is_given(int rate)
    {
        var fault = BenchFault.All.Single(f => f.Name == "f vote twice");
        var report = await ConsensusRun.MeasureAsync(new NetworkLoad(4, 200, rate, TimeSpan.FromSeconds(2)), 2, fault, TestContext.Current.CancellationToken);
        Assert.InRange(report.Alerts, 1, long.MaxValue);
        // Three honest validators tell when they had stored each alert; the clock stops for one a little before it does for another.
        Assert.InRange(report.Latency.Count, 2 * report.Alerts, long.MaxValue);
        Assert.InRange(report.Latency.P50Ms, 0.01, report.Latency.MaxMs);
        Assert.Equal(2, report.Parts.Length);
        Assert.InRange(report.Parts[1].Height, report.Parts[0].Height + 1, ulong.MaxValue);
    }

    [Fact]
    public async Task A_network_that_cannot_be_is_refused() =>
        await Assert.ThrowsAsync<UserError>(() => ConsensusRun.MeasureAsync(new NetworkLoad(33, 200, 1, TimeSpan.FromSeconds(1)), 1, BenchFault.None, TestContext.Current.CancellationToken));
}
