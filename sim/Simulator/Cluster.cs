using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Security.Cryptography;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>
/// A whole cluster of real replicas on one thread under virtual time. Every delay, loss, crash and lie is drawn from the seed, so
/// a run can be repeated exactly. Safety is checked after every event; after the chaos a core of at least n − f validators heals and
/// everything published must commit.
/// </summary>
public sealed class Cluster
{
    private const int TickMs = 10;
    private const int HealedLimitMs = 120_000;
    private const int ImageEveryMs = 500;
    private const int SizesEveryEvents = 64;

    /// <summary>A message storm ends here instead of running for ever; a run with faults needs a tenth of it.</summary>
    private const long EventsMax = 500_000;

    private static readonly Timestamp Start = Timestamp.FromSeconds(1_790_000_000);

    private readonly Options _options;

    /// <summary>Validators that are not in genesis and join by order of the operators.</summary>
    private const int Spares = 2;

    private readonly Prng _network, _disk, _clock, _workload, _orders, _rivalry, _holders;

    /// <summary>Messages that only one validator gets from Kafka.</summary>
    private readonly Dictionary<Digest, int> _heldBy = [];

    private readonly StubSignatures _signatures = new();
    private readonly Genesis _genesis;
    private readonly Node[] _nodes;
    private readonly Workload _messages;
    private readonly EnvelopeAuthenticator _envelopes;
    private readonly ISigner[] _operators;
    private readonly Checker _checker;
    private readonly IncrementalHash _trace = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly PriorityQueue<Action, (long Time, long Sequence)> _events = new();
    private readonly HashSet<Digest> _published = [];

    /// <summary>Published, with a nonce that another message has as well.</summary>
    private readonly HashSet<Digest> _rivals = [];
    private readonly SortedDictionary<ulong, ImmutableArray<Receipt>> _history = [];
    private readonly Dictionary<Digest, Verified<AlertEnvelope>> _alerts = [];
    private readonly long[,] _cutUntilMs;
    private long _sequence;
    private long _steps;
    private long _nowMs;
    private bool _healed;
    private bool _convicted;

    public Cluster(Options options)
    {
        _options = options;
        _network = new Prng(options.Seed, "network");
        _disk = new Prng(options.Seed, "disk");
        _clock = new Prng(options.Seed, "clock");
        _workload = new Prng(options.Seed, "workload");
        _orders = new Prng(options.Seed, "orders");
        _rivalry = new Prng(options.Seed, "rivalry");
        _holders = new Prng(options.Seed, "holders");
        var spares = options.ChangeEveryMs > 0 ? Spares : 0;
        _cutUntilMs = new long[options.Validators + spares, options.Validators + spares];

        var signers = Enumerable.Range(0, options.Validators).Select(i => _signatures.NewSigner($"validator {i}"))
            .OrderBy(s => s.PublicKey).ToArray();
        _operators = [.. Enumerable.Range(0, 3).Select(i => _signatures.NewSigner($"operator {i}")).OrderBy(o => o.PublicKey)];
        _messages = new Workload(_signatures, options.Quota);
        var validators = signers.Select((s, i) => new Validator(
            $"v{i + 1}", s.PublicKey, Role(i, "control"), Role(i, "cosigner"), Role(i, "log")));
        _genesis = new Genesis(
            "simulation", Start, validators,
            _messages.Producers,
            Workload.Shortened(new ChainParameters { TermBlocks = options.TermBlocks, SnapshotTerms = options.SnapshotTerms }), Operators.From(2, _operators.Select(o => o.PublicKey)));
        _envelopes = new EnvelopeAuthenticator(_signatures, null, _genesis.Operators);
        _checker = new Checker(_genesis.Block.Digest, _signatures, options.ExpectFork);
        var pairs = new Dictionary<Digest, Digest>();
        var joiners = Enumerable.Range(options.Validators, spares).Select(i => _signatures.NewSigner($"validator {i}"));
        _nodes = [.. signers.Concat(joiners).Select((s, i) => new Node(i, s, i < options.Liars
            ? new Liar(_genesis.Chain, _genesis.Block.Digest, Index(i), s, options.Strategy, options.Seed, pairs)
            : null))];
        foreach (var node in _nodes)
        {
            AddLogKeys(node, node.Number);
            node.ClockOffsetMs = _clock.Between(-options.ClockSkewMs, options.ClockSkewMs);
            node.DriftPerMille = _clock.Between(-options.DriftPerMille, options.DriftPerMille);
        }
    }

    public Report Report { get; } = new();

    /// <summary>Digest of every message sent so far and every state reached: equal for equal seeds, on any machine.</summary>
    public string TraceDigest() => Convert.ToHexStringLower(_trace.GetCurrentHash());

    private PublicKey Role(int validator, string role) => _signatures.NewSigner($"{role} {validator}").PublicKey;

    private void AddLogKeys(Node node, int number)
    {
        node.LogKeys.Add(_signatures.NewSigner($"cosigner {number}"));
        node.LogKeys.Add(_signatures.NewSigner($"log {number}"));
    }

    private static ValidatorIndex Index(int node) => new((ushort)node);

    /// <exception cref="PropertyViolation">Safety or liveness did not hold.</exception>
    public void Run()
    {
        foreach (var node in _nodes) At(0, () => StartNode(node));
        At(TickMs, Tick);
        At(5, Publish);
        At(ImageEveryMs, TakeImages);
        if (_options.ChangeEveryMs > 0) At(_options.ChangeEveryMs, GiveOrder);
        if (_options.RivalsEveryMs > 0) At(_options.RivalsEveryMs, PublishRivals);
        foreach (var fault in _options.Faults ?? Fault.Plan(_options)) At(fault.AtMs, () => Inject(fault));
        if (_options.ExpectFork)
        {
            RunForked();
            return;
        }

        if (_options.Liars > 0) Report.Count("liar " + _options.Strategy);
        if (_options.FarMs > 0) Report.Count("runs with delays beyond the timers");
        while (_nowMs < _options.ChaosMs) Step();
        Heal();
        while (!Finished())
        {
            if (_nowMs > _options.ChaosMs + HealedLimitMs) throw new PropertyViolation("L1: " + Unfinished());
            Step();
        }

        Report.Count("blocks", (long)_checker.HighestDecided);
        Report.Count("virtual ms", _nowMs);
        Report.Count("events", _steps);
        if (_checker.HighestDecided == 0) throw new PropertyViolation("L1: nothing was ever decided");
    }

    /// <summary>More than f liars: safety is lost, but not silently. Runs until an honest validator holds the proof, or time is over.</summary>
    private void RunForked()
    {
        while (_nowMs < _options.ChaosMs && !_convicted) Step();
        if (!_checker.HasForked) return;
        Report.Count("forks");
        if (!_healed) Heal();
        while (!_convicted && _nowMs < _options.ChaosMs + HealedLimitMs) Step();
        if (_convicted) Report.Count("forks proven");
    }

    /// <summary>F1: the proof holds offline, names at least f + 1 validators, and none of them is honest.</summary>
    private void CheckProof(int node, ForkProof proof)
    {
        if (!_options.ExpectFork) throw new PropertyViolation($"F1: validator {node} saw a fork with at most f liars");
        var decoded = ForkProof.TryDecode(proof.Encode(), out var read);
        Invariant.Holds(decoded, "a fork proof decodes");
        if (!read!.TryVerify(_nodes[node].Replica!.Epochs, _genesis.Block.Digest, _signatures, out var verdict, out var problem))
            throw new PropertyViolation($"F1: the proof of validator {node} does not hold: {problem}");
        foreach (var culprit in verdict.Culprits)
            if (culprit.Value >= _options.Liars)
                throw new PropertyViolation($"I6: the proof of validator {node} names the honest validator {culprit}");
        if (verdict.Culprits.Length >= _genesis.Chain.Validators.OneHonest) _convicted = true;
        else Report.Count("fork proofs with too few names");
    }

    private void Step()
    {
        if (!_events.TryDequeue(out var action, out var at)) throw new PropertyViolation("no event left");
        _nowMs = at.Time;
        if (++_steps > EventsMax) throw new PropertyViolation($"L2: more than {EventsMax} events: {Unfinished()}");
        action();
    }

    private void At(long timeMs, Action action) => _events.Enqueue(action, (Math.Max(timeMs, _nowMs), _sequence++));

    /// <summary>The node's clock as its host would show it: never backwards (a clock set back stands still until time catches up).</summary>
    private Timestamp Now(Node node)
    {
        var now = Start.PlusMs(10_000 + _nowMs + _nowMs * node.DriftPerMille / 1000 + node.ClockOffsetMs);
        return node.LastNow = now > node.LastNow ? now : node.LastNow;
    }

    // ---- Workload ---------------------------------------------------------------------------------------------

    private void Publish()
    {
        if (_healed) return;
        var verified = _messages.Next(_genesis.Chain.ChainId, Start.PlusMs(10_000 + _nowMs).Milliseconds / 1000);
        _published.Add(verified.Value.Digest);
        _alerts[verified.Value.Digest] = verified;
        if (_holders.Chance(_options.OneHolderPercent))
        {
            Report.Count("messages that reach one validator");
            _heldBy[verified.Value.Digest] = _holders.Between(_options.Liars + _options.Amnesiacs, _options.Validators - _options.StayDown - 1);
        }

        // Every validator reads Kafka on its own, at its own pace.
        foreach (var node in _nodes.Where(n => Reaches(verified, n))) At(_nowMs + _workload.Between(1, 40), () => Deliver(node, verified));
        At(_nowMs + _options.AlertEveryMs, Publish);
    }

    private bool Reaches(Verified<AlertEnvelope> alert, Node node) => !_heldBy.TryGetValue(alert.Value.Digest, out var holder) || holder == node.Number;

    /// <summary>Two messages with one nonce reach the validators in different orders, and some of them late.</summary>
    private void PublishRivals()
    {
        if (_healed) return;
        foreach (var verified in _messages.Rivals(Start.PlusMs(10_000 + _nowMs).Milliseconds / 1000))
        {
            _published.Add(verified.Value.Digest);
            _rivals.Add(verified.Value.Digest);
            _alerts[verified.Value.Digest] = verified;
            foreach (var node in _nodes) At(_nowMs + (_rivalry.Chance(20) ? _rivalry.Between(300, 3_000) : _rivalry.Between(1, 40)), () => Deliver(node, verified));
        }

        At(_nowMs + _options.RivalsEveryMs, PublishRivals);
    }

    /// <summary>Final without a block: of honest producers' messages none may be.</summary>
    private void Settle(Node node, Digest digest, Rejection rejection, string how)
    {
        if (node.Liar is null && (!_rivals.Contains(digest) || rejection.Reason != RejectionReason.ReplayedNonce)) throw new PropertyViolation($"I3: validator {node.Number} refused a valid alert: {rejection}");
        node.Decided.Add(digest);
        Report.Count("rivals " + how);
    }

    /// <summary>The operators sign the next order; it comes over Kafka like everything else.</summary>
    private void GiveOrder()
    {
        if (_healed) return;
        At(_nowMs + _options.ChangeEveryMs, GiveOrder);
        if (Foremost is not { } foremost || NextChange(foremost) is not { } change) return;
        var order = new ChangeOrder(_genesis.Chain.ChainId, foremost.Governance.LastNumber + 1, change, []).SignedBy(0, _operators[0]).SignedBy(2, _operators[2]);
        Invariant.Holds(_envelopes.TryAuthenticate(AlertEnvelope.Of(order), SigningProfiles.None, out var verified), "the operators sign their orders");
        Report.Count("orders given");
        foreach (var node in _nodes)
            At(_nowMs + _workload.Between(1, 40), () => Do(node, (replica, now, effects) => replica.Submit(verified, now, effects)));
    }

    private Change? NextChange(Replica foremost)
    {
        var set = foremost.Epochs.Latest.Validators;
        switch (_orders.Below(4))
        {
            case 0:
                return set.Places == _nodes.Length ? null : new Change.AddValidator(Role($"v{set.Places + 1}", set.Places, _nodes[set.Places].Keys[0].PublicKey));
            case 1:
                // Those that lie, forget or stay down must not become more than f of the rest.
                var bad = _options.Liars + _options.Amnesiacs + _options.StayDown;
                if (Quorum.Faulty(set.Count - 1) < Math.Max(1, bad)) return null;
                return new Change.RemoveValidator(set.Members[_orders.Below(set.Count)].Name);
            case 2:
                var index = set.Indices[_orders.Below(set.Count)];
                var node = _nodes[index.Value];
                if (node.Liar is not null) return null;
                node.Keys.Add(_signatures.NewSigner($"validator {node.Number} key {node.Keys.Count}"));
                AddLogKeys(node, 100 * node.Keys.Count + node.Number);
                return new Change.RotateKeys(Role(set[index].Name, 100 * node.Keys.Count + node.Number, node.Keys[^1].PublicKey));
            default:
                var parameters = foremost.Epochs.Latest.Parameters with { BatchDelayMs = _orders.Between(0, 20), BlockTransactionsMax = _orders.Between(5, 2000) };
                return foremost.Height.Value % 2 == 0 ? new Change.SetParameters(parameters) : new Change.Upgrade(foremost.Epochs.Latest.AppVersion + 1);
        }
    }

    private Validator Role(string name, int number, PublicKey consensusKey) =>
        new(name, consensusKey, Role(number, "control"), Role(number, "cosigner"), Role(number, "log"), "simulated");

    /// <summary>The honest replica that has come farthest.</summary>
    private Replica? Foremost
    {
        get
        {
            Replica? foremost = null;
            foreach (var node in _nodes)
                if (node.Liar is null && node.Replica is { } replica && (foremost is null || replica.Height > foremost.Height))
                    foremost = replica;
            return foremost;
        }
    }

    /// <summary>Validators speak to those that are of the set, and to those an order is about to bring in.</summary>
    private static bool Knows(Replica replica, int node) =>
        replica.Epochs.Current.Validators.Contains(Index(node)) || replica.Epochs.Latest.Validators.Contains(Index(node)) || replica.Epochs.Open?.Index == Index(node);

    /// <returns>False when it is offered again later.</returns>
    private bool Deliver(Node node, Verified<AlertEnvelope> alert)
    {
        if (node.Decided.Contains(alert.Value.Digest)) return true;
        var taken = node.Replica is not null && node.PausedUntilMs <= _nowMs;
        if (!taken)
        {
            node.Inbox.Enqueue(alert);
            return false;
        }

        Do(node, (replica, now, effects) =>
        {
            var admission = replica.Submit(alert, now, effects);
            if (admission.Kind is AdmissionKind.Full or AdmissionKind.OverQuota)
            {
                taken = false;
                node.Inbox.Enqueue(alert);
                Report.Count("offered in vain: " + admission.Kind);
            }

            if (admission.Kind == AdmissionKind.Rejected) Settle(node, alert.Value.Digest, admission.Rejection!, "refused at admission");
        });
        return taken;
    }

    // ---- Nodes ------------------------------------------------------------------------------------------------

    private void StartNode(Node node)
    {
        node.Life++;
        node.PausedUntilMs = 0;
        node.Effects.Clear();
        var replica = new Replica(_genesis, node, _options.PoolMax, newestVersion: uint.MaxValue);
        node.Authenticator = new PeerAuthenticator(replica.Epochs, _genesis.Block.Digest, _genesis.Operators, _signatures);
        var envelopes = new EnvelopeAuthenticator(_signatures, replica.Epochs, _genesis.Operators);
        var last = _genesis.Block.Digest;
        var accepted = new List<Digest>();
        node.Decided.Clear();
        Height above = default;
        if (node.Disk.Newest() is { } newest)
        {
            Invariant.Holds(replica.TryRestore(newest.Taken.Checkpoint, newest.Taken.Commit, newest.Taken.Snapshot), "an own snapshot is taken back");
            above = newest.Taken.Checkpoint.Height;
            Report.Count("starts from a snapshot");
            (last, accepted) = (newest.Taken.Checkpoint.Block, RememberUpTo(node, above));
        }

        foreach (var stored in node.Disk.ReadBlocks(above))
        {
            var bodies = stored.Block.Bodies.Select(body => Recover(body, envelopes)).ToArray();
            foreach (var receipt in replica.Replay(stored.Block.Block, [.. bodies], stored.Certificate).Receipts)
            {
                if (!receipt.Kind.IsControl()) node.Decided.Add(receipt.Transaction);
                if (receipt.Accepted) accepted.Add(receipt.Transaction);
            }

            last = stored.Block.Block.Digest;
        }

        var shortened = node.Disk.LogIsShort;
        if (!shortened)
            foreach (var record in node.Disk.ReadLog())
                replica.Restore(record, envelopes);
        _checker.Restarted(node.Number, last, accepted);
        node.Replica = replica;
        node.DurableAtMs = node.StoredAtMs = _nowMs;
        // Kafka delivers again everything whose decision this node has not stored.
        node.Inbox.Clear();
        foreach (var (digest, alert) in _alerts)
            if (!node.Decided.Contains(digest) && Reaches(alert, node))
                node.Inbox.Enqueue(alert);
        Do(node, (r, now, effects) =>
        {
            if (shortened)
            {
                node.Disk.LoseLog();
                node.Disk.AcceptLoss();
                r.Quarantine("the log ends earlier than it was written", effects);
            }

            r.Resume(now, effects);
        });
    }

    /// <summary>What came with a snapshot was decided as well, though this node saw no block of it. Returns the accepted transactions.</summary>
    private List<Digest> RememberUpTo(Node node, Height height)
    {
        var accepted = new List<Digest>();
        foreach (var (at, receipts) in _history)
        {
            if (at > height.Value) break;
            foreach (var receipt in receipts)
            {
                if (!receipt.Kind.IsControl()) node.Decided.Add(receipt.Transaction);
                if (receipt.Accepted) accepted.Add(receipt.Transaction);
            }
        }

        return accepted;
    }

    private static AlertEnvelope Recover(ReadOnlyMemory<byte> body, EnvelopeAuthenticator authenticator)
    {
        Invariant.Holds(EnvelopeDecoder.TryDecodeBody(body, out var envelope, out _), "a stored body decodes");
        return authenticator.Recovered(envelope!).Value;
    }

    /// <summary>The process dies. Batches it had handed to the disk may be there all the same, a prefix of them.</summary>
    private void Crash(Node node, int downMs, int surviving)
    {
        if (node.Replica is null) return;
        for (; surviving > 0 && node.PendingLog.First is { } batch; surviving--)
        {
            node.Disk.AppendLog(batch.Value.Records);
            node.PendingLog.RemoveFirst();
            Report.Count("batches that survived a crash unsynced");
        }

        node.PendingLog.Clear();
        node.PendingBlocks.Clear();
        node.Replica = null;
        node.Deferred.Clear();
        node.Life++;
        At(_nowMs + downMs, () =>
        {
            if (node.Replica is null && !node.Gone) StartNode(node);
        });
    }

    private void TakeImages()
    {
        if (_healed) return;
        for (var i = _options.Liars; i < _options.Liars + _options.Amnesiacs; i++) _nodes[i].Images.Add((_nowMs, _nodes[i].Disk.Copy()));
        At(_nowMs + ImageEveryMs, TakeImages);
    }

    private void Do(Node node, Action<Replica, Timestamp, Effects> input)
    {
        if (node.Replica is not { } replica) return;
        try
        {
            input(replica, Now(node), node.Effects);
        }
        catch (InvariantViolation) when (node.Liar is not null || _checker.IsForgetful(node.Number))
        {
            // Its lies, or votes it does not remember, have come back to it: it stops, and somebody starts it again.
            Report.Count("stops of liars and forgetful ones");
            Crash(node, 100, 0);
            return;
        }

        if (node.Liar is null && ++node.EventsSinceSizes % SizesEveryEvents == 0) Checker.Sizes(node.Number, replica);
        Drain(node);
    }

    /// <summary>The host's part of the contract: records durable first, then messages, then blocks stored and reported.</summary>
    private void Drain(Node node)
    {
        var effects = node.Effects;
        if (effects.Fork is { } fork && node.Liar is null) CheckProof(node.Number, fork);
        if (effects.Divergence is { } divergence && node.Liar is null)
            throw new PropertyViolation($"I5: validator {node.Number} computed another state than a quorum at height {divergence.Height}");
        foreach (var notice in effects.Notices) Note(node, notice);
        foreach (var refusal in effects.Refused)
            if (!refusal.Kind.IsControl())
                Settle(node, refusal.Transaction, refusal.Rejection, "given up");
        foreach (var evicted in effects.Evicted)
            if (_alerts.TryGetValue(evicted.Alert.Digest, out var again))
            {
                node.Inbox.Enqueue(again);
                Report.Count("made room in the pool");
            }

        if (effects.LogCheckpoint is { } checkpoint && node.Liar is null)
        {
            _checker.LogCheckpoint(node.Number, checkpoint, node.Replica!.Epochs);
            Report.Count("log checkpoints");
        }

        foreach (var request in effects.BlockRequests)
            if (node.Disk.Serve(request.FirstHeight, request.LastHeight, 32) is { } answer)
                Send(node, new Outgoing(request.From, answer));
        foreach (var request in effects.SnapshotRequests)
            if (node.Disk.Serve(request) is { } answer)
                Send(node, new Outgoing(request.From, answer));
        if (effects.Records.Count + effects.Messages.Count + effects.Decided.Count + effects.Snapshots.Count + effects.Stable.Count > 0 || effects.Installed is not null)
        {
            var batch = new LogBatch(
                [.. effects.Records], [.. effects.Messages], [.. effects.Decided], [.. effects.Snapshots], [.. effects.Stable], effects.Installed);
            node.PendingLog.AddLast(batch);
            node.DurableAtMs = Math.Max(node.DurableAtMs, _nowMs) + (batch.Records.Length == 0 ? 0 : SyncMs(node));
            Later(node, node.DurableAtMs, () => Release(node, batch));
        }

        effects.Clear();
    }

    private int SyncMs(Node node)
    {
        var ms = _disk.Between(0, _healed ? Math.Min(_options.SyncMaxMs, 8) : _options.SyncMaxMs);
        return _nowMs < node.SlowDiskUntilMs ? ms + _disk.Between(0, node.SlowDiskMs) : ms;
    }

    /// <summary>Something of this life of the node; it waits while the node stands still.</summary>
    private void Later(Node node, long atMs, Action action)
    {
        var life = node.Life;
        At(atMs, () =>
        {
            if (node.Life == life) WhenAwake(node, action);
        });
    }

    private void WhenAwake(Node node, Action action)
    {
        if (node.PausedUntilMs <= _nowMs && node.Deferred.Count == 0) action();
        else node.Deferred.Enqueue(action);
    }

    private void Wake(Node node)
    {
        if (node.PausedUntilMs > _nowMs) return;
        while (node.Deferred.TryDequeue(out var action)) action();
    }

    private void Release(Node node, LogBatch batch)
    {
        node.PendingLog.Remove(batch);
        var crash = CrashHere(node);
        if (crash != CrashMode.Before) node.Disk.AppendLog(batch.Records);
        var sent = crash switch { null => batch.Messages.Length, CrashMode.Torn => (batch.Messages.Length + 1) / 2, _ => 0 };
        foreach (var outgoing in batch.Messages.AsSpan(0, sent)) Send(node, outgoing);
        if (crash is not null)
        {
            Crash(node, 300, 0);
            return;
        }

        foreach (var taken in batch.Snapshots)
        {
            if (node.Liar is null) _checker.Snapshot(node.Number, taken);
            node.Disk.Keep(taken);
        }

        foreach (var certificate in batch.Stable) node.Disk.Certify(certificate);
        if (batch.Installed is { } installed)
        {
            node.StoredAtMs = Math.Max(node.StoredAtMs, _nowMs) + SyncMs(node);
            Later(node, node.StoredAtMs, () => Install(node, installed));
            return;
        }

        if (batch.Decided.Length == 0) return;
        // A crash may fall between the log and the blocks.
        node.PendingBlocks.AddLast(batch.Decided);
        node.StoredAtMs = Math.Max(node.StoredAtMs, _nowMs) + SyncMs(node);
        Later(node, node.StoredAtMs, () => Store(node, batch.Decided));
    }

    private void Store(Node node, CommittedBlock[] decided)
    {
        node.PendingBlocks.Remove(decided);
        var crash = CrashHere(node);
        if (crash != CrashMode.Before) node.Disk.AppendBlocks(decided);
        if (crash is not null)
        {
            Crash(node, 300, 0);
            return;
        }

        foreach (var committed in decided)
        {
            if (node.Liar is null) _history.TryAdd(committed.Block.Height.Value, committed.Receipts);
            if (node.Liar is null) _checker.Decided(node.Number, committed, _published, node.Replica!.Epochs);
            foreach (var receipt in committed.Receipts)
            {
                if (!receipt.Kind.IsControl()) node.Decided.Add(receipt.Transaction);
                else if (receipt.Accepted) Report.Count("convictions");
                if (!receipt.Accepted) Report.Count("refused by the state machine");
            }

            foreach (var change in committed.Events) Note(change);

            _trace.AppendData(committed.StateRoot.ToArray());
        }

        Do(node, (replica, now, effects) => replica.Stored(decided[^1].Block.Height, now, effects));
    }

    private void Install(Node node, (CheckpointCertificate Certificate, TakenSnapshot Taken) installed)
    {
        node.Disk.Keep(installed.Taken);
        node.Disk.Certify(installed.Certificate);
        var accepted = RememberUpTo(node, installed.Taken.Checkpoint.Height);
        if (node.Liar is null) _checker.Restarted(node.Number, installed.Taken.Checkpoint.Block, accepted);
        Do(node, (replica, now, effects) => replica.Stored(installed.Taken.Checkpoint.Height, now, effects));
    }

    private CrashMode? CrashHere(Node node)
    {
        node.Writes++;
        if (_nowMs < node.FailingDiskUntilMs && _disk.Chance(node.FailingPercent)) return _disk.Pick<CrashMode>([CrashMode.Before, CrashMode.After]);
        return _options.CrashAt is { } point && point.Node == node.Number && point.Write == node.Writes ? point.Mode : null;
    }

    /// <summary>How often each validator wrote to its disk.</summary>
    public IEnumerable<int> WritesByNode => _nodes.Select(n => n.Writes);

    private void Note(LedgerEvent change)
    {
        switch (change)
        {
            case LedgerEvent.AlertChanged e: Report.Count("alerts " + e.Status); break;
            case LedgerEvent.PolicyChanged e: Report.Count("policies " + e.Status); break;
            case LedgerEvent.ReputationChanged: Report.Count("reputation changes"); break;
            case LedgerEvent.EvidenceLinked: Report.Count("evidence links"); break;
        }
    }

    private void Note(Node node, Notice notice)
    {
        switch (notice)
        {
            case Notice.Suspected n: Report.Count("suspicions " + n.Reason); break;
            case Notice.ViewChangeStarted: Report.Count("view changes"); break;
            case Notice.ViewEntered n:
                if (n.View.Attempt == 0) Report.Count("terms entered");
                if (n.View.Attempt > 0 && n.Base > _nodes[node.Number].Replica!.Height) Report.Count("view changes with a prepared block");
                if (n.View.Attempt >= 3) Report.Count("views of attempt 3 or more");
                break;
            case Notice.CaughtUp n:
                Report.Count("catch-ups");
                if (n.To.Value - n.From.Value >= 20) Report.Count("catch-ups over 20 blocks");
                break;
            case Notice.Equivocation n:
                Report.Count("equivocations seen");
                if (node.Liar is null && n.Offender.Value >= _options.Liars && !_checker.IsForgetful(n.Offender.Value))
                    throw new PropertyViolation($"I6: validator {node.Number} accuses the honest validator {n.Offender}");
                break;
            case Notice.Misbehaved n:
                Report.Count("accusations " + n.Proof.Kind);
                if (node.Liar is null && n.Proof.Offender.Value >= _options.Liars && !_checker.IsForgetful(n.Proof.Offender.Value))
                    throw new PropertyViolation($"I6: validator {node.Number} accuses the honest validator {n.Proof.Offender}: {n.Proof.Kind} {n.Proof.First} {n.Proof.Second}");
                break;
            case Notice.BodiesRequested: Report.Count("body fetches"); break;
            case Notice.ProposalRefused n:
                Report.Count("proposals refused");
                if (node.Liar is null && n.Leader.Value >= _options.Liars && !_checker.IsForgetful(n.Leader.Value) && !_options.ExpectFork)
                    throw new PropertyViolation($"I6: validator {node.Number} calls a proposal of the honest validator {n.Leader} invalid: {n.Reason}");
                break;
            case Notice.Quarantined n:
                Report.Count("quarantines");
                if (n.Why.StartsWith("a certificate", StringComparison.Ordinal)) Report.Count("forgotten votes noticed");
                break;
            case Notice.SnapshotInstalled: Report.Count("snapshots installed"); break;
            case Notice.CheckpointStable: Report.Count("checkpoints stable"); break;
            case Notice.EpochEntered n:
                Report.Count("epochs entered");
                if (n.Epoch.Validators.Contains(Index(node.Number)) && node.Number >= _options.Validators) Report.Count("joined");
                break;
            case Notice.Abstaining: Report.Count("abstentions"); break;
        }
    }

    private void Tick()
    {
        foreach (var node in _nodes)
        {
            if (node.PausedUntilMs > _nowMs || node.Deferred.Count > 0) continue;
            // The pool was full or the node was down: what Kafka still holds is offered again.
            for (var offers = Math.Min(node.Inbox.Count, 50); offers > 0 && node.Replica is not null; offers--)
                if (!Deliver(node, node.Inbox.Dequeue()))
                    break;
            Do(node, (replica, now, effects) =>
            {
                replica.ConnectedPeers = _nodes.Count(peer => peer != node && peer.Replica is not null && Knows(replica, peer.Number) && Knows(peer.Replica, node.Number) && !IsCut(node.Number, peer.Number) && !IsCut(peer.Number, node.Number));
                replica.Tick(now, effects);
            });
        }

        At(_nowMs + TickMs, Tick);
    }

    // ---- Network ----------------------------------------------------------------------------------------------

    private void Send(Node from, Outgoing outgoing)
    {
        if (from.Liar is null)
        {
            _checker.Sent(from.Number, outgoing.Message);
            Route(from, outgoing);
            return;
        }

        foreach (var (lie, delayMs) in from.Liar.Distort(outgoing))
        {
            if (delayMs == 0) Route(from, lie);
            else Later(from, _nowMs + delayMs, () => Route(from, lie));
        }
    }

    /// <summary>Every message crosses the codec and the authenticator, as it would on a wire.</summary>
    private void Route(Node from, Outgoing outgoing)
    {
        var bytes = MessageCodec.Encode(outgoing.Message);
        _trace.AppendData(bytes);
        if (!from.Authenticator!.TryVerify(bytes, out var verified, out var problem))
        {
            Report.Count("refused");
            if (from.Liar is null) throw new PropertyViolation($"a message of an honest validator is refused: {problem}: {outgoing.Message}");
            return;
        }

        foreach (var node in _nodes)
        {
            if (outgoing.To is { } to && to.Value != node.Number) continue;
            if (verified.Value.Message is not PeerMessage.Beyond) Transmit(from, node.Number, verified);
            // Of a term that the sender has not reached again (rule A5): others can check it.
            else if (node != from && node.Authenticator!.TryVerify(bytes, out var checkedThere, out _)) Transmit(from, node.Number, checkedThere);
        }
    }

    private bool IsCut(int from, int to) => _cutUntilMs[from, to] > _nowMs;

    private void Transmit(Node from, int to, Verified<Incoming> message)
    {
        Report.Count("messages");
        if (to == from.Number)
        {
            Later(from, _nowMs, () => Do(from, (replica, now, effects) => replica.Receive(Index(to), message, now, effects)));
            return;
        }

        if (from.Replica is { } sender && !Knows(sender, to)) return;
        if (IsCut(from.Number, to) || (!_healed && _network.Chance(_options.LossPercent)))
        {
            Report.Count("lost");
            return;
        }

        var delay = _options.FarMs + _network.Between(_options.DelayMinMs, _healed ? Math.Min(_options.DelayMaxMs, 40) : _options.DelayMaxMs);
        Arrive(from.Number, _nodes[to], message, _nowMs + delay);
        if (_healed || !_network.Chance(_options.DuplicatePercent)) return;
        Report.Count("duplicated");
        Arrive(from.Number, _nodes[to], message, _nowMs + delay + _network.Between(0, 200));
    }

    private void Arrive(int from, Node to, Verified<Incoming> message, long atMs) => At(atMs, () =>
    {
        to.Liar?.Observe(message.Value.Message);
        WhenAwake(to, () => Do(to, (replica, now, effects) =>
        {
            // The receive loop of a validator that is behind cannot check what is of a later term (rule S4).
            // An offer of an epoch that is not known here cannot be checked either.
            if (message.Value.Message is PeerMessage.SnapshotOffer && !to.Authenticator!.TryVerify(message.Value.Message, out _, out _)) return;
            var beyond = MessageAuthenticator.TermOf(message.Value.Message) is { } term && replica.Epochs.At(term) is null ? PeerAuthenticator.OfLaterTerm(term) : message;
            if (beyond.Value.Message is PeerMessage.Beyond) Report.Count("messages of a term beyond");
            replica.Receive(Index(from), beyond, now, effects);
        }));
    });

    // ---- Faults -----------------------------------------------------------------------------------------------

    private void Inject(Fault fault)
    {
        if (_healed) return;
        var node = _nodes[fault.Node];
        Report.Count("fault " + fault.Kind);
        switch (fault.Kind)
        {
            case FaultKind.Crash:
                Crash(node, fault.DurationMs, fault.Value);
                break;
            case FaultKind.LoseLog:
                Crash(node, fault.DurationMs, 0);
                node.Disk.LoseLog();
                break;
            case FaultKind.LoseDisk:
                Crash(node, fault.DurationMs, 0);
                node.Disk.LoseAll();
                break;
            case FaultKind.LoseBlocks:
                Crash(node, fault.DurationMs, 0);
                node.Disk.LoseBlocks(withSnapshots: fault.Value % 2 == 1);
                break;
            case FaultKind.RestoreOldImage:
                Crash(node, fault.DurationMs, 0);
                var wholeMachine = fault.Value % 2 == 1;
                // Or only its keys, to a disk with nothing on it.
                if (fault.Value % 4 == 3) node.Disk.Restore(new SimulatedDisk().Copy(), wholeMachine);
                else if (node.Images.LastOrDefault(i => i.AtMs <= _nowMs - fault.Value).Image is { } image) node.Disk.Restore(image, wholeMachine);
                // Nothing on the machine can tell; only votes that certificates show are noticed. It counts among the f.
                if (wholeMachine) _checker.MayHaveForgotten(node.Number);
                break;
            case FaultKind.Pause:
                node.PausedUntilMs = _nowMs + fault.DurationMs;
                At(node.PausedUntilMs, () => Wake(node));
                break;
            case FaultKind.Partition:
                for (var a = 0; a < _nodes.Length; a++)
                    for (var b = 0; b < _nodes.Length; b++)
                        if ((fault.Value >> a & 1) != (fault.Value >> b & 1))
                            Cut(a, b, fault.DurationMs);
                break;
            case FaultKind.Isolate:
                Isolate(fault.Node, fault.DurationMs);
                break;
            case FaultKind.OneWay:
                if (fault.Value != fault.Node) Cut(fault.Node, fault.Value, fault.DurationMs);
                break;
            case FaultKind.Flap:
                for (var at = 0; at < fault.DurationMs; at += 2 * fault.Value)
                    At(_nowMs + at, () => Isolate(fault.Node, fault.Value));
                break;
            case FaultKind.SlowDisk:
                (node.SlowDiskUntilMs, node.SlowDiskMs) = (_nowMs + fault.DurationMs, fault.Value);
                break;
            case FaultKind.FailingDisk:
                (node.FailingDiskUntilMs, node.FailingPercent) = (_nowMs + fault.DurationMs, fault.Value);
                break;
            case FaultKind.ClockJump:
                node.ClockOffsetMs = fault.Value;
                break;
        }
    }

    private void Cut(int from, int to, int forMs) => _cutUntilMs[from, to] = Math.Max(_cutUntilMs[from, to], _nowMs + forMs);

    private void Isolate(int node, int forMs)
    {
        if (_healed) return;
        for (var i = 0; i < _nodes.Length; i++)
        {
            if (i == node) continue;
            Cut(i, node, forMs);
            Cut(node, i, forMs);
        }
    }

    private void Heal()
    {
        _healed = true;
        Array.Clear(_cutUntilMs);
        for (var i = _options.Validators - _options.StayDown; i < _options.Validators; i++)
        {
            _nodes[i].Gone = true;
            Crash(_nodes[i], 0, 0);
            Report.Count("runs with validators down for good");
        }

        foreach (var node in _nodes)
        {
            node.PausedUntilMs = 0;
            Wake(node);
            node.SlowDiskUntilMs = node.FailingDiskUntilMs = 0;
            if (node.Replica is null && !node.Gone) StartNode(node);
        }
    }

    private IEnumerable<Node> Core => _nodes.Where(n => n.Liar is null && !n.Gone);

    /// <summary>Every honest validator of the core has decided every published message, at one height.</summary>
    private bool Finished()
    {
        Height? height = null;
        if (Foremost is not { } foremost) return false;
        var set = foremost.Epochs.Current.Validators;
        foreach (var node in _nodes)
        {
            if (node.Liar is not null || node.Gone || !set.Contains(Index(node.Number))) continue;
            if (node.Replica is not { } replica || node.Decided.Count != _published.Count) return false;
            height ??= replica.Height;
            if (height != replica.Height) return false;
        }

        foreach (var standing in foremost.Leaders.Standings)
            if (standing.Score < 250 || standing.BarredThrough > 0)
                Report.Count("leaders barred or of the lowest class");
        return true;
    }

    private string Unfinished() => string.Join("; ", Core.Select(n =>
        $"v{n.Number} decided {n.Decided.Count} of {_published.Count}, epoch {n.Replica?.Epochs.Current.Epoch}, height {n.Replica?.Height}, view {n.Replica?.View}"
        + (n.Replica?.IsChangingView == true ? " (changing)" : "") + (n.Replica?.MayVote == false ? " (abstaining)" : "")
        + (n.Replica?.IsCatchingUp == true ? " (behind)" : "") + $", pool {n.Replica?.PoolCount}"));
}
