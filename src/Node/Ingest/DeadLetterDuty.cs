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
internal sealed class DeadLetterDuty(
    IProducer<byte[]?, byte[]?> producer, string topic, string node, CircuitBreaker circuit, Action<ConsumeResult<byte[]?, byte[]?>> done, Func<TopicPartitionOffset, bool> isDone,
    TimeProvider time, Metrics metrics, ILogger logger)
{
    /// <summary>Dead letters of others that are remembered until the record itself is refused here.</summary>
    private const int SeenMax = 2000;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);
    private readonly long _start = time.GetTimestamp();
    private readonly Dictionary<TopicPartitionOffset, Refused> _refused = [];
    private readonly PriorityQueue<TopicPartitionOffset, long> _due = new();
    private readonly Dictionary<TopicPartitionOffset, ConsumeResult<byte[]?, byte[]?>> _seen = [];
    private readonly Queue<TopicPartitionOffset> _seenInOrder = new();
    private readonly ConcurrentQueue<(TopicPartitionOffset Place, Error Error)> _reports = new();

    private sealed record Refused(ConsumeResult<byte[]?, byte[]?> Record, Digest Digest, Rejection Rejection)
    {
        public bool IsUnderWay { get; set; }
    }

    /// <summary>Records that wait for their dead letter.</summary>
    public int Count => _refused.Count;

    /// <param name="precedence">How many validators are to write it before this one.</param>
    public void Refuse(ConsumeResult<byte[]?, byte[]?> record, Digest digest, Rejection rejection, int precedence)
    {
        var place = record.TopicPartitionOffset;
        if (_seen.ContainsKey(place))
        {
            Finish(record);
            return;
        }

        _refused[place] = new Refused(record, digest, rejection);
        var delay = precedence * DeadLetters.TakeoverDelay;
        // After a restart what is read again may have been written by another long ago: its dead letter comes in a moment.
        if (time.GetUtcNow() - record.Message.Timestamp.UtcDateTime > DeadLetters.TakeoverDelay) delay += Patience;
        _due.Enqueue(place, Now() + (long)delay.TotalMilliseconds);
    }

    /// <summary>A record of the dead letter topic. It counts as done when the record it is about is, so that both are read again after a crash.</summary>
    public void Read(ConsumeResult<byte[]?, byte[]?> deadLetter)
    {
        if (!DeadLetters.TryReadPlace(deadLetter.Message.Headers, out var place) || isDone(place) || !_seen.TryAdd(place, deadLetter))
        {
            done(deadLetter);
            return;
        }

        _seenInOrder.Enqueue(place);
        if (_refused.TryGetValue(place, out var refused) && !refused.IsUnderWay)
        {
            _refused.Remove(place);
            Finish(refused.Record);
        }

        // Whoever can write to the topic can write nonsense: what nobody here waits for is forgotten some day.
        while (_seenInOrder.Count > SeenMax && _seenInOrder.TryDequeue(out var oldest))
            if (_seen.Remove(oldest, out var unclaimed))
                done(unclaimed);
    }

    /// <summary>Writes what is due, and takes in what Kafka said about earlier writes.</summary>
    public void Work()
    {
        while (_reports.TryDequeue(out var report)) Written(report.Place, report.Error);
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
        if (!_refused.TryGetValue(place, out var refused)) return;
        refused.IsUnderWay = false;
        if (error.IsError)
        {
            circuit.Failed($"dead letter topic {topic}: {error.Reason}");
            Log.Kafka(logger, error.Reason);
            _due.Enqueue(place, Now());
            return;
        }

        circuit.Succeeded();
        metrics.DeadLetters.Increment();
        Log.DeadLetter(logger, refused.Rejection.Code, place.Topic, place.Partition.Value, place.Offset.Value, refused.Rejection.Explanation);
        _refused.Remove(place);
        Finish(refused.Record);
    }

    private void Finish(ConsumeResult<byte[]?, byte[]?> record)
    {
        done(record);
        if (_seen.Remove(record.TopicPartitionOffset, out var deadLetter)) done(deadLetter);
    }

    /// <summary>Milliseconds since the start, whatever the clock is set to.</summary>
    private long Now() => (long)time.GetElapsedTime(_start).TotalMilliseconds;
}
