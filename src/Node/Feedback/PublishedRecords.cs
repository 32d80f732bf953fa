using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Feedback;

/// <summary>
/// What has appeared on the control topics in the last minutes, whoever published it: each validator watches whether the one whose turn it is does its
/// duty. Only records that a consumer would believe count, so a validator cannot keep others silent with a record that nobody obeys.
/// </summary>
/// <param name="connect">A consumer that belongs to no group.</param>
public sealed class PublishedRecords(Func<IConsumer<byte[]?, byte[]?>> connect, ControlTopics topics, ControlVerifier verifier, TimeProvider time, ILogger logger)
{
    private const int RecordsMax = 200_000;
    private const int OldRecords = 1_000;
    private static readonly TimeSpan LookBack = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    private readonly Lock _lock = new();
    private readonly HashSet<Digest> _seen = [];
    private readonly Queue<Digest> _order = [];

    /// <param name="record">See <see cref="ControlVerifier.Identify(string, Message{byte[], byte[]})"/>.</param>
    public bool Has(Digest record)
    {
        lock (_lock) return _seen.Contains(record);
    }

    public Task RunAsync(CancellationToken stop) => Task.Factory.StartNew(() =>
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                using var consumer = connect();
                consumer.Assign(Places(consumer));
                while (!stop.IsCancellationRequested)
                    if (consumer.Consume(TimeSpan.FromMilliseconds(200)) is { } record)
                        Take(record);
            }
            catch (KafkaException problem)
            {
                // No broker, or no topic yet: whoever publishes first makes it.
                Log.ControlTopicsUnread(logger, problem.Error.Reason);
                stop.WaitHandle.WaitOne(Pause);
            }
        }
    }, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private List<TopicPartitionOffset> Places(IConsumer<byte[]?, byte[]?> consumer)
    {
        using var admin = new DependentAdminClientBuilder(consumer.Handle).Build();
        var from = new Confluent.Kafka.Timestamp(time.GetUtcNow() - LookBack);
        var places = new List<TopicPartitionTimestamp>();
        foreach (var topic in new[] { topics.Commits, topics.Policy, topics.Reputation })
        {
            var known = admin.GetMetadata(topic, Patience).Topics.Single(t => t.Topic == topic);
            if (known.Error.IsError) throw new KafkaException(known.Error);
            places.AddRange(known.Partitions.Select(p => new TopicPartitionTimestamp(topic, p.PartitionId, from)));
        }

        // Nothing so young says a broker that is at rest, or one that does not look up times: a few old ones cost little.
        return consumer.OffsetsForTimes(places, Patience).ConvertAll(place =>
        {
            if (place.Offset != Offset.End) return place;
            var known = consumer.QueryWatermarkOffsets(place.TopicPartition, Patience);
            return new TopicPartitionOffset(place.TopicPartition, Math.Max(known.Low.Value, known.High.Value - OldRecords));
        });
    }

    private void Take(ConsumeResult<byte[]?, byte[]?> record)
    {
        if (verifier.Verify(record.Topic, record.Message.Value, record.Message.Headers, out var problem) is not { } verified)
        {
            Log.ControlRecordRefused(logger, record.Topic, record.Partition.Value, record.Offset.Value, problem);
            return;
        }

        var identity = ControlVerifier.Identify(record.Topic, record.Message.Headers, verified.Message);
        lock (_lock)
        {
            if (!_seen.Add(identity)) return;
            _order.Enqueue(identity);
            if (_order.Count > RecordsMax) _seen.Remove(_order.Dequeue());
        }
    }
}
