using System;
using System.CommandLine;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Telemetry;

namespace CyberMesh.Cli.Verbs;

internal static class StartVerb
{
    public static Command Create()
    {
        var home = new HomeOptions();
        var command = new Command("start", "Run one validator until it is stopped (SIGTERM or Ctrl-C).");
        home.AddTo(command);
        command.SetAction(async (parsed, stop) => await RunAsync(home.Home(parsed), home.Settings(parsed), stop));
        return command;
    }

    private static async Task<int> RunAsync(string home, Settings settings, CancellationToken stop)
    {
        // Signals are listened to as soon as this returns, and not a second later when everything is read from the disk.
        await Task.Yield();
        var genesis = GenesisFile.Load(Path.Combine(home, "genesis.json"));
        using var logs = new LineLogProvider(Console.Out, TimeProvider.System, settings.LogLevel, settings.LogsJson);
        while (true)
        {
            try
            {
                return await RunOnceAsync(home, settings, genesis, logs, stop);
            }
            catch (DivergedException)
            {
                // Once more from the blocks of the others; a second time in a day the start refuses.
            }
        }
    }

    private static async Task<int> RunOnceAsync(string home, Settings settings, Genesis genesis, LineLogProvider logs, CancellationToken stop)
    {
        var node = new ValidatorNode(new ValidatorOptions(home, genesis, settings, TimeProvider.System, logs.CreateLogger("")));
        await using var ownedNode = node;
        await node.StartAsync();
        var stopped = Task.Delay(Timeout.Infinite, stop);
        if (await Task.WhenAny(node.Completion, stopped) == node.Completion)
        {
            await node.Completion;
            return ExitCode.Failure;
        }

        await node.StopAsync();
        return ExitCode.Ok;
    }
}
