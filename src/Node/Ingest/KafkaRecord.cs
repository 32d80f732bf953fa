using System;
using Confluent.Kafka;

namespace CyberMesh.Node.Ingest;

/// <summary>
/// What a record needs until it is decided. Thousands wait at a time, and whatever they hold is copied by the collector: the client's own object, with headers and a second copy of the value, does not wait with them.
/// </summary>
/// <param name="Value">Of one that could be decoded these are the bytes of its transaction.</param>
/// <param name="PublishedAt">By the record.</param>
internal sealed record KafkaRecord(TopicPartitionOffset Place, byte[]? Key, ReadOnlyMemory<byte>? Value, DateTime PublishedAt);
