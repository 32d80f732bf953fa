using System;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Ingest;

/// <summary>Headers of a dead letter: where the record was and why it can never be accepted. Key and value are the original ones.</summary>
public static class DeadLetters
{
    /// <summary>Each validator that would have to write a dead letter before this one is given so long.</summary>
    public static readonly TimeSpan TakeoverDelay = TimeSpan.FromSeconds(10);

    internal static Message<byte[]?, byte[]?> ToMessage(KafkaRecord record, Rejection rejection, string node, Digest digest) => new()
    {
        Key = record.Key,
        Value = record.Value?.ToArray(),
        Headers = new Headers
        {
            { "original_topic", Encoding.UTF8.GetBytes(record.Place.Topic) },
            { "original_partition", Text(record.Place.Partition.Value) },
            { "original_offset", Text(record.Place.Offset.Value) },
            { "error_code", Encoding.UTF8.GetBytes(rejection.Code) },
            { "error", Encoding.UTF8.GetBytes(rejection.Explanation) },
            { "node", Encoding.UTF8.GetBytes(node) },
            { "digest", Encoding.UTF8.GetBytes(digest.ToString()) },
        },
    };

    public static string Header(Headers headers, string name) =>
        headers.TryGetLastBytes(name, out var value) ? Encoding.UTF8.GetString(value) : "";

    /// <summary>Where the record of a dead letter was; false when its headers do not say.</summary>
    public static bool TryReadPlace(Headers? headers, [NotNullWhen(true)] out TopicPartitionOffset? place)
    {
        place = null;
        if (headers is null || Header(headers, "original_topic") is not { Length: > 0 } topic
            || !int.TryParse(Header(headers, "original_partition"), NumberStyles.None, CultureInfo.InvariantCulture, out var partition)
            || !long.TryParse(Header(headers, "original_offset"), NumberStyles.None, CultureInfo.InvariantCulture, out var offset)) return false;
        place = new TopicPartitionOffset(topic, partition, offset);
        return true;
    }

    /// <summary>
    /// One record per message, not one per validator: the digest decides who writes it, and who comes next when that one is silent.
    /// </summary>
    /// <param name="rank">Position of this validator among the members.</param>
    /// <returns>How many come before this one.</returns>
    public static int Precedence(Digest digest, int rank, int members) => (rank - (int)(digest.Value.D % (ulong)members) + members) % members;

    private static byte[] Text(long value) => Encoding.UTF8.GetBytes(value.ToString(CultureInfo.InvariantCulture));
}
