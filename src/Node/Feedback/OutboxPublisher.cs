using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Feedback;

/// <summary>
/// Empties the outbox to Kafka in height order: at least once, a height leaves the outbox only after Kafka acknowledged all its records. A block,
/// and what it changed about policies and reputations, is published by the validator that proposed it; when its records do not appear, the others do it, one
/// after the other. The note stands in the outbox since the transaction that stored the block.
/// </summary>
/// <param name="prove">What the newest state that a certified header names holds under a key; null while it cannot be said.</param>
/// <param name="published">Where others' records are seen.</param>
public sealed class OutboxPublisher(
    BlockReader blocks, IProducer<byte[]?, byte[]?> producer, CircuitBreaker circuit, ControlTopics topics, Func<ISigner> control,
    Func<StateKey, CancellationToken, Task<BlockProof?>> prove, PublishedRecords published, AlertTraces traces, TimeProvider time, Metrics metrics, ILogger logger)
{
    private const int BatchMax = 128;

    /// <summary>The certificate of a block stands in it, or in one of the next few.</summary>
    private const int ReadMax = 4;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);
    private readonly SemaphoreSlim _signal = new(0);

    /// <summary>When Kafka was last known not to work, or this process began: others need their time from then on.</summary>
    private DateTimeOffset _troubled = time.GetUtcNow();

    /// <summary>The last blocks that were read, in order.</summary>
    private readonly List<StoredBlockWithResults> _read = [];

    private long _waiting;

    /// <summary>Blocks whose records this validator has to publish.</summary>
    public long Waiting => Interlocked.Read(ref _waiting);

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
        Interlocked.Exchange(ref _waiting, blocks.OutboxState().Waiting);
        var now = time.GetUtcNow();
        if (circuit.Status.State != CircuitState.Closed) _troubled = now;
        var entries = blocks.Outbox(now, _troubled, BatchMax);
        if (entries.Count == 0 || !circuit.MayTry()) return 0;
        var (sends, done) = (new List<Task>(), new List<Height>());
        foreach (var (height, isOwn) in entries)
        {
            var block = From(height).First();
            if (await RecordsAsync(block, stop).ConfigureAwait(false) is not { } records) break;
            if (!isOwn)
            {
                records.RemoveAll(r => published.Has(ControlVerifier.Identify(r.Topic, r.Record)));
                if (records.Count > 0) Log.ControlRecordsTakenOver(logger, height.Value, records.Count);
                metrics.RecordsTakenOver.Add(records.Count);
            }

            var traced = records.Count == 0 ? null : traces.Publishing(height, block.Stored.Block.Block.Transactions, records[0].Topic, records[0].Record);
            for (var i = 0; i < records.Count; i++) sends.Add(SendAsync(records[i].Topic, records[i].Record, i == 0 ? traced : null, stop));
            done.Add(height);
        }

        await Task.WhenAll(sends).ConfigureAwait(false);
        circuit.Succeeded();
        foreach (var height in done) blocks.Published(height);
        metrics.CommitsPublished.Add(done.Count);
        return done.Count;
    }

    /// <summary>Blocks from a height on. Those that were read for the certificate of the one before are the next to be published, and not read again.</summary>
    private IEnumerable<StoredBlockWithResults> From(Height height)
    {
        _read.RemoveAll(b => HeightOf(b) < height);
        if (_read is [var first, ..] && HeightOf(first) != height) _read.Clear();
        foreach (var block in _read) yield return block;
        foreach (var block in blocks.Read(_read is [.., var last] ? HeightOf(last).Next : height))
        {
            if (_read.Count < ReadMax) _read.Add(block);
            yield return block;
        }
    }

    private static Height HeightOf(StoredBlockWithResults block) => block.Stored.Block.Block.Height;

    private async Task SendAsync(string topic, Message<byte[]?, byte[]?> record, Activity? traced, CancellationToken stop)
    {
        await producer.ProduceAsync(topic, record, stop).ConfigureAwait(false);
        traced?.Dispose();
    }

    /// <summary>Null while a policy of the block cannot be proven: a header names the state a few blocks later, and enforcers obey nothing before.</summary>
    private async Task<List<(string Topic, Message<byte[]?, byte[]?> Record)>?> RecordsAsync(StoredBlockWithResults block, CancellationToken stop)
    {
        var now = time.GetUtcNow();
        var signer = control();
        var height = HeightOf(block);
        var proof = BlockReader.Certify(height, From(height));
        var records = new List<(string, Message<byte[]?, byte[]?>)> { (topics.Commits, CommitRecord.Create(block, proof, signer, topics.Commits, now)) };
        for (var i = 0; i < block.Events.Length; i++)
        {
            var place = new ControlRecord.Place(height, i, proof);
            // Of a policy enforcers hear when it begins and when it ends.
            if (block.Events[i] is LedgerEvent.PolicyChanged { Params.IsEmpty: false } policy)
            {
                var standing = await prove(StateKey.OfPolicy(policy.Policy), stop).ConfigureAwait(false);
                if (standing is null || standing.Block.Header.RootHeight < height) return null;
                records.Add((topics.Policy, PolicyRecord.Create(policy, standing, place, signer, topics.Policy, now)));
            }

            if (block.Events[i] is LedgerEvent.ReputationChanged change) records.Add((topics.Reputation, ReputationRecord.Create(change, place, signer, topics.Reputation, now)));
        }

        return records;
    }
}

/// <summary>Names of the topics; each is also the signing domain of its records.</summary>
public sealed record ControlTopics(string Commits, string Policy, string Reputation);
