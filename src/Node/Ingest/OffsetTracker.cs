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
        public readonly SortedDictionary<long, int> Open = [];
        public long Next;
        public long Stored;
    }

    private readonly Dictionary<TopicPartition, Partition> _partitions = [];

    /// <summary>Records that are read and not done.</summary>
    public int OpenCount { get; private set; }

    /// <summary>Bytes of their values.</summary>
    public long OpenBytes { get; private set; }

    public int OpenIn(TopicPartition partition) => _partitions.TryGetValue(partition, out var known) ? known.Open.Count : 0;

    /// <summary>The record has been read since the partition was given to this consumer, and is done.</summary>
    public bool IsDone(TopicPartitionOffset record) =>
        _partitions.TryGetValue(record.TopicPartition, out var partition) && record.Offset.Value < partition.Next && !partition.Open.ContainsKey(record.Offset.Value);

    public void Begin(TopicPartitionOffset record, int bytes)
    {
        if (!_partitions.TryGetValue(record.TopicPartition, out var partition)) _partitions[record.TopicPartition] = partition = new Partition { Stored = record.Offset.Value };
        if (partition.Open.TryAdd(record.Offset.Value, bytes))
        {
            OpenCount++;
            OpenBytes += bytes;
        }

        if (record.Offset.Value >= partition.Next) partition.Next = record.Offset.Value + 1;
    }

    /// <summary>The record is done.</summary>
    public void Complete(TopicPartitionOffset record)
    {
        if (!_partitions.TryGetValue(record.TopicPartition, out var partition) || !partition.Open.Remove(record.Offset.Value, out var bytes)) return;
        OpenCount--;
        OpenBytes -= bytes;
    }

    /// <summary>The offsets to store now: of each partition whose first open record has changed since this was asked last.</summary>
    public List<TopicPartitionOffset> Advance()
    {
        var moved = new List<TopicPartitionOffset>();
        foreach (var (name, partition) in _partitions)
        {
            var next = TryFirst(partition.Open, out var first) ? first : partition.Next;
            if (next <= partition.Stored) continue;
            partition.Stored = next;
            moved.Add(new TopicPartitionOffset(name, next));
        }

        return moved;
    }

    /// <summary>The partition was taken away: what is open there will be delivered again to whoever gets it.</summary>
    public void Forget(TopicPartition topicPartition)
    {
        if (!_partitions.Remove(topicPartition, out var partition)) return;
        OpenCount -= partition.Open.Count;
        foreach (var (_, bytes) in partition.Open) OpenBytes -= bytes;
    }

    public void ForgetAll()
    {
        _partitions.Clear();
        (OpenCount, OpenBytes) = (0, 0);
    }

    private static bool TryFirst(SortedDictionary<long, int> open, out long first)
    {
        foreach (var (offset, _) in open)
        {
            first = offset;
            return true;
        }

        first = 0;
        return false;
    }
}
