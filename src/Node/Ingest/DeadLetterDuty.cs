using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Ingest;

/// <summary>
/// Refused records on their way to the dead letter topic. The validator whose turn it is writes; the others keep the record open until they
/// have read its dead letter, and write it themselves when it does not come. What cannot be written is tried again for ever: its offset stays.
/// The consumer's thread owns it.
/// </summary>
/// <param name="originalOf">The record that counts here as the original of a transaction; null when none was read yet.</param>
internal sealed class DeadLetterDuty(
    IProducer<byte[]?, byte[]?> producer, string topic, string node, CircuitBreaker circuit, Action<TopicPartitionOffset> done, Func<TopicPartitionOffset, bool> isDone,
    Func<Digest, TopicPartitionOffset?> originalOf, TimeProvider time, Metrics metrics, ILogger logger)
{
    /// <summary>Dead letters of others that are remembered until the record itself is refused here.</summary>
    private const int SeenMax = 2000;

    /// <summary>And for so long: what they are about may have been done before a restart.</summary>
    private static readonly TimeSpan SeenFor = TimeSpan.FromMinutes(10);

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);
    private readonly long _start = time.GetTimestamp();
    private readonly Dictionary<TopicPartitionOffset, Refused> _refused = [];
    private readonly PriorityQueue<TopicPartitionOffset, long> _due = new();
    private readonly Dictionary<TopicPartitionOffset, ConsumeResult<byte[]?, byte[]?>> _seen = [];
    private readonly Queue<(TopicPartitionOffset Place, long At)> _seenInOrder = new();
    private readonly ConcurrentQueue<(TopicPartitionOffset Place, Error Error)> _reports = new();

    private sealed record Refused(KafkaRecord Record, Digest Digest, Rejection Rejection)
    {
        public bool IsUnderWay { get; set; }
    }

    /// <summary>Records that wait for their dead letter.</summary>
    public int Count => _refused.Count;

    /// <param name="precedence">How many validators are to write it before this one.</param>
    public void Refuse(KafkaRecord record, Digest digest, Rejection rejection, int precedence)
    {
        var place = record.Place;
        if (_seen.TryGetValue(place, out var deadLetter) && IsOf(record, deadLetter))
        {
            Finish(record);
            return;
        }

        if (IsCopy(rejection.Code) && originalOf(digest) is { } original && _seen.TryGetValue(original, out deadLetter) && IsOf(record, deadLetter))
        {
            _seen.Remove(original);
            done(deadLetter.TopicPartitionOffset);
            Finish(record);
            return;
        }

        _refused[place] = new Refused(record, digest, rejection);
        var delay = precedence * DeadLetters.TakeoverDelay;
        // After a restart what is read again may have been written by another long ago: its dead letter comes in a moment.
        if (time.GetUtcNow() - record.PublishedAt > DeadLetters.TakeoverDelay) delay += Patience;
        _due.Enqueue(place, Now() + (long)delay.TotalMilliseconds);
    }

    /// <summary>A record of the dead letter topic. It counts as done when the record it is about is, so that both are read again after a crash.</summary>
    public void Read(ConsumeResult<byte[]?, byte[]?> deadLetter)
    {
        if (!DeadLetters.TryReadPlace(deadLetter.Message.Headers, out var place) || _seen.ContainsKey(place))
        {
            done(deadLetter.TopicPartitionOffset);
            return;
        }

        var isOfOriginal = IsOfOriginal(place, deadLetter);
        if ((isOfOriginal && TryFinishTwin(deadLetter)) || (!isOfOriginal && isDone(place)))
        {
            done(deadLetter.TopicPartitionOffset);
            return;
        }

        _seen.Add(place, deadLetter);
        _seenInOrder.Enqueue((place, Now()));
        if (_refused.TryGetValue(place, out var refused) && !refused.IsUnderWay && IsOf(refused.Record, deadLetter))
        {
            _refused.Remove(place);
            Finish(refused.Record);
        }

        ForgetUnclaimed();
    }

    /// <summary>Whoever can write to the topic can write nonsense: what nobody here waits for is forgotten some day.</summary>
    private void ForgetUnclaimed()
    {
        var before = Now() - (long)SeenFor.TotalMilliseconds;
        while (_seenInOrder.TryPeek(out var oldest) && (_seenInOrder.Count > SeenMax || oldest.At < before))
        {
            _seenInOrder.Dequeue();
            if (_seen.Remove(oldest.Place, out var unclaimed)) done(unclaimed.TopicPartitionOffset);
        }
    }

    // Of records with the same bytes one is the original, and the first that a validator reads is it: they stand in different partitions, so validators
    // differ. Whichever of two has its dead letter, the other one needs none.

    private static bool IsCopy(string code) => code == RejectionReason.ReplayedNonce.Code();

    private bool IsOfOriginal(TopicPartitionOffset place, ConsumeResult<byte[]?, byte[]?> deadLetter) =>
        IsCopy(DeadLetters.Header(deadLetter.Message.Headers, "error_code")) && Digest.TryParse(DeadLetters.Header(deadLetter.Message.Headers, "digest"), out var digest) && originalOf(digest) == place;

    private bool TryFinishTwin(ConsumeResult<byte[]?, byte[]?> deadLetter)
    {
        foreach (var (place, refused) in _refused)
        {
            if (!IsCopy(refused.Rejection.Code) || refused.IsUnderWay || !IsOf(refused.Record, deadLetter)) continue;
            _refused.Remove(place);
            Finish(refused.Record);
            return true;
        }

        return false;
    }

    /// <summary>Whoever can write to the topic can name any record: only a dead letter that holds it is one of it.</summary>
    private static bool IsOf(KafkaRecord record, ConsumeResult<byte[]?, byte[]?> deadLetter) =>
        record.Value is null == deadLetter.Message.Value is null && record.Value.GetValueOrDefault().Span.SequenceEqual(deadLetter.Message.Value);

    /// <summary>Writes what is due, and takes in what Kafka said about earlier writes.</summary>
    public void Work()
    {
        while (_reports.TryDequeue(out var report)) Written(report.Place, report.Error);
        ForgetUnclaimed();
        var now = Now();
        while (_due.TryPeek(out var place, out var at) && at <= now)
        {
            if (!_refused.TryGetValue(place, out var refused) || refused.IsUnderWay)
            {
                _due.Dequeue();
                continue;
            }

            if (!circuit.MayTry()) return;
            _due.Dequeue();
            refused.IsUnderWay = true;
            try
            {
                producer.Produce(topic, DeadLetters.ToMessage(refused.Record, refused.Rejection, node, refused.Digest), report => _reports.Enqueue((place, report.Error)));
            }
            catch (ProduceException<byte[]?, byte[]?> problem)
            {
                Written(place, problem.Error);
                return;
            }
        }
    }

    /// <summary>The partition was taken away, and with it what was open there.</summary>
    public void Forget(TopicPartition partition)
    {
        foreach (var place in new List<TopicPartitionOffset>(_refused.Keys))
            if (place.TopicPartition == partition)
                _refused.Remove(place);
        foreach (var (place, deadLetter) in new List<KeyValuePair<TopicPartitionOffset, ConsumeResult<byte[]?, byte[]?>>>(_seen))
            if (deadLetter.TopicPartition == partition)
                _seen.Remove(place);
    }

    public void Clear()
    {
        _refused.Clear();
        _due.Clear();
        _seen.Clear();
        _seenInOrder.Clear();
    }

    private void Written(TopicPartitionOffset place, Error error)
    {
        // The circuit hears of it also when the partition was taken away meanwhile, or its one attempt would never end.
        if (error.IsError) circuit.Failed($"dead letter topic {topic}: {error.Reason}");
        else circuit.Succeeded();
        if (!_refused.TryGetValue(place, out var refused)) return;
        refused.IsUnderWay = false;
        if (error.IsError)
        {
            Log.Kafka(logger, error.Reason);
            _due.Enqueue(place, Now());
            return;
        }

        metrics.DeadLetters.Increment();
        Log.DeadLetter(logger, refused.Rejection.Code, place.Topic, place.Partition.Value, place.Offset.Value, refused.Rejection.Explanation);
        _refused.Remove(place);
        Finish(refused.Record);
    }

    private void Finish(KafkaRecord record)
    {
        done(record.Place);
        if (_seen.Remove(record.Place, out var deadLetter)) done(deadLetter.TopicPartitionOffset);
    }

    /// <summary>Milliseconds since the start, whatever the clock is set to.</summary>
    private long Now() => (long)time.GetElapsedTime(_start).TotalMilliseconds;
}
