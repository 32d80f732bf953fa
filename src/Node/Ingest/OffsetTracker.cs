using System.Collections.Generic;
using Confluent.Kafka;

namespace CyberMesh.Node.Ingest;

/// <summary>
/// Which offsets may be stored: a partition's position moves only past records that are all decided or durably refused, whatever the
/// order they finish in. Not thread-safe: the consumer's thread owns it.
/// </summary>
public sealed class OffsetTracker
{
    private sealed class Partition
    {
        public readonly SortedSet<long> Open = [];
        public long Next;
        public long Stored;
    }

    private readonly Dictionary<TopicPartition, Partition> _partitions = [];

    public int OpenCount { get; private set; }

    public void Begin(TopicPartitionOffset record)
    {
        if (!_partitions.TryGetValue(record.TopicPartition, out var partition)) _partitions[record.TopicPartition] = partition = new Partition { Stored = record.Offset.Value };
        if (partition.Open.Add(record.Offset.Value)) OpenCount++;
        if (record.Offset.Value >= partition.Next) partition.Next = record.Offset.Value + 1;
    }

    /// <summary>The offset to store now, or null when an earlier record of the partition is still open.</summary>
    public TopicPartitionOffset? Complete(TopicPartitionOffset record)
    {
        if (!_partitions.TryGetValue(record.TopicPartition, out var partition) || !partition.Open.Remove(record.Offset.Value)) return null;
        OpenCount--;
        var next = partition.Open.Count == 0 ? partition.Next : partition.Open.Min;
        if (next <= partition.Stored) return null;
        partition.Stored = next;
        return new TopicPartitionOffset(record.TopicPartition, next);
    }

    /// <summary>The partition was taken away: what is open there will be delivered again to whoever gets it.</summary>
    public void Forget(TopicPartition topicPartition)
    {
        if (_partitions.Remove(topicPartition, out var partition)) OpenCount -= partition.Open.Count;
    }
}
