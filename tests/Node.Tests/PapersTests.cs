using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using CyberMesh.Cli;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Papers: links lead somewhere, and commands are such as the program takes. What they print is for the tests that run them.</summary>
public sealed partial class PapersTests
{
    public static TheoryData<string> Papers => [.. new[] { "", "docs", "docs/adr", "src/Node/Crypto/KnownKeys" }.SelectMany(d => Directory.EnumerateFiles(Path.Combine(Paths.Root, d), "*.md")).Select(p => Path.GetRelativePath(Paths.Root, p)).Order()];

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NotInAnchor();

    [GeneratedRegex("\"[^\"]*\"|'[^']*'|\\S+")]
    private static partial Regex Word();

    [GeneratedRegex(@"\./cybermesh (.*?)(?=\s(?:\|\|?|>|>>|2>|&&|&)(?:\s|$)|\s*[;)]|$)")]
    private static partial Regex Command();

    private static HashSet<string> Anchors(string path) => File.ReadLines(path).Where(l => l.StartsWith('#')).Select(l => NotInAnchor().Replace(l.TrimStart('#').Trim().ToLowerInvariant(), "").Replace(' ', '-')).ToHashSet();

    [Fact]
    public async Task Every_command_has_an_example_that_the_program_takes()
    {
        var leaves = Leaves(Program.Root()).Select(Examples.NameOf).Order().ToList();
        Assert.Equal(leaves, Examples.All.Keys.Order());
        foreach (var (name, example) in Examples.All)
        {
            var words = Word().Matches($"{name} {example}").Select(m => m.Value.Trim('"')).ToArray();
            Assert.True(Program.Root().Parse(words).Errors is { Count: 0 }, $"{name} {example}: {string.Join("; ", Program.Root().Parse(words).Errors.Select(e => e.Message))}");
        }

        Assert.Contains("Example:\n  cybermesh genesis sign genesis.json", (await CliProcess.RunAsync("genesis", "sign", "--help")).Output, StringComparison.Ordinal);

        static IEnumerable<System.CommandLine.Command> Leaves(System.CommandLine.Command command) => command.Subcommands.Count == 0 ? [command] : command.Subcommands.Where(c => !c.Hidden).SelectMany(Leaves);
    }

    [Theory]
    [MemberData(nameof(Papers))]
    public void Links_lead_somewhere(string paper)
    {
        var path = Path.Combine(Paths.Root, paper);
        foreach (var target in Link().Matches(File.ReadAllText(path)).Select(m => m.Groups[1].Value).Where(t => !t.Contains("://", StringComparison.Ordinal)))
        {
            var parts = target.Split('#');
            var file = parts[0].Length == 0 ? path : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, parts[0]));
            Assert.True(File.Exists(file) || Directory.Exists(file), $"{paper} links to {target}, which is not there");
            if (parts.Length > 1) Assert.True(Anchors(file).Contains(parts[1]), $"{paper} links to {target}, and {parts[0]} has no such heading");
        }
    }

    [Theory]
    [MemberData(nameof(Papers))]
    public void Commands_are_such_as_the_program_takes(string paper)
    {
        var inBlock = false;
        foreach (var line in File.ReadLines(Path.Combine(Paths.Root, paper)))
        {
            if (line.StartsWith("```", StringComparison.Ordinal)) inBlock = !inBlock;
            if (!inBlock) continue;
            foreach (var command in Command().Matches(line).Select(m => m.Groups[1].Value))
            {
                // Variables of a shell stand for anything; a number does for most.
                var words = Word().Matches(command).Select(m => Regex.Replace(m.Value.Trim('"', '\''), @"\$\w+", "1")).ToArray();
                Assert.True(Program.Root().Parse(words).Errors is { Count: 0 }, $"{paper}: ./cybermesh {command}: {string.Join("; ", Program.Root().Parse(words).Errors.Select(e => e.Message))}");
            }
        }
    }
}
