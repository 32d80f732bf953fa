using System;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The commands of a paper, run as a reader would: in their order, in one shell. Only ports and paths are others.</summary>
internal static class PaperScript
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    /// <returns>What was printed.</returns>
    public static async Task<string> RunAsync(string paper)
    {
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "paper.sh");
        await File.WriteAllTextAsync(path, Script(paper));
        using var shell = Process.Start(new ProcessStartInfo("bash", [path]) { WorkingDirectory = directory.Path, RedirectStandardOutput = true, RedirectStandardError = true })!;
        var (output, errors) = (shell.StandardOutput.ReadToEndAsync(), shell.StandardError.ReadToEndAsync());
        try
        {
            await shell.WaitForExitAsync().WaitAsync(Patience);
        }
        finally
        {
            // The validators are children of the shell: SIGTERM lets its trap end them.
            if (!shell.HasExited) Process.Start("kill", [shell.Id.ToString(CultureInfo.InvariantCulture)]).WaitForExit();
            await shell.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(1));
        }

        // What ended it comes last: who reads a long report from its end finds it.
        var background = string.Concat(Directory.EnumerateFiles(directory.Path, "*.log").Order().Select(log => End(log, 40)));
        Assert.True(shell.ExitCode == 0, $"exit code {shell.ExitCode}\n{background}{await output}\n{await errors}\n{End(Path.Combine(directory.Path, "commands.trace"), 30)}");
        return await output + await errors;
    }

    private static string End(string file, int lines) => $"--- {Path.GetFileName(file)}\n{string.Join('\n', File.ReadLines(file).TakeLast(lines))}\n";

    private static string Script(string paper)
    {
        var script = new StringBuilder("set -euo pipefail\nexec {BASH_XTRACEFD}> commands.trace\nPS4='+ \\t '\nset -x\ntrap 'kill -CONT $(jobs -p) 2> /dev/null || true; kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n");
        var inBlock = false;
        foreach (var line in File.ReadLines(Path.Combine(Paths.Root, paper)))
        {
            if (line.StartsWith("```", StringComparison.Ordinal)) inBlock = !inBlock;
            else if (inBlock) script.Append(line.EndsWith('&') ? line[..^1] + ">> background.log 2>&1 &" : line).Append('\n');
        }

        var (api, mesh) = (FirstOf(4), FirstOf(5));
        while (Math.Abs(api - mesh) < 5) mesh = FirstOf(5);
        var broker = Testnet.FreePorts(1)[0].ToString(CultureInfo.InvariantCulture);
        for (var i = 0; i < 5; i++) script.Replace((26650 + i).ToString(CultureInfo.InvariantCulture), (mesh + i).ToString(CultureInfo.InvariantCulture));
        for (var i = 0; i < 4; i++) script.Replace($"http://127.0.0.1:{8443 + i}", $"http://127.0.0.1:{api + i}");
        script.Replace("26543", Testnet.FreePorts(1)[0].ToString(CultureInfo.InvariantCulture));
        return script
            .Replace("--out net ", $"--out net --base-port {mesh} --api-port {api} ").Replace("9092", broker)
            .Replace("./cybermesh", $"dotnet {Paths.Program}").Replace("src/Cli/Samples", Path.Combine(Paths.Root, "src/Cli/Samples"))
            .Insert(0, $"export CYBERMESH_URL=http://127.0.0.1:{api}\n").ToString();
    }

    /// <summary>A port that is free like those after it.</summary>
    private static int FirstOf(int count)
    {
        while (true)
        {
            var first = Testnet.FreePorts(1)[0];
            if (Enumerable.Range(first, count).All(Testnet.IsFree)) return first;
        }
    }
}
