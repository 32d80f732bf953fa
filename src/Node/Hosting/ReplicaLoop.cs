using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Hosting;

/// <summary>A message from Kafka on its way into the pool; the callback runs on the loop and must return at once.</summary>
public readonly record struct Submission(Verified<AlertEnvelope> Alert, Action<Admission> Answer);

/// <summary>What the state after a block held under a key; answered on the loop, which alone may look at the state.</summary>
internal readonly record struct StateQuestion(StateKey Key, Height Height, TaskCompletionSource<BlockClaim.State?> Answer);

/// <summary>What the loop shows to the outside; replaced as a whole, so a reader always sees one moment.</summary>
/// <param name="Me">This validator's place; none while it is not of the set.</param>
/// <param name="NextOrder">The number the operators' next order must have.</param>
/// <param name="OpenOrder">An order that is not in force yet.</param>
public sealed record ReplicaStatus(
    ValidatorIndex Me, ChainContext Epoch, ulong NextOrder, ChangeOrder? OpenOrder,
    Height Height, Timestamp BlockTime, Digest StateRoot, Digest BlockDigest, View View, ValidatorIndex Leader, bool ChangingView, bool CatchingUp,
    bool MayVote, int PoolCount, int PoolBytes, ImmutableArray<Standing> Leaders, ImmutableArray<ValidatorIndex> LeaderOrder);

/// <summary>
/// The only owner of a <see cref="Replica"/>: one thread at a time takes inputs through it, the loop's own or the one that brought an input. It never waits for the disk: each batch of
/// effects goes to the writer, which makes it durable and only then lets the messages out, and decided blocks from there to the storekeeper. Own messages come back as inputs after
/// that, so an own vote counts once it is durable (rule D1).
/// </summary>
public sealed class ReplicaLoop
{
    private const int TickMs = 10;

    private const int SubmissionQueueMax = 2048;

    private const int QuestionQueueMax = 64;

    /// <summary>After so many in a row whoever brought an input leaves the rest to the loop's thread.</summary>
    private const int TurnsMax = 2;

    /// <summary>Batches at the writer. The loop goes on while the disk stalls; this bounds what can pile up meanwhile.</summary>
    private const int WriterQueueMax = 1024;

    /// <summary>Batches with snapshots, each with all of the state but its nonces in memory of its own, or certificates of theirs. Blocks wait where a disk is so slow that there are more.</summary>
    private const int KeepQueueMax = 4;

    /// <summary>Blocks that a sync may wait for.</summary>
    private const int NotSyncedMax = 32;

    private static readonly TimeSpan TakeOverPause = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan TakeOverAge = TimeSpan.FromMinutes(10);

    private readonly Replica _replica;
    private readonly LocalStore _store;
    private readonly IPeerTransport _transport;
    private readonly TimeProvider _time;
    private readonly Clock _clock;
    private readonly Action<IReadOnlyList<CommittedBlock>> _onStored;
    private readonly Action<Notice> _onNotice;
    private readonly Action<Refusal> _onRefused;
    private readonly Action<Digest> _onEvicted;
    private readonly Action<BlockRequest> _onBlockRequest;
    private readonly Action<SnapshotRequest> _onSnapshotRequest;
    private readonly SnapshotStore _snapshots;
    private readonly Action<ForkProof> _onFork;
    private readonly Action<Divergence> _onDivergence;
    private readonly Action<SignedNote> _onLogCheckpoint;
    private readonly string? _lostVotes;

    /// <summary>Held by the thread that is at the replica.</summary>
    private readonly Lock _turn = new();

    private readonly TaskCompletionSource _failed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Effects _effects = new();
    private readonly Doorbell _input = new();
    private readonly Doorbell _toWrite = new();
    private readonly Doorbell _toStore = new();
    private readonly Doorbell _toKeep = new();
    private readonly PeerQueues _peers = new();
    private readonly Channel<Submission> _submissions = Channel.CreateBounded<Submission>(SubmissionQueueMax);
    private readonly Channel<StateQuestion> _questions = Channel.CreateBounded<StateQuestion>(QuestionQueueMax);
    private readonly ConcurrentQueue<PeerInput> _own = new(); // bounded by what the loop itself sends
    private readonly ConcurrentQueue<Height> _stored = new(); // one per decided batch
    private readonly ConcurrentQueue<Batch> _writes = new();
    private readonly ConcurrentQueue<Batch> _stores = new(); // bounded by a term: the next one begins when all of it is stored
    private readonly ConcurrentQueue<Batch> _keeps = new();
    private volatile ReplicaStatus _status;
    private readonly List<Height> _notSynced = []; // of the storekeeper
    private Timestamp _nextTick; // of whoever holds the turn
    private volatile bool _handOver;
    private volatile bool _begun;
    private volatile bool _ended;

    private sealed record Batch(
        ValidatorIndex Me, DurableRecord[] Records, Outgoing[] Messages, CommittedBlock[] Decided, TakenSnapshot[] Snapshots, CheckpointCertificate[] Stable,
        (CheckpointCertificate Certificate, TakenSnapshot Taken)? Installed, SignedNote? LogCheckpoint)
    {
        public bool HasBlocks => Decided.Length + Snapshots.Length + Stable.Length > 0 || Installed is not null || LogCheckpoint is not null;

        public bool IsEmpty => Records.Length + Messages.Length == 0 && !HasBlocks;
    }

    /// <param name="lostVotes">Why the log of own votes cannot be trusted; null when it can.</param>
    public ReplicaLoop(
        Replica replica, LocalStore store, SnapshotStore snapshots, IPeerTransport transport, TimeProvider time,
        Action<IReadOnlyList<CommittedBlock>> onStored, Action<Notice> onNotice, Action<Refusal> onRefused, Action<Digest> onEvicted, Action<BlockRequest> onBlockRequest, Action<SnapshotRequest> onSnapshotRequest,
        Action<ForkProof> onFork, Action<Divergence> onDivergence, Action<SignedNote> onLogCheckpoint, string? lostVotes)
    {
        _onLogCheckpoint = onLogCheckpoint;
        _onDivergence = onDivergence;
        _onFork = onFork;
        _lostVotes = lostVotes;
        _replica = replica;
        _store = store;
        _transport = transport;
        _time = time;
        _clock = new Clock(time);
        _onStored = onStored;
        _onNotice = onNotice;
        _onRefused = onRefused;
        _onEvicted = onEvicted;
        _onBlockRequest = onBlockRequest;
        _onSnapshotRequest = onSnapshotRequest;
        _snapshots = snapshots;
        _status = Snapshot();
    }

    public ReplicaStatus Status => _status;

    /// <summary>Waits while the queue of this peer is full, which stops reading from it.</summary>
    public async ValueTask ReceiveAsync(PeerInput input, CancellationToken stop)
    {
        await _peers.WriteAsync(input, stop).ConfigureAwait(false);
        TakeTurn();
    }

    public async ValueTask SubmitAsync(Submission submission, CancellationToken stop)
    {
        await _submissions.Writer.WriteAsync(submission, stop).ConfigureAwait(false);
        Wake();
    }

    /// <summary>See <see cref="Replica.Prove"/>. Waits while too many others ask.</summary>
    public async Task<BlockClaim.State?> ProveAsync(StateKey key, Height height, CancellationToken stop)
    {
        var answer = new TaskCompletionSource<BlockClaim.State?>(TaskCreationOptions.RunContinuationsAsynchronously);
        await _questions.Writer.WriteAsync(new StateQuestion(key, height, answer), stop).ConfigureAwait(false);
        Wake();
        return await answer.Task.WaitAsync(stop).ConfigureAwait(false);
    }

    /// <summary>A leader about to stop resigns.</summary>
    public void HandOver()
    {
        _handOver = true;
        Wake();
    }

    /// <summary>Runs until stopped, on threads of its own. Any exception here is a broken invariant or a failed disk: the node must stop.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        Task[] threads = [_failed.Task, OnThread(() => Write(stop)), OnThread(() => Store(stop)), OnThread(() => KeepSnapshots(stop)), OnThread(() => Run(stop))];
        try
        {
            await (await Task.WhenAny(threads).ConfigureAwait(false)).ConfigureAwait(false);
        }
        finally
        {
            _ended = true;
            foreach (var bell in (Doorbell[])[_input, _toWrite, _toStore, _toKeep]) bell.Ring();
            await Task.WhenAll(threads[1..]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            // Nobody is at the replica any more.
            lock (_turn) { }
        }

        // It has ended the others, one of which may have been the first to be seen to end.
        if (_failed.Task.IsCompleted) await _failed.Task.ConfigureAwait(false);
    }

    private static Task OnThread(Action run) => Task.Factory.StartNew(run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private bool HasInput =>
        _handOver || !_peers.IsEmpty || !_own.IsEmpty || !_stored.IsEmpty || _submissions.Reader.Count > 0 || _questions.Reader.Count > 0;

    private void Run(CancellationToken stop)
    {
        try
        {
            _nextTick = _clock.Now();
            lock (_turn)
            {
                if (_lostVotes is not null) _replica.Quarantine(_lostVotes, _effects);
                _replica.Resume(_nextTick, _effects);
                Hand();
                _begun = true;
            }

            Func<bool> hasInput = () => HasInput;
            while (!stop.IsCancellationRequested && !_ended)
            {
                _input.Wait(TickMs, hasInput);
                lock (_turn) Step(onlyOwn: false, mayTick: true);
                while (_writes.Count >= WriterQueueMax && !_ended && !stop.IsCancellationRequested) Thread.Sleep(1);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }
    }

    /// <summary>
    /// Whoever brings an input takes it through the replica, when nobody else is at it: to wake the loop's thread would cost more than most steps. A thread that is at it looks once more
    /// when it is done; should that miss something, the loop's thread looks at every tick.
    /// </summary>
    /// <param name="onlyOwn">For the writer, which has more to do than to work through what others send.</param>
    private void TakeTurn(bool onlyOwn = false)
    {
        // What was brought is there before the look at the lock.
        Interlocked.MemoryBarrier();
        for (var turns = 0; turns < TurnsMax && HasInput; turns++)
        {
            if (!_begun || _ended || _writes.Count >= WriterQueueMax || !_turn.TryEnter()) return;
            try
            {
                Step(onlyOwn, mayTick: false);
            }
            finally
            {
                _turn.Exit();
            }
        }

        if (HasInput) Wake();
    }

    /// <summary>For the thread that holds the turn. After an exception nobody goes on with this replica, whose step was cut off: what it wanted done is not handed on, and the node stops.</summary>
    private void Step(bool onlyOwn, bool mayTick)
    {
        if (_ended) return;
        try
        {
            if (onlyOwn) DrainOwn();
            else DrainInputs();
            if (mayTick) TickWhenDue();
            Hand();
        }
        catch (Exception problem)
        {
            _failed.TrySetException(problem);
            _ended = true;
        }
    }

    private void TickWhenDue()
    {
        var now = _clock.Now();
        if (now < _nextTick) return;
        _replica.ConnectedPeers = _transport.ConnectedCount;
        _replica.Tick(now, _effects);
        _nextTick = now.PlusMs(TickMs);
        _status = Snapshot();
    }

    private void DrainOwn()
    {
        while (_own.TryDequeue(out var own)) _replica.Receive(own.From, own.Message, _clock.Now(), _effects);
    }

    private void DrainInputs()
    {
        while (_stored.TryDequeue(out var height)) _replica.Stored(height, _clock.Now(), _effects);
        DrainOwn();
        for (var i = 0; i < 256 && _peers.TryRead(out var input); i++) _replica.Receive(input.From, input.Message, _clock.Now(), _effects);
        for (var i = 0; i < 64 && _submissions.Reader.TryRead(out var submission); i++)
            submission.Answer(_replica.Submit(submission.Alert, _clock.Now(), _effects));
        for (var i = 0; i < 8 && _questions.Reader.TryRead(out var question); i++) question.Answer.SetResult(_replica.Prove(question.Key, question.Height));
        if (_handOver)
        {
            _handOver = false;
            _replica.HandOver(_effects);
        }
    }

    /// <summary>Hands the effects to the writer, in the order Core defines.</summary>
    private void Hand()
    {
        if (_effects.IsEmpty) return;
        if (_effects.Fork is { } fork)
        {
            _onFork(fork);
            throw new InvariantViolation("the chain has forked: more than f validators lied; this validator stops for good");
        }

        if (_effects.Divergence is { } divergence) _onDivergence(divergence);
        foreach (var notice in _effects.Notices) _onNotice(notice);
        foreach (var refusal in _effects.Refused) _onRefused(refusal);
        foreach (var evicted in _effects.Evicted) _onEvicted(evicted.Alert.Digest);
        foreach (var request in _effects.BlockRequests) _onBlockRequest(request);
        foreach (var request in _effects.SnapshotRequests) _onSnapshotRequest(request);
        var batch = new Batch(_replica.Me, [.. _effects.Records], [.. _effects.Messages], [.. _effects.Decided], [.. _effects.Snapshots], [.. _effects.Stable], _effects.Installed, _effects.LogCheckpoint);
        _effects.Clear();
        _status = Snapshot();
        if (batch.IsEmpty) return;
        _writes.Enqueue(batch);
        _toWrite.Ring();
    }

    /// <summary>The writer's thread: everything queued becomes durable in one transaction (group commit), then the messages go out.</summary>
    private void Write(CancellationToken stop) => Take(_writes, _toWrite, batches =>
    {
        var records = batches.SelectMany(b => b.Records).ToArray();
        if (records.Length > 0) _store.AppendLog(records);
        Send(batches);
        foreach (var batch in batches)
        {
            if (!batch.HasBlocks) continue;
            _stores.Enqueue(batch);
            _toStore.Ring();
        }

        TakeTurn(onlyOwn: true);
    }, stop);

    /// <summary>The storekeeper's thread: votes do not wait for blocks, which are in the log already with the votes for them.</summary>
    private void Store(CancellationToken stop) => Take(_stores, _toStore, batches =>
    {
        Store(batches.SelectMany(b => b.Decided).ToArray(), batches[^1].Me);
        foreach (var batch in batches) Finish(batch, stop);
    }, stop, Sync);

    /// <summary>The thread of own snapshots: the files of a large state take a while, and blocks do not wait for them.</summary>
    private void KeepSnapshots(CancellationToken stop) => Take(_keeps, _toKeep, batches =>
    {
        foreach (var batch in batches)
        {
            foreach (var taken in batch.Snapshots) _store.WhenThereIsSpace(() => _snapshots.Keep(taken));
            foreach (var certificate in batch.Stable) _store.WhenThereIsSpace(() => _snapshots.Certify(certificate));
        }
    }, stop);

    /// <param name="idle">Called when there was nothing to take for a while.</param>
    private void Take(ConcurrentQueue<Batch> queue, Doorbell bell, Action<List<Batch>> take, CancellationToken stop, Action? idle = null)
    {
        var batches = new List<Batch>();
        Func<bool> hasWork = () => !queue.IsEmpty;
        try
        {
            while (!_ended && !stop.IsCancellationRequested)
            {
                batches.Clear();
                while (batches.Count < 64 && queue.TryDequeue(out var batch)) batches.Add(batch);
                if (batches.Count > 0) take(batches);
                else if (!bell.Wait(TickMs, hasWork)) idle?.Invoke();
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }
    }

    private void Send(List<Batch> batches)
    {
        var messages = new List<Outgoing>();
        foreach (var batch in batches)
            foreach (var message in batch.Messages)
            {
                if (message.To != batch.Me) messages.Add(message);
                if ((message.To is null || message.To == batch.Me) && message.Message is PeerMessage.Signed signed) _own.Enqueue(new PeerInput(batch.Me, PeerAuthenticator.Own(signed)));
            }

        if (messages.Count > 0) _transport.Send(messages);
    }

    private void Store(CommittedBlock[] decided, ValidatorIndex me)
    {
        if (decided.Length == 0) return;
        var now = _time.GetUtcNow();
        _store.AppendBlocks(decided, now, header => PublishAfter(header, me, now));
        _onStored(decided);
        _notSynced.AddRange(decided.Select(d => d.Block.Height));
        // The next term begins when this one is durable.
        if (_notSynced.Count >= NotSyncedMax || decided.Any(d => IsLastOfTerm(d.Block.Height))) Sync();
    }

    private bool IsLastOfTerm(Height height)
    {
        var parameters = _replica.Epochs.Current.Parameters;
        return height == parameters.LastHeight(parameters.TermOf(height));
    }

    /// <summary>One sync for many blocks. The log keeps them until they are reported stored.</summary>
    private void Sync()
    {
        if (_notSynced.Count == 0) return;
        _store.SyncBlocks();
        _stored.Enqueue(_notSynced[^1]);
        _notSynced.Clear();
        Wake();
    }

    /// <summary>
    /// Whose records of a block are they? The proposer's; if they do not appear, the next one's in the order of places, and so on. Old blocks are not:
    /// whoever catches up was not there when they were published.
    /// </summary>
    private TimeSpan? PublishAfter(BlockHeader header, ValidatorIndex me, DateTimeOffset now)
    {
        if (me == ValidatorIndex.None) return null;
        if (header.Proposer == me) return TimeSpan.Zero;
        if (now.ToUnixTimeMilliseconds() - header.Time.Milliseconds > TakeOverAge.TotalMilliseconds) return null;
        var validators = _replica.Epochs.Current.Validators;
        return TakeOverPause * ((validators.Rank(me) - validators.Rank(header.Proposer) + validators.Count) % validators.Count);
    }

    /// <summary>After the blocks: a snapshot of the others stands for everything below it.</summary>
    private void Finish(Batch batch, CancellationToken stop)
    {
        if (batch.Snapshots.Length + batch.Stable.Length > 0)
        {
            while (_keeps.Count >= KeepQueueMax && !_ended && !stop.IsCancellationRequested) Thread.Sleep(1);
            _keeps.Enqueue(batch);
            _toKeep.Ring();
        }

        if (batch.LogCheckpoint is { } checkpoint) _onLogCheckpoint(checkpoint);
        if (batch.Installed is not { } installed) return;
        Sync();
        _store.WhenThereIsSpace(() => _snapshots.Install(installed.Certificate, installed.Taken));
        _stored.Enqueue(installed.Taken.Checkpoint.Height);
        Wake();
    }

    private void Wake() => _input.Ring();

    private ReplicaStatus Snapshot() => new(
        _replica.Me, _replica.Epochs.Current, _replica.Governance.LastNumber + 1, _replica.Governance.Open,
        _replica.Height, _replica.BlockTime, _replica.StateRoot, _replica.Committed.Digest, _replica.View, _replica.Leader,
        _replica.IsChangingView, _replica.IsCatchingUp, _replica.MayVote, _replica.PoolCount, _replica.PoolBytes, _replica.Leaders.Standings, _replica.Leaders.Order.Attempts);
}
