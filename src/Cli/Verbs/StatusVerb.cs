using System;
using System.CommandLine;

namespace CyberMesh.Cli.Verbs;

internal static class StatusVerb
{
    public static Command Create()
    {
        var (url, wait) = (ValidatorClient.UrlOption(), ValidatorClient.WaitOption());
        var command = new Command("status", "Show how a validator is doing. Exit code 0 when it is well, 1 when degraded, 3 when it cannot be reached, 7 when it reaches too few others for a quorum.") { url, wait };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            try
            {
                var health = await ValidatorClient.UntilAsync(
                    () => validator.ReadJsonAsync("/health", stop), found => (string?)found["status"] == "ok", parsed.GetValue(wait), stop);
                var parts = health["components"] ?? throw new InvalidOperationException("no components");
                Console.WriteLine($"{health["validator"]}: {health["status"]}, height {health["height"]}");
                Console.WriteLine($"  consensus  {parts["consensus"]?["status"]}, view {parts["consensus"]?["view"]}, leader {parts["consensus"]?["leader"]}");
                Console.WriteLine($"  peers      {parts["peers"]?["connected"]} connected, {parts["peers"]?["needed"]} needed");
                Console.WriteLine($"  disk       {parts["storage"]?["status"]}");
                foreach (var circuit in parts["circuits"]?.AsArray() ?? [])
                    Console.WriteLine($"  {((string?)circuit?["dependency"])?.Replace('_', ' '),-14} {((string?)circuit?["state"] == "closed" ? "ok" : $"{circuit?["state"]} since {circuit?["since"]}: {circuit?["reason"]}")}");
                Console.WriteLine($"  projection {parts["projection"]?["behind"]} blocks behind");
                Console.WriteLine($"  mempool    {parts["mempool"]?["transactions"]} waiting");
                var isAlone = (int?)parts["peers"]?["connected"] < (int?)parts["peers"]?["needed"];
                return (string?)health["status"] == "ok" ? ExitCode.Ok : isAlone ? ExitCode.NoQuorum : ExitCode.Failure;
            }
            catch (InvalidOperationException problem)
            {
                throw new ConnectionError($"{parsed.GetValue(url)} does not answer as a validator: {problem.Message}");
            }
        });
        return command;
    }
}
