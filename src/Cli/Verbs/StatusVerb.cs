using System;
using System.CommandLine;
using System.Net.Http;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using CyberMesh.Node;

namespace CyberMesh.Cli.Verbs;

internal static class StatusVerb
{
    public static Command Create()
    {
        var url = new Option<string>("--url") { Description = "HTTP address of a validator.", DefaultValueFactory = _ => "http://127.0.0.1:8443" };
        var command = new Command("status", "Show how a validator is doing. Exit code 0 when it is well, 1 when degraded, 3 when it cannot be reached.") { url };
        command.SetAction(async (parsed, stop) =>
        {
            if (!Uri.TryCreate(parsed.GetValue(url), UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
                throw new UserError($"--url {parsed.GetValue(url)} is not an HTTP address", "write it like http://127.0.0.1:8443");
            using var http = new HttpClient { BaseAddress = address, Timeout = TimeSpan.FromSeconds(5) };
            try
            {
                var health = JsonNode.Parse(await http.GetStringAsync("/health", stop))!;
                var parts = health["components"]!;
                Console.WriteLine($"{health["validator"]}: {health["status"]}, height {health["height"]}");
                Console.WriteLine($"  consensus  {parts["consensus"]!["status"]}, view {parts["consensus"]!["view"]}, leader {parts["consensus"]!["leader"]}");
                Console.WriteLine($"  peers      {parts["peers"]!["connected"]} connected, {parts["peers"]!["needed"]} needed");
                Console.WriteLine($"  kafka      {parts["kafka"]!["status"]} {parts["kafka"]!["reason"]}");
                Console.WriteLine($"  projection {parts["projection"]!["behind"]} blocks behind");
                Console.WriteLine($"  mempool    {parts["mempool"]!["transactions"]} waiting");
                return (string?)health["status"] == "ok" ? ExitCode.Ok : ExitCode.Failure;
            }
            catch (Exception problem) when (problem is HttpRequestException or TaskCanceledException or UriFormatException or InvalidOperationException or System.Text.Json.JsonException)
            {
                await Console.Error.WriteLineAsync($"error: {http.BaseAddress} does not answer as a validator: {problem.Message}");
                return ExitCode.Connection;
            }
        });
        return command;
    }
}
