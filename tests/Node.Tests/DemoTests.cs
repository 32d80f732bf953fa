using System;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The main job, as a user runs it.</summary>
public sealed class DemoTests
{
    [Theory]
    [InlineData("none")]
    [InlineData("crash")]
    [InlineData("liar")]
    [InlineData("partition")]
    public async Task The_demo_accounts_for_every_message_under_each_fault(string fault)
    {
        var (code, output) = await CliProcess.RunAsync("demo", "--duration", "8s", "--rate", "100", "--fault", fault, "--json", "--api-port", "0");
        Assert.True(code == 0, output);
        var summary = JsonNode.Parse(output.Split('\n').Last(l => l.StartsWith('{')))!;
        Assert.True((bool)summary["agreed"]!);
        Assert.Equal(4, (int)summary["validators"]!);
        Assert.Single(summary["stateRoots"]!.AsArray());
        Assert.True((int)summary["published"]! > 600);
        Assert.Equal((int)summary["published"]!, (int)summary["committed"]! + (int)summary["dead_lettered"]!);
        Assert.True((int)summary["rejected"]!["bad_signature"]! > 0);
        if (fault != "none") Assert.True((int)summary["viewChanges"]! > 0);
    }

    [Fact]
    public async Task One_validator_alone_works_too()
    {
        var (code, output) = await CliProcess.RunAsync("demo", "--validators", "1", "--duration", "3s", "--json", "--api-port", "0");
        Assert.True(code == 0, output);
    }

    [Theory]
    [InlineData("--duration", "soon", 2)]
    [InlineData("--rate", "0", 1)]
    [InlineData("--validators", "99", 1)]
    [InlineData("--eve", "/does/not/exist", 1)]
    public async Task Bad_values_get_a_clear_error(string option, string value, int exit)
    {
        var (code, output) = await CliProcess.RunAsync("demo", option, value, "--api-port", "0");
        Assert.Equal(exit, code);
        if (exit == 1) Assert.StartsWith("error: ", output, StringComparison.Ordinal);
        Assert.Contains(value, output, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
    }
}
