using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Chain;
using CyberMesh.Node;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Cli.Bench;

/// <summary>The whole way: from Kafka through whole validators into their copies and back to Kafka.</summary>
internal static class PipelineBench
{
    private const int Partitions = 4;

    /// <summary>Published and not committed everywhere; the embedded broker keeps about 5 MiB of a partition.</summary>
    private const int AheadMax = 12_000;

    /// <summary>Signed and published in one go.</summary>
    private const int PublishBatch = 500;

    private const int Samples = 10;
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(10);

    /// <param name="CopyLag">Blocks that the slowest copy is behind.</param>
    private sealed record Sample(double Seconds, double PerSecond, long Mebibytes, long HeapMebibytes, ulong CopyLag);

    private sealed record Report(
        BenchMachine Machine, NetworkLoad Load, double Seconds, long Alerts, double PerSecond, double CopiedPerSecond, long RecordsPublished, double CpuMicrosecondsPerAlert, long BytesPerAlert,
        Floors Floors, double OfTheVerificationBound, Sample[] Samples, string Settings);

    public static Command Create()
    {
        var load = new LoadOptions(rate: 1000);
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("pipeline", "Alerts from the embedded broker through whole validators into their copies, and decisions back to the broker.") { json };
        load.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            var report = await MeasureAsync(load.Read(parsed), stop);
            if (parsed.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
                return ExitCode.Ok;
            }

            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                {report.Machine}
                {report.Settings}
                {report.Load}, {report.Seconds:F1} s
                committed                      {report.PerSecond:F0} alerts/s by the validator that committed fewest
                in every copy                  {report.CopiedPerSecond:F0} alerts/s
                records back in Kafka          {report.RecordsPublished}
                processor, allocation          {report.CpuMicrosecondsPerAlert:F0} us and {report.BytesPerAlert} bytes per alert: all validators, the broker and the load
                verification bound             {100 * report.OfTheVerificationBound:F0} % reached, at {report.Floors.VerifyMicroseconds:F1} us a signature
                """));
            foreach (var sample in report.Samples)
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{sample.Seconds,6:F0} s  {sample.PerSecond,7:F0} alerts/s  {sample.Mebibytes,6} MiB of the process, {sample.HeapMebibytes} MiB of them the heap; copies at most {sample.CopyLag} blocks behind"));
            return ExitCode.Ok;
        });
        return command;
    }

    private static async Task<Report> MeasureAsync(NetworkLoad asked, CancellationToken stop)
    {
        var (count, size, rate, duration) = asked;
        if (count is < 1 or > 16) throw new UserError($"--validators is {count}", "choose 1 to 16");
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        var nodes = new List<ValidatorNode>();
        try
        {
            using var load = new BenchLoad();
            using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
            // What the state may hold is small, so that it is full before the end, nonces after the 15 minutes that they are kept at least: growth would be a leak.
            var parameters = new ChainParameters { AlertsOpenMax = 10_000, AlertAgeMaxMs = 15 * 60_000 };
            var homes = Testnet.Generate(directory.FullName, Testnet.FreePorts(count), Testnet.FreePorts(count), load.Trusted, broker.BootstrapServers, TimeProvider.System, parameters);
            var floors = await Floors.MeasureAsync(directory.FullName);
            var committed = new long[count];
            for (var i = 0; i < count; i++)
            {
                var number = i;
                var settings = Settings.Load(Path.Combine(homes[i], "config.json"), new Dictionary<string, string>
                {
                    ["MEMPOOL_MAX_TXS"] = "16000",
                    ["MEMPOOL_MAX_BYTES"] = "67108864",
                    ["MEMPOOL_RATE_PER_SECOND"] = "1000000",
                    ["KAFKA_CONSUMER_SESSION_TIMEOUT"] = "6s",
                });
                var node = new ValidatorNode(new ValidatorOptions(homes[i], GenesisFile.Load(Path.Combine(homes[i], "genesis.json")), settings, TimeProvider.System, NullLogger.Instance,
                    OnCommitted: run => Interlocked.Add(ref committed[number], run.Sum(b => (long)b.Receipts.Length))));
                nodes.Add(node);
                await node.StartAsync();
            }

            long Committed() => Enumerable.Range(0, count).Min(i => Interlocked.Read(ref committed[i]));
            ulong Copied() => nodes.Min(n => n.Projection.Height.Value);
            using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var publishing = Task.Factory.StartNew(() => Publish(broker.BootstrapServers, load, size, rate, Committed, end.Token), end.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            await Task.WhenAny(Task.Delay(WarmUp, stop), publishing);
            GC.Collect();
            var (begun, before, usage, clock) = (Committed(), Records(nodes), new Usage(), Stopwatch.StartNew());
            var copiedBefore = Transactions(nodes);
            var samples = new List<Sample>();
            for (var (i, last, lastAt) = (1, begun, 0.0); i <= Samples && !stop.IsCancellationRequested; i++)
            {
                await Task.WhenAny([Task.Delay(duration * i / Samples - clock.Elapsed is var left && left > TimeSpan.Zero ? left : TimeSpan.Zero, stop), publishing, .. nodes.Select(n => n.Completion)]);
                foreach (var failed in nodes.Where(n => n.Completion.IsCompleted)) await failed.Completion;
                if (publishing.IsFaulted) await publishing;
                using var process = Process.GetCurrentProcess();
                var (now, at) = (Committed(), clock.Elapsed.TotalSeconds);
                samples.Add(new Sample(at, (now - last) / (at - lastAt), process.WorkingSet64 >> 20, GC.GetTotalMemory(false) >> 20, nodes.Max(n => n.Status.Height.Value) - Copied()));
                (last, lastAt) = (now, at);
            }

            var (elapsed, total, records) = (clock.Elapsed, Committed() - begun, Records(nodes) - before);
            var copied = Transactions(nodes) - copiedBefore;
            var (cpu, bytes) = usage.Per(total);
            await end.CancelAsync();
            await publishing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (total == 0) throw new UserError($"nothing was committed in {duration.TotalSeconds} s", "see whether the disk or the processor is busy with something else");
            var perSecond = total / elapsed.TotalSeconds;
            return new Report(
                BenchMachine.Here(), asked, elapsed.TotalSeconds, total, perSecond, copied / elapsed.TotalSeconds, records, cpu, bytes, floors,
                perSecond * count * floors.VerifyMicroseconds / 1e6 / Environment.ProcessorCount, [.. samples], $"at most {AheadMax} alerts ahead of what all have committed, pools of 16000, nonces of 15 minutes, copies in SQLite files");
        }
        finally
        {
            foreach (var node in nodes) await node.StopAsync();
            foreach (var node in nodes) await node.DisposeAsync();
            directory.Delete(recursive: true);
        }
    }

    private static long Records(List<ValidatorNode> nodes) => nodes.Sum(n => n.Metrics.CommitsPublished.Value);

    /// <summary>In the copy that holds fewest.</summary>
    private static long Transactions(List<ValidatorNode> nodes) => nodes.Min(n => (long)n.Projection.TransparencyLog.Size);

    /// <summary>Signs and publishes, at the rate or as far ahead as allowed, on a thread of its own.</summary>
    private static void Publish(string brokers, BenchLoad load, int size, int rate, Func<long> committed, CancellationToken stop)
    {
        using var producer = new ProducerBuilder<byte[]?, byte[]?>(new ProducerConfig { BootstrapServers = brokers, LingerMs = 10, BatchSize = 512 * 1024 }).Build();
        var clock = Stopwatch.StartNew();
        for (long published = 0; !stop.IsCancellationRequested;)
        {
            var due = rate > 0 ? (long)(clock.Elapsed.TotalSeconds * rate) : committed() + AheadMax;
            var next = (int)Math.Min(due - published, PublishBatch);
            if (next <= 0)
            {
                Thread.Sleep(1);
                continue;
            }

            foreach (var record in load.Sign(next, size, (int)published))
                for (var taken = false; !taken && !stop.IsCancellationRequested;)
                {
                    try
                    {
                        producer.Produce(new TopicPartition("ai.anomalies.v1", (int)(published % Partitions)), new Message<byte[]?, byte[]?> { Value = record });
                        taken = true;
                        published++;
                    }
                    catch (ProduceException<byte[]?, byte[]?> problem) when (problem.Error.Code == ErrorCode.Local_QueueFull)
                    {
                        Thread.Sleep(5);
                    }
                }
        }
    }
}
