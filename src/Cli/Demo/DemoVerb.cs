using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Simulator;
using Spectre.Console;

namespace CyberMesh.Cli.Demo;

/// <summary>The whole system on one machine: broker, validators, producers, faults; ends with an account of every message.</summary>
internal static class DemoVerb
{
    private static readonly TimeSpan DrainLimit = TimeSpan.FromSeconds(60);

    private sealed record DemoOptions(
        int Validators, TimeSpan? Duration, int Rate, string EveFile, string Fault, int Kills, Strategy Lies, bool Json, string Home, bool Keep, int ApiPort);

    public static Command Create()
    {
        var validators = new Option<int>("--validators") { Description = "How many validators.", DefaultValueFactory = _ => 4 };
        var duration = Duration.Option("How long to publish; without it until Ctrl-C.", null);
        var rate = new Option<int>("--rate") { Description = "Messages per second.", DefaultValueFactory = _ => 50 };
        var eve = new Option<FileInfo?>("--eve") { Description = "Suricata EVE lines to publish; a small sample comes with the program." };
        var fault = new Option<string>("--fault") { Description = "A fault to inject once.", DefaultValueFactory = _ => "none" }.AcceptOnlyFromAmong("none", "crash", "liar", "partition");
        var kills = new Option<int>("--kills") { Description = "With --fault crash: how many leaders are killed, one after the other.", DefaultValueFactory = _ => 1 };
        var lies = new Option<string>("--lies") { Description = "How the liar lies: " + string.Join(", ", Names()) + ".", DefaultValueFactory = _ => "equivocate" };
        lies.AcceptOnlyFromAmong([.. Names()]);
        var json = new Option<bool>("--json") { Description = "Print the summary as one JSON object on the last line." };
        var home = new Option<DirectoryInfo?>("--home") { Description = "Where to put the validators; a temporary directory by default." };
        var keep = new Option<bool>("--keep") { Description = "Keep that directory." };
        var apiPort = new Option<int>("--api-port") { Description = "HTTP port of the first validator; 0 picks free ports.", DefaultValueFactory = _ => 8443 };
        var command = new Command("demo", "Run a whole cluster with real alerts on this machine.") { validators, duration, rate, eve, fault, kills, lies, json, home, keep, apiPort };
        command.SetAction(async (parsed, stop) =>
        {
            var n = parsed.GetValue(validators);
            if (n is < 1 or > 32) throw new UserError($"--validators is {n}", "choose 1 to 32");
            if (parsed.GetValue(rate) is < 1 or > 100_000) throw new UserError($"--rate is {parsed.GetValue(rate)}", "choose 1 to 100000 messages per second");
            if (parsed.GetValue(kills) is < 1 or > 1000) throw new UserError($"--kills is {parsed.GetValue(kills)}", "choose 1 to 1000");
            TimeSpan? limit = parsed.GetResult(duration) is null ? null : parsed.GetValue(duration).Length;
            if (parsed.GetValue(fault) != "none" && n < 4) throw new UserError($"--fault {parsed.GetValue(fault)} needs at least 4 validators", "with fewer no fault can be tolerated");
            var temporary = parsed.GetValue(home) is null;
            var directory = parsed.GetValue(home)?.FullName ?? Directory.CreateTempSubdirectory("cybermesh-demo-").FullName;
            var options = new DemoOptions(
                n, limit, parsed.GetValue(rate), parsed.GetValue(eve)?.FullName ?? Path.Combine(AppContext.BaseDirectory, "Samples", "eve-sample.ndjson"),
                parsed.GetValue(fault)!, parsed.GetValue(kills), parsed.GetValue(fault) == "liar" ? Enum.Parse<Strategy>(parsed.GetValue(lies)!.Replace("-", "", StringComparison.Ordinal), ignoreCase: true) : Strategy.None,
                parsed.GetValue(json), directory, parsed.GetValue(keep) || !temporary, parsed.GetValue(apiPort));
            try
            {
                return await RunAsync(options, stop);
            }
            finally
            {
                if (options.Keep) Console.Error.WriteLine($"kept: {options.Home}");
                else Directory.Delete(options.Home, recursive: true);
            }
        });
        return command;
    }

    /// <summary>The strategies as words of the command line: DoubleVote is double-vote.</summary>
    private static IEnumerable<string> Names() =>
        Enum.GetNames<Strategy>().Where(n => n != nameof(Strategy.None)).Select(n => string.Concat(n.Select((c, i) => i > 0 && char.IsUpper(c) ? "-" + c : c.ToString())).ToLowerInvariant());

    private static async Task<int> RunAsync(DemoOptions options, CancellationToken stop)
    {
        using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
        using var producers = new DemoProducers(broker.BootstrapServers, options.EveFile);
        var cluster = new DemoCluster(options.Home, options.Validators, options.ApiPort, broker.BootstrapServers, [.. producers.Trusted()], options.Lies);
        await using var ownedCluster = cluster;
        await cluster.StartAllAsync();
        Console.WriteLine($"broker {broker.BootstrapServers}");
        foreach (var node in cluster.Running) Console.WriteLine($"{node.Name} {node.ApiAddress}");

        using var finished = new CancellationTokenSource();
        var deadLetters = new DeadLetterReader(broker.BootstrapServers, "ai.dlq.v1");
        var reading = deadLetters.RunAsync(finished.Token);
        using var publishing = CancellationTokenSource.CreateLinkedTokenSource(stop);
        if (options.Duration is { } duration) publishing.CancelAfter(duration);
        var published = producers.RunAsync(options.Rate, publishing.Token);
        var faults = InjectAsync(options, cluster, publishing.Token);
        await ShowAsync(cluster, producers, deadLetters, publishing.Token);
        await published;
        await faults;
        producers.Flush();
        cluster.Partition.Isolated = null;

        var account = await SettleAsync(cluster, producers, deadLetters);
        await finished.CancelAsync();
        await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!account.Agreed) foreach (var problem in account.Problems) Console.Error.WriteLine("problem: " + problem);
        if (options.Json) Console.WriteLine(JsonSerializer.Serialize(account, new JsonSerializerOptions(JsonSerializerDefaults.Web)));
        else PrintSummary(account);
        return account.Agreed ? ExitCode.Ok : ExitCode.Failure;
    }

    private static async Task InjectAsync(DemoOptions options, DemoCluster cluster, CancellationToken stop)
    {
        if (options.Fault is "none" or "liar") return;
        var kills = options.Fault == "crash" ? options.Kills : 1;
        var part = (options.Duration ?? TimeSpan.FromSeconds(30)) / (2 * kills + 2);
        await Task.Delay(part, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (options.Fault == "crash")
        {
            for (var i = 0; i < kills && !stop.IsCancellationRequested; i++) await KillLeaderAsync(cluster, part, stop);
            return;
        }

        var victim = cluster.LeaderNumber();
        var name = cluster[victim]!.Name;
        Console.WriteLine($"fault: {name}, the leader, is cut off from the other validators");
        cluster.Partition.Isolated = cluster[victim]!.Index;
        await Task.Delay(part, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        cluster.Partition.Isolated = null;
        Console.WriteLine($"fault: {name} is connected again");
    }

    private static async Task KillLeaderAsync(DemoCluster cluster, TimeSpan part, CancellationToken stop)
    {
        var victim = cluster.LeaderNumber();
        var (name, index) = (cluster[victim]!.Name, cluster[victim]!.Index);
        Console.WriteLine($"fault: {name}, the leader, is killed");
        var (killedAt, height) = (Environment.TickCount64, cluster.Running.Max(n => n.Status.Height.Value));
        await cluster.KillAsync(victim);
        await Task.Delay(part, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (cluster.FirstCommitOfOthers(index, new Height(height)) is { } recovered) cluster.RecoveriesMs.Add(recovered - killedAt);
        await cluster.StartAsync(victim);
        Console.WriteLine($"fault: {name} is started again");
        await Task.Delay(part, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    // ---- Display ----------------------------------------------------------------------------------------------

    private static async Task ShowAsync(DemoCluster cluster, DemoProducers producers, DeadLetterReader deadLetters, CancellationToken stop)
    {
        if (!Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Ansi)
        {
            await AnsiConsole.Live(Table(cluster, producers, deadLetters)).AutoClear(true).StartAsync(async live =>
            {
                while (!stop.IsCancellationRequested)
                {
                    live.UpdateTarget(Table(cluster, producers, deadLetters));
                    await Task.Delay(500, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }
            });
            return;
        }

        while (!stop.IsCancellationRequested)
        {
            await Task.Delay(2000, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            var heights = string.Join(' ', cluster.Running.Select(n => $"{n.Name}={n.Status.Height}"));
            Console.WriteLine($"published {producers.Count}, committed {cluster.CommittedAtMs.Count}, dead-lettered {deadLetters.Count}, heights {heights}");
        }
    }

    private static Table Table(DemoCluster cluster, DemoProducers producers, DeadLetterReader deadLetters)
    {
        var table = new Table().Title($"published {producers.Count}   committed {cluster.CommittedAtMs.Count}   dead-lettered {deadLetters.Count}").Border(TableBorder.Rounded);
        table.AddColumns("validator", "height", "view", "leads", "peers", "waiting", "state root", "HTTP");
        for (var i = 0; i < cluster.Count; i++)
        {
            if (cluster[i] is not { } node)
            {
                table.AddRow($"v{i + 1}", "[red]down[/]", "", "", "", "", "", "");
                continue;
            }

            var status = node.Status;
            table.AddRow(
                node.Name, status.Height.ToString(), status.View + (status.ChangingView ? " [yellow]changing[/]" : ""), status.Leader == node.Index ? "yes" : "",
                node.ConnectedPeers.Length.ToString(CultureInfo.InvariantCulture), status.PoolCount.ToString(CultureInfo.InvariantCulture),
                status.StateRoot.ToString()[..12], node.ApiAddress.ToString());
        }

        return table;
    }

    // ---- Account ----------------------------------------------------------------------------------------------

    /// <summary>The summary; the member names are an interface (README).</summary>
    private sealed record Account(
        int Validators, ulong Height, ulong[] Heights, string[] StateRoots, long Published, int Committed, SortedDictionary<string, int> Rejected,
        [property: JsonPropertyName("dead_lettered")] int DeadLettered, long ViewChanges, Latency CommitLatencyMs, Latency? RecoveryMs, bool Agreed)
    {
        [JsonIgnore]
        public List<string> Problems { get; init; } = [];
    }

    private sealed record Latency(long P50, long P99);

    /// <summary>Waits until everything published is decided everywhere, or the limit; then draws up the account.</summary>
    private static async Task<Account> SettleAsync(DemoCluster cluster, DemoProducers producers, DeadLetterReader deadLetters)
    {
        var limit = DateTime.UtcNow + DrainLimit;
        Account account;
        do
        {
            await Task.Delay(300);
            account = Draw(cluster, producers, deadLetters);
        }
        while (!account.Agreed && DateTime.UtcNow < limit);
        return account;
    }

    private static Account Draw(DemoCluster cluster, DemoProducers producers, DeadLetterReader deadLetters)
    {
        var problems = new List<string>();
        var honest = Enumerable.Range(0, cluster.Count).Where(i => i != cluster.LiarNumber).ToArray();
        foreach (var i in honest)
            if (cluster[i] is null)
                problems.Add($"v{i + 1} is down");
        var nodes = honest.Select(i => cluster[i]).OfType<ValidatorNode>().ToArray();
        var common = nodes.Length == 0 ? 0 : nodes.Min(n => n.Projection.Height.Value);
        var blocks = nodes.Select(n => n.Projection.Block(common)).ToArray();
        if (common == 0) problems.Add("nothing was committed");
        else if (blocks.Any(b => b is null) || blocks.Select(b => (b!.Hash, b.StateRoot)).Distinct().Count() != 1) problems.Add($"validators differ at height {common}");
        foreach (var node in nodes) problems.AddRange(MessageAccount.CheckResults(node.Name, Accepted(node), producers));
        problems.AddRange(MessageAccount.CheckDeadLetters(producers, deadLetters));
        if (producers.Failed > 0) problems.Add($"Kafka refused {producers.Failed} records");

        var waits = cluster.CommittedAtMs.Where(c => producers.Log.ContainsKey(c.Key)).Select(c => c.Value - producers.Log[c.Key].PublishedAtMs).Order().ToArray();
        var recoveries = cluster.RecoveriesMs.Order().ToArray();
        return new Account(
            cluster.Count, common, [.. cluster.Running.Select(n => n.Status.Height.Value)], [.. blocks.OfType<Node.Projection.BlockRow>().Select(b => b.StateRoot).Distinct()],
            producers.Count, nodes.Length == 0 ? 0 : (int)nodes.Min(n => n.Projection.AlertCount()), new SortedDictionary<string, int>(deadLetters.CountByCode().ToDictionary()),
            deadLetters.Count, nodes.Length == 0 ? 0 : nodes.Max(n => n.Metrics.ViewChanges.Value), new Latency(Percentile(waits, 50), Percentile(waits, 99)),
            recoveries.Length == 0 ? null : new Latency(Percentile(recoveries, 50), Percentile(recoveries, 99)), problems.Count == 0)
        {
            Problems = problems,
        };
    }

    private static IEnumerable<Digest> Accepted(ValidatorNode node) =>
        node.Projection.AllResults().Where(r => r.Result == RejectionReason.None.Code()).Select(r => Digest.TryParse(r.Digest, out var digest) ? digest : default);

    private static long Percentile(long[] sorted, int percent) => sorted.Length == 0 ? 0 : sorted[Math.Min(sorted.Length - 1, sorted.Length * percent / 100)];

    private static void PrintSummary(Account account)
    {
        Console.WriteLine();
        Console.WriteLine($"validators      {account.Validators}, heights {string.Join(' ', account.Heights)}");
        Console.WriteLine($"agreed          {(account.Agreed ? "yes" : "NO")}, at height {account.Height}, state root {string.Join(' ', account.StateRoots)}");
        Console.WriteLine($"published       {account.Published}");
        Console.WriteLine($"committed       {account.Committed}");
        Console.WriteLine($"dead-lettered   {account.DeadLettered} ({string.Join(", ", account.Rejected.Select(r => $"{r.Key} {r.Value}"))})");
        Console.WriteLine($"view changes    {account.ViewChanges}");
        if (account.RecoveryMs is { } recovery) Console.WriteLine($"recovery        p50 {recovery.P50} ms, p99 {recovery.P99} ms from a leader's death to the first block of another");
        Console.WriteLine($"commit latency  p50 {account.CommitLatencyMs.P50} ms, p99 {account.CommitLatencyMs.P99} ms");
    }
}
