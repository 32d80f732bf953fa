using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Security.Cryptography;
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
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>What the consumer of a validator does when its client fails, when nothing is decided, and when partitions come and go.</summary>
public sealed class KafkaConsumerTests : IAsyncDisposable
{
    private const string Topic = "ai.anomalies.v1";
    private const int WaitingInPartition = 1000;
    private readonly TemporaryDirectory _directory = new();
    private readonly EmbeddedBroker _broker = new(BrokerVerb.DefaultTopics.Split(','), 2);
    private readonly Ed25519Signer _key = new(RandomNumberGenerator.GetBytes(32));
    private readonly ConcurrentQueue<Digest> _pool = new();
    private readonly CircuitBreaker _circuit = new("consumer", TimeProvider.System);
    private readonly Metrics _metrics = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly LocalStore _store;
    private readonly BlockReader _reader;
    private readonly IProducer<byte[]?, byte[]?> _producer;
    private readonly KafkaIngest _ingest;
    private readonly Genesis _chain;
    private readonly List<string> _calls = [];
    private Task _running = Task.CompletedTask;

    /// <summary>Calls of <c>Consume</c> that fail from now on, as a client does that cannot go on.</summary>
    private int _fatal;

    private Action<Submission> _onSubmit;

    public KafkaConsumerTests()
    {
        _onSubmit = submission =>
        {
            _pool.Enqueue(submission.Alert.Value.Digest);
            submission.Answer(new Admission(AdmissionKind.Admitted));
        };
        _producer = KafkaClients.Producer(KafkaConnection.Plain(_broker.BootstrapServers), "test", _ => { });
        Producer[] trusted = [new(_key.PublicKey, "sensor", "a", AlertKinds.All, SigningProfiles.V1, 1_000_000, default, null, false)];
        _chain = new Genesis("test", new Core.Primitives.Timestamp(0), [new Validator("v1", _key.PublicKey, default, default, default)], trusted, new ChainParameters());
        _store = LocalStore.Open(Path.Combine(_directory.Path, "data"), _chain.Chain.ChainId, Path.Combine(_directory.Path, "votes.mark"));
        _reader = _store.OpenReader();
        _ingest = new KafkaIngest(
            new IngestOptions(KafkaConnection.Plain(_broker.BootstrapServers), "group", Topic, "ai.evidence.v1", "ai.policy.v1", "control.orders.v1", "control.decisions.v1", "ai.dlq.v1", AutoOffsetReset.Earliest, 1500, 300_000, "v1"),
            _chain.Operators, new ProducerRegistry(trusted), new EpochSchedule(_chain.Chain), () => default, new Ed25519Verifier(), Submit, () => default, _reader, _producer,
            _circuit, new CircuitBreaker("producer", TimeProvider.System), TimeProvider.System, _metrics, NullLogger.Instance)
        {
            Wrap = inner =>
            {
                var consumer = DispatchProxy.Create<IConsumer<byte[]?, byte[]?>, Client>();
                ((Client)(object)consumer).Begin(inner, this);
                return consumer;
            },
        };
    }

    private ValueTask Submit(Submission submission, CancellationToken stop)
    {
        _onSubmit(submission);
        return ValueTask.CompletedTask;
    }

    /// <summary>A block with what has waited longest.</summary>
    private int Decide(int count)
    {
        var receipts = new List<Receipt>();
        while (receipts.Count < count && _pool.TryDequeue(out var digest)) receipts.Add(new Receipt(digest, AlertKind.Anomaly, RejectionReason.None));
        _ingest.Decided([new CommittedBlock(_chain.Block, null, [], [.. receipts], [], default)]);
        return receipts.Count;
    }

    private void Publish(int count, int partition)
    {
        for (var i = 0; i < count; i++) Publish(Alert(), partition);
        _producer.Flush(TimeSpan.FromSeconds(30));
    }

    private void Publish(byte[] record, int partition) => _producer.Produce(new TopicPartition(Topic, partition), new Message<byte[]?, byte[]?> { Value = record });

    private byte[] Alert() => new AlertSigner(_key, SigningProfile.V1, TimeProvider.System).Anomaly(new Detection("scan", "10.0.0.1", 5, 0.5, "m", """{"severity":5,"confidence":0.5}""")).ToByteArray();

    private int Calls(string name)
    {
        lock (_calls) return _calls.Count(c => c == name);
    }

    [Fact]
    public async Task A_client_that_cannot_go_on_is_replaced_after_a_pause_and_nothing_is_lost()
    {
        _running = _ingest.RunAsync(_stop.Token);
        Publish(50, 0);
        await Eventually.HoldsAsync(() => _metrics.RecordsConsumed.Value == 50, "it reads");
        Volatile.Write(ref _fatal, 2);
        await Eventually.HoldsAsync(() => Volatile.Read(ref _fatal) == 0, "two clients fail, one after the other");
        Publish(50, 1);
        // What was not decided is read again, as after a restart.
        await Eventually.HoldsAsync(() => _pool.Distinct().Count() == 100 && _metrics.RecordsConsumed.Value == 150, "the third one reads everything that is not decided");
        Assert.Equal(3, Calls("Subscribe"));
        Assert.True(Calls("Close") >= 2, "the failed clients were closed");
    }

    [Fact]
    public async Task Partitions_of_which_too_much_waits_are_not_read_until_half_of_it_is_decided()
    {
        _running = _ingest.RunAsync(_stop.Token);
        Publish(3 * WaitingInPartition, 0);
        await Eventually.HoldsAsync(() => _ingest.Paused == 1, "the full partition is paused");
        var (read, resumed) = (_metrics.RecordsConsumed.Value, Calls("Resume"));
        Assert.InRange(read, WaitingInPartition, WaitingInPartition + 64);
        Publish(10, 1);
        await Eventually.HoldsAsync(() => _metrics.RecordsConsumed.Value == read + 10, "the other partition is read on");

        // Not before half of it is decided, or it would be paused again at once.
        var decided = Decide(400);
        await Eventually.HoldsAsync(() => _ingest.Open == read + 10 - decided, "some of it is decided");
        Assert.Equal((1, read + 10), (_ingest.Paused, _metrics.RecordsConsumed.Value));
        Decide(250);
        await Eventually.HoldsAsync(() => _metrics.RecordsConsumed.Value > read + 10, "reading goes on");
        await Eventually.HoldsAsync(() => _ingest.Paused == 1, "until it is full again");
        Assert.InRange(_ingest.Open, WaitingInPartition, WaitingInPartition + 10 + 64);
        Assert.Equal((2, resumed + 1), (Calls("Pause"), Calls("Resume")));
        await Eventually.HoldsAsync(
            () =>
            {
                Decide(200);
                return _ingest is { Open: 0, Paused: 0 } && _metrics.RecordsConsumed.Value == (3 * WaitingInPartition) + 10;
            },
            "everything is read and decided in the end");
    }

    [Fact]
    public async Task A_partition_that_comes_back_after_a_rebalance_is_paused_again_when_it_is_full()
    {
        _running = _ingest.RunAsync(_stop.Token);
        Publish(2 * WaitingInPartition, 0);
        Publish(2 * WaitingInPartition, 1);
        await Eventually.HoldsAsync(() => _ingest.Paused == 2, "both partitions are full");
        using (var other = new ConsumerBuilder<byte[]?, byte[]?>(KafkaClients.Consumer(KafkaConnection.Plain(_broker.BootstrapServers), "group", AutoOffsetReset.Earliest, 1500)).SetLogHandler((_, _) => { }).SetErrorHandler((_, _) => { }).Build())
        {
            other.Subscribe(Topic);
            await Eventually.HoldsAsync(() => { other.Consume(TimeSpan.FromMilliseconds(100)); return other.Assignment.Count > 0; }, "another member takes partitions");
            await Eventually.HoldsAsync(() => _ingest.Paused == 2 - other.Assignment.Count, "what is left is full");
            other.Close();
        }

        await Eventually.HoldsAsync(() => _ingest.Paused == 2, "both are back, and full", 10);
        Assert.InRange(_ingest.Open, 2 * WaitingInPartition, (2 * WaitingInPartition) + 128);
    }

    [Fact]
    public async Task What_was_decided_before_it_is_read_is_not_checked_again_and_its_first_record_is_the_original()
    {
        var (accepted, refused, waiting) = (Alert(), Alert(), Alert());
        _ingest.Decided([new CommittedBlock(_chain.Block, null, [], [ReceiptOf(accepted, RejectionReason.None), ReceiptOf(refused, RejectionReason.ProducerNotValid)], [], default)]);
        foreach (var record in (byte[][])[accepted, accepted, refused, waiting]) Publish(record, 0);
        _running = _ingest.RunAsync(_stop.Token);
        Assert.Equal(new() { [Place(1)] = "replayed_nonce", [Place(2)] = "producer_not_valid" }, await DeadLettersAsync(2));
        Assert.Equal(AlertEnvelope.DigestOf(AlertKind.Anomaly, waiting), Assert.Single(_pool));
        using var reader = _store.OpenReader();
        Assert.Equal(new SourcePosition(Topic, 0, 0), reader.SourceOf(AlertEnvelope.DigestOf(AlertKind.Anomaly, accepted)));
        await Eventually.HoldsAsync(() => _ingest.Open == 1, "only what is not decided is open");
    }

    /// <summary>The state knows it as decided, and the store does not know it yet: to take it for accepted would lose the dead letter.</summary>
    [Fact]
    public async Task What_a_block_refused_that_is_on_its_way_to_the_disk_becomes_a_dead_letter()
    {
        var refused = Alert();
        _onSubmit = submission =>
        {
            submission.Answer(new Admission(AdmissionKind.Committed));
            _ingest.Decided([new CommittedBlock(_chain.Block, null, [], [ReceiptOf(refused, RejectionReason.ProducerNotValid)], [], default)]);
        };
        Publish(refused, 0);
        _running = _ingest.RunAsync(_stop.Token);
        Assert.Equal(new() { [Place(0)] = "producer_not_valid" }, await DeadLettersAsync(1));
        await Eventually.HoldsAsync(() => _ingest.Open == 0, "nothing is open");
    }

    /// <summary>What is not told by a block any more, after a restart for one, is looked for.</summary>
    [Fact]
    public async Task What_was_committed_long_ago_is_completed()
    {
        _onSubmit = submission => submission.Answer(new Admission(AdmissionKind.Committed));
        Publish(3, 0);
        _running = _ingest.RunAsync(_stop.Token);
        await Eventually.HoldsAsync(() => _metrics.RecordsConsumed.Value == 3 && _ingest.Open == 0, "all are read and completed");
    }

    private static string Place(int offset) => new TopicPartitionOffset(Topic, 0, offset).ToString();

    private static Receipt ReceiptOf(byte[] record, RejectionReason result) => new(AlertEnvelope.DigestOf(AlertKind.Anomaly, record), AlertKind.Anomaly, result);

    /// <summary>Where the records came from, and why they are no messages.</summary>
    private async Task<Dictionary<string, string?>> DeadLettersAsync(int count)
    {
        using var letters = KafkaClients.Reader(KafkaConnection.Plain(_broker.BootstrapServers), "letters");
        letters.Assign(Enumerable.Range(0, 2).Select(partition => new TopicPartitionOffset("ai.dlq.v1", partition, Offset.Beginning)));
        var codes = new Dictionary<string, string?>();
        await Eventually.HoldsAsync(
            () =>
            {
                if (letters.Consume(TimeSpan.FromMilliseconds(100)) is { } letter && DeadLetters.TryReadPlace(letter.Message.Headers, out var place))
                    codes[place.ToString()] = DeadLetters.Header(letter.Message.Headers, "error_code");
                return codes.Count == count;
            },
            $"{count} dead letters are written");
        return codes;
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _producer.Dispose();
        _reader.Dispose();
        _store.Dispose();
        _broker.Dispose();
        _key.Dispose();
        _stop.Dispose();
        _directory.Dispose();
    }

    /// <summary>Kafka's client, which fails when it is told to and tells what it was asked.</summary>
    public class Client : DispatchProxy
    {
        private IConsumer<byte[]?, byte[]?> _inner = null!;
        private KafkaConsumerTests _test = null!;

        internal void Begin(IConsumer<byte[]?, byte[]?> inner, KafkaConsumerTests test) => (_inner, _test) = (inner, test);

        protected override object? Invoke(MethodInfo? method, object?[]? arguments)
        {
            lock (_test._calls) _test._calls.Add(method!.Name);
            if (method!.Name == "Consume" && Volatile.Read(ref _test._fatal) > 0)
            {
                Interlocked.Decrement(ref _test._fatal);
                throw new KafkaException(new Error(ErrorCode.Local_Fatal, "it cannot go on", true));
            }

            try
            {
                return method.Invoke(_inner, arguments);
            }
            catch (TargetInvocationException problem)
            {
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(problem.InnerException!);
                throw;
            }
        }
    }
}
