using System.Linq;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class CrashPointTests(ITestOutputHelper output)
{
    [Fact]
    public void D1_a_crash_at_any_write_of_any_validator_loses_nothing_and_doubles_nothing()
    {
        var outcome = CrashPoints.Run();
        output.WriteLine($"{outcome.Points} crash points, {outcome.Failures.Count} failed");
        Assert.True(outcome.Points > 500, "too few crash points: " + outcome.Points);
        Assert.True(outcome.Failures.Count == 0, string.Join("\n", outcome.Failures.Take(5)));
    }
}
