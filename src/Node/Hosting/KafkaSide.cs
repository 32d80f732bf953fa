using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Feedback;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;

namespace CyberMesh.Node.Hosting;

/// <summary>All that a validator has to do with Kafka: messages in, decisions and dead letters out. An observer has none.</summary>
internal sealed class KafkaSide : IDisposable
{
    private readonly EpochSchedule _epochs;
    private readonly IProducer<byte[]?, byte[]?> _producer;
    private readonly OutboxPublisher _publisher;
    private readonly PublishedRecords _published;

    public KafkaSide(
        ValidatorOptions options, EpochSchedule epochs, ProducerRegistry producers, Keyring keys, ISignatureVerifier verifier, ReplicaLoop loop, Func<BlockReader> newReader, Func<string> name,
        Func<StateKey, CancellationToken, Task<BlockProof?>> proveState, AlertTraces traces, Metrics metrics)
    {
        _epochs = epochs;
        var (settings, time, logger) = (options.Settings, options.Time, options.Logger);
        var (consumerCircuit, producerCircuit) = (new CircuitBreaker("kafka_consumer", time), new CircuitBreaker("kafka_producer", time));
        Circuits = [consumerCircuit, producerCircuit];
        var watch = new KafkaWatch(producerCircuit, logger);
        _producer = KafkaClients.Producer(settings.Kafka, $"cybermesh-{settings.NodeId}", watch.OnError, watch.OnStatistics);
        var control = new ControlTopics(settings.CommitsTopic, settings.ControlPolicyTopic, settings.ReputationTopic);
        _published = new PublishedRecords(() => KafkaClients.Reader(settings.Kafka, settings.ConsumerGroupOfNode + "-control"), control, new ControlVerifier(Epoch, ControlKeyOf, verifier), time, logger);
        _publisher = new OutboxPublisher(newReader(), _producer, producerCircuit, control, () => keys.Active.Control, proveState, _published, traces, time, metrics, logger);
        Ingest = new KafkaIngest(
            new IngestOptions(
                settings.Kafka, settings.ConsumerGroupOfNode, settings.AnomalyTopic, settings.EvidenceTopic, settings.PolicyTopic,
                settings.OrdersTopic, settings.DecisionsTopic, settings.DeadLetterTopic, settings.StartAtEarliest ? AutoOffsetReset.Earliest : AutoOffsetReset.Latest,
                (int)settings.SessionTimeout.TotalMilliseconds, (long)settings.TimestampSkew.TotalMilliseconds, name()),
            options.Genesis.Operators, producers, epochs, () => loop.Status.Me, verifier, loop.SubmitAsync, () => loop.Status.Height, newReader(), _producer, consumerCircuit, producerCircuit, time, metrics, logger)
        { Traces = traces };
        metrics.Gauge("cybermesh_kafka_records_open", "Records read and not decided yet.", () => Ingest.Open);
        metrics.Gauge("cybermesh_kafka_partitions_paused", "Partitions that are not read because too much of them is undecided.", () => Ingest.Paused);
        metrics.Gauge("cybermesh_outbox_blocks", "Blocks whose control records this validator has to publish.", () => _publisher.Waiting);
    }

    public KafkaIngest Ingest { get; }

    public ImmutableArray<CircuitBreaker> Circuits { get; }

    public IEnumerable<Task> Run(CancellationToken stop) => [Ingest.RunAsync(stop), _publisher.RunAsync(stop), _published.RunAsync(stop)];

    public void OnStored(IReadOnlyList<CommittedBlock> run)
    {
        Ingest.Decided(run);
        _publisher.Wake();
    }

    private ChainContext? Epoch(ulong number) => _epochs.All.FirstOrDefault(e => e.Context.Epoch == number).Context;

    /// <summary>Of any epoch: records of a validator that has left, or has new keys, are still genuine.</summary>
    private string? ControlKeyOf(PublicKey key) => _epochs.All.SelectMany(e => e.Context.Validators.Members).FirstOrDefault(v => v.ControlKey == key)?.Name;

    public void Dispose() => _producer.Dispose();
}
