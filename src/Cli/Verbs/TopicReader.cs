using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using Confluent.Kafka;
using CyberMesh.Node;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

/// <summary>A topic from its beginning, without belonging to a group.</summary>
internal static class TopicReader
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>To where it ended at the start of the reading.</summary>
    /// <exception cref="ConnectionError">No broker answers, or it refuses.</exception>
    /// <exception cref="UserError">There is no such topic.</exception>
    public static IEnumerable<ConsumeResult<byte[]?, byte[]?>> ReadAll(KafkaConnection connection, string topic, CancellationToken stop) => Read(connection, topic, false, stop).OfType<ConsumeResult<byte[]?, byte[]?>>();

    /// <summary>And everything that comes later, until stopped; null whenever there is nothing for a moment.</summary>
    /// <exception cref="ConnectionError">At the start no broker answers, or it refuses.</exception>
    /// <exception cref="UserError">There is no such topic.</exception>
    public static IEnumerable<ConsumeResult<byte[]?, byte[]?>?> Follow(KafkaConnection connection, string topic, CancellationToken stop) => Read(connection, topic, true, stop);

    private static IEnumerable<ConsumeResult<byte[]?, byte[]?>?> Read(KafkaConnection connection, string topic, bool follows, CancellationToken stop)
    {
        var config = KafkaClients.Consumer(connection, "cybermesh-reader", AutoOffsetReset.Earliest, 10_000);
        config.EnableAutoCommit = false;
        config.AllowAutoCreateTopics = false;
        string? problem = null;
        using var consumer = new ConsumerBuilder<byte[]?, byte[]?>(config).SetLogHandler((_, _) => { }).SetErrorHandler((_, error) => problem = error.Reason).Build();
        Dictionary<TopicPartition, long> ends;
        try
        {
            using var admin = new DependentAdminClientBuilder(consumer.Handle).Build();
            var known = admin.GetMetadata(topic, Patience).Topics.Single(t => t.Topic == topic);
            if (known.Error.IsError || known.Partitions.Count == 0) throw new UserError($"there is no topic {topic}", "check the name, or publish something first");
            ends = known.Partitions.Select(p => new TopicPartition(topic, p.PartitionId)).ToDictionary(p => p, p => consumer.QueryWatermarkOffsets(p, Patience).High.Value);
        }
        catch (KafkaException failure)
        {
            throw new ConnectionError($"Kafka at {connection.Brokers}: {problem ?? failure.Error.Reason}");
        }

        consumer.Assign(ends.Where(e => follows || e.Value > 0).Select(e => new TopicPartitionOffset(e.Key, Offset.Beginning)));
        var left = ends.Where(e => e.Value > 0).Select(e => e.Key).ToHashSet();
        var heard = TimeProvider.System.GetTimestamp();
        while (left.Count > 0)
        {
            stop.ThrowIfCancellationRequested();
            if (consumer.Consume(TimeSpan.FromMilliseconds(100)) is not { } record)
            {
                // What retention has deleted never comes.
                foreach (var partition in left.Where(p => consumer.Position(p).Value >= ends[p]).ToArray()) left.Remove(partition);
                if (TimeProvider.System.GetElapsedTime(heard) > Patience) throw new ConnectionError($"Kafka at {connection.Brokers}: {problem ?? "no answer"}");
                continue;
            }

            heard = TimeProvider.System.GetTimestamp();
            if (follows || record.Offset.Value < ends[record.TopicPartition]) yield return record;
            if (record.Offset.Value + 1 >= ends[record.TopicPartition]) left.Remove(record.TopicPartition);
        }

        while (follows && !stop.IsCancellationRequested) yield return consumer.Consume(TimeSpan.FromMilliseconds(200));
    }
}
