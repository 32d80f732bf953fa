using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;
using Timestamp = CyberMesh.Core.Primitives.Timestamp;

namespace CyberMesh.Node.Ingest;

public sealed record IngestOptions(
    string Brokers, string Group, string AnomalyTopic, string EvidenceTopic, string PolicyTopic, string OrdersTopic, string DecisionsTopic, string DeadLetterTopic,
    AutoOffsetReset Start, int SessionTimeoutMs, long TimestampSkewMs, string NodeName);

/// <summary>
/// Kafka in. One thread reads, checks and submits; a record's offset moves only when its message is in a block or durably refused (rule K1). A
/// full pool pauses reading; nothing is dropped.
/// </summary>
public sealed class KafkaIngest
{
    /// <summary>Records between Kafka and a decision: more only costs memory, the pool is smaller.</summary>
    private const int OpenMax = 2000;

    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(5);

    private readonly IngestOptions _options;
    private readonly ProducerRegistry _producers;
    private readonly EpochSchedule _epochs;
    private readonly Func<ValidatorIndex> _me;
    private readonly EnvelopeAuthenticator _authenticator;
    private readonly Func<Submission, CancellationToken, ValueTask> _submit;
    private readonly Func<Height> _height;
    private readonly BlockReader _blocks;
    private readonly IProducer<byte[]?, byte[]?> _producer;
    private readonly TimeProvider _time;
    private readonly Metrics _metrics;
    private readonly ILogger _logger;

    private readonly OffsetTracker _offsets = new();
    private readonly Dictionary<Digest, List<Waiting>> _waiting = [];
    private readonly Queue<Waiting> _refusedForRoom = new();
    private readonly ConcurrentQueue<Action> _results = new();
    private IConsumer<byte[]?, byte[]?>? _consumer;
    private bool _paused;

    private sealed record Waiting(ConsumeResult<byte[]?, byte[]?> Record, Verified<AlertEnvelope> Alert)
    {
        public Digest Digest => Alert.Value.Digest;
    }

    public KafkaIngest(
        IngestOptions options, Operators operators, ProducerRegistry producers, EpochSchedule epochs, Func<ValidatorIndex> me, ISignatureVerifier verifier, Func<Submission, CancellationToken, ValueTask> submit,
        Func<Height> height, BlockReader blocks, IProducer<byte[]?, byte[]?> producer, TimeProvider time, Metrics metrics, ILogger logger)
    {
        _options = options;
        _producers = producers;
        _epochs = epochs;
        _me = me;
        _authenticator = new EnvelopeAuthenticator(verifier, null, operators);
        _submit = submit;
        _height = height;
        _blocks = blocks;
        _producer = producer;
        _time = time;
        _metrics = metrics;
        _logger = logger;
    }

    /// <summary>Why Kafka is not usable at the moment; null when it is.</summary>
    public string? Problem { get; private set; }

    public int Open => _offsets.OpenCount;

    /// <summary>Blocks that are stored: their transactions are decided. Called by the store's thread.</summary>
    public void Decided(IReadOnlyList<CommittedBlock> run)
    {
        foreach (var committed in run)
            _results.Enqueue(() =>
            {
                foreach (var receipt in committed.Receipts) Decide(receipt.Transaction, receipt.Result);
            });
    }

    /// <summary>It waited and can never be accepted any more. Called by the loop.</summary>
    public void Refused(Refusal refusal) => _results.Enqueue(() => DecideRejected(refusal.Transaction, refusal.Rejection));

    /// <summary>It made room in the pool for others and has to be offered again. Called by the loop.</summary>
    public void Evicted(Digest transaction) => _results.Enqueue(() =>
    {
        if (_waiting.TryGetValue(transaction, out var copies)) _refusedForRoom.Enqueue(copies[0]);
    });

    /// <summary>Reads until stopped, on a thread of its own. A fatal client error rebuilds the client after a pause.</summary>
    public Task RunAsync(CancellationToken stop) => Task.Factory.StartNew(() =>
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                RunOnce(stop);
            }
            catch (KafkaException problem)
            {
                Report(problem.Error);
                _waiting.Clear();
                _refusedForRoom.Clear();
                stop.WaitHandle.WaitOne(TimeSpan.FromSeconds(1));
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }, stop, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private void RunOnce(CancellationToken stop)
    {
        var config = KafkaClients.Consumer(_options.Brokers, _options.Group, _options.Start, _options.SessionTimeoutMs);
        using var consumer = new ConsumerBuilder<byte[]?, byte[]?>(config)
            .SetErrorHandler((_, error) => Report(error))
            .SetLogHandler((_, _) => { })
            .SetPartitionsAssignedHandler((c, partitions) =>
            {
                Log.KafkaAssigned(_logger, partitions.Count);
                Problem = null;
                if (_paused) _results.Enqueue(() => c.Pause(c.Assignment));
            })
            .SetPartitionsRevokedHandler((_, partitions) => Forget(partitions))
            .SetPartitionsLostHandler((_, partitions) => Forget(partitions))
            .Build();
        _consumer = consumer;
        _paused = false;
        consumer.Subscribe([_options.AnomalyTopic, _options.EvidenceTopic, _options.PolicyTopic, _options.OrdersTopic, _options.DecisionsTopic]);
        try
        {
            while (!stop.IsCancellationRequested)
            {
                while (_results.TryDequeue(out var result)) result();
                RetryForRoom(stop);
                SetPaused(_refusedForRoom.Count > 0 || _offsets.OpenCount >= OpenMax);
                if (Next(consumer) is { } record) Read(record, stop);
            }
        }
        finally
        {
            _consumer = null;
            consumer.Close();
        }
    }

    /// <summary>A topic that does not exist yet (that of the orders is often made last) must not keep the others from being read.</summary>
    private ConsumeResult<byte[]?, byte[]?>? Next(IConsumer<byte[]?, byte[]?> consumer)
    {
        try
        {
            return consumer.Consume(Poll);
        }
        catch (ConsumeException problem) when (problem.Error.Code == ErrorCode.UnknownTopicOrPart)
        {
            Report(problem.Error);
            return null;
        }
    }

    private void Forget(List<TopicPartitionOffset> partitions)
    {
        foreach (var partition in partitions) _offsets.Forget(partition.TopicPartition);
    }

    private void SetPaused(bool pause)
    {
        if (pause == _paused) return;
        // Half of the limit before reading goes on: pausing has a cost.
        if (!pause && _offsets.OpenCount > OpenMax / 2) return;
        _paused = pause;
        if (pause) _consumer!.Pause(_consumer.Assignment);
        else _consumer!.Resume(_consumer.Assignment);
    }

    private void Read(ConsumeResult<byte[]?, byte[]?> record, CancellationToken stop)
    {
        Problem = null;
        _metrics.RecordsConsumed.Increment();
        _offsets.Begin(record.TopicPartitionOffset);
        var kind = KindOf(record.Topic);
        var value = record.Message.Value;
        if (value is null)
        {
            Refuse(record, default, new Rejection(RejectionReason.Malformed, "the record has no value"));
            return;
        }

        if (!EnvelopeDecoder.TryDecode(kind, value, out var envelope, out var rejection))
        {
            Refuse(record, Digest.Sha256(value), rejection);
            return;
        }

        rejection = kind.IsControl() ? null : EnvelopeRules.CheckProducer(envelope, _producers, _height().Next) ?? CheckTime(envelope, record);
        if (rejection is null)
        {
            if (_authenticator.TryAuthenticate(envelope, ProfilesOf(envelope), out var verified))
            {
                Wait(new Waiting(record, verified), stop);
                return;
            }

            rejection = new Rejection(RejectionReason.BadSignature, kind.IsControl() ? "not enough operators of genesis have signed this order" : "the signature is not the producer's over these bytes");
        }

        // A record read again after a restart may have been decided long ago.
        if (rejection.Reason == RejectionReason.StaleTimestamp && _blocks.FindResult(envelope.Digest) is RejectionReason.None)
        {
            CompleteAccepted(record, envelope.Digest);
            return;
        }

        Refuse(record, envelope.Digest, rejection);
    }

    /// <summary>Copies of one message wait together; only the first is submitted.</summary>
    private void Wait(Waiting waiting, CancellationToken stop)
    {
        if (!_waiting.TryGetValue(waiting.Digest, out var copies)) _waiting[waiting.Digest] = copies = [];
        copies.Add(waiting);
        if (copies.Count == 1) Submit(waiting, stop);
    }

    private AlertKind KindOf(string topic)
    {
        if (topic == _options.EvidenceTopic) return AlertKind.Evidence;
        if (topic == _options.OrdersTopic) return AlertKind.Order;
        if (topic == _options.DecisionsTopic) return AlertKind.Decision;
        return topic == _options.PolicyTopic ? AlertKind.Policy : AlertKind.Anomaly;
    }

    private SigningProfiles ProfilesOf(AlertEnvelope envelope) =>
        _producers.TryFind(envelope.Producer, out var producer) ? producer.Profiles : SigningProfiles.None;

    /// <summary>Within the window of the local clock or of the record's time at the broker, so a backlog after an outage is not thrown away.</summary>
    private Rejection? CheckTime(AlertEnvelope envelope, ConsumeResult<byte[]?, byte[]?> record)
    {
        var local = EnvelopeRules.CheckTime(envelope, new Timestamp(_time.GetUtcNow().ToUnixTimeMilliseconds()), _options.TimestampSkewMs, _options.TimestampSkewMs);
        if (local is null || record.Message.Timestamp.Type == TimestampType.NotAvailable) return local;
        var atBroker = new Timestamp(record.Message.Timestamp.UnixTimestampMs);
        return EnvelopeRules.CheckTime(envelope, atBroker, _options.TimestampSkewMs, _options.TimestampSkewMs) is null ? null : local;
    }

    private void Submit(Waiting waiting, CancellationToken stop)
    {
        var task = _submit(new Submission(waiting.Alert, admission => _results.Enqueue(() => Admitted(waiting, admission))), stop);
        if (!task.IsCompletedSuccessfully) task.AsTask().GetAwaiter().GetResult();
    }

    private void Admitted(Waiting waiting, Admission admission)
    {
        switch (admission.Kind)
        {
            case AdmissionKind.Admitted or AdmissionKind.Waiting:
                break;
            case AdmissionKind.Full or AdmissionKind.OverQuota:
                _refusedForRoom.Enqueue(waiting);
                break;
            case AdmissionKind.Committed:
                // A message that the rules of the state refused has been seen too.
                Decide(waiting.Digest, _blocks.FindResult(waiting.Digest) ?? RejectionReason.None);
                break;
            case AdmissionKind.Rejected:
                DecideRejected(waiting.Digest, admission.Rejection!);
                break;
        }
    }

    private void RetryForRoom(CancellationToken stop)
    {
        for (var count = Math.Min(_refusedForRoom.Count, 64); count > 0; count--) Submit(_refusedForRoom.Dequeue(), stop);
    }

    private void Decide(Digest digest, RejectionReason result)
    {
        if (result != RejectionReason.None)
        {
            DecideRejected(digest, new Rejection(result, "refused by the agreed rules at block time"));
            return;
        }

        if (!_waiting.Remove(digest, out var copies)) return;
        foreach (var copy in copies) CompleteAccepted(copy.Record, digest);
    }

    private void DecideRejected(Digest digest, Rejection rejection)
    {
        if (!_waiting.Remove(digest, out var copies)) return;
        // The ledger forgets nonces in time and a block may repeat a transaction; the store knows what was accepted.
        var accepted = _blocks.FindResult(digest) is RejectionReason.None;
        foreach (var copy in copies)
        {
            if (accepted) CompleteAccepted(copy.Record, digest);
            else Refuse(copy.Record, digest, rejection);
        }
    }

    /// <summary>The first record with these bytes is the original; any other is a replay and goes to the dead letters.</summary>
    private void CompleteAccepted(ConsumeResult<byte[]?, byte[]?> record, Digest digest)
    {
        var position = new SourcePosition(record.Topic, record.Partition.Value, record.Offset.Value);
        if (_blocks.NoteSource(digest, position) == position) Complete(record);
        else Refuse(record, digest, new Rejection(RejectionReason.ReplayedNonce, "this very message was accepted before"));
    }

    /// <summary>Dead-letters the record; its offset moves when Kafka has acknowledged that, or at once when another validator is responsible.</summary>
    private void Refuse(ConsumeResult<byte[]?, byte[]?> record, Digest digest, Rejection rejection)
    {
        // What is too old now may have been accepted in a block that is not stored here (a snapshot of the others covers it).
        var unknown = rejection.Reason == RejectionReason.StaleTimestamp && _blocks.FirstGap(default) is not null;
        if (unknown || !DeadLetters.IsResponsible(digest, _epochs.Current.Validators.Rank(_me()), _epochs.Current.Validators.Count))
        {
            Complete(record);
            return;
        }

        var message = DeadLetters.ToMessage(record, rejection, _options.NodeName, digest);
        try
        {
            _producer.Produce(_options.DeadLetterTopic, message, report => _results.Enqueue(() => DeadLettered(record, digest, rejection, report.Error)));
        }
        catch (ProduceException<byte[]?, byte[]?> problem)
        {
            _results.Enqueue(() => DeadLettered(record, digest, rejection, problem.Error));
        }
    }

    private void DeadLettered(ConsumeResult<byte[]?, byte[]?> record, Digest digest, Rejection rejection, Error error)
    {
        if (error.IsError)
        {
            // The record stays open, so its partition cannot move past it; try again until it is written.
            Report(error);
            Thread.Sleep(50);
            Refuse(record, digest, rejection);
            return;
        }

        _metrics.DeadLetters.Increment();
        Log.DeadLetter(_logger, rejection.Code, record.Topic, record.Partition.Value, record.Offset.Value, rejection.Explanation);
        Complete(record);
    }

    private void Complete(ConsumeResult<byte[]?, byte[]?> record)
    {
        if (_offsets.Complete(record.TopicPartitionOffset) is not { } position || _consumer is null) return;
        try
        {
            _consumer.StoreOffset(position);
        }
        catch (KafkaException problem) when (problem.Error.Code is ErrorCode.Local_State or ErrorCode.Local_UnknownPartition)
        {
            // The partition was taken away a moment ago: it will be delivered again, and recognised.
        }
    }

    private void Report(Error error)
    {
        Problem = error.Reason;
        Log.Kafka(_logger, error.Reason);
    }
}
