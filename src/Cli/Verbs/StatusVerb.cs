using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;

namespace CyberMesh.Cli.Verbs;

/// <summary>One screen: are we agreeing, who leads, who is missing, how far behind, what is queued, and why not.</summary>
internal static class StatusVerb
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);

    public static Command Create()
    {
        var (url, wait) = (ValidatorClient.UrlOption(), ValidatorClient.WaitOption());
        var watch = new Option<bool>("--watch") { Description = "Show it anew every second until stopped." };
        var command = new Command("status", "Show how a validator is doing. Exit code 0 when it is well, 1 when degraded, 3 when it cannot be reached, 7 when it reaches too few others for a quorum.") { url, wait, watch };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            try
            {
                if (parsed.GetValue(watch)) return await WatchAsync(validator, stop);
                var health = await ValidatorClient.UntilAsync(
                    () => validator.ReadJsonAsync("/health", stop), found => (string?)found["status"] == "ok", parsed.GetValue(wait), stop);
                foreach (var line in await LinesAsync(validator, health, stop)) Console.WriteLine(line);
                var parts = health["components"]!;
                var isAlone = (int?)parts["peers"]?["connected"] < (int?)parts["peers"]?["needed"];
                return (string?)health["status"] == "ok" ? ExitCode.Ok : isAlone ? ExitCode.NoQuorum : ExitCode.Failure;
            }
            catch (Exception problem) when (problem is InvalidOperationException or NullReferenceException)
            {
                throw new ConnectionError($"{parsed.GetValue(url)} does not answer as a validator: {problem.Message}");
            }
        });
        return command;
    }

    private static async Task<int> WatchAsync(ValidatorClient validator, CancellationToken stop)
    {
        ulong? height = null;
        while (!stop.IsCancellationRequested)
        {
            List<string> lines;
            try
            {
                var health = await validator.ReadJsonAsync("/health", stop);
                lines = await LinesAsync(validator, health, stop);
                var now = (ulong)health["height"]!;
                if (height is { } before) lines[0] += now > before ? $", {now - before} blocks in the last second" : ", no block in the last second";
                height = now;
            }
            catch (ConnectionError problem)
            {
                lines = [problem.Message];
            }

            // On a terminal in place, else one after the other.
            if (!Console.IsOutputRedirected) Console.Write("\u001b[H\u001b[J");
            foreach (var line in lines) Console.WriteLine(line);
            try
            {
                await Task.Delay(Period, stop);
            }
            catch (OperationCanceledException)
            {
                break;
            }
        }

        return ExitCode.Ok;
    }

    private static async Task<List<string>> LinesAsync(ValidatorClient validator, JsonNode health, CancellationToken stop)
    {
        var parts = health["components"]!;
        var (consensus, peers, mempool) = (parts["consensus"]!, parts["peers"]!, parts["mempool"]!);
        var set = (await validator.ReadJsonAsync("/validators", stop))["validators"]!.AsArray();
        var age = DateTimeOffset.UtcNow - DateTimeOffset.Parse((string)(await validator.ReadJsonAsync("/state", stop))["block_time"]!, CultureInfo.InvariantCulture);
        var missing = set.Where(v => !(bool)v!["connected"]!).Select(v => (string)v!["name"]!).ToArray();
        var lines = new List<string>
        {
            $"{health["validator"]}: {health["status"]}, height {health["height"]}",
            $"  consensus  {consensus["status"]}, view {consensus["view"]}, leader {consensus["leader"]}; last block {Age(age)} ago",
            $"  peers      {peers["connected"]} connected, {peers["needed"]} needed{(missing.Length == 0 ? "" : "; missing: " + string.Join(", ", missing))}",
            $"  disk       {parts["storage"]?["status"]}",
        };
        foreach (var circuit in parts["circuits"]?.AsArray() ?? [])
            lines.Add($"  {((string?)circuit?["dependency"])?.Replace('_', ' '),-14} {((string?)circuit?["state"] == "closed" ? "ok" : $"{circuit?["state"]} since {circuit?["since"]}: {circuit?["reason"]}")}");
        lines.Add($"  projection {parts["projection"]?["behind"]} blocks behind");
        lines.Add($"  mempool    {mempool["transactions"]} waiting, {mempool["bytes"]} bytes");
        foreach (var reason in Reasons(consensus, peers, mempool)) lines.Add("  why        " + reason);
        return lines;
    }

    /// <summary>What keeps it from deciding.</summary>
    private static IEnumerable<string> Reasons(JsonNode consensus, JsonNode peers, JsonNode mempool)
    {
        if ((int)peers["connected"]! < (int)peers["needed"]!) yield return "too few validators reach one another: nothing can be decided";
        if ((bool)consensus["catching_up"]!) yield return "it is behind the others and takes over their blocks";
        if (!(bool)consensus["may_vote"]!) yield return "it has no vote: in quarantine after lost votes, or not a member; its log says which";
        if ((bool)consensus["changing_view"]!) yield return "the leader is being changed; /v1/views says why";
        if ((int)mempool["transactions"]! == 0 && (int)peers["connected"]! >= (int)peers["needed"]!) yield return "nothing is waiting to be decided";
    }

    private static string Age(TimeSpan age) => age < TimeSpan.FromMinutes(2) ? string.Create(CultureInfo.InvariantCulture, $"{Math.Max(0, age.TotalSeconds):0} s") : age < TimeSpan.FromHours(2) ? $"{age.TotalMinutes:0} min" : $"{age.TotalHours:0} h";
}
