using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Feedback;

/// <summary>
/// Empties the outbox to Kafka in height order: at least once, a height leaves the outbox only after Kafka acknowledged it. A block is published by
/// the validator that proposed it; the note stands in the outbox since the transaction that stored the block.
/// </summary>
public sealed class CommitPublisher(
    BlockReader blocks, IProducer<byte[]?, byte[]?> producer, string topic, Func<ISigner> control, TimeProvider time, Metrics metrics, ILogger logger)
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
        var sends = heights.Select(height =>
        {
            var block = blocks.Read(height).First();
            return producer.ProduceAsync(topic, CommitRecord.Create(block, block.Stored.Certificate, control(), topic, time.GetUtcNow()), stop);
        }).ToArray();
        await Task.WhenAll(sends).ConfigureAwait(false);
        foreach (var height in heights) blocks.Published(height);
        metrics.CommitsPublished.Add(heights.Count);
        return heights.Count;
    }
}
