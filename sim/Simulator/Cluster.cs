using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>
/// A whole cluster of real replicas on one thread under virtual time. Every delay, loss, crash and lie is drawn from the seed, so
/// a run can be repeated exactly. Safety is checked after every event; after the chaos everything heals and the rest of the
/// published messages must commit.
/// </summary>
public sealed class Cluster
{
    private const int TickMs = 10;
    private const int HealedLimitMs = 120_000;

    /// <summary>A message storm ends here instead of running for ever; a calm run needs a hundredth of it.</summary>
    private const long EventsMax = 3_000_000;
    private static readonly Timestamp Start = Timestamp.FromSeconds(1_790_000_000);

    private readonly Options _options;
    private readonly Prng _network, _disk, _faults, _workload;
    private readonly StubSignatures _signatures = new();
    private readonly Genesis _genesis;
    private readonly Node[] _nodes;
    private readonly AlertFactory _producer;
    private readonly EnvelopeAuthenticator _envelopes;
    private readonly PeerAuthenticator _peers;
    private readonly Checker _checker;
    private readonly IncrementalHash _trace = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly PriorityQueue<Action, (long Time, long Sequence)> _events = new();
    private readonly HashSet<Digest> _published = [];
    private readonly Dictionary<Digest, Verified<AlertEnvelope>> _alerts = [];
    private long _sequence;
    private long _nowMs;
    private bool _healed;
    private int[] _group = [];

    public Cluster(Options options)
    {
        _options = options;
        _network = new Prng(options.Seed, "network");
        _disk = new Prng(options.Seed, "disk");
        _faults = new Prng(options.Seed, "faults");
        _workload = new Prng(options.Seed, "workload");

        var signers = Enumerable.Range(0, options.Validators).Select(i => _signatures.NewSigner($"validator {i}"))
            .OrderBy(s => s.PublicKey).ToArray();
        var producer = _signatures.NewSigner("producer");
        var validators = signers.Select((s, i) => new Validator(
            $"v{i + 1}", s.PublicKey, Role(i, "control"), Role(i, "cosigner"), Role(i, "log")));
        _genesis = new Genesis(
            "simulation", Start, validators,
            [new Producer(producer.PublicKey, "sensor", "org", AlertKinds.All, SigningProfiles.V1, 1000, default, null, false)],
            new ChainParameters { TermBlocks = options.TermBlocks });
        _producer = new AlertFactory(producer);
        _envelopes = new EnvelopeAuthenticator(_signatures);
        _peers = new PeerAuthenticator(_genesis.Chain, _genesis.Block.Digest, _signatures);
        _checker = new Checker(_genesis.Chain, _genesis.Block.Digest, _signatures);
        _group = new int[options.Validators];
        var liars = Enumerable.Range(0, options.Validators).OrderBy(_ => _faults.Next()).Take(options.Liars).ToHashSet();
        _nodes = signers.Select((s, i) => new Node(i, s, liars.Contains(i)
            ? new Liar(_genesis.Chain, _genesis.Block.Digest, Index(i), s, options.Strategy)
            : null, options.ClockSkewMs == 0 ? 0 : _faults.Between(-options.ClockSkewMs, options.ClockSkewMs))).ToArray();
    }

    public Report Report { get; } = new();

    /// <summary>Digest of every message sent so far and every state reached: equal for equal seeds, on any machine.</summary>
    public string TraceDigest() => Convert.ToHexStringLower(_trace.GetCurrentHash());

    private PublicKey Role(int validator, string role) => _signatures.NewSigner($"{role} {validator}").PublicKey;

    private static ValidatorIndex Index(int node) => new((ushort)node);

    private sealed class Node(int number, ISigner signer, Liar? liar, int clockOffsetMs)
    {
        public int Number { get; } = number;
        public ISigner Signer { get; } = signer;
        public Liar? Liar { get; } = liar;
        public int ClockOffsetMs { get; } = clockOffsetMs;
        public SimulatedDisk Disk { get; } = new();
        public Effects Effects { get; } = new();
        public Replica? Replica { get; set; }

        /// <summary>Goes up with every start: events of an earlier life are dropped.</summary>
        public int Life { get; set; }

        public long DurableAtMs { get; set; }

        public long StoredAtMs { get; set; }

        /// <summary>What Kafka would still deliver: published and not yet seen decided by this node.</summary>
        public Queue<Verified<AlertEnvelope>> Inbox { get; } = new();

        public HashSet<Digest> Decided { get; } = [];
    }

    /// <exception cref="PropertyViolation">Safety or liveness did not hold.</exception>
    public void Run()
    {
        foreach (var node in _nodes) At(0, () => StartNode(node));
        At(TickMs, Tick);
        At(5, Publish);
        ScheduleFaults();
        while (_nowMs < _options.ChaosMs) Step();
        Heal();
        while (!Finished())
        {
            if (_nowMs > _options.ChaosMs + HealedLimitMs) throw new PropertyViolation("L1: " + Unfinished());
            Step();
        }

        Report.Heights += (long)_checker.HighestDecided;
        Report.VirtualMs += _nowMs;
        if (_checker.HighestDecided == 0) throw new PropertyViolation("L1: nothing was ever decided");
    }

    private void Step()
    {
        if (!_events.TryDequeue(out var action, out var at)) throw new PropertyViolation("no event left");
        _nowMs = at.Time;
        if (++Report.Events > EventsMax) throw new PropertyViolation($"L2: more than {EventsMax} events: {Unfinished()}");
        action();
    }

    private void At(long timeMs, Action action) => _events.Enqueue(action, (Math.Max(timeMs, _nowMs), _sequence++));

    private Timestamp Now(Node node) => Start.PlusMs(10_000 + _nowMs + node.ClockOffsetMs);

    // ---- Workload ---------------------------------------------------------------------------------------------

    private void Publish()
    {
        if (_healed) return;
        var record = _producer.Anomaly(Start.PlusMs(10_000 + _nowMs).Milliseconds / 1000);
        if (!EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out var rejection))
            throw new InvariantViolation("the simulator made a bad alert: " + rejection.Explanation);
        Invariant.Holds(_envelopes.TryAuthenticate(envelope, SigningProfiles.V1, out var verified), "the simulator signs its alerts");
        _published.Add(envelope.Digest);
        _alerts[envelope.Digest] = verified;
        foreach (var node in _nodes)
        {
            // Every validator reads Kafka on its own, at its own pace.
            At(_nowMs + _workload.Between(1, 40), () => Deliver(node, verified));
        }

        At(_nowMs + _options.AlertEveryMs, Publish);
    }

    private void Deliver(Node node, Verified<AlertEnvelope> alert)
    {
        if (node.Decided.Contains(alert.Value.Digest)) return;
        if (node.Replica is null)
        {
            node.Inbox.Enqueue(alert);
            return;
        }

        Do(node, (replica, now, effects) =>
        {
            var admission = replica.Submit(alert, now, effects);
            if (admission.Kind == AdmissionKind.Full) node.Inbox.Enqueue(alert);
            if (admission.Kind == AdmissionKind.Rejected)
                throw new PropertyViolation($"I3: validator {node.Number} refused a valid alert: {admission.Rejection}");
        });
    }

    // ---- Nodes ------------------------------------------------------------------------------------------------

    private void StartNode(Node node)
    {
        node.Life++;
        var replica = new Replica(_genesis, Index(node.Number), node.Signer);
        var last = _genesis.Block.Digest;
        var accepted = new List<Digest>();
        node.Decided.Clear();
        foreach (var stored in node.Disk.ReadBlocks())
        {
            var bodies = stored.Block.Bodies.Select(Recover).ToArray();
            foreach (var receipt in replica.Replay(stored.Block.Block, [.. bodies], stored.Certificate))
            {
                node.Decided.Add(receipt.Transaction);
                if (receipt.Accepted) accepted.Add(receipt.Transaction);
            }

            last = stored.Block.Block.Digest;
        }

        foreach (var record in node.Disk.ReadLog()) replica.Restore(record, _envelopes);
        _checker.Restarted(node.Number, last, accepted);
        node.Replica = replica;
        node.DurableAtMs = _nowMs;
        // Kafka delivers again everything whose decision this node has not stored.
        node.Inbox.Clear();
        foreach (var (digest, alert) in _alerts)
            if (!node.Decided.Contains(digest))
                node.Inbox.Enqueue(alert);
        Do(node, (r, now, effects) => r.Resume(now, effects));
    }

    private AlertEnvelope Recover(ReadOnlyMemory<byte> body)
    {
        Invariant.Holds(EnvelopeDecoder.TryDecodeBody(body, out var envelope, out _), "a stored body decodes");
        return _envelopes.Recovered(envelope!).Value;
    }

    private void Crash(Node node)
    {
        if (node.Replica is null) return;
        node.Replica = null;
        node.Life++;
        Report.Crashes++;
        At(_nowMs + _faults.Between(50, 3_000), () =>
        {
            if (node.Replica is null) StartNode(node);
        });
    }

    private void Do(Node node, Action<Replica, Timestamp, Effects> input)
    {
        if (node.Replica is not { } replica) return;
        input(replica, Now(node), node.Effects);
        Drain(node);
    }

    /// <summary>The host's part of the contract: records durable first, then messages, then blocks stored and reported.</summary>
    private void Drain(Node node)
    {
        var effects = node.Effects;
        foreach (var notice in effects.Notices) Note(notice);
        foreach (var request in effects.BlockRequests)
            if (node.Disk.Serve(request.FirstHeight, request.LastHeight, 32) is { } answer)
                Transmit(node, request.From.Value, answer);
        if (effects.Records.Count + effects.Messages.Count + effects.Decided.Count > 0)
        {
            var (records, messages, decided, life) = (effects.Records.ToArray(), effects.Messages.ToArray(), effects.Decided.ToArray(), node.Life);
            var syncMs = records.Length == 0 ? 0 : _disk.Between(0, _options.SyncMaxMs);
            node.DurableAtMs = Math.Max(node.DurableAtMs, _nowMs) + (_healed ? Math.Min(syncMs, 8) : syncMs);
            At(node.DurableAtMs, () =>
            {
                if (node.Life == life) Release(node, records, messages, decided);
            });
        }

        effects.Clear();
    }

    private void Release(Node node, DurableRecord[] records, Outgoing[] messages, CommittedBlock[] decided)
    {
        node.Disk.AppendLog(records);
        foreach (var outgoing in messages) Send(node, outgoing);
        if (decided.Length == 0) return;
        // A crash may fall between the log and the blocks.
        var life = node.Life;
        node.StoredAtMs = Math.Max(node.StoredAtMs, _nowMs) + _disk.Between(0, _options.SyncMaxMs);
        At(node.StoredAtMs, () =>
        {
            if (node.Life == life) Store(node, decided);
        });
    }

    private void Store(Node node, CommittedBlock[] decided)
    {
        node.Disk.AppendBlocks(decided);
        foreach (var committed in decided)
        {
            if (node.Liar is null) _checker.Decided(node.Number, committed, _published);
            foreach (var receipt in committed.Receipts) node.Decided.Add(receipt.Transaction);
            _trace.AppendData(committed.StateRoot.ToArray());
        }

        Do(node, (replica, now, effects) => replica.Stored(decided[^1].Block.Height, now, effects));
    }

    private void Note(Notice notice)
    {
        switch (notice)
        {
            case Notice.ViewEntered: Report.ViewsEntered++; break;
            case Notice.ViewChangeStarted: Report.ViewChanges++; break;
            case Notice.CaughtUp: Report.CatchUps++; break;
            case Notice.Equivocation: Report.Equivocations++; break;
            case Notice.BodiesRequested: Report.BodyFetches++; break;
        }
    }

    private void Tick()
    {
        foreach (var node in _nodes)
        {
            // The pool was full or the node was down: what Kafka still holds is offered again.
            for (var offers = Math.Min(node.Inbox.Count, 50); offers > 0 && node.Replica is not null; offers--) Deliver(node, node.Inbox.Dequeue());
            Do(node, (replica, now, effects) => replica.Tick(now, effects));
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

        foreach (var lie in from.Liar.Distort(outgoing)) Route(from, lie);
    }

    private void Route(Node from, Outgoing outgoing)
    {
        if (outgoing.To is { } to)
        {
            Transmit(from, to.Value, outgoing.Message);
            return;
        }

        var verified = Verify(outgoing.Message);
        foreach (var node in _nodes) Transmit(from, node.Number, verified);
    }

    private void Transmit(Node from, int to, PeerMessage message) => Transmit(from, to, Verify(message));

    /// <summary>Every message crosses the codec and the authenticator, as it would on a wire.</summary>
    private Verified<Incoming> Verify(PeerMessage message)
    {
        var bytes = MessageCodec.Encode(message);
        _trace.AppendData(bytes);
        return _peers.TryVerify(bytes, out var verified, out var problem)
            ? verified
            : throw new PropertyViolation($"a message of our own is refused: {problem}: {message}");
    }

    private void Transmit(Node from, int to, Verified<Incoming> message)
    {
        Report.Messages++;
        if (to == from.Number)
        {
            Arrive(from.Number, to, message, _nowMs);
            return;
        }

        if (!_healed && (_group[from.Number] != _group[to] || _network.Chance(_options.LossPercent)))
        {
            Report.Lost++;
            return;
        }

        var delay = _network.Between(_options.DelayMinMs, _healed ? Math.Min(_options.DelayMaxMs, 40) : _options.DelayMaxMs);
        Arrive(from.Number, to, message, _nowMs + delay);
        if (_healed || !_network.Chance(_options.DuplicatePercent)) return;
        Report.Duplicated++;
        Arrive(from.Number, to, message, _nowMs + delay + _network.Between(0, 200));
    }

    private void Arrive(int from, int to, Verified<Incoming> message, long atMs)
    {
        var life = _nodes[to].Life;
        At(atMs, () =>
        {
            var node = _nodes[to];
            if (node.Replica is null || (from == to && node.Life != life)) return;
            Do(node, (replica, now, effects) => replica.Receive(Index(from), message, now, effects));
        });
    }

    // ---- Faults -----------------------------------------------------------------------------------------------

    private void ScheduleFaults()
    {
        if (_options.CrashEveryMs > 0)
            for (var at = _options.CrashEveryMs; at < _options.ChaosMs; at += _faults.Between(_options.CrashEveryMs / 2, _options.CrashEveryMs * 2))
                At(at, () => Crash(_nodes[_faults.Below(_nodes.Length)]));
        if (_options.PartitionEveryMs == 0) return;
        for (var at = _options.PartitionEveryMs; at < _options.ChaosMs; at += _faults.Between(_options.PartitionEveryMs / 2, _options.PartitionEveryMs * 2))
            At(at, Partition);
    }

    private void Partition()
    {
        if (_healed) return;
        Report.Partitions++;
        var whole = _faults.Chance(30);
        for (var i = 0; i < _group.Length; i++) _group[i] = whole ? 0 : _faults.Below(2);
    }

    private void Heal()
    {
        _healed = true;
        Array.Clear(_group);
        foreach (var node in _nodes)
            if (node.Replica is null)
                StartNode(node);
    }

    /// <summary>Every honest validator has decided every published message, at one height.</summary>
    private bool Finished()
    {
        foreach (var node in _nodes)
            if (node.Liar is null && (node.Replica is null || node.Decided.Count != _published.Count))
                return false;
        return _nodes.Where(n => n.Liar is null).Select(n => n.Replica!.Height).Distinct().Count() == 1;
    }

    private string Unfinished() => string.Join("; ", _nodes.Where(n => n.Liar is null).Select(n =>
        $"v{n.Number} decided {n.Decided.Count} of {_published.Count}, height {n.Replica?.Height}, view {n.Replica?.View}"
        + (n.Replica?.IsChangingView == true ? " (changing)" : "") + $", pool {n.Replica?.PoolCount}"));
}

/// <summary>What a run reached. Every counter must be above zero over a CI run, or the simulator tests less than it claims.</summary>
public sealed class Report
{
    public long Events, Messages, Lost, Duplicated, Heights, VirtualMs, Crashes, Partitions, ViewChanges, ViewsEntered, CatchUps, Equivocations, BodyFetches;

    public void Add(Report other)
    {
        Events += other.Events;
        Messages += other.Messages;
        Lost += other.Lost;
        Duplicated += other.Duplicated;
        Heights += other.Heights;
        VirtualMs += other.VirtualMs;
        Crashes += other.Crashes;
        Partitions += other.Partitions;
        ViewChanges += other.ViewChanges;
        ViewsEntered += other.ViewsEntered;
        CatchUps += other.CatchUps;
        Equivocations += other.Equivocations;
        BodyFetches += other.BodyFetches;
    }

    public IEnumerable<(string Name, long Value)> Counters() =>
    [
        ("events", Events), ("messages", Messages), ("lost", Lost), ("duplicated", Duplicated), ("blocks", Heights),
        ("virtual seconds", VirtualMs / 1000), ("crashes", Crashes), ("partitions", Partitions), ("view changes", ViewChanges),
        ("views entered", ViewsEntered), ("catch-ups", CatchUps), ("equivocations seen", Equivocations), ("body fetches", BodyFetches),
    ];
}
