using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Demo;

/// <summary>Reads the dead letter topic and counts each original record once.</summary>
internal sealed class DeadLetterReader(string brokers, string topic)
{
    private readonly Dictionary<string, string> _codeByPlace = [];
    private readonly Lock _lock = new();

    public IReadOnlyDictionary<string, int> CountByCode()
    {
        lock (_lock) return _codeByPlace.Values.GroupBy(code => code).ToDictionary(g => g.Key, g => g.Count());
    }

    public int Count
    {
        get
        {
            lock (_lock) return _codeByPlace.Count;
        }
    }

    public Task RunAsync(CancellationToken stop) => Task.Factory.StartNew(() =>
    {
        var config = KafkaClients.Consumer(KafkaConnection.Plain(brokers), "cybermesh-demo-dlq-" + Guid.NewGuid(), AutoOffsetReset.Earliest, 6000);
        using var consumer = new ConsumerBuilder<byte[]?, byte[]?>(config).SetErrorHandler((_, _) => { }).SetLogHandler((_, _) => { }).Build();
        consumer.Subscribe(topic);
        while (!stop.IsCancellationRequested)
        {
            var record = consumer.Consume(TimeSpan.FromMilliseconds(100));
            if (record is null) continue;
            var headers = record.Message.Headers;
            var place = $"{DeadLetters.Header(headers, "original_topic")}/{DeadLetters.Header(headers, "original_partition")}/{DeadLetters.Header(headers, "original_offset")}";
            lock (_lock) _codeByPlace[place] = DeadLetters.Header(headers, "error_code");
        }

        consumer.Close();
    }, stop, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}
