using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Cli.Bench;

/// <summary>From the broker into the mempool: what one validator reads and verifies. Consensus is replaced by a clock that decides everything every 20 ms.</summary>
internal static class IngestBench
{
    private const int Producers = 4;

    /// <param name="VerifyMicroseconds">One signature check on one core in a batch, here and now.</param>
    /// <param name="OfTheLimit">Messages per second by what the cores could verify.</param>
    private sealed record Report(
        int Cores, int Rate, double Seconds, long Messages, double PerSecond, double VerifyMicroseconds, double OfTheLimit, double P50Ms, double P99Ms, double CpuMicrosecondsPerMessage, long BytesPerMessage);

    public static Command Create()
    {
        var rate = new Option<int>("--rate") { Description = "Messages per second; 0 means as many as possible." };
        var seconds = new Option<int>("--seconds") { Description = "For so long.", DefaultValueFactory = _ => 10 };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("ingest", "Reading, decoding and verifying of one validator, from the embedded broker to the mempool.") { rate, seconds, json };
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            var report = Measure(parsed.GetValue(rate), parsed.GetValue(seconds), stop);
            if (parsed.GetValue(json)) Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
            else
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                    {report.Cores} cores, {report.Messages} messages in {report.Seconds:F1} s
                    read, verified and admitted    {report.PerSecond:F0} per second
                    one signature check            {report.VerifyMicroseconds:F0} us, so the limit of the cores is {report.PerSecond / report.OfTheLimit:F0} per second ({100 * report.OfTheLimit:F0} % reached)
                    poll to mempool                p50 below {report.P50Ms} ms, p99 below {report.P99Ms} ms
                    processor, allocation          {report.CpuMicrosecondsPerMessage:F0} us and {report.BytesPerMessage} bytes per message
                    """));
            return ExitCode.Ok;
        }, stop));
        return command;
    }

    private static Report Measure(int rate, int seconds, CancellationToken stop)
    {
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        try
        {
            using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
            var keys = Enumerable.Range(0, Producers).Select(_ => new Ed25519Signer(RandomNumberGenerator.GetBytes(32))).ToArray();
            var trusted = keys.Select((k, i) => new Producer(k.PublicKey, $"sensor-{i}", "bench", AlertKinds.All, SigningProfiles.V1 | SigningProfiles.V2, 1_000_000, default, null, false)).ToArray();
            var verifier = new KnownKeyVerifier(new Ed25519Verifier());
            var messages = Sign(keys, rate == 0 ? 12_000 * seconds : rate * seconds);
            var verifyMicroseconds = Verification(verifier, keys[0]);
            var chain = new Genesis("bench", new Core.Primitives.Timestamp(0), [new Validator("v1", keys[0].PublicKey, default, default, default)], trusted, new ChainParameters());
            using var store = LocalStore.Open(Path.Combine(directory.FullName, "data"), chain.Chain.ChainId, Path.Combine(directory.FullName, "votes.mark"));
            using var reader = store.OpenReader();
            var connection = KafkaConnection.Plain(broker.BootstrapServers);
            using var producer = KafkaClients.Producer(connection, "bench", _ => { });
            // The embedded broker serves one batch of a partition per request, so batches must not be tiny.
            using var load = new ProducerBuilder<byte[]?, byte[]?>(new ProducerConfig { BootstrapServers = broker.BootstrapServers, LingerMs = 20 }).Build();
            var pool = new Pool();
            var metrics = new Metrics();
            var ingest = new KafkaIngest(
                new IngestOptions(connection, "bench", "ai.anomalies.v1", "ai.evidence.v1", "ai.policy.v1", "control.orders.v1", "control.decisions.v1", "ai.dlq.v1", AutoOffsetReset.Earliest, 6000, 300_000, "bench"),
                chain.Operators, new ProducerRegistry(trusted), new EpochSchedule(chain.Chain), () => default, verifier, pool.SubmitAsync, () => default, reader, producer,
                new CircuitBreaker("consumer", TimeProvider.System), new CircuitBreaker("producer", TimeProvider.System), TimeProvider.System, metrics, NullLogger.Instance);
            using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var reading = ingest.RunAsync(end.Token);
            var deciding = Task.Run(() => pool.DecideAsync(chain, ingest.Decided, end.Token), end.Token);
            // Compiled, connected and assigned before anything counts.
            Publish(load, Sign(keys, 2000), 0, stop);
            while (metrics.Admission.Count < 2000) Thread.Sleep(10);
            metrics.Admission.Clear();
            var (cpu, bytes) = (Process.GetCurrentProcess().TotalProcessorTime, GC.GetTotalAllocatedBytes());
            var clock = Stopwatch.StartNew();
            var publishing = Task.Run(() => Publish(load, messages, rate, stop), stop);
            while (metrics.Admission.Count < messages.Count && !stop.IsCancellationRequested) Thread.Sleep(1);
            var elapsed = clock.Elapsed.TotalSeconds;
            publishing.GetAwaiter().GetResult();
            var perSecond = messages.Count / elapsed;
            var report = new Report(
                Environment.ProcessorCount, rate, elapsed, messages.Count, perSecond, verifyMicroseconds, perSecond * verifyMicroseconds / 1e6 / Environment.ProcessorCount,
                metrics.Admission.QuantileMs(0.5), metrics.Admission.QuantileMs(0.99), (Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalMicroseconds / messages.Count,
                (GC.GetTotalAllocatedBytes() - bytes) / messages.Count);
            end.Cancel();
            Task.WhenAll(reading, deciding).ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
            foreach (var key in keys) key.Dispose();
            return report;
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    private static List<byte[]> Sign(Ed25519Signer[] keys, int count)
    {
        var messages = new byte[count][];
        var signers = keys.Select(k => new AlertSigner(k, SigningProfile.V1, TimeProvider.System)).ToArray();
        var detection = new Detection("scan", "10.0.0.1", 5, 0.5, "bench", """{"severity":5,"confidence":0.5}""");
        Parallel.For(0, count, i => messages[i] = signers[i % signers.Length].Anomaly(detection).ToByteArray());
        return [.. messages];
    }

    private static double Verification(ISignatureVerifier verifier, Ed25519Signer key)
    {
        var message = new byte[93];
        var check = new SignatureCheck(key.PublicKey, message, key.Sign(message));
        SignatureCheck[] batch = [.. Enumerable.Repeat(check, 64)];
        var verdicts = new bool[batch.Length];
        const int count = 100;
        for (var i = 0; i < count; i++) verifier.Verify(batch, verdicts); // until everything is compiled
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < count; i++) verifier.Verify(batch, verdicts);
        return clock.Elapsed.TotalMicroseconds / count / batch.Length;
    }

    /// <summary>At a fixed rate whatever the reader does (0: at once), over the partitions in turn.</summary>
    private static void Publish(IProducer<byte[]?, byte[]?> producer, List<byte[]> messages, int rate, CancellationToken stop)
    {
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < messages.Count && !stop.IsCancellationRequested; i++)
        {
            while (rate > 0 && clock.Elapsed.TotalSeconds * rate < i) Thread.Sleep(1);
            try
            {
                producer.Produce(new TopicPartition("ai.anomalies.v1", i % 4), new Message<byte[]?, byte[]?> { Value = messages[i] });
            }
            catch (ProduceException<byte[]?, byte[]?> problem) when (problem.Error.Code == ErrorCode.Local_QueueFull)
            {
                i--;
                Thread.Sleep(5);
            }
        }
    }

    /// <summary>Admits what comes and has it decided a little later.</summary>
    private sealed class Pool
    {
        private readonly ConcurrentQueue<Digest> _waiting = new();

        public ValueTask SubmitAsync(Submission submission, CancellationToken stop)
        {
            _waiting.Enqueue(submission.Alert.Value.Digest);
            submission.Answer(new Admission(AdmissionKind.Admitted));
            return ValueTask.CompletedTask;
        }

        public async Task DecideAsync(Genesis genesis, Action<IReadOnlyList<CommittedBlock>> decided, CancellationToken stop)
        {
            while (!stop.IsCancellationRequested)
            {
                await Task.Delay(20, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                var receipts = new List<Receipt>();
                while (_waiting.TryDequeue(out var digest)) receipts.Add(new Receipt(digest, AlertKind.Anomaly, RejectionReason.None));
                if (receipts.Count > 0) decided([new CommittedBlock(genesis.Block, null, [], [.. receipts], [], default)]);
            }
        }
    }
}
