using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Core.Ledger;

/// <summary>What execution decided about one transaction of a block.</summary>
public readonly record struct Receipt(Digest Transaction, AlertKind Kind, RejectionReason Result)
{
    public bool Accepted => Result == RejectionReason.None;
}

/// <summary>
/// The replicated state machine. Pure: block time is the only clock, integers only, every iteration in a defined order. One bad
/// transaction gets a result code and never fails its block.
/// </summary>
public sealed partial class Ledger
{
    private readonly ChainContext _genesis;
    private readonly NonceSet _nonces = new();
    private readonly SortedSet<Timestamp> _touchedNonces = []; // in this block
    private readonly StateTree _tree = new();
    private readonly HashSet<Digest> _control = []; // convictions, orders and readiness: few, and remembered for good
    private readonly List<LedgerEvent> _events = [];
    private readonly ReputationBook _reputations;
    private readonly AlertBook _alerts;
    private readonly EvidenceBook _evidence;
    private readonly PolicyBook _policies;

    public Ledger(ChainContext genesis, ProducerRegistry producers, Timestamp genesisTime)
    {
        _genesis = genesis;
        Producers = new ProducerRegistry(producers.All);
        Leaders = new LeaderScores(genesis);
        Governance = new Governance(genesis, Producers);
        _reputations = new ReputationBook(_tree, _events);
        _alerts = new AlertBook(_tree, _reputations, _events);
        _evidence = new EvidenceBook(_tree, _alerts, _events);
        _policies = new PolicyBook(_tree, _alerts, _events);
        Time = genesisTime;
        WriteLeaders();
        WriteGovernance();
        foreach (var producer in producers.All) WriteProducer(producer);
        _policies.WriteSwitch();
        WriteLog();
    }

    /// <summary>The trust store as orders have changed it.</summary>
    public ProducerRegistry Producers { get; private set; }

    /// <summary>Scores of the validators as leaders, and the order of attempts in the current term.</summary>
    public LeaderScores Leaders { get; }

    /// <summary>Which validators and parameters are in force when, and the orders that change them.</summary>
    public Governance Governance { get; }

    /// <summary>The last executed block.</summary>
    public Height Height { get; private set; }

    /// <summary>Its block time.</summary>
    public Timestamp Time { get; private set; }

    /// <summary>The transparency log: an entry for each transaction ever executed, in order (rule W1).</summary>
    public LogTree Log { get; } = new();

    /// <summary>The block of its last entry.</summary>
    public (Height Height, Timestamp Time) LogEnd { get; private set; }

    public int StateEntries => _tree.Count;

    public int NonceCount => _nonces.Count;

    public int OpenAlerts => _alerts.Count;

    /// <summary>When the next policy ends. Blocks have to go on until then, traffic or not, so that it does end.</summary>
    public Timestamp? NextPolicyEnd => _policies.NextEnd;

    public ProducerStanding StandingOf(string producer) => _reputations[producer];

    /// <summary>Those in force in the current term.</summary>
    private ChainParameters Parameters => Governance.Epochs.Decided(Leaders.Term).Parameters;

    /// <summary>Goes on with the objects that receive loops know.</summary>
    internal void Share(EpochSchedule epochs, ProducerRegistry producers)
    {
        Governance.Share(epochs, producers);
        producers.Adopt(Producers);
        Producers = producers;
    }

    public Digest StateRoot() => _tree.Root();

    /// <summary>The state tree as it is now: proofs of it can be made as long as somebody keeps it.</summary>
    public StateTree CopyTree() => _tree.Copy();

    /// <summary>What stands under a key now; null when nothing does.</summary>
    public byte[]? ValueOf(StateKey key) => key.Table switch
    {
        "alert" => _alerts.ValueOf(key.Digest),
        "evidence" => _evidence.ValueOf(key.Digest),
        "policy" => _policies.ValueOf(key.Digest),
        "producer" => Producers.TryFind(key.Key, out var producer) ? Encode(producer) : null,
        "reputation" => _reputations.ValueOf(key.Name),
        _ => EncodeLog(),
    };

    /// <summary>Was this very message accepted, or refused by the rules of the state, recently enough to be remembered? Then it is not decided again.</summary>
    public bool HasDecided(Digest transaction) => _nonces.ContainsTransaction(transaction) || _control.Contains(transaction);

    /// <summary>
    /// Why this message can never be accepted, as far as the state is known now; a filter at admission. What may change with the next blocks, such
    /// as whether the alert of a verdict is known, is left to <see cref="Apply"/>.
    /// </summary>
    public Rejection? Check(AlertEnvelope envelope, Timestamp blockTime)
    {
        switch (envelope.Content)
        {
            case AlertContent.Misbehaviour { Proof: var proof }:
                return CheckMisbehaviour(proof);
            case AlertContent.Order { Content: var order }:
                return Governance.Check(order, Leaders.Term);
            case AlertContent.Ready { Content: var readiness }:
                return Governance.Check(readiness, blockTime);
            case AlertContent.Decided { Decision: var decision } when decision.ChainId != _genesis.ChainId:
                return new Rejection(RejectionReason.WrongChain, "the decision is for another chain");
        }

        var rejection = EnvelopeRules.CheckProducer(envelope, Producers, Height.Next)
                        ?? EnvelopeRules.CheckProfile(envelope, Producers)
                        ?? CheckTime(envelope, blockTime);
        if (rejection is not null) return rejection;
        return _nonces.Contains(envelope.Producer, envelope.Nonce) || _nonces.ContainsTransaction(envelope.Digest)
            ? new Rejection(RejectionReason.ReplayedNonce, "the producer has used this nonce before")
            : null;
    }

    /// <summary>Executes the next block: one receipt per transaction, in order, and what it changed besides.</summary>
    public (ImmutableArray<Receipt> Receipts, ImmutableArray<LedgerEvent> Events) Apply(Block block, ReadOnlySpan<AlertEnvelope> transactions)
    {
        var header = block.Header;
        Invariant.Holds(header.Height == Height.Next, "blocks are executed in height order");
        Invariant.Holds(header.Time > Time, "block time is strictly increasing");
        Invariant.Holds(header.TransactionCount == (uint)transactions.Length, "all bodies of the block are here");

        _events.Clear();
        Expire(header.Time);
        var receipts = ImmutableArray.CreateBuilder<Receipt>(transactions.Length);
        for (var i = 0; i < transactions.Length; i++)
        {
            var envelope = transactions[i];
            var result = (Check(envelope, header.Time) ?? TryAccept(envelope, header))?.Reason ?? RejectionReason.None;
            Count(envelope, result, header.Time);
            receipts.Add(new Receipt(envelope.Digest, envelope.Kind, result));
            Log.Append(new LogEntry(header.ChainId, header.Height, (uint)i, header.Time, envelope.Kind, result, envelope.Digest).LeafHash());
        }

        WriteNonces();
        _reputations.Flush();
        if (transactions.Length > 0)
        {
            LogEnd = (header.Height, header.Time);
            WriteLog();
        }
        if (Leaders.Observe(header, block.Seal)) EnterTerm();
        Height = header.Height;
        Time = header.Time;
        return (receipts.MoveToImmutable(), [.. _events]);
    }

    private void EnterTerm()
    {
        var ended = Leaders.Term;
        if (Governance.CloseTerm(ended)) WriteGovernance();
        Leaders.BeginTerm(Governance.Epochs.Decided(ended + 1));
        WriteLeaders();
    }

    /// <summary>While a validator is barred, more evidence against it changes nothing and would only fill blocks (rule E2).</summary>
    private Rejection? CheckMisbehaviour(Misbehaviour proof)
    {
        if (!Governance.Epochs.Decided(Leaders.Term).Validators.Contains(proof.Offender))
            return new Rejection(RejectionReason.AlreadyConvicted, $"validator {Governance.Epochs.Name(proof.Offender)} has left the set");
        var standing = Leaders[proof.Offender];
        return standing.BarredThrough > 0 && standing.BarredThrough >= Leaders.Term
            ? new Rejection(RejectionReason.AlreadyConvicted, $"validator {Governance.Epochs.Name(proof.Offender)} is barred through term {standing.BarredThrough} already")
            : null;
    }

    private void Convict(Misbehaviour proof, Digest transaction, Height height)
    {
        Leaders.Convict(proof.Offender);
        WriteLeaders();
        Span<byte> key = stackalloc byte[StateKeys.ConvictionLength];
        Span<byte> value = stackalloc byte[2 + 1 + 8];
        BinaryPrimitives.WriteUInt16BigEndian(value, proof.Offender.Value);
        value[2] = (byte)proof.Kind;
        BinaryPrimitives.WriteUInt64BigEndian(value[3..], height.Value);
        _tree.Set(StateKeys.Conviction(key, transaction), value);
    }

    /// <summary>The rules of docs/state-machine.md. One bad transaction is a result code and changes nothing else.</summary>
    private Rejection? TryAccept(AlertEnvelope envelope, BlockHeader header)
    {
        if (envelope.Kind.IsControl())
        {
            AcceptControl(envelope, header);
            return null;
        }

        Producers.TryFind(envelope.Producer, out var producer);
        var refused = envelope.Content switch
        {
            AlertContent.Anomaly => Report(envelope, producer!, header),
            AlertContent.Evidence evidence => KeepEvidence(envelope, evidence, producer!, header),
            AlertContent.Policy => Propose(envelope, producer!, header),
            AlertContent.Decided { Decision: var decision } => Decide(decision, producer!, header),
            _ => throw Invariant.Unreachable(envelope.Content),
        };
        // Refused or not, the message has been seen: its signer makes a new one to try again.
        Remember(envelope);
        return refused;
    }

    private void Remember(AlertEnvelope envelope)
    {
        var expiresAt = Timestamp.FromSeconds(envelope.TimestampSeconds).PlusMs(_genesis.Parameters.AlertAgeMaxMs);
        _nonces.Add(expiresAt, envelope.Producer, envelope.Nonce, envelope.Digest);
        _touchedNonces.Add(expiresAt);
    }

    private void AcceptControl(AlertEnvelope envelope, BlockHeader header)
    {
        _control.Add(envelope.Digest);
        switch (envelope.Content)
        {
            case AlertContent.Misbehaviour { Proof: var proof }:
                Convict(proof, envelope.Digest, header.Height);
                return;
            case AlertContent.Order { Content: var order } when order.Change.IsImmediate:
                foreach (var changed in Governance.AcceptImmediate(order, header.Height)) WriteProducer(changed);
                if (order.Change is Change.HaltPolicies { Halted: var halted }) _policies.Halt(halted);
                break;
            case AlertContent.Order { Content: var order }:
                Governance.Accept(order, header.Time);
                break;
            case AlertContent.Ready { Content: var readiness }:
                Governance.Accept(readiness);
                break;
        }

        WriteGovernance();
    }

    private bool IsTrusted(Producer producer) => _reputations[producer.Name].Reputation >= Parameters.ReputationMin;

    private Origin OriginOf(AlertEnvelope envelope, Producer producer, BlockHeader header) =>
        new(Log.Size, envelope.Digest, envelope.Id, producer.Name, producer.Organisation, header.Height, header.Time);

    private Rejection? Report(AlertEnvelope envelope, Producer producer, BlockHeader header)
    {
        var alert = new OpenAlert(OriginOf(envelope, producer, header))
        {
            Key = envelope.Producer,
            ContentHash = envelope.ContentHash,
            Severity = ((AlertContent.Anomaly)envelope.Content).Severity,
            Correlation = AlertBook.CorrelationOf(envelope),
            Counts = IsTrusted(producer),
        };
        _alerts.Report(alert, Parameters, header.Time);
        return null;
    }

    private Rejection? KeepEvidence(AlertEnvelope envelope, AlertContent.Evidence content, Producer producer, BlockHeader header)
    {
        var evidence = new OpenEvidence(OriginOf(envelope, producer, header))
        {
            References = (uint)content.Refs.Length,
            Dangling = _evidence.Link(envelope.Digest, content),
            CustodyEntries = (uint)content.Custody.Length,
            CustodyVerified = envelope.CustodyVerified,
        };
        _evidence.Keep(evidence, Parameters);
        return null;
    }

    private Rejection? Propose(AlertEnvelope envelope, Producer producer, BlockHeader header)
    {
        if (!IsTrusted(producer)) return new Rejection(RejectionReason.ReputationTooLow, $"the reputation of {producer.Name} is below {Parameters.ReputationMin}");
        if (_policies.Check(envelope, Parameters, out var content) is { } refused) return refused;
        var policy = new OpenPolicy
        {
            Digest = envelope.Digest,
            Id = envelope.Id,
            Producer = producer.Name,
            Height = header.Height,
            Content = content!,
            Params = ((AlertContent.Policy)envelope.Content).Params,
        };
        _policies.Propose(policy, Parameters, header.Time);
        return null;
    }

    private Rejection? Decide(Decision decision, Producer signer, BlockHeader header)
    {
        var (subject, ruling) = (decision.Subject, decision.Ruling);
        if (ruling.IsOfPolicy())
        {
            if (_policies.Check(subject, ruling, signer.Name, Parameters, header.Time) is { } refused) return refused;
            _policies.Decide(subject, ruling, signer.Name, Parameters, header.Time);
        }
        else
        {
            if (_alerts.Check(subject, ruling, signer.Name) is { } refused) return refused;
            _alerts.Decide(subject, ruling, signer, decision.Note);
        }

        return null;
    }

    /// <summary>
    /// Row PR4: what a producer has signed against the rules itself. A replay counts only where the signature covers all of the record. The message
    /// is remembered, or a leader could put it into one block after the other; one out of its time is not, so it does not count.
    /// </summary>
    private void Count(AlertEnvelope envelope, RejectionReason result, Timestamp time)
    {
        if (!Producers.TryFind(envelope.Producer, out var producer)) return;
        _reputations.Count(producer.Name, result == RejectionReason.None);
        var breach = result is RejectionReason.KindNotAllowed or RejectionReason.ProfileNotAllowed
                     || (result == RejectionReason.ReplayedNonce && envelope.Profile == SigningProfile.V2);
        if (!breach || HasDecided(envelope.Digest) || CheckTime(envelope, time) is not null) return;
        Remember(envelope);
        _reputations.Adjust(producer.Name, producer.Key, -5, ReputationCause.Breach, envelope.Digest, envelope.Id, 0, "");
    }

    private Rejection? CheckTime(AlertEnvelope envelope, Timestamp time) =>
        EnvelopeRules.CheckTime(envelope, time, _genesis.Parameters.AlertAgeMaxMs, _genesis.Parameters.AlertAheadMs);

    /// <summary>Block time has gone on: what has lasted its time ends, before the first transaction.</summary>
    private void Expire(Timestamp time)
    {
        Span<byte> key = stackalloc byte[StateKeys.NoncesLength];
        while (_nonces.TryExpire(time, out var expired)) _tree.Remove(StateKeys.Nonces(key, expired));
        _alerts.Expire(Parameters, time);
        _evidence.Expire(Parameters, time);
        _policies.Expire(time);
    }

    private void WriteNonces()
    {
        Span<byte> key = stackalloc byte[StateKeys.NoncesLength];
        Span<byte> value = stackalloc byte[Digest.Size];
        foreach (var expiresAt in _touchedNonces)
        {
            _nonces.ChainOf(expiresAt).CopyTo(value);
            _tree.Set(StateKeys.Nonces(key, expiresAt), value);
        }

        _touchedNonces.Clear();
    }

    private void WriteProducer(Producer producer)
    {
        Span<byte> key = stackalloc byte[StateKeys.ProducerLength];
        _tree.Set(StateKeys.Producer(key, producer.Key), Encode(producer));
    }

    private void WriteLeaders()
    {
        Span<byte> key = stackalloc byte[StateKeys.LeaderLength];
        Span<byte> value = stackalloc byte[25];
        for (var i = 0; i < Leaders.Standings.Length; i++)
        {
            var validator = new ValidatorIndex((ushort)i);
            var standing = Leaders[validator];
            BinaryPrimitives.WriteInt32BigEndian(value, standing.Score);
            BinaryPrimitives.WriteUInt64BigEndian(value[4..], standing.BarredThrough);
            BinaryPrimitives.WriteInt32BigEndian(value[12..], standing.Credit);
            value[16] = (byte)standing.Losses;
            BinaryPrimitives.WriteUInt64BigEndian(value[17..], standing.RestsThrough);
            _tree.Set(StateKeys.Leader(key, validator), value);
        }
    }

    private static byte[] Encode(Producer producer)
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        producer.Write(new CanonicalWriter(buffer));
        return buffer.WrittenSpan.ToArray();
    }

    private void WriteLog() => _tree.Set(StateKeys.Log, EncodeLog());

    private byte[] EncodeLog()
    {
        var buffer = new ArrayBufferWriter<byte>(64);
        var writer = new CanonicalWriter(buffer);
        writer.UInt64(Log.Size);
        writer.Digest(Log.Root());
        writer.Height(LogEnd.Height);
        writer.Time(LogEnd.Time);
        return buffer.WrittenSpan.ToArray();
    }

    private void WriteGovernance()
    {
        _tree.Set(StateKeys.Orders, Governance.EncodeOpen());
        Span<byte> key = stackalloc byte[StateKeys.EpochLength];
        _tree.Set(StateKeys.Epoch(key, Governance.Epochs.Latest.Epoch), Governance.EncodeLatest());
    }
}
