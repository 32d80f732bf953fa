using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using Xunit;

namespace CyberMesh.Architecture.Tests;

/// <summary>Who may use whom (ARCHITECTURE.md), checked on the sources.</summary>
public sealed partial class FolderTests
{
    /// <summary>A folder of Core uses only those above it in this list.</summary>
    private static readonly string[] CoreOrder = ["Primitives", "Encoding", "Chain", "Alerts", "Proofs", "Mempool", "Ledger", "Consensus", "Replica"];

    private static readonly (string Folder, string Forbidden)[] CoreWalls =
        [("Ledger", "Mempool"), ("Consensus", "Alerts"), ("Consensus", "Mempool"), ("Consensus", "Ledger")];

    private static readonly string[] Adapters = ["Ingest", "Mesh", "Storage", "Projection", "Feedback", "Api", "Signing"];

    /// <summary>Storage is read by those that copy from it; the API serves the projection.</summary>
    private static readonly (string From, string To)[] AllowedBetweenAdapters =
        [("Ingest", "Storage"), ("Projection", "Storage"), ("Feedback", "Storage"), ("Api", "Projection"), ("Signing", "Storage")];

    [GeneratedRegex(@"CyberMesh\.(Core|Node)\.(\w+)")]
    private static partial Regex Reference();

    private static IEnumerable<(string Folder, string File, string Used)> Uses(string project, string layer) =>
        from file in Directory.EnumerateFiles(Path.Combine(Repository.Root, "src", project), "*.cs", SearchOption.AllDirectories)
        let relative = Path.GetRelativePath(Path.Combine(Repository.Root, "src", project), file)
        where !relative.StartsWith("obj", StringComparison.Ordinal) && !relative.StartsWith("bin", StringComparison.Ordinal) && relative.Contains('/', StringComparison.Ordinal)
        let folder = relative.Split('/')[0]
        from Match match in Reference().Matches(File.ReadAllText(file))
        where match.Groups[1].Value == layer
        select (folder, relative, match.Groups[2].Value);

    [Fact]
    public void Folders_of_core_use_only_those_above_them()
    {
        var wrong = Uses("Core", "Core").Where(u => Array.IndexOf(CoreOrder, u.Used) > Array.IndexOf(CoreOrder, u.Folder)
                                                    || CoreWalls.Contains((u.Folder, u.Used)));
        Assert.Empty(wrong.Select(u => $"{u.File} uses {u.Used}").Distinct());
        Assert.True(Uses("Core", "Core").Count() > 50);
    }

    [Fact]
    public void Adapters_do_not_know_each_other()
    {
        var wrong = Uses("Node", "Node").Where(u => Adapters.Contains(u.Folder) && Adapters.Contains(u.Used) && u.Folder != u.Used
                                                    && !AllowedBetweenAdapters.Contains((u.Folder, u.Used)));
        Assert.Empty(wrong.Select(u => $"{u.File} uses {u.Used}").Distinct());
    }

    [Theory]
    [InlineData("src/Core/CyberMesh.Core.csproj", "")]
    [InlineData("src/Node/CyberMesh.Node.csproj", "CyberMesh.Core")]
    [InlineData("sim/Simulator/CyberMesh.Simulator.csproj", "CyberMesh.Core")]
    [InlineData("src/Cli/CyberMesh.Cli.csproj", "CyberMesh.Node CyberMesh.Simulator")]
    public void Projects_reference_only_what_they_may(string project, string allowed)
    {
        var references = Regex.Matches(File.ReadAllText(Path.Combine(Repository.Root, project)), "ProjectReference Include=\"[^\"]*/([^/\"]+)\\.csproj\"")
            .Select(m => m.Groups[1].Value).Order();
        Assert.Equal(allowed.Split(' ', StringSplitOptions.RemoveEmptyEntries).Order(), references);
    }

    [Fact]
    public void Every_relative_link_of_the_documents_resolves()
    {
        var documents = Directory.EnumerateFiles(Repository.Root, "*.md").Concat(Directory.EnumerateFiles(Path.Combine(Repository.Root, "docs"), "*.md", SearchOption.AllDirectories)).ToArray();
        Assert.True(documents.Length > 8);
        var broken = from document in documents
                     from Match link in Regex.Matches(File.ReadAllText(document), @"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
                     where !Path.Exists(Path.Combine(Path.GetDirectoryName(document)!, link.Groups[1].Value))
                     select $"{document}: {link.Groups[1].Value}";
        Assert.Empty(broken);
    }

    [Fact]
    public void Every_numbered_rule_of_the_protocol_is_kept_somewhere_in_the_code()
    {
        var rules = Regex.Matches(File.ReadAllText(Path.Combine(Repository.Root, "docs/protocol.md")), @"^- \*\*([A-Z]\d+)\*\*", RegexOptions.Multiline)
            .Select(m => m.Groups[1].Value).ToArray();
        Assert.True(rules.Length > 15);
        var code = string.Concat(new[] { "src", "sim" }.SelectMany(d => Directory.EnumerateFiles(Path.Combine(Repository.Root, d), "*.cs", SearchOption.AllDirectories))
            .Where(f => !f.Contains("/obj/", StringComparison.Ordinal)).Select(File.ReadAllText));
        Assert.Empty(rules.Where(rule => !Regex.IsMatch(code, $@"\b{rule}\b")));
    }
}
