using System;
using Confluent.Kafka;

namespace CyberMesh.Node.Ingest;

/// <summary>
/// What a record needs until it is decided. Thousands wait at a time, and whatever they hold is copied by the collector: the client's own object, with headers and a second copy of the value, does not wait with them.
/// </summary>
/// <param name="Value">As it was published. Of a genuine one these are the bytes that its envelope holds anyway.</param>
/// <param name="PublishedAt">The time that the record carries.</param>
internal sealed record KafkaRecord(TopicPartitionOffset Place, byte[]? Key, ReadOnlyMemory<byte>? Value, DateTime PublishedAt);
