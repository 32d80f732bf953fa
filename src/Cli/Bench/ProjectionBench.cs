using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Chain;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Projection;
using CyberMesh.Simulator;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Cli.Bench;

/// <summary>From stored blocks into the queryable copy, in a file or on the server that DB_DSN names.</summary>
internal static class ProjectionBench
{
    /// <summary>Of each of four organisations. What is older has expired, which costs the copy about as much as that it came.</summary>
    private const int AlertsOpenMax = 10_000;

    private sealed record Report(BenchMachine Machine, string Database, int Alerts, ulong Blocks, double Seconds, double PerSecond, double CpuMicrosecondsPerAlert, long BytesPerAlert);

    public static Command Create()
    {
        var alerts = new Option<int>("--alerts") { Description = "Alerts that one validator commits first.", DefaultValueFactory = _ => 50_000 };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("projection", "Blocks of one validator into the queryable copy; in a file, or on the server that DB_DSN names.") { alerts, json };
        command.SetAction(async (parsed, stop) =>
        {
            var report = await MeasureAsync(parsed.GetValue(alerts), stop);
            Console.WriteLine(parsed.GetValue(json) ? JsonSerializer.Serialize(report, BenchVerb.Json) : string.Create(CultureInfo.InvariantCulture, $"""
                {report.Machine}
                copied into {report.Database}: {report.Alerts} alerts of {report.Blocks} blocks in {report.Seconds:F1} s, {report.PerSecond:F0} per second
                processor, allocation          {report.CpuMicrosecondsPerAlert:F0} us and {report.BytesPerAlert} bytes per alert
                """));
            return ExitCode.Ok;
        });
        return command;
    }

    private static async Task<Report> MeasureAsync(int alerts, CancellationToken stop)
    {
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        try
        {
            using var load = new BenchLoad();
            var home = Testnet.Generate(directory.FullName, Testnet.FreePorts(1), Testnet.FreePorts(1), load.Trusted, "127.0.0.1:1", TimeProvider.System, new ChainParameters { AlertsOpenMax = AlertsOpenMax })[0];
            var records = load.Sign(alerts, 512);
            await using (var validator = new BenchValidator(home, 4000, Strategy.None, (_, _) => { }))
            {
                validator.Start();
                var feeding = validator.FeedAsync(records, () => records.Length, _ => Thread.Sleep(1), stop);
                while (validator.Decided < alerts && !validator.Completion.IsCompleted) await Task.Delay(10, stop);
                if (validator.Completion.IsCompleted) await validator.Completion;
                await feeding;
            }

            var environment = new Dictionary<string, string>();
            if (Environment.GetEnvironmentVariable("DB_DSN") is { } server) (environment["DB_DSN"], environment["DB_SCHEMA"]) = (server, "bench_" + Guid.NewGuid().ToString("N"));
            var settings = Settings.Load(Path.Combine(home, "config.json"), environment);
            using var opened = new ValidatorHome(home, settings);
            using var projection = new Projection(
                settings.OpenDatabase(home), opened.Blocks, opened.ProjectionSource, new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance);
            var (usage, clock) = (new Usage(), Stopwatch.StartNew());
            while (projection.Copy() && !stop.IsCancellationRequested)
            {
                // until everything is there
            }

            var (seconds, (cpu, bytes)) = (clock.Elapsed.TotalSeconds, usage.Per(alerts));
            return new Report(BenchMachine.Here(), settings.Database is null ? "a file" : "a server", alerts, projection.Height.Value, seconds, alerts / seconds, cpu, bytes);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }
}
