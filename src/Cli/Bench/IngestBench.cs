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

    /// <summary>The embedded broker keeps about 5 MiB of a partition; what is further ahead would be gone before it is read.</summary>
    private const int AheadMax = 20_000;

    private const int Samples = 10;

    /// <summary>Messages before anything counts: what reads them is compiled twice, and the second time after some seconds.</summary>
    private const int WarmUp = 100_000;

    /// <summary>Without a rate, for each second of the duration: about as many as come.</summary>
    private const int MessagesPerSecond = 40_000;

    /// <param name="VerifyMicroseconds">One signature check on one core in a batch, here and now.</param>
    /// <param name="OfTheLimit">Messages per second by what the cores could verify.</param>
    private sealed record Report(
        int Cores, int Rate, double Seconds, long Messages, double PerSecond, double VerifyMicroseconds, double OfTheLimit, double P50Ms, double P99Ms, double CpuMicrosecondsPerMessage, long BytesPerMessage);

    public static Command Create()
    {
        var rate = new Option<int>("--rate") { Description = "Messages per second; 0 means as many as possible." };
        var duration = Duration.Option("For so long.", 10);
        var decide = new Option<int>("--decide") { Description = "Decide only so many per second, of at most 1,000 that wait: with a higher --rate this is overload, and memory is what is measured." };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("ingest", "Reading, decoding and verifying of one validator, from the embedded broker to the mempool.") { rate, duration, decide, json };
        command.Validators.Add(result =>
        {
            if (result.GetValue(decide) > 0 && result.GetValue(rate) <= result.GetValue(decide)) result.AddError("--decide below --rate is overload; give a higher --rate");
        });
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            if (parsed.GetValue(decide) > 0)
            {
                Overload(parsed.GetValue(rate), parsed.GetValue(decide), parsed.GetValue(duration).Length, parsed.GetValue(json), stop);
                return ExitCode.Ok;
            }

            var report = Measure(parsed.GetValue(rate), parsed.GetValue(duration).Length, stop);
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

    private static Report Measure(int rate, TimeSpan duration, CancellationToken stop)
    {
        using var bench = new Harness(new Pool(0, 0));
        var messages = Sign(bench.Keys, (int)((rate == 0 ? MessagesPerSecond : rate) * duration.TotalSeconds));
        var verifyMicroseconds = Floors.Verification(bench.Verifier);
        bench.Start(stop);
        // Compiled, connected and assigned before anything counts.
        var admission = bench.Metrics.Admission;
        Publish(bench.Load, Sign(bench.Keys, WarmUp), 0, () => admission.Count, stop);
        while (admission.Count < WarmUp && !stop.IsCancellationRequested) Thread.Sleep(10);
        admission.Clear();
        var (cpu, bytes) = (Process.GetCurrentProcess().TotalProcessorTime, GC.GetTotalAllocatedBytes());
        var clock = Stopwatch.StartNew();
        var publishing = Task.Run(() => Publish(bench.Load, messages, rate, () => admission.Count, stop), stop);
        while (admission.Count < messages.Count && !stop.IsCancellationRequested) Thread.Sleep(1);
        var elapsed = clock.Elapsed.TotalSeconds;
        publishing.GetAwaiter().GetResult();
        var perSecond = messages.Count / elapsed;
        return new Report(
            Environment.ProcessorCount, rate, elapsed, messages.Count, perSecond, verifyMicroseconds, perSecond * verifyMicroseconds / 1e6 / Environment.ProcessorCount,
            admission.QuantileMs(0.5), admission.QuantileMs(0.99), (Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalMicroseconds / messages.Count,
            (GC.GetTotalAllocatedBytes() - bytes) / messages.Count);
    }

    /// <summary>More comes than is decided: what does not fit waits in Kafka (where the embedded broker forgets the oldest), and memory must not grow.</summary>
    private static void Overload(int rate, int decide, TimeSpan duration, bool json, CancellationToken stop)
    {
        using var bench = new Harness(new Pool(1000, decide));
        bench.Start(stop);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
        end.CancelAfter(duration);
        var publishing = Task.Run(() =>
        {
            for (var second = 0; !end.IsCancellationRequested; second++) Publish(bench.Load, Sign(bench.Keys, rate), rate, () => 0, end.Token);
        }, CancellationToken.None);
        var samples = new List<(double Seconds, double Mebibytes, double Heap, long Admitted)>();
        var clock = Stopwatch.StartNew();
        for (var i = 1; i <= Samples; i++)
        {
            var until = duration * i / Samples - clock.Elapsed;
            if (until > TimeSpan.Zero) stop.WaitHandle.WaitOne(until);
            if (stop.IsCancellationRequested) break;
            GC.Collect();
            using var process = Process.GetCurrentProcess();
            samples.Add((clock.Elapsed.TotalSeconds, process.WorkingSet64 / 1048576.0, GC.GetTotalMemory(false) / 1048576.0, bench.Metrics.Admission.Count));
        }

        publishing.GetAwaiter().GetResult();
        if (json) Console.WriteLine(JsonSerializer.Serialize(samples.Select(s => new { s.Seconds, s.Mebibytes, s.Heap, s.Admitted }), BenchVerb.Json));
        else
            foreach (var (at, memory, heap, admitted) in samples)
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{at,6:F0} s  {memory,6:F0} MiB of the process, {heap,5:F0} MiB of it the heap, broker included; {admitted} admitted"));
    }

    /// <summary>A broker, and of a validator what is between it and the mempool.</summary>
    private sealed class Harness : IDisposable
    {
        private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        private readonly EmbeddedBroker _broker = new(BrokerVerb.DefaultTopics.Split(','));
        private readonly CancellationTokenSource _end = new();
        private readonly Pool _pool;
        private readonly Genesis _chain;
        private readonly LocalStore _store;
        private readonly BlockReader _reader;
        private readonly IProducer<byte[]?, byte[]?> _deadLetters;
        private readonly KafkaIngest _ingest;
        private Task _running = Task.CompletedTask;

        public Harness(Pool pool)
        {
            _pool = pool;
            var trusted = Keys.Select((k, i) => new Producer(k.PublicKey, $"sensor-{i}", "bench", AlertKinds.All, SigningProfiles.V1 | SigningProfiles.V2, 1_000_000, default, null, false)).ToArray();
            _chain = new Genesis("bench", new Core.Primitives.Timestamp(0), [new Validator("v1", Keys[0].PublicKey, default, default, default)], trusted, new ChainParameters());
            _store = LocalStore.Open(Path.Combine(_directory.FullName, "data"), _chain.Chain.ChainId, Path.Combine(_directory.FullName, "votes.mark"));
            _reader = _store.OpenReader();
            var connection = KafkaConnection.Plain(_broker.BootstrapServers);
            _deadLetters = KafkaClients.Producer(connection, "bench", _ => { });
            // The embedded broker serves one batch of a partition per request, so batches must not be tiny.
            Load = new ProducerBuilder<byte[]?, byte[]?>(new ProducerConfig { BootstrapServers = _broker.BootstrapServers, LingerMs = 20 }).Build();
            _ingest = new KafkaIngest(
                new IngestOptions(connection, "bench", "ai.anomalies.v1", "ai.evidence.v1", "ai.policy.v1", "control.orders.v1", "control.decisions.v1", "ai.dlq.v1", AutoOffsetReset.Earliest, 6000, 300_000, "bench"),
                _chain.Operators, new ProducerRegistry(trusted), new EpochSchedule(_chain.Chain), () => default, Verifier, pool.SubmitAsync, () => default, _reader, _deadLetters,
                new CircuitBreaker("consumer", TimeProvider.System), new CircuitBreaker("producer", TimeProvider.System), TimeProvider.System, Metrics, NullLogger.Instance);
        }

        public Ed25519Signer[] Keys { get; } = [.. Enumerable.Range(0, Producers).Select(_ => new Ed25519Signer(RandomNumberGenerator.GetBytes(32)))];

        public KnownKeyVerifier Verifier { get; } = new(new Ed25519Verifier());

        public Metrics Metrics { get; } = new();

        public IProducer<byte[]?, byte[]?> Load { get; }

        public void Start(CancellationToken stop)
        {
            stop.Register(_end.Cancel);
            _running = Task.WhenAll(_ingest.RunAsync(_end.Token), Task.Run(() => _pool.DecideAsync(_chain, _ingest.Decided, _end.Token), CancellationToken.None));
        }

        public void Dispose()
        {
            _end.Cancel();
            _running.ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
            Load.Dispose();
            _deadLetters.Dispose();
            _reader.Dispose();
            _store.Dispose();
            _broker.Dispose();
            foreach (var key in Keys) key.Dispose();
            _end.Dispose();
            _directory.Delete(recursive: true);
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

    /// <summary>At a fixed rate whatever the reader does (0: as fast as it reads), over the partitions in turn.</summary>
    private static void Publish(IProducer<byte[]?, byte[]?> producer, List<byte[]> messages, int rate, Func<long> read, CancellationToken stop)
    {
        var clock = Stopwatch.StartNew();
        for (var i = 0; i < messages.Count && !stop.IsCancellationRequested; i++)
        {
            while (rate > 0 && clock.Elapsed.TotalSeconds * rate < i) Thread.Sleep(1);
            while (rate == 0 && i - read() > AheadMax && !stop.IsCancellationRequested) Thread.Sleep(1);
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
    /// <param name="places">No more may wait; 0: any number.</param>
    /// <param name="perSecond">No more are decided; 0: all.</param>
    private sealed class Pool(int places, int perSecond)
    {
        private const int BlockMs = 20;
        private readonly ConcurrentQueue<Digest> _waiting = new();

        public ValueTask SubmitAsync(Submission submission, CancellationToken stop)
        {
            var fits = places == 0 || _waiting.Count < places;
            if (fits) _waiting.Enqueue(submission.Alert.Value.Digest);
            submission.Answer(new Admission(fits ? AdmissionKind.Admitted : AdmissionKind.Full));
            return ValueTask.CompletedTask;
        }

        public async Task DecideAsync(Genesis genesis, Action<IReadOnlyList<CommittedBlock>> decided, CancellationToken stop)
        {
            while (!stop.IsCancellationRequested)
            {
                await Task.Delay(BlockMs, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                var most = perSecond == 0 ? int.MaxValue : perSecond * BlockMs / 1000;
                var receipts = new List<Receipt>();
                while (receipts.Count < most && _waiting.TryDequeue(out var digest)) receipts.Add(new Receipt(digest, AlertKind.Anomaly, RejectionReason.None));
                if (receipts.Count > 0) decided([new CommittedBlock(genesis.Block, null, [], [.. receipts], [], default)]);
            }
        }
    }
}
