using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
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
    KafkaConnection Kafka, string Group, string AnomalyTopic, string EvidenceTopic, string PolicyTopic, string OrdersTopic, string DecisionsTopic, string DeadLetterTopic,
    AutoOffsetReset Start, int SessionTimeoutMs, long TimestampSkewMs, string NodeName);

/// <summary>
/// Kafka in. One thread reads, checks (on all cores) and submits; a record's offset moves only when its message is in a block or durably refused (rule
/// K1). What finds no room in the pool waits here and its partition is paused; nothing is dropped.
/// </summary>
public sealed class KafkaIngest
{
    /// <summary>Records of one partition in the pool or in a block on its way. At half of it reading goes on: pausing has a cost.</summary>
    private const int WaitingInPartitionMax = 1000;

    /// <summary>Records of one partition that found no room in the pool. Many, because what is behind them may be another producer's.</summary>
    private const int StalledInPartitionMax = 5000;

    /// <summary>Bytes of all open records.</summary>
    private const long OpenBytesMax = 64 << 20;

    /// <summary>Records that are checked at a time.</summary>
    private const int BatchMax = 64;

    /// <summary>Accepted records that are noted at a time, in one transaction of a file into which blocks are written too: each waits for the other.</summary>
    private const int NoteMax = 1000;

    /// <summary>Records that are worth a thread of their own.</summary>
    private const int PartMin = 8;

    /// <summary>Transactions that are remembered until their records are read; for others the store is asked.</summary>
    private const int UnreadMax = 50_000;

    /// <summary>Records of one producer that are offered to the pool again at a time, when the last one found room.</summary>
    private const int OffersMax = 64;

    /// <summary>So long after the last time they are noted, even if they are few.</summary>
    private static readonly TimeSpan NotePeriod = TimeSpan.FromMilliseconds(50);

    /// <summary>A decided block is stored by then, if the disk works. To look for a transaction among all that were ever decided takes as long as to check it.</summary>
    private static readonly TimeSpan StoreMax = TimeSpan.FromMilliseconds(500);

    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan CloseMax = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan RebuildPauseMax = TimeSpan.FromSeconds(30);

    private readonly IngestOptions _options;
    private readonly ProducerRegistry _producers;
    private readonly EpochSchedule _epochs;
    private readonly Func<ValidatorIndex> _me;
    private readonly EnvelopeAuthenticator _authenticator;
    private readonly Func<Submission, CancellationToken, ValueTask> _submit;
    private readonly Func<Height> _height;
    private readonly BlockReader _blocks;
    private readonly DeadLetterDuty _deadLetters;
    private readonly KafkaWatch _watch;
    private readonly TimeProvider _time;
    private readonly Metrics _metrics;
    private readonly ILogger _logger;

    private readonly OffsetTracker _offsets = new();

    /// <summary>The first record of each message; copies hang on it.</summary>
    private readonly Dictionary<Digest, Waiting> _waiting = [];
    private readonly Dictionary<PublicKey, Stalled> _stalled = [];
    private readonly Dictionary<TopicPartition, int> _stalledIn = [];
    private readonly HashSet<TopicPartition> _paused = [];

    /// <summary>Asking the client costs milliseconds.</summary>
    private readonly HashSet<TopicPartition> _assigned = [];

    /// <summary>Of those the ones that were assigned since the last look.</summary>
    private readonly HashSet<TopicPartition> _fresh = [];

    /// <summary>Profile of the last genuine message of each producer that does not use the first one.</summary>
    private readonly ConcurrentDictionary<PublicKey, SigningProfile> _lastProfile = new();

    /// <summary>Decided before they were read here: a peer brought them sooner than Kafka. Their records are on their way.</summary>
    private readonly Dictionary<Digest, Receipt> _unread = [];

    private readonly Queue<Digest> _unreadOrder = new();

    /// <summary>Decided when they were submitted, in a block that may be on its way to the disk, in this order: at most what is read in <see cref="StoreMax"/>.</summary>
    private readonly Queue<(Waiting Waiting, long Since)> _committed = new();

    /// <summary>Accepted, and to be noted together.</summary>
    private readonly List<(Digest Transaction, KafkaRecord Record, bool JustDecided)> _accepted = [];
    private long _notedAt;

    private readonly ConcurrentQueue<Action> _results = new();
    private readonly List<ConsumeResult<byte[]?, byte[]?>> _batch = [];
    private IConsumer<byte[]?, byte[]?>? _consumer;
    private long _read;

    private sealed record Waiting(long Number, long ReadAt, KafkaRecord Record, Verified<AlertEnvelope> Alert)
    {
        public Digest Digest => Alert.Value.Digest;

        /// <summary>Another record of the same message.</summary>
        public Waiting? Copy { get; set; }
    }

    /// <summary>What found no room in the pool, of one producer, in the order it was read.</summary>
    private sealed class Stalled
    {
        public readonly SortedDictionary<long, Waiting> Messages = [];

        /// <summary>The last one offered found no room either: the next is offered alone.</summary>
        public bool InVain;
    }

    /// <summary>What a record is: a message to believe, the reason it never will be one, or one that is decided already.</summary>
    private readonly record struct Checked(Digest Digest, Verified<AlertEnvelope>? Alert, Rejection? Rejection, Receipt? Decided = null);

    public KafkaIngest(
        IngestOptions options, Operators operators, ProducerRegistry producers, EpochSchedule epochs, Func<ValidatorIndex> me, ISignatureVerifier verifier, Func<Submission, CancellationToken, ValueTask> submit,
        Func<Height> height, BlockReader blocks, IProducer<byte[]?, byte[]?> producer, CircuitBreaker consumerCircuit, CircuitBreaker producerCircuit, TimeProvider time, Metrics metrics, ILogger logger)
    {
        _options = options;
        _producers = producers;
        _epochs = epochs;
        _me = me;
        _authenticator = new EnvelopeAuthenticator(verifier, null, operators);
        _submit = submit;
        _height = height;
        _blocks = blocks;
        _watch = new KafkaWatch(consumerCircuit, logger);
        _deadLetters = new DeadLetterDuty(producer, options.DeadLetterTopic, options.NodeName, producerCircuit, Complete, _offsets.IsDone,
            digest => blocks.SourceOf(digest) is { } source ? new TopicPartitionOffset(source.Topic, source.Partition, source.Offset) : null, time, metrics, logger);
        _time = time;
        _metrics = metrics;
        _logger = logger;
    }

    /// <summary>Stands between this and Kafka's client; tests let it fail there.</summary>
    internal Func<IConsumer<byte[]?, byte[]?>, IConsumer<byte[]?, byte[]?>> Wrap { get; init; } = consumer => consumer;

    /// <summary>Told what becomes of each record.</summary>
    public AlertTraces Traces { get; init; } = AlertTraces.None;

    public int Open => _offsets.OpenCount;

    /// <summary>Partitions that are not read at the moment because what was read of them is not decided.</summary>
    public int Paused => _paused.Count;

    /// <summary>Blocks that are stored: their transactions are decided. Called by the store's thread.</summary>
    public void Decided(IReadOnlyList<CommittedBlock> run)
    {
        foreach (var committed in run)
        {
            if (Traces.IsOn)
                foreach (var receipt in committed.Receipts) Traces.Decided(receipt.Transaction, receipt.Result.Code(), committed.Block.Height);
            _results.Enqueue(() => Decide(committed.Receipts, justDecided: true));
        }
    }

    /// <summary>It waited and can never be accepted any more. Called by the loop.</summary>
    public void Refused(Refusal refusal) => _results.Enqueue(() =>
    {
        Traces.Decided(refusal.Transaction, refusal.Rejection.Code, null);
        DecideRejected(refusal.Transaction, refusal.Rejection);
    });

    /// <summary>It made room in the pool for others and has to be offered again. Called by the loop.</summary>
    public void Evicted(Digest transaction) => _results.Enqueue(() =>
    {
        if (_waiting.TryGetValue(transaction, out var waiting)) Stall(waiting);
    });

    /// <summary>Reads until stopped, on a thread of its own. A fatal client error rebuilds the client after a pause.</summary>
    public Task RunAsync(CancellationToken stop) => Task.Factory.StartNew(() =>
    {
        var pause = TimeSpan.FromSeconds(1);
        while (!stop.IsCancellationRequested)
        {
            var read = _read;
            try
            {
                RunOnce(stop);
            }
            catch (KafkaException problem)
            {
                _watch.OnError(problem.Error);
                ForgetAll();
                pause = _read > read ? TimeSpan.FromSeconds(1) : pause + pause < RebuildPauseMax ? pause + pause : RebuildPauseMax;
                stop.WaitHandle.WaitOne(pause);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }, stop, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private void RunOnce(CancellationToken stop)
    {
        var config = KafkaClients.Consumer(_options.Kafka, _options.Group, _options.Start, _options.SessionTimeoutMs, report: true);
        var consumer = Wrap(new ConsumerBuilder<byte[]?, byte[]?>(config)
            .SetErrorHandler((_, error) => _watch.OnError(error))
            .SetStatisticsHandler((_, statistics) => _watch.OnStatistics(KafkaClients.BrokersUp(statistics)))
            .SetLogHandler((_, _) => { })
            .SetPartitionsAssignedHandler((_, partitions) =>
            {
                Log.KafkaAssigned(_logger, partitions.Count);
                foreach (var partition in partitions)
                {
                    _assigned.Add(partition);
                    _fresh.Add(partition);
                }
            })
            .SetPartitionsRevokedHandler((_, partitions) =>
            {
                StoreOffsets();
                Forget(partitions);
            })
            .SetPartitionsLostHandler((_, partitions) => Forget(partitions))
            .Build());
        _consumer = consumer;
        consumer.Subscribe([
            _options.AnomalyTopic, _options.EvidenceTopic, _options.PolicyTopic, _options.OrdersTopic, _options.DecisionsTopic, _options.DeadLetterTopic,
        ]);
        try
        {
            while (!stop.IsCancellationRequested)
            {
                while (_results.TryDequeue(out var result)) result();
                LookForCommitted();
                NoteAccepted();
                OfferAgain(stop);
                _deadLetters.Work();
                StoreOffsets();
                Regulate(consumer);
                ReadBatch(consumer, stop);
            }

            StoreOffsets();
        }
        finally
        {
            _consumer = null;
            Close(consumer);
        }
    }

    /// <summary>
    /// Leaves the group, if that goes quickly: the client has been seen to wait for ever for a broker that went and came back. Without the good-bye the group
    /// waits for the session to time out instead.
    /// </summary>
    private void Close(IConsumer<byte[]?, byte[]?> consumer)
    {
        var closing = Task.Run(() =>
        {
            consumer.Close();
            consumer.Dispose();
        });
        try
        {
            if (!closing.Wait(CloseMax)) Log.Kafka(_logger, "the consumer did not close in time and is left alone");
        }
        catch (AggregateException problem) when (problem.InnerException is KafkaException)
        {
            Log.Kafka(_logger, problem.InnerException.Message);
        }
    }

    private void ReadBatch(IConsumer<byte[]?, byte[]?> consumer, CancellationToken stop)
    {
        _batch.Clear();
        var started = 0L; // of the first; the others of the batch have waited less
        for (var wait = Poll; _batch.Count < BatchMax && Next(consumer, wait) is { } record; wait = TimeSpan.Zero)
        {
            if (started == 0) started = _time.GetTimestamp();
            _read++;
            _offsets.Begin(record.TopicPartitionOffset, record.Message.Value?.Length ?? 0);
            if (record.Topic == _options.DeadLetterTopic) _deadLetters.Read(record);
            else _batch.Add(record);
        }

        if (_batch.Count == 0) return;
        _metrics.RecordsConsumed.Add(_batch.Count);
        var results = new Checked[_batch.Count];
        var begun = _time.GetUtcNow();
        // Signatures are what costs, and many together cost less each; a few are not worth the threads.
        var parts = Math.Clamp(results.Length / PartMin, 1, Environment.ProcessorCount);
        if (parts == 1) Check(0, results.Length, results);
        else Parallel.For(0, parts, part => Check(results.Length * part / parts, results.Length * (part + 1) / parts, results));
        for (var i = 0; i < results.Length; i++)
        {
            Traces.Verified(results[i].Digest, _batch[i], begun, results[i].Rejection is null);
            Take(_batch[i], results[i], started, stop);
        }
    }

    /// <summary>A topic that does not exist yet (that of the orders is often made last) must not keep the others from being read.</summary>
    private ConsumeResult<byte[]?, byte[]?>? Next(IConsumer<byte[]?, byte[]?> consumer, TimeSpan wait)
    {
        try
        {
            return consumer.Consume(wait);
        }
        catch (ConsumeException problem) when (!problem.Error.IsFatal)
        {
            _watch.OnError(problem.Error);
            return null;
        }
    }

    private void Forget(List<TopicPartitionOffset> partitions)
    {
        foreach (var partition in partitions)
        {
            _offsets.Forget(partition.TopicPartition);
            _deadLetters.Forget(partition.TopicPartition);
            _paused.Remove(partition.TopicPartition);
            _assigned.Remove(partition.TopicPartition);
            _fresh.Remove(partition.TopicPartition);
        }
    }

    private void ForgetAll()
    {
        _offsets.ForgetAll();
        _waiting.Clear();
        _stalled.Clear();
        _stalledIn.Clear();
        _committed.Clear();
        _accepted.Clear();
        _deadLetters.Clear();
        _paused.Clear();
        _assigned.Clear();
        _fresh.Clear();
    }

    /// <summary>Pauses partitions of which too much is undecided, and goes on with those of which half of that is left.</summary>
    private void Regulate(IConsumer<byte[]?, byte[]?> consumer)
    {
        // The client keeps a partition paused that was taken away and comes back.
        if (_fresh.Count > 0) consumer.Resume(_fresh);
        _fresh.Clear();
        var tooMuch = _offsets.OpenBytes >= OpenBytesMax;
        foreach (var partition in _assigned)
        {
            // Dead letters are what open records wait for.
            if (partition.Topic == _options.DeadLetterTopic) continue;
            var stalled = _stalledIn.GetValueOrDefault(partition);
            var waiting = _offsets.OpenIn(partition) - stalled;
            if (_paused.Contains(partition))
            {
                if (_offsets.OpenBytes > OpenBytesMax / 2 || waiting > WaitingInPartitionMax / 2 || stalled > StalledInPartitionMax / 2) continue;
                _paused.Remove(partition);
                consumer.Resume([partition]);
            }
            else if (tooMuch || waiting >= WaitingInPartitionMax || stalled >= StalledInPartitionMax)
            {
                _paused.Add(partition);
                consumer.Pause([partition]);
            }
        }
    }

    /// <summary>Everything that can be said of some records of the batch without the state of the chain. Runs on any thread.</summary>
    private void Check(int from, int to, Checked[] results)
    {
        var envelopes = new List<AlertEnvelope>(to - from);
        var profiles = new List<SigningProfiles>(to - from);
        var likely = new List<SigningProfile>(to - from);
        var places = new List<int>(to - from);
        for (var i = from; i < to; i++)
        {
            if (DecisionOn(_batch[i]) is { } receipt)
            {
                results[i] = new Checked(receipt.Transaction, null, null, receipt);
                continue;
            }

            if (Refusal(_batch[i], out var envelope) is { } rejection)
            {
                results[i] = new Checked(envelope?.Digest ?? (_batch[i].Message.Value is { } value ? Digest.Sha256(value) : default), null, rejection);
                continue;
            }

            envelopes.Add(envelope!);
            profiles.Add(ProfilesOf(envelope!));
            likely.Add(_lastProfile.GetValueOrDefault(envelope!.Producer, SigningProfile.V1));
            places.Add(i);
        }

        var verified = new Verified<AlertEnvelope>?[envelopes.Count];
        _authenticator.TryAuthenticate(CollectionsMarshal.AsSpan(envelopes), CollectionsMarshal.AsSpan(profiles), CollectionsMarshal.AsSpan(likely), verified);
        for (var i = 0; i < verified.Length; i++)
        {
            var envelope = envelopes[i];
            results[places[i]] = new Checked(envelope.Digest, verified[i], verified[i] is null ? NotSigned(envelope.Kind) : null);
            if (verified[i] is not null && envelope.Profile != likely[i]) _lastProfile[envelope.Producer] = envelope.Profile;
        }
    }

    /// <summary>A reader that is behind has its records decided before it reads them. They need no check then, which is how it comes to the front again.</summary>
    private Receipt? DecisionOn(ConsumeResult<byte[]?, byte[]?> record) =>
        _unread.Count > 0 && record.Message.Value is { } value && _unread.TryGetValue(AlertEnvelope.DigestOf(KindOf(record.Topic), value), out var receipt) ? receipt : null;

    private static Rejection NotSigned(AlertKind kind) => new(
        RejectionReason.BadSignature, kind.IsControl() ? "not enough operators of genesis have signed this order" : "the signature is not the producer's over these bytes");

    /// <summary>Before its signature is looked at.</summary>
    private Rejection? Refusal(ConsumeResult<byte[]?, byte[]?> record, out AlertEnvelope? envelope)
    {
        envelope = null;
        var kind = KindOf(record.Topic);
        if (record.Message.Value is not { } value) return new Rejection(RejectionReason.Malformed, "the record has no value");
        if (!EnvelopeDecoder.TryDecode(kind, value, out envelope, out var rejection)) return rejection;
        return kind.IsControl() ? null : EnvelopeRules.CheckProducer(envelope, _producers, _height().Next) ?? CheckTime(envelope, record);
    }

    private void Take(ConsumeResult<byte[]?, byte[]?> read, Checked result, long readAt, CancellationToken stop)
    {
        // The client makes the name of the topic anew for each record.
        var topic = _assigned.TryGetValue(read.TopicPartition, out var assigned) ? assigned.Topic : read.Topic;
        ReadOnlyMemory<byte>? value = read.Message.Value is { } bytes ? result.Alert?.Value.Record ?? bytes : null;
        var record = new KafkaRecord(new TopicPartitionOffset(topic, read.Partition, read.Offset), read.Message.Key, value, read.Message.Timestamp.UtcDateTime);
        if (result.Alert is { } alert) Wait(new Waiting(_read++, readAt, record, alert), stop);
        else if (result.Decided is { } receipt) TakeDecided(record, receipt);
        // A record read again after a restart may have been decided long ago.
        else if (result.Rejection!.Reason == RejectionReason.StaleTimestamp && IsAccepted(result.Digest)) _accepted.Add((result.Digest, record, false));
        else Refuse(record, result.Digest, result.Rejection);
    }

    private void TakeDecided(KafkaRecord record, Receipt receipt)
    {
        Traces.Decided(receipt.Transaction, receipt.Result.Code(), null);
        // A second copy in the same batch finds that the first has taken it.
        var justDecided = _unread.Remove(receipt.Transaction);
        if (receipt.Accepted || IsAccepted(receipt.Transaction)) _accepted.Add((receipt.Transaction, record, justDecided && receipt.Accepted));
        else Refuse(record, receipt.Transaction, RefusedByState(receipt));
    }

    /// <summary>Copies of one message wait together; only the first is submitted.</summary>
    private void Wait(Waiting waiting, CancellationToken stop)
    {
        if (_waiting.TryAdd(waiting.Digest, waiting))
        {
            Submit(waiting, stop);
            return;
        }

        // However many there are: only which one is the first matters.
        var first = _waiting[waiting.Digest];
        (waiting.Copy, first.Copy) = (first.Copy, waiting);
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
                _metrics.Admission.Observe(_time.GetElapsedTime(waiting.ReadAt));
                if (_stalled.TryGetValue(waiting.Alert.Value.Producer, out var behind)) behind.InVain = false;
                break;
            case AdmissionKind.Full or AdmissionKind.OverQuota:
                if (_stalled.TryGetValue(waiting.Alert.Value.Producer, out var stalled)) stalled.InVain = true;
                Stall(waiting);
                break;
            case AdmissionKind.Committed:
                if (_unread.Remove(waiting.Digest, out var receipt)) Decide([receipt], justDecided: true);
                else _committed.Enqueue((waiting, _time.GetTimestamp()));
                break;
            case AdmissionKind.Rejected:
                DecideRejected(waiting.Digest, admission.Rejection!);
                break;
        }
    }

    /// <summary>Most are told meanwhile, with their block. What was decided long ago is looked for.</summary>
    private void LookForCommitted()
    {
        while (_committed.TryPeek(out var first) && _time.GetElapsedTime(first.Since) >= StoreMax)
        {
            _committed.Dequeue();
            var alert = first.Waiting.Alert.Value;
            if (!_waiting.ContainsKey(alert.Digest)) continue;
            // A message that the rules of the state refused has been seen too.
            var result = _blocks.FindResult(alert.Digest) ?? RejectionReason.None;
            Traces.Decided(alert.Digest, result.Code(), null);
            Decide([new Receipt(alert.Digest, alert.Kind, result)], justDecided: false);
        }
    }

    private void Stall(Waiting waiting)
    {
        var producer = waiting.Alert.Value.Producer;
        if (!_stalled.TryGetValue(producer, out var stalled)) _stalled[producer] = stalled = new Stalled { InVain = true };
        if (stalled.Messages.TryAdd(waiting.Number, waiting)) _stalledIn[waiting.Record.Place.TopicPartition] = _stalledIn.GetValueOrDefault(waiting.Record.Place.TopicPartition) + 1;
    }

    /// <summary>The oldest of each producer first, so that the pools of all validators hold about the same.</summary>
    private void OfferAgain(CancellationToken stop)
    {
        foreach (var (producer, stalled) in new List<KeyValuePair<PublicKey, Stalled>>(_stalled))
        {
            var offered = new List<Waiting>();
            foreach (var (_, waiting) in stalled.Messages)
            {
                offered.Add(waiting);
                if (stalled.InVain || offered.Count == OffersMax) break;
            }

            foreach (var waiting in offered)
            {
                stalled.Messages.Remove(waiting.Number);
                var partition = waiting.Record.Place.TopicPartition;
                if (--_stalledIn[partition] == 0) _stalledIn.Remove(partition);
                // It may have been decided, or its partition lost, meanwhile.
                if (_waiting.ContainsKey(waiting.Digest)) Submit(waiting, stop);
            }

            // What comes back with a refusal makes its own place again.
            if (stalled.Messages.Count == 0) _stalled.Remove(producer);
        }
    }

    private void Decide(ImmutableArray<Receipt> receipts, bool justDecided)
    {
        foreach (var receipt in receipts)
        {
            if (!_waiting.TryGetValue(receipt.Transaction, out var copy))
            {
                if (justDecided) RememberUnread(receipt);
            }
            else if (!receipt.Accepted) DecideRejected(receipt.Transaction, RefusedByState(receipt));
            else
            {
                _waiting.Remove(receipt.Transaction);
                for (; copy is not null; copy = copy.Copy) _accepted.Add((receipt.Transaction, copy.Record, justDecided));
            }
        }
    }

    private void RememberUnread(Receipt receipt)
    {
        if (!_unread.TryAdd(receipt.Transaction, receipt)) return;
        _unreadOrder.Enqueue(receipt.Transaction);
        while (_unreadOrder.Count > UnreadMax) _unread.Remove(_unreadOrder.Dequeue());
    }

    private void DecideRejected(Digest digest, Rejection rejection)
    {
        if (!_waiting.Remove(digest, out var copy)) return;
        var accepted = IsAccepted(digest);
        for (; copy is not null; copy = copy.Copy)
        {
            if (accepted) _accepted.Add((digest, copy.Record, false));
            else Refuse(copy.Record, digest, rejection);
        }
    }

    private static Rejection RefusedByState(Receipt receipt) => new(receipt.Result, "refused by the agreed rules at block time");

    /// <summary>The ledger forgets nonces in time and a block may repeat a transaction; the store knows what was accepted.</summary>
    private bool IsAccepted(Digest digest) => _blocks.FindResult(digest) is RejectionReason.None;

    /// <summary>The first record with these bytes is the original; any other is a replay and goes to the dead letters.</summary>
    private void NoteAccepted()
    {
        if (_accepted.Count == 0 || (_accepted.Count < NoteMax && _time.GetElapsedTime(_notedAt) < NotePeriod)) return;
        _notedAt = _time.GetTimestamp();
        var original = _blocks.NoteSources(_accepted.ConvertAll(a => (a.Transaction, new SourcePosition(a.Record.Place.Topic, a.Record.Place.Partition.Value, a.Record.Place.Offset.Value), a.JustDecided)));
        for (var i = 0; i < original.Length; i++)
        {
            var (digest, record, _) = _accepted[i];
            if (original[i]) Complete(record.Place);
            else Refuse(record, digest, new Rejection(RejectionReason.ReplayedNonce, "this very message was accepted before"));
        }

        _accepted.Clear();
    }

    /// <summary>Its offset moves when a dead letter of it stands in Kafka, written here or by another validator.</summary>
    private void Refuse(KafkaRecord record, Digest digest, Rejection rejection)
    {
        // What is too old now may have been accepted in a block that is not stored here (a snapshot of the others covers it).
        var unknown = rejection.Reason == RejectionReason.StaleTimestamp && _blocks.FirstGap(default) is not null;
        var rank = _epochs.Current.Validators.Rank(_me());
        if (unknown || rank < 0) Complete(record.Place);
        else _deadLetters.Refuse(record, digest, rejection, DeadLetters.Precedence(digest, rank, _epochs.Current.Validators.Count));
    }

    private void Complete(TopicPartitionOffset place) => _offsets.Complete(place);

    /// <summary>Once a turn, and not by a call of the client for each record.</summary>
    private void StoreOffsets()
    {
        foreach (var position in _offsets.Advance())
        {
            try
            {
                _consumer?.StoreOffset(position);
            }
            catch (KafkaException problem) when (problem.Error.Code is ErrorCode.Local_State or ErrorCode.Local_UnknownPartition)
            {
                // The partition was taken away a moment ago: it will be delivered again, and recognised.
            }
        }
    }
}
