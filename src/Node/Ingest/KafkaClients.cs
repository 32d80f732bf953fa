using System;
using Confluent.Kafka;

namespace CyberMesh.Node.Ingest;

/// <summary>Client settings in one place. Reasons: docs/adr/0006-kafka-clients.md.</summary>
public static class KafkaClients
{
    public static IProducer<byte[]?, byte[]?> Producer(string brokers, string clientId, Action<Error> onError) =>
        new ProducerBuilder<byte[]?, byte[]?>(new ProducerConfig
        {
            BootstrapServers = brokers,
            ClientId = clientId,
            EnableIdempotence = true,
            Acks = Acks.All,
            LingerMs = 5,
            CompressionType = CompressionType.Zstd,
            MessageMaxBytes = 2 << 20,
            QueueBufferingMaxKbytes = 64 * 1024,
            MessageTimeoutMs = 120_000,
        })
            .SetErrorHandler((_, error) => onError(error))
            .SetLogHandler((_, _) => { })
            .Build();

    public static ConsumerConfig Consumer(string brokers, string group, AutoOffsetReset start, int sessionTimeoutMs) => new()
    {
        BootstrapServers = brokers,
        GroupId = group,
        ClientId = group,
        AutoOffsetReset = start,
        EnableAutoOffsetStore = false,
        EnableAutoCommit = true,
        AutoCommitIntervalMs = 500,
        SessionTimeoutMs = sessionTimeoutMs,
        HeartbeatIntervalMs = Math.Max(100, sessionTimeoutMs / 5),
        PartitionAssignmentStrategy = PartitionAssignmentStrategy.CooperativeSticky,
        CheckCrcs = true,
        FetchWaitMaxMs = 10,
        QueuedMinMessages = 2000,
        QueuedMaxMessagesKbytes = 16384,
        MessageMaxBytes = 2 << 20,
        AllowAutoCreateTopics = true,
    };
}
