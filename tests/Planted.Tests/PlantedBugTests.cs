using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using Xunit;

namespace CyberMesh.Planted.Tests;

/// <summary>
/// Do the tests test? Each bug of the catalogue is planted in the real sources, and the layers that look for protocol faults must
/// find it. A bug that none finds is a hole in the tests; so is a layer that finds none.
/// </summary>
public sealed class PlantedBugTests(ITestOutputHelper output)
{
    private static readonly (string Name, Func<PlantedBuild, string?> Run)[] Layers =
    [
        ("rules", build => build.RunRules()),
        ("calm run", build => build.Run("Calm")),
        ("fork proofs", build => build.Run("ForkProofs", 4)),
        ("crash points", build => build.Run("CrashPointsOf", 41)),
        ("seeds", build => build.Run("Seeds", 1, 20)),
        ("twins", build => build.Run("TwinsByPhases", 3) ?? build.Run("TwinsByViews", 2)),
    ];

    /// <summary>For what the first look did not find: a few percent of what every CI run does on the sound build.</summary>
    private static readonly (string Name, Func<PlantedBuild, string?> Run) Deeper = ("seeds", build => build.Run("Seeds", 21, 400));

    [Fact]
    public void Every_planted_bug_is_found_and_every_layer_finds_one()
    {
        var compiler = new Compiler();
        using (var sound = compiler.Build(null))
            foreach (var layer in Layers)
                Assert.Null(layer.Run(sound));

        var only = Environment.GetEnvironmentVariable("CYBERMESH_BUG");
        var found = Layers.ToDictionary(l => l.Name, l => 0);
        var missed = new List<string>();
        foreach (var bug in Catalogue.Bugs.Where(b => only is null || b.Name.Contains(only, StringComparison.Ordinal)))
        {
            PlantedBuild build;
            try
            {
                build = compiler.Build(bug);
            }
            catch (InvalidOperationException outdated)
            {
                missed.Add(outdated.Message);
                continue;
            }

            using var _ = build;
            var cells = new List<string>();
            // Cheap layers first; two that find it are enough.
            foreach (var layer in Layers)
                if (cells.Count < 2)
                    Try(layer);
            if (cells.Count == 0) Try(Deeper);
            void Try((string Name, Func<PlantedBuild, string?> Run) layer)
            {
                var clock = Stopwatch.StartNew();
                if (layer.Run(build) is not { } finding) return;
                found[layer.Name]++;
                cells.Add(string.Create(CultureInfo.InvariantCulture, $"{layer.Name} {clock.Elapsed.TotalSeconds:F1} s ({Short(finding)})"));
            }

            output.WriteLine($"{bug.Name}: {(cells.Count == 0 ? "NOT FOUND" : string.Join("; ", cells))}");
            if (cells.Count == 0) missed.Add(bug.Name);
        }

        foreach (var (layer, count) in found) output.WriteLine($"{layer}: {count} bugs");
        Assert.True(missed.Count == 0, "no layer finds: " + string.Join("; ", missed));
        if (only is not null) return;
        Assert.True(Catalogue.Bugs.Length >= 30);
        Assert.All(found, layer => Assert.True(layer.Value > 0, $"{layer.Key} finds no bug"));
    }

    private static string Short(string finding) => finding.Split('\n')[0] is var line && line.Length > 90 ? line[..90] + "…" : line;
}
