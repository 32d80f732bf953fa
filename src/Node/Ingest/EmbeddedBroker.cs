using System;
using System.Collections.Generic;
using System.Reflection;
using System.Runtime.InteropServices;

namespace CyberMesh.Node.Ingest;

/// <summary>
/// librdkafka's mock cluster: a broker that speaks the real protocol over TCP on loopback, for the demo, for development and for tests. It
/// keeps nothing: memory only, and about 5 MiB per partition.
/// </summary>
public sealed unsafe class EmbeddedBroker : IDisposable
{
    private const int Producer = 0;
    private static readonly string[] LibraryNames = ["librdkafka", "centos8-librdkafka", "alpine-librdkafka"];
    private readonly nint _client;
    private readonly nint _cluster;

    static EmbeddedBroker() => NativeLibrary.SetDllImportResolver(typeof(EmbeddedBroker).Assembly, Resolve);

    /// <param name="topics">Created at once, with this many partitions each.</param>
    public EmbeddedBroker(IEnumerable<string> topics, int partitions = 4)
    {
        // Confluent.Kafka loads the library that works on this distribution; asking it first makes the resolver find the same one.
        _ = Confluent.Kafka.Library.Version;
        const int errorBytes = 512;
        var error = stackalloc byte[errorBytes];
        var configuration = rd_kafka_conf_new();
        // The hosting client itself talks to nobody; without this it warns on stderr that it has no brokers.
        _ = rd_kafka_conf_set(configuration, "log_level", "0", error, errorBytes);
        _client = rd_kafka_new(Producer, configuration, error, errorBytes);
        if (_client == 0) throw new InvalidOperationException("embedded broker: " + Marshal.PtrToStringUTF8((nint)error));
        _cluster = rd_kafka_mock_cluster_new(_client, 1);
        if (_cluster == 0) throw new InvalidOperationException("the embedded broker could not listen on loopback");
        rd_kafka_mock_group_initial_rebalance_delay_ms(_cluster, 0);
        foreach (var topic in topics)
            if (rd_kafka_mock_topic_create(_cluster, topic, partitions, 1) != 0)
                throw new UserError($"the embedded broker refused topic {topic}", "use letters, digits, '.', '_' and '-'");
        BootstrapServers = Marshal.PtrToStringUTF8(rd_kafka_mock_cluster_bootstraps(_cluster)) ?? "";
    }

    /// <summary>host:port for clients.</summary>
    public string BootstrapServers { get; }

    /// <summary>Makes the broker tell clients another address, for a forwarder in front of it.</summary>
    public void Advertise(string host, int port) => rd_kafka_mock_broker_set_host_port(_cluster, 1, host, port);

    /// <summary>Down, it closes all connections and accepts none; what it holds stays.</summary>
    public bool IsDown
    {
        set => _ = value ? rd_kafka_mock_broker_set_down(_cluster, 1) : rd_kafka_mock_broker_set_up(_cluster, 1);
    }

    /// <summary>Every answer takes this much longer.</summary>
    public TimeSpan RoundTripTime
    {
        set => _ = rd_kafka_mock_broker_set_rtt(_cluster, 1, (int)value.TotalMilliseconds);
    }

    /// <summary>
    /// The next requests to write are answered with this error. It does not look at the sequence numbers of idempotent producers: when a later
    /// request succeeds, they take the failed one before it for stored (librdkafka), and its records are lost.
    /// </summary>
    public void FailWrites(Confluent.Kafka.ErrorCode error, int count) => Fail(0, error, count);

    /// <summary>The next requests to read are answered with this error.</summary>
    public void FailReads(Confluent.Kafka.ErrorCode error, int count) => Fail(1, error, count);

    /// <summary>The next requests to commit offsets are answered with this error.</summary>
    public void FailCommits(Confluent.Kafka.ErrorCode error, int count) => Fail(8, error, count);

    private void Fail(short request, Confluent.Kafka.ErrorCode error, int count)
    {
        var errors = stackalloc int[count];
        for (var i = 0; i < count; i++) errors[i] = (int)error;
        rd_kafka_mock_push_request_errors_array(_cluster, request, (nuint)count, errors);
    }

    public void Dispose()
    {
        rd_kafka_mock_cluster_destroy(_cluster);
        rd_kafka_destroy(_client);
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path)
    {
        if (name != "librdkafka") return 0;
        foreach (var candidate in LibraryNames)
            if (NativeLibrary.TryLoad(candidate, assembly, path, out var handle))
                return handle;
        return 0;
    }

    [DllImport("librdkafka")]
    private static extern nint rd_kafka_conf_new();

    [DllImport("librdkafka")]
    private static extern int rd_kafka_conf_set(
        nint conf, [MarshalAs(UnmanagedType.LPUTF8Str)] string name, [MarshalAs(UnmanagedType.LPUTF8Str)] string value, byte* error, nuint errorSize);

    [DllImport("librdkafka")]
    private static extern nint rd_kafka_new(int type, nint conf, byte* error, nuint errorSize);

    [DllImport("librdkafka")]
    private static extern void rd_kafka_destroy(nint client);

    [DllImport("librdkafka")]
    private static extern nint rd_kafka_mock_cluster_new(nint client, int brokers);

    [DllImport("librdkafka")]
    private static extern void rd_kafka_mock_cluster_destroy(nint cluster);

    [DllImport("librdkafka")]
    private static extern nint rd_kafka_mock_cluster_bootstraps(nint cluster);

    [DllImport("librdkafka")]
    private static extern int rd_kafka_mock_topic_create(nint cluster, [MarshalAs(UnmanagedType.LPUTF8Str)] string topic, int partitions, int replication);

    [DllImport("librdkafka")]
    private static extern void rd_kafka_mock_group_initial_rebalance_delay_ms(nint cluster, int ms);

    [DllImport("librdkafka")]
    private static extern int rd_kafka_mock_broker_set_down(nint cluster, int broker);

    [DllImport("librdkafka")]
    private static extern int rd_kafka_mock_broker_set_up(nint cluster, int broker);

    [DllImport("librdkafka")]
    private static extern int rd_kafka_mock_broker_set_rtt(nint cluster, int broker, int ms);

    [DllImport("librdkafka")]
    private static extern void rd_kafka_mock_push_request_errors_array(nint cluster, short api, nuint count, int* errors);

    [DllImport("librdkafka")]
    private static extern int rd_kafka_mock_broker_set_host_port(nint cluster, int broker, [MarshalAs(UnmanagedType.LPUTF8Str)] string host, int port);
}
