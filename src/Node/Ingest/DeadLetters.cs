using System.Globalization;
using System.Text;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Ingest;

/// <summary>Headers of a dead letter: where the record was and why it can never be accepted. Key and value are the original ones.</summary>
public static class DeadLetters
{
    public static Message<byte[]?, byte[]?> ToMessage(ConsumeResult<byte[]?, byte[]?> record, Rejection rejection, string node, Digest digest) => new()
    {
        Key = record.Message.Key,
        Value = record.Message.Value,
        Headers = new Headers
        {
            { "original_topic", Encoding.UTF8.GetBytes(record.Topic) },
            { "original_partition", Text(record.Partition.Value) },
            { "original_offset", Text(record.Offset.Value) },
            { "error_code", Encoding.UTF8.GetBytes(rejection.Code) },
            { "error", Encoding.UTF8.GetBytes(rejection.Explanation) },
            { "node", Encoding.UTF8.GetBytes(node) },
            { "digest", Encoding.UTF8.GetBytes(digest.ToString()) },
        },
    };

    public static string Header(Headers headers, string name) =>
        headers.TryGetLastBytes(name, out var value) ? Encoding.UTF8.GetString(value) : "";

    /// <summary>One record per message, not one per validator: the digest decides who writes it.</summary>
    /// <param name="rank">Position of this validator among the members; negative when it is none.</param>
    public static bool IsResponsible(Digest digest, int rank, int members) => rank >= 0 && digest.Value.D % (ulong)members == (ulong)rank;

    private static byte[] Text(long value) => Encoding.UTF8.GetBytes(value.ToString(CultureInfo.InvariantCulture));
}
