using System;
using System.Text.Json;
using Confluent.Kafka;

namespace CyberMesh.Node.Ingest;

/// <summary>Where the brokers are and how to speak to them.</summary>
public sealed record KafkaConnection(string Brokers, KafkaSecurity Security)
{
    /// <summary>Without TLS and SASL, as the embedded broker speaks.</summary>
    public static KafkaConnection Plain(string brokers) => new(brokers, KafkaSecurity.None);

    /// <exception cref="UserError">The environment contradicts itself.</exception>
    public static KafkaConnection FromEnvironment(string brokers) => new(brokers, KafkaSecurity.FromEnvironment());
}

/// <summary>Client settings in one place. Reasons: docs/adr/0006-kafka-clients.md.</summary>
public static class KafkaClients
{
    private const int StatisticsIntervalMs = 1000;

    /// <param name="onStatistics">Told once a second how many brokers this client is connected to.</param>
    public static IProducer<byte[]?, byte[]?> Producer(KafkaConnection connection, string clientId, Action<Error> onError, Action<int>? onStatistics = null)
    {
        var config = new ProducerConfig
        {
            BootstrapServers = connection.Brokers,
            ClientId = clientId,
            EnableIdempotence = true,
            Acks = Acks.All,
            LingerMs = 5,
            CompressionType = CompressionType.Zstd,
            MessageMaxBytes = 2 << 20,
            QueueBufferingMaxKbytes = 64 * 1024,
            MessageTimeoutMs = 120_000,
            ReconnectBackoffMaxMs = 5_000,
            StatisticsIntervalMs = onStatistics is null ? 0 : StatisticsIntervalMs,
        };
        connection.Security.ApplyTo(config);
        return new ProducerBuilder<byte[]?, byte[]?>(config)
            .SetErrorHandler((_, error) => onError(error))
            .SetLogHandler((_, _) => { })
            .SetStatisticsHandler((_, statistics) => onStatistics?.Invoke(BrokersUp(statistics)))
            .Build();
    }

    /// <param name="report">Says each second what it is connected to, for a statistics handler.</param>
    public static ConsumerConfig Consumer(KafkaConnection connection, string group, AutoOffsetReset start, int sessionTimeoutMs, bool report = false)
    {
        var config = new ConsumerConfig
        {
            BootstrapServers = connection.Brokers,
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
            FetchQueueBackoffMs = 10,
            QueuedMinMessages = 2000,
            QueuedMaxMessagesKbytes = 16384,
            MessageMaxBytes = 2 << 20,
            AllowAutoCreateTopics = true,
            ReconnectBackoffMaxMs = 5_000,
            StatisticsIntervalMs = report ? StatisticsIntervalMs : 0,
        };
        connection.Security.ApplyTo(config);
        return config;
    }

    /// <summary>A consumer that belongs to no group and commits nothing: it is told where to read.</summary>
    public static IConsumer<byte[]?, byte[]?> Reader(KafkaConnection connection, string name)
    {
        var config = Consumer(connection, name, AutoOffsetReset.Earliest, 10_000);
        config.EnableAutoCommit = false;
        config.AllowAutoCreateTopics = false;
        config.FetchWaitMaxMs = 500;
        return new ConsumerBuilder<byte[]?, byte[]?>(config).SetLogHandler((_, _) => { }).SetErrorHandler((_, _) => { }).Build();
    }

    /// <summary>Brokers a client is connected to and known by, from its statistics (librdkafka, STATISTICS.md).</summary>
    public static int BrokersUp(string statistics)
    {
        using var json = JsonDocument.Parse(statistics);
        var up = 0;
        if (!json.RootElement.TryGetProperty("brokers", out var brokers)) return 0;
        foreach (var broker in brokers.EnumerateObject())
            if (broker.Value.TryGetProperty("state", out var state) && state.GetString() == "UP")
                up++;
        return up;
    }

    /// <summary>It will not get better by waiting: wrong credentials, a certificate that does not fit, no right to read or write.</summary>
    public static bool IsRefusal(ErrorCode code) => code is ErrorCode.Local_Authentication or ErrorCode.Local_Ssl or ErrorCode.Local_UnsupportedFeature or ErrorCode.SaslAuthenticationFailed
        or ErrorCode.UnsupportedSaslMechanism or ErrorCode.IllegalSaslState or ErrorCode.TopicAuthorizationFailed or ErrorCode.GroupAuthorizationFailed or ErrorCode.ClusterAuthorizationFailed;
}
