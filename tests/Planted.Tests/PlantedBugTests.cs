using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace CyberMesh.Planted.Tests;

/// <summary>
/// Do the tests test? Each bug of the catalogue is planted in the real sources, and the layers that look for protocol faults must
/// find it. A bug that none finds is a hole in the tests; so is a layer that finds none.
/// </summary>
public sealed class PlantedBugTests(ITestOutputHelper output)
{
    private sealed record Layer(string Name, Func<PlantedBuild, string?> Run);

    private static readonly Layer[] Layers =
    [
        new("rules", build => build.RunRules()),
        new("calm run", build => build.Run("Calm")),
        new("fork proofs", build => build.Run("ForkProofs", 4)),
        new("crash points", build => build.Run("CrashPointsOf", 41)),
        new("seeds", build => build.Run("Seeds", 1, 20)),
        new("twins", build => build.Run("TwinsByPhases", 3) ?? build.Run("TwinsByViews", 2)),
    ];

    /// <summary>For what the first look did not find: a few percent of what every CI run does on the sound build.</summary>
    private static readonly Layer Deeper = new("seeds", build => build.Run("Seeds", 21, 400));

    [Fact]
    public void Every_planted_bug_is_found_and_every_layer_finds_one()
    {
        var compiler = new Compiler();
        using (var sound = compiler.Build(null))
            foreach (var layer in Layers)
            {
                var clock = Stopwatch.StartNew();
                Assert.Null(layer.Run(sound));
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"nothing planted: {layer.Name} {clock.Elapsed.TotalSeconds:F1} s"));
            }

        var only = Environment.GetEnvironmentVariable("CYBERMESH_BUG");
        var bugs = Catalogue.Bugs.Where(b => only is null || b.Name.Contains(only, StringComparison.Ordinal)).ToArray();
        var rows = new List<Finding>[bugs.Length];
        Parallel.For(0, bugs.Length, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, i => rows[i] = LookFor(bugs[i], compiler));

        foreach (var (bug, row) in bugs.Zip(rows))
            output.WriteLine($"{bug.Name}: {(row.Count == 0 ? "NOT FOUND" : string.Join("; ", row))}");
        var found = Layers.Select(layer => (layer.Name, Bugs: rows.Count(row => row.Exists(f => f.Layer == layer.Name)))).ToArray();
        foreach (var (layer, count) in found) output.WriteLine($"{layer}: {count} bugs");
        var missed = bugs.Zip(rows).Where(b => b.Second.Count == 0).Select(b => b.First.Name).ToArray();
        Assert.True(missed.Length == 0, "no layer finds: " + string.Join(", ", missed));
        if (only is not null) return;
        Assert.True(Catalogue.Bugs.Length >= 30);
        Assert.All(found, layer => Assert.True(layer.Bugs > 0, $"{layer.Name} finds no bug"));
    }

    /// <summary>Cheap layers first. What the rules find needs no second look; of the others two that find the bug are enough.</summary>
    private static List<Finding> LookFor(Bug bug, Compiler compiler)
    {
        using var build = compiler.Build(bug);
        var findings = new List<Finding>();
        foreach (var layer in Layers)
            if (findings.Count == 0 || (findings.Count == 1 && findings[0].Layer != "rules"))
                Try(layer);
        if (findings.Count == 0) Try(Deeper);
        return findings;

        void Try(Layer layer)
        {
            var clock = Stopwatch.StartNew();
            if (layer.Run(build) is { } finding) findings.Add(new Finding(layer.Name, clock.Elapsed.TotalSeconds, finding));
        }
    }

    private sealed record Finding(string Layer, double Seconds, string What)
    {
        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Layer} {Seconds:F1} s ({Short(What)})");
    }

    private static string Short(string finding) => finding.Split('\n')[0] is var line && line.Length > 90 ? line[..90] + "…" : line;
}
