using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.CommandLine;
using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli.Demo;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using CyberMesh.Simulator;
using Google.Protobuf;

namespace CyberMesh.Cli.Bench;

/// <summary>The HTTP API of a validator of four, over real connections: paging through many alerts, and what readers cost consensus.</summary>
internal static class ApiBench
{
    private const int Validators = 4;
    private const int AlertsPerBlock = 100;
    private const int RowsPerStatement = 500;

    /// <summary>One alert in so many is of a type of its own.</summary>
    private const int RareOneIn = 10_000;

    private sealed record Latencies(int Count, double P50Ms, double P99Ms, double MaxMs)
    {
        public static Latencies Of(List<double> ms)
        {
            ms.Sort();
            return ms.Count == 0 ? new Latencies(0, 0, 0, 0) : new Latencies(ms.Count, ms[ms.Count / 2], ms[(int)Math.Min(ms.Count - 1, ms.Count * 0.99)], ms[^1]);
        }

        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Count,6} times, p50 {P50Ms:F1} ms, p99 {P99Ms:F1} ms, at most {MaxMs:F1} ms");
    }

    private sealed record Report(int Cores, string Database, int Alerts, Latencies Pages, Latencies Filtered, int Streams, int Requests, Latencies CalmCommits, Latencies LoadedCommits, double P99Ratio, long EventsRead);

    public static Command Create()
    {
        var alerts = new Option<int>("--alerts") { Description = "Alerts to page through.", DefaultValueFactory = _ => 1_000_000 };
        var page = new Option<int>("--page") { Description = "Alerts on a page.", DefaultValueFactory = _ => 100 };
        var streams = new Option<int>("--streams") { Description = "Clients of /v1/events.", DefaultValueFactory = _ => 1000 };
        var requests = new Option<int>("--requests") { Description = "Requests per second beside them.", DefaultValueFactory = _ => 200 };
        var rate = new Option<int>("--rate") { Description = "Alerts published per second meanwhile.", DefaultValueFactory = _ => 50 };
        var duration = Duration.Option("Of calm, and of load.", 20);
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("api", "Pages through many alerts, and commit latency with and without clients; the copy in a file, or on the server that DB_DSN names.") { alerts, page, streams, requests, rate, duration, json };
        command.SetAction(async (parsed, stop) =>
        {
            var report = await MeasureAsync(parsed.GetValue(alerts), parsed.GetValue(page), parsed.GetValue(streams), parsed.GetValue(requests), parsed.GetValue(rate), parsed.GetValue(duration).Length, stop);
            if (parsed.GetValue(json)) Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
            else
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                    {report.Cores} cores, the copy in {report.Database}, {report.Alerts} alerts
                    pages to the end of the list   {report.Pages}
                    pages of a rare type           {report.Filtered}
                    commit latency, calm           {report.CalmCommits}
                    with {report.Streams} streams and {report.Requests}/s   {report.LoadedCommits}; p99 {report.P99Ratio:F2} times that of calm
                    events read meanwhile          {report.EventsRead}
                    """));
            return ExitCode.Ok;
        });
        return command;
    }

    private static async Task<Report> MeasureAsync(int alerts, int page, int streams, int requests, int rate, TimeSpan duration, CancellationToken stop)
    {
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        try
        {
            using var key = new Ed25519Signer([.. Enumerable.Repeat((byte)1, 32)]);
            using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
            await using var cluster = new DemoCluster(directory.FullName, Validators, 0, broker.BootstrapServers, [Testnet.Trusted(key.PublicKey, "bench", "bench")], Strategy.None);
            var database = Environment.GetEnvironmentVariable("DB_DSN");
            for (var i = 0; i < Validators; i++) Configure(Path.Combine(directory.FullName, $"v{i + 1}", "config.json"), i == 0 ? database : null);
            await cluster.StartAllAsync();
            var node = cluster[0]!;
            using var kafka = KafkaClients.Producer(KafkaConnection.Plain(broker.BootstrapServers), "bench", _ => { });
            var load = new Load(kafka, new AlertSigner(key, SigningProfile.V1, TimeProvider.System), cluster);
            // Connected, assigned and compiled before anything counts.
            await load.RunAsync(rate, TimeSpan.FromSeconds(5), stop);
            using var http = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = int.MaxValue }) { BaseAddress = node.ApiAddress, Timeout = Timeout.InfiniteTimeSpan };

            var (pages, filtered) = (new List<double>(), new List<double>());
            if (alerts > 0)
            {
                var settings = Settings.Load(Path.Combine(directory.FullName, "v1", "config.json"), new Dictionary<string, string>());
                using (var copy = settings.OpenDatabase(Path.Combine(directory.FullName, "v1")))
                using (var connection = copy.Open())
                    Fill(connection, alerts);
                await PageAsync(http, $"/v1/alerts?limit={page}", pages, stop);
                for (var i = 0; i < 20; i++) await PageAsync(http, $"/v1/alerts?type=rare&limit={page}", filtered, stop);
            }

            var calm = await load.RunAsync(rate, duration, stop);
            await using var clients = await ApiClients.StartAsync(node.ApiAddress, streams, requests, stop);
            await load.RunAsync(rate, TimeSpan.FromSeconds(2), stop);
            var loaded = await load.RunAsync(rate, duration, stop);
            var events = await clients.StopAsync(stop);
            return new Report(
                Environment.ProcessorCount, database is null ? "a file" : "a server", alerts, Latencies.Of(pages), Latencies.Of(filtered), streams, requests, calm, loaded, loaded.P99Ms / Math.Max(calm.P99Ms, 0.001), events);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    private static void Configure(string path, string? database)
    {
        var settings = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        settings["API_RATE_PER_SECOND"] = "1000000";
        if (database is not null) (settings["DB_DSN"], settings["DB_SCHEMA"]) = (database, "bench_" + Guid.NewGuid().ToString("N"));
        File.WriteAllText(path, settings.ToJsonString());
    }

    /// <summary>Rows as the copy writes them, far above the blocks there are.</summary>
    private static void Fill(DbConnection connection, int alerts)
    {
        const long firstHeight = 1_000_000_000;
        for (var written = 0; written < alerts;)
        {
            using var transaction = connection.BeginTransaction();
            for (var statements = 0; statements < 100 && written < alerts; statements++)
            {
                var sql = new StringBuilder("INSERT INTO alerts (digest, id, type, source, severity, confidence_bp, time_s, model_version, producer, organisation, height, position, payload, status, decided_by) VALUES ");
                for (var i = 0; i < RowsPerStatement && written < alerts; i++, written++)
                    sql.Append(CultureInfo.InvariantCulture, $"""
                        {(i == 0 ? "" : ",")}('{Digest.Sha256(BitConverter.GetBytes(written))}','alert-{written}','{(written % RareOneIn == 0 ? "rare" : "scan")}','10.{written >> 16 & 255}.{written >> 8 & 255}.{written & 255}',{1 + written % 10},5000,{1_790_000_000 + written},'m','sensor-{written % 50}','org-{written % 7}',{firstHeight + written / AlertsPerBlock},{written % AlertsPerBlock},'[{written}]','reported','')
                        """);
                using var command = connection.CreateCommand();
                command.Transaction = transaction;
#pragma warning disable CA2100 // numbers of our own
                command.CommandText = sql.ToString();
#pragma warning restore CA2100
                command.CommandTimeout = 120;
                command.ExecuteNonQuery();
            }

            transaction.Commit();
        }
    }

    /// <summary>To the end of the list.</summary>
    private static async Task PageAsync(HttpClient http, string path, List<double> latencies, CancellationToken stop)
    {
        for (string? cursor = null; ;)
        {
            var begun = Stopwatch.GetTimestamp();
            var body = await http.GetByteArrayAsync(path + (cursor is null ? "" : "&cursor=" + cursor), stop);
            latencies.Add(Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
            using var parsed = JsonDocument.Parse(body);
            cursor = parsed.RootElement.GetProperty("next").GetString();
            if (cursor is null) return;
        }
    }

    /// <summary>Alerts at a fixed rate, and how long each takes from the time it was meant to be published to its block.</summary>
    private sealed class Load(IProducer<byte[]?, byte[]?> kafka, AlertSigner signer, DemoCluster cluster)
    {
        private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

        public async Task<Latencies> RunAsync(int rate, TimeSpan duration, CancellationToken stop)
        {
            var meant = new ConcurrentDictionary<Digest, long>();
            var begun = Environment.TickCount64;
            for (var i = 0; i < rate * duration.TotalSeconds; i++)
            {
                var at = begun + (1000L * i / rate);
                if (at > Environment.TickCount64) await Task.Delay((int)(at - Environment.TickCount64), stop);
                var record = signer.Anomaly(new Detection("scan", "10.0.0.1", 5, 0.5, "bench", """{"severity":5,"confidence":0.5}""")).ToByteArray();
                meant[Envelope(record)] = at;
                kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = record });
            }

            var last = Environment.TickCount64;
            while (meant.Keys.Any(digest => !cluster.CommittedAtMs.ContainsKey(digest)))
            {
                if (Environment.TickCount64 - last > Patience.TotalMilliseconds) throw new UserError("not everything was committed in time", "try a lower --rate");
                await Task.Delay(50, stop);
            }

            return Latencies.Of([.. meant.Select(m => (double)(cluster.CommittedAtMs[m.Key] - m.Value))]);
        }

        private static Digest Envelope(byte[] record) => EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _) ? envelope.Digest : throw new InvalidOperationException();
    }
}
