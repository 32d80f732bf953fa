using System;
using System.CommandLine;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace CyberMesh.Cli.Verbs;

/// <summary>Reads lists and single entries from the HTTP API of a validator, for people and for scripts.</summary>
internal static class ListVerbs
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>What is shown is for people, or for programs.</summary>
    private static Option<string> OutputOption()
    {
        var output = new Option<string>("--output", "-o") { Description = "text, or json: the entries as the API gives them, one in a line.", DefaultValueFactory = _ => "text" };
        output.AcceptOnlyFromAmong("text", "json");
        return output;
    }

    /// <param name="line">An entry as one line.</param>
    /// <param name="hasStatus">Whether the entries have one to be chosen by.</param>
    public static Command List(string what, string route, string member, Func<JsonNode, string> line, bool hasStatus = true)
    {
        var (url, output) = (ValidatorClient.UrlOption(), OutputOption());
        var status = new Option<string>("--status") { Description = "Only of this status." };
        var limit = new Option<int>("--limit") { Description = "At most so many, the newest first.", DefaultValueFactory = _ => 50 };
        var ids = new Option<bool>("--ids") { Description = "Only the ids, for scripts." };
        var wait = ValidatorClient.WaitOption();
        var command = new Command("list", $"Show {what}, the newest first.") { url, limit, wait, output };
        if (hasStatus)
        {
            command.Add(status);
            command.Add(ids);
        }

        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var path = string.Create(CultureInfo.InvariantCulture, $"{route}?limit={parsed.GetValue(limit)}") + (hasStatus && parsed.GetValue(status) is { } s ? "&status=" + Uri.EscapeDataString(s) : "");
            var entries = await ValidatorClient.UntilAsync(
                async () => (await validator.ReadJsonAsync(path, stop))[member]!.AsArray(), found => parsed.GetValue(wait) == 0 || found.Count > 0, parsed.GetValue(wait), stop);
            foreach (var entry in entries) Console.WriteLine(hasStatus && parsed.GetValue(ids) ? (string?)entry!["id"] : parsed.GetValue(output) == "json" ? entry!.ToJsonString() : line(entry!));
            return entries.Count > 0 || parsed.GetValue(wait) == 0 ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }

    public static Command Show(string what, string route)
    {
        var id = new Argument<string>("id") { Description = "Id, transaction digest or name." };
        var url = ValidatorClient.UrlOption();
        var status = new Option<string>("--status") { Description = "Wait until it has this status; needs --wait." };
        var wait = ValidatorClient.WaitOption();
        var command = new Command("show", $"Show {what} with its history.") { id, url, status, wait };
        command.Aliases.Add("get");
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var wanted = parsed.GetValue(status);
            var entry = await ValidatorClient.UntilAsync(
                () => validator.ReadJsonAsync($"{route}/{Uri.EscapeDataString(parsed.GetValue(id)!)}", stop), found => wanted is null || (string?)found["status"] == wanted, parsed.GetValue(wait), stop);
            Console.WriteLine(entry.ToJsonString(Indented));
            return wanted is null || (string?)entry["status"] == wanted ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }

    public static string AlertLine(JsonNode a) => $"{a["id"]}  {a["status"]}  severity {a["severity"]}  {a["type"]} from {a["source"]}, by {a["producer"]} of {a["organisation"]}, block {a["height"]}";

    public static string PolicyLine(JsonNode p) => $"{p["id"]}  {p["status"]} until {p["until"]}  {p["action"]} {p["rule_type"]}, by {p["producer"]}, block {p["height"]}";

    public static string BlockLine(JsonNode b) => $"{b["height"]}  {b["time"]}  {b["accepted_count"]} of {b["transaction_count"]} accepted, by {b["proposer"]} in view {b["view"]}  {b["hash"]}";

    /// <summary>All of the trust store.</summary>
    public static Command Producers() => All(
        "Show the trust store with reputations.", "/v1/producers", "producers", p => $"{p["name"]}  of {p["organisation"]}  reputation {p["reputation"]}  {string.Join(", ", p["kinds"]!.AsArray().Select(k => (string?)k))}");

    /// <summary>The set in force, as one validator sees it.</summary>
    public static Command Validators() => All(
        "Show the validators of the set, their scores, and who is connected.", "/v1/validators", "validators", v => $"{v["index"]}  {v["name"]}  score {v["score"]}  {((bool)v["connected"]! ? "connected" : "not connected")}  {v["consensus_key"]}");

    private static Command All(string description, string route, string member, Func<JsonNode, string> line)
    {
        var (url, output) = (ValidatorClient.UrlOption(), OutputOption());
        var command = new Command("list", description) { url, output };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            foreach (var entry in (await validator.ReadJsonAsync(route, stop))[member]!.AsArray()) Console.WriteLine(parsed.GetValue(output) == "json" ? entry!.ToJsonString() : line(entry!));
            return ExitCode.Ok;
        });
        return command;
    }

    public static Command Blocks() => new("blocks", "Read the blocks of a validator.") { List("blocks", "/v1/blocks", "blocks", BlockLine, hasStatus: false), Show("a block", "/v1/blocks") };

    /// <summary>Alerts as they are committed, until stopped; a connection that breaks is made again where it was.</summary>
    public static Command Watch()
    {
        var (url, output) = (ValidatorClient.UrlOption(), OutputOption());
        var after = new Option<ulong?>("--after") { Description = "Begin behind this block; without it with the next one." };
        var count = new Option<int>("--count") { Description = "Stop after so many.", DefaultValueFactory = _ => int.MaxValue };
        var command = new Command("watch", "Show alerts as they are committed.") { url, output, after, count };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var left = parsed.GetValue(count);
            await foreach (var block in validator.EventsAsync(parsed.GetValue(after), stop))
                foreach (var a in block["alerts"]?.AsArray() ?? [])
                {
                    Console.WriteLine(parsed.GetValue(output) == "json" ? a!.ToJsonString() : $"{a!["id"]}  severity {a["severity"]}  {a["type"]} from {a["source"]}, by {a["producer"]} of {a["organisation"]}, block {block["block"]!["height"]}");
                    if (--left == 0) return ExitCode.Ok;
                }

            return ExitCode.Ok;
        });
        return command;
    }
}
