using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Feedback;

/// <summary>
/// Empties the outbox to Kafka in height order: at least once, a height leaves the outbox only after Kafka acknowledged all its records. A block,
/// and what it changed about policies and reputations, is published by the validator that proposed it; the note stands in the outbox since the
/// transaction that stored the block.
/// </summary>
public sealed class OutboxPublisher(
    BlockReader blocks, IProducer<byte[]?, byte[]?> producer, CircuitBreaker circuit, ControlTopics topics, Func<ISigner> control, TimeProvider time, Metrics metrics, ILogger logger)
{
    private const int BatchMax = 128;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);
    private readonly SemaphoreSlim _signal = new(0);

    /// <summary>There may be something new in the outbox.</summary>
    public void Wake()
    {
        if (_signal.CurrentCount == 0) _signal.Release();
    }

    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                if (await PublishAsync(stop).ConfigureAwait(false) == 0) await _signal.WaitAsync(Pause, stop).ConfigureAwait(false);
            }
            catch (KafkaException problem)
            {
                circuit.Failed(problem.Error.Reason);
                Log.Kafka(logger, problem.Error.Reason);
                await Task.Delay(Pause, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }

    private async Task<int> PublishAsync(CancellationToken stop)
    {
        var heights = blocks.Outbox(BatchMax);
        if (heights.Count == 0 || !circuit.MayTry()) return 0;
        var sends = new List<Task>();
        foreach (var height in heights)
        {
            var block = blocks.Read(height).First();
            foreach (var (topic, record) in Records(block)) sends.Add(producer.ProduceAsync(topic, record, stop));
        }

        await Task.WhenAll(sends).ConfigureAwait(false);
        circuit.Succeeded();
        foreach (var height in heights) blocks.Published(height);
        metrics.CommitsPublished.Add(heights.Count);
        return heights.Count;
    }

    private IEnumerable<(string Topic, Message<byte[]?, byte[]?> Record)> Records(StoredBlockWithResults block)
    {
        var now = time.GetUtcNow();
        var signer = control();
        var height = block.Stored.Block.Block.Height;
        var proof = blocks.Certify(height);
        yield return (topics.Commits, CommitRecord.Create(block, proof, signer, topics.Commits, now));
        for (var i = 0; i < block.Events.Length; i++)
        {
            var place = new ControlRecord.Place(height, i, proof);
            // Of a policy enforcers hear when it begins and when it ends.
            if (block.Events[i] is LedgerEvent.PolicyChanged { Params.IsEmpty: false } policy) yield return (topics.Policy, PolicyRecord.Create(policy, place, signer, topics.Policy, now));
            if (block.Events[i] is LedgerEvent.ReputationChanged change) yield return (topics.Reputation, ReputationRecord.Create(change, place, signer, topics.Reputation, now));
        }
    }
}

/// <summary>Names of the topics; each is also the signing domain of its records.</summary>
public sealed record ControlTopics(string Commits, string Policy, string Reputation);
