using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Demo;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Storage;

namespace CyberMesh.Cli.Chaos;

/// <summary>
/// Four validators as processes, with everything around them broken by a schedule that follows from a seed; ends with an account of every message: each in
/// one block, or once in the dead letter topic, on every validator the same.
/// </summary>
internal static class ChaosVerb
{
    private const int Validators = 4;
    private const int Partitions = 8;
    private static readonly string[] WhereMessagesAre = ["cybermesh_height", "cybermesh_mempool_transactions", "cybermesh_kafka_records_open", "cybermesh_kafka_partitions_paused", "cybermesh_outbox_blocks", "cybermesh_projection_height"];
    private static readonly TimeSpan DrainMax = TimeSpan.FromMinutes(3);
    private static readonly TimeSpan Aftermath = TimeSpan.FromSeconds(15);

    public static Command Create()
    {
        var duration = Duration.Option("How long messages are published and things break.", 120, 20);
        var seed = new Option<ulong>("--seed") { Description = "The schedule follows from it.", DefaultValueFactory = _ => 1 };
        var rate = new Option<int>("--rate") { Description = "Messages per second.", DefaultValueFactory = _ => 170 };
        var postgres = new Option<bool>("--postgres") { Description = "Keep the queryable copies in a PostgreSQL server of its own, which is cut off too." };
        var home = new Option<DirectoryInfo?>("--home") { Description = "Where to put the validators, and leave them; a temporary directory by default." };
        var command = new Command("chaos", "Break broker, database, disk, links and processes by a seeded schedule, and account for every message. Exit code 5 when one is missing or double.") { duration, seed, rate, postgres, home };
        command.SetAction(async (parsed, stop) =>
        {
            if (parsed.GetValue(rate) is < 1 or > 2000) throw new UserError($"--rate is {parsed.GetValue(rate)}", "choose 1 to 2000 messages per second");
            var directory = parsed.GetValue(home)?.FullName ?? Directory.CreateTempSubdirectory("cybermesh-chaos-").FullName;
            try
            {
                return await RunAsync(directory, parsed.GetValue(duration).Length, parsed.GetValue(seed), parsed.GetValue(rate), parsed.GetValue(postgres), stop);
            }
            finally
            {
                if (parsed.GetValue(home) is null) Directory.Delete(directory, recursive: true);
                else Console.Error.WriteLine($"kept: {directory}");
            }
        });
        return command;
    }

    private static async Task<int> RunAsync(string directory, TimeSpan duration, ulong seed, int rate, bool usePostgres, CancellationToken stop)
    {
        using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','), Partitions);
        using var producers = new DemoProducers(broker.BootstrapServers, Path.Combine(AppContext.BaseDirectory, "Samples", "eve-sample.ndjson"));
        var meshPorts = Testnet.FreePorts(Validators);
        var apiPorts = Testnet.FreePorts(Validators);
        var homes = Testnet.Generate(directory, meshPorts, apiPorts, [.. producers.Trusted()], broker.BootstrapServers, TimeProvider.System, withAddresses: false);
        using var postgres = usePostgres ? new PostgresServer() : null;
        var database = postgres is null ? null : new FaultProxy(new IPEndPoint(IPAddress.Loopback, postgres.Port));
        using var disk = SmallDisk.TryMount(Path.Combine(homes[ChaosSchedule.OwnerOfSmallDisk(Validators)], "data"));
        if (disk is null) Console.WriteLine("left out: disk-full, because no file system can be mounted here");
        if (database is null) Console.WriteLine("left out: database-stop, because the copies are files (--postgres)");

        var links = new Dictionary<(int From, int To), FaultProxy>();
        var validators = new ValidatorProcess[Validators];
        for (var i = 0; i < Validators; i++)
        {
            for (var j = 0; j < Validators; j++)
                if (i != j)
                    links[(i, j)] = new FaultProxy(new IPEndPoint(IPAddress.Loopback, meshPorts[j]));
            var peers = links.Where(l => l.Key.From == i).Select(l => l.Value.EndPoint.ToString());
            Testnet.WriteConfig(homes[i], i + 1, $"127.0.0.1:{meshPorts[i]}", peers, $"127.0.0.1:{apiPorts[i]}", broker.BootstrapServers);
            validators[i] = new ValidatorProcess(homes[i], SettingsOf(i, database, postgres));
        }

        using var finished = new CancellationTokenSource();
        var deadLetters = new DeadLetterReader(broker.BootstrapServers, "ai.dlq.v1");
        var reading = deadLetters.RunAsync(finished.Token);
        try
        {
            foreach (var validator in validators) validator.Start();
            var faults = new ChaosFaults(broker, validators, links, database, disk, [.. Enumerable.Range(1, Validators).Select(i => $"cybermesh-consensus-node-{i}")], "ai.anomalies.v1");
            var schedule = ChaosSchedule.Make(seed, duration, Validators, fault => fault switch { "disk-full" => disk is not null, "database-stop" => database is not null, _ => true });
            Console.WriteLine($"seed {seed}, {duration.TotalSeconds:0} s, {rate} messages/s, {schedule.Count} faults:");
            foreach (var fault in schedule) Console.WriteLine("  " + fault);

            using var publishing = CancellationTokenSource.CreateLinkedTokenSource(stop);
            publishing.CancelAfter(duration);
            var published = producers.RunAsync(rate, publishing.Token);
            await Task.WhenAll(Follow(schedule, faults, stop), published);
            producers.Flush();
            var copies = producers.ExpectCopies(TopicReader.ReadAll(KafkaConnection.Plain(broker.BootstrapServers), "ai.anomalies.v1", stop));
            if (copies > 0) Console.WriteLine($"{copies} records stand in Kafka once more than meant: their acknowledgement was lost with the connection");
            Console.WriteLine($"published {producers.Count}; waiting until everything is decided");
            return await SettleAsync(validators, homes, apiPorts, producers, deadLetters, broker.BootstrapServers, stop);
        }
        finally
        {
            await finished.CancelAsync();
            await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (var validator in validators) validator.Dispose();
            foreach (var link in links.Values) await link.DisposeAsync();
            if (database is not null) await database.DisposeAsync();
        }
    }

    private static Dictionary<string, string> SettingsOf(int number, FaultProxy? database, PostgresServer? postgres)
    {
        // Nobody learns an address that leads around the proxies.
        var environment = new Dictionary<string, string> { ["KAFKA_CONSUMER_SESSION_TIMEOUT"] = "1500ms", ["P2P_ADVERTISE"] = "none" };
        if (postgres is null) return environment;
        environment["DB_DSN"] = postgres.Url(port: database!.EndPoint.Port);
        environment["DB_SCHEMA"] = $"v{number + 1}";
        return environment;
    }

    private static Task Follow(List<ChaosEvent> schedule, ChaosFaults faults, CancellationToken stop)
    {
        var clock = Stopwatch.StartNew();
        return Task.WhenAll(schedule.Select(async fault =>
        {
            if (fault.At > clock.Elapsed) await Task.Delay(fault.At - clock.Elapsed, stop);
            await faults.InjectAsync(fault, stop);
        }));
    }

    private static async Task<int> SettleAsync(ValidatorProcess[] validators, string[] homes, int[] apiPorts, DemoProducers producers, DeadLetterReader deadLetters, string brokers, CancellationToken stop)
    {
        List<string> problems;
        var clock = Stopwatch.StartNew();
        do
        {
            await Task.Delay(2000, stop);
            problems = Draw(homes, producers, deadLetters);
        }
        while (problems.Count > 0 && clock.Elapsed < DrainMax);
        var settled = clock.Elapsed;
        // What somebody would still do in another's place must not make anything double.
        await Task.Delay(Aftermath, stop);
        if (problems.Count == 0) problems = Draw(homes, producers, deadLetters);
        if (problems.Count > 0)
        {
            foreach (var port in apiPorts) problems.Add(await MetricsAsync(port, stop));
            problems.AddRange(FindInKafka(homes[0], producers, brokers, stop));
        }

        problems.AddRange(validators.Where(v => v.HasFailed).Select(v => $"{Path.GetFileName(v.Home)} has stopped itself; see {v.Home}/validator.log"));
        foreach (var home in homes) problems.AddRange(await VerifyAsync(home, validators, stop));
        var committed = Read(homes[0]).Accepted.Distinct().Count(producers.Log.ContainsKey);
        Console.WriteLine($"settled after {settled.TotalSeconds:0} s: {producers.Count} published = {committed} in a block + {deadLetters.Count} in the dead letter topic + {producers.Count - committed - deadLetters.Count} still in Kafka");
        foreach (var problem in problems) Console.WriteLine("problem: " + problem);
        Console.WriteLine(problems.Count == 0 ? "the account is balanced" : "the account is NOT balanced");
        return problems.Count == 0 ? ExitCode.Ok : ExitCode.VerificationFailed;
    }

    /// <summary>Where a message that is neither decided nor dead-lettered may be.</summary>
    private static async Task<string> MetricsAsync(int port, CancellationToken stop)
    {
        try
        {
            using var http = new HttpClient { Timeout = TimeSpan.FromSeconds(5) };
            var metrics = await http.GetStringAsync(new Uri($"http://127.0.0.1:{port}/metrics"), stop);
            return $"port {port}: " + string.Join(", ", metrics.Split('\n').Where(line => Array.Exists(WhereMessagesAre, name => line.StartsWith(name + " ", StringComparison.Ordinal))));
        }
        catch (Exception problem) when (problem is HttpRequestException or TaskCanceledException)
        {
            return $"port {port}: {problem.Message}";
        }
    }

    /// <summary>Whether the broker holds what nobody has decided on: if not, it was lost on the way there.</summary>
    private static IEnumerable<string> FindInKafka(string home, DemoProducers producers, string brokers, CancellationToken stop)
    {
        var accepted = Read(home).Accepted.ToHashSet();
        var missing = producers.Log.Values.Where(p => p.Code is null && !accepted.Contains(p.Digest) && !(p.Rival is { } rival && accepted.Contains(rival))).ToDictionary(p => p.Digest);
        foreach (var record in TopicReader.ReadAll(KafkaConnection.Plain(brokers), "ai.anomalies.v1", stop))
            if (record.Message.Value is { } value && missing.Remove(DemoProducers.DigestOf(value), out var found))
                yield return $"{found.Digest} stands in Kafka at {record.TopicPartitionOffset}";
        foreach (var lost in missing.Values) yield return $"{lost} is not in Kafka";
    }

    private static List<string> Draw(string[] homes, DemoProducers producers, DeadLetterReader deadLetters)
    {
        var problems = new List<string>();
        var chains = homes.Select(home => Read(home)).ToArray();
        var common = chains.Min(c => c.Hashes.Count);
        if (common == 0) problems.Add("nothing was committed");
        else if (chains.Select(c => c.Hashes[common - 1]).Distinct().Count() != 1) problems.Add($"validators differ at height {common}");
        for (var i = 0; i < homes.Length; i++) problems.AddRange(MessageAccount.CheckResults($"v{i + 1}", chains[i].Accepted, producers));
        problems.AddRange(MessageAccount.CheckDeadLetters(producers, deadLetters));
        if (producers.Failed > 0) problems.Add($"Kafka refused {producers.Failed} records");
        return problems;
    }

    /// <summary>From the block store itself: what the validator has agreed to, not what it says.</summary>
    private static (List<Digest> Hashes, List<Digest> Accepted) Read(string home)
    {
        using var reader = LocalStore.OpenReader(Path.Combine(home, "data"));
        var (hashes, accepted) = (new List<Digest>(), new List<Digest>());
        foreach (var stored in reader.Read(new Height(1)))
        {
            hashes.Add(stored.Stored.Block.Block.Digest);
            for (var i = 0; i < stored.Results.Length; i++)
                if (stored.Results[i] == RejectionReason.None)
                    accepted.Add(stored.Stored.Block.Block.Transactions[i]);
        }

        return (hashes, accepted);
    }

    /// <summary>Stopped, what it has on disk and in its database must hold as well.</summary>
    private static async Task<List<string>> VerifyAsync(string home, ValidatorProcess[] validators, CancellationToken stop)
    {
        var problems = new List<string>();
        foreach (var verb in new[] { "db", "data" })
        {
            if (verb == "data") await Array.Find(validators, v => v.Home == home)!.StopAsync();
            var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "cybermesh.dll"), verb, "verify", "--home", home]) { RedirectStandardOutput = true, RedirectStandardError = true };
            foreach (var (name, value) in Array.Find(validators, v => v.Home == home)!.Environment) start.Environment[name] = value;
            using var process = Process.Start(start)!;
            var error = process.StandardError.ReadToEndAsync(stop);
            var output = await process.StandardOutput.ReadToEndAsync(stop);
            await process.WaitForExitAsync(stop);
            Console.WriteLine($"{Path.GetFileName(home)} {verb} verify: {output.TrimEnd().Split('\n')[^1]}");
            if (process.ExitCode != 0) problems.Add($"{Path.GetFileName(home)} {verb} verify: {output}{await error}");
        }

        return problems;
    }
}
