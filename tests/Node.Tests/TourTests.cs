using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>docs/tour.md, run as a reader would: every command in its order, in one shell. Only ports and paths are others.</summary>
public sealed class TourTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(8);

    [Fact]
    public async Task The_tour_shows_what_it_says()
    {
        using var directory = new TemporaryDirectory();
        var output = await RunAsync(directory.Path, Script());
        string[] expected =
        [
            "trusted: producer-2 of beta for anomaly, evidence, policy", "  reported  severity", "\"status\": \"corroborated\"", "producer-2  of beta  reputation 1000",
            "proposed policy tour-1", "published approve of", "\"status\": \"active\"", "approver-1, approver-2", "\"status\": \"expired\"",
            "policy tour-1 drop block from block", "policy tour-1 remove block from block", "published false_positive of", "\"decided_by\": \"analyst\"",
            "signed by v", "ok: signed by its producer", "proven: anomaly", " certified, signed by v", ": FalsePositive by analyst", "proven: transaction",
        ];
        foreach (var text in expected) Assert.True(output.Contains(text, StringComparison.Ordinal), $"'{text}' is missing in\n{output}");
        Assert.DoesNotContain("NOT GENUINE", output, StringComparison.Ordinal);
        Assert.DoesNotContain("NOT PROVEN", output, StringComparison.Ordinal);
    }

    /// <summary>The commands, with free ports in place of those a reader uses.</summary>
    private static string Script()
    {
        var script = new StringBuilder("set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n");
        var inBlock = false;
        foreach (var line in File.ReadLines(Path.Combine(Paths.Root, "docs/tour.md")))
        {
            if (line.StartsWith("```", StringComparison.Ordinal)) inBlock = !inBlock;
            else if (inBlock) script.Append(line.EndsWith('&') ? line[..^1] + ">> background.log 2>&1 &" : line).Append('\n');
        }

        var api = FirstOfFour();
        var broker = Testnet.FreePorts(1)[0].ToString(System.Globalization.CultureInfo.InvariantCulture);
        return script
            .Replace("--out net ", $"--out net --base-port 0 --api-port {api} ").Replace("http://127.0.0.1:8443", $"http://127.0.0.1:{api}").Replace("9092", broker)
            .Replace("./cybermesh", $"dotnet {Paths.Program}").Replace("src/Cli/Samples", Path.Combine(Paths.Root, "src/Cli/Samples"))
            .Insert(0, $"export CYBERMESH_URL=http://127.0.0.1:{api}\n").ToString();
    }

    /// <summary>A port that is free like the three after it.</summary>
    private static int FirstOfFour()
    {
        while (true)
        {
            var first = Testnet.FreePorts(1)[0];
            if (Enumerable.Range(first, 4).All(Testnet.IsFree)) return first;
        }
    }

    private static async Task<string> RunAsync(string directory, string script)
    {
        var path = Path.Combine(directory, "tour.sh");
        await File.WriteAllTextAsync(path, script);
        using var shell = Process.Start(new ProcessStartInfo("bash", [path]) { WorkingDirectory = directory, RedirectStandardOutput = true, RedirectStandardError = true })!;
        var (output, errors) = (shell.StandardOutput.ReadToEndAsync(), shell.StandardError.ReadToEndAsync());
        try
        {
            await shell.WaitForExitAsync().WaitAsync(Patience);
        }
        finally
        {
            // The validators are children of the shell: SIGTERM lets its trap end them.
            if (!shell.HasExited) Process.Start("kill", [shell.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]).WaitForExit();
            await shell.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(1));
        }

        var background = Path.Combine(directory, "background.log");
        Assert.True(shell.ExitCode == 0, $"exit code {shell.ExitCode}\n{await output}\n{await errors}\n{(File.Exists(background) ? await File.ReadAllTextAsync(background) : "")}");
        return await output;
    }
}
