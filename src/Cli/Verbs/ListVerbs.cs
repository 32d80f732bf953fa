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

    /// <param name="line">An entry as one line.</param>
    public static Command List(string what, string route, string member, Func<JsonNode, string> line)
    {
        var url = ValidatorClient.UrlOption();
        var status = new Option<string>("--status") { Description = "Only of this status." };
        var limit = new Option<int>("--limit") { Description = "At most so many, the newest first.", DefaultValueFactory = _ => 50 };
        var ids = new Option<bool>("--ids") { Description = "Only the ids, for scripts." };
        var wait = ValidatorClient.WaitOption();
        var command = new Command("list", $"Show {what}, the newest first.") { url, status, limit, ids, wait };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var path = string.Create(CultureInfo.InvariantCulture, $"{route}?limit={parsed.GetValue(limit)}") + (parsed.GetValue(status) is { } s ? "&status=" + Uri.EscapeDataString(s) : "");
            var entries = await ValidatorClient.UntilAsync(
                async () => (await validator.ReadJsonAsync(path, stop))[member]!.AsArray(), found => parsed.GetValue(wait) == 0 || found.Count > 0, parsed.GetValue(wait), stop);
            foreach (var entry in entries) Console.WriteLine(parsed.GetValue(ids) ? (string?)entry!["id"] : line(entry!));
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

    /// <summary>All of the trust store.</summary>
    public static Command Producers()
    {
        var url = ValidatorClient.UrlOption();
        var command = new Command("list", "Show the trust store with reputations.") { url };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            foreach (var p in (await validator.ReadJsonAsync("/v1/producers", stop))["producers"]!.AsArray())
                Console.WriteLine($"{p!["name"]}  of {p["organisation"]}  reputation {p["reputation"]}  {string.Join(", ", p["kinds"]!.AsArray().Select(k => (string?)k))}");
            return ExitCode.Ok;
        });
        return command;
    }
}
