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
    private readonly ChainParameters _parameters; // those execution looks at are fixed for the life of a chain
    private readonly NonceSet _nonces = new();
    private readonly StateTree _tree = new();
    private readonly HashSet<Digest> _control = []; // convictions, orders and readiness: few, and remembered for good
    private readonly Dictionary<PublicKey, (ulong Accepted, ulong Rejected)> _producerCounts = [];

    public Ledger(ChainContext genesis, ProducerRegistry producers, Timestamp genesisTime)
    {
        Leaders = new LeaderScores(genesis);
        Governance = new Governance(genesis);
        WriteLeaders();
        WriteGovernance();
        Producers = producers;
        _parameters = genesis.Parameters;
        Time = genesisTime;
        foreach (var producer in producers.All) WriteProducer(producer);
        WriteLog();
    }

    public ProducerRegistry Producers { get; }

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

    public Digest StateRoot() => _tree.Root();

    /// <summary>Was this very transaction accepted recently?</summary>
    public bool HasAccepted(Digest transaction) => _nonces.ContainsTransaction(transaction) || _control.Contains(transaction);

    /// <summary>What execution of this message in the next block would say, as far as the state is known now. A filter, not a verdict.</summary>
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
        }

        var rejection = EnvelopeRules.CheckProducer(envelope, Producers, Height.Next)
                        ?? EnvelopeRules.CheckProfile(envelope, Producers)
                        ?? EnvelopeRules.CheckTime(envelope, blockTime, _parameters.AlertAgeMaxMs, _parameters.AlertAheadMs);
        if (rejection is not null) return rejection;
        return _nonces.Contains(envelope.Producer, envelope.Nonce)
            ? new Rejection(RejectionReason.ReplayedNonce, "the producer has used this nonce before")
            : null;
    }

    /// <summary>Executes the next block and returns one receipt per transaction, in order.</summary>
    public ImmutableArray<Receipt> Apply(Block block, ReadOnlySpan<AlertEnvelope> transactions)
    {
        var header = block.Header;
        Invariant.Holds(header.Height == Height.Next, "blocks are executed in height order");
        Invariant.Holds(header.Time > Time, "block time is strictly increasing");
        Invariant.Holds(header.TransactionCount == (uint)transactions.Length, "all bodies of the block are here");

        ExpireNonces(header.Time);
        var receipts = ImmutableArray.CreateBuilder<Receipt>(transactions.Length);
        for (var i = 0; i < transactions.Length; i++)
        {
            var envelope = transactions[i];
            var result = Check(envelope, header.Time)?.Reason ?? RejectionReason.None;
            if (result == RejectionReason.None) Accept(envelope, header, i);
            CountForProducer(envelope.Producer, result);
            receipts.Add(new Receipt(envelope.Digest, envelope.Kind, result));
            Log.Append(new LogEntry(header.ChainId, header.Height, (uint)i, header.Time, envelope.Kind, result, envelope.Digest).LeafHash());
        }

        if (transactions.Length > 0)
        {
            LogEnd = (header.Height, header.Time);
            WriteLog();
        }
        if (Leaders.Observe(header, block.Seal)) EnterTerm();
        Height = header.Height;
        Time = header.Time;
        return receipts.MoveToImmutable();
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

    private void Accept(AlertEnvelope envelope, BlockHeader header, int index)
    {
        var height = header.Height;
        if (envelope.Kind.IsControl())
        {
            _control.Add(envelope.Digest);
            if (envelope.Content is AlertContent.Misbehaviour { Proof: var proof }) Convict(proof, envelope.Digest, height);
            if (envelope.Content is AlertContent.Order { Content: var order }) Governance.Accept(order, header.Time);
            if (envelope.Content is AlertContent.Ready { Content: var readiness }) Governance.Accept(readiness);
            if (envelope.Kind != AlertKind.Misbehaviour) WriteGovernance();
            return;
        }

        var expiresAt = Timestamp.FromSeconds(envelope.TimestampSeconds).PlusMs(_parameters.AlertAgeMaxMs);
        _nonces.Add(new UsedNonce(expiresAt, envelope.Producer, envelope.Nonce), envelope.Digest);
        Span<byte> nonceKey = stackalloc byte[StateKeys.NonceLength];
        Span<byte> expiry = stackalloc byte[8];
        BinaryPrimitives.WriteInt64BigEndian(expiry, expiresAt.Milliseconds);
        _tree.Set(StateKeys.Nonce(nonceKey, envelope.Producer, envelope.Nonce), expiry);

        var buffer = new ArrayBufferWriter<byte>(256);
        WriteAccepted(new CanonicalWriter(buffer), envelope, height, index);
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        _tree.Set(StateKeys.Transaction(key, envelope.Kind, envelope.Digest), buffer.WrittenSpan);
    }

    private static void WriteAccepted(CanonicalWriter writer, AlertEnvelope envelope, Height height, int index)
    {
        writer.Height(height);
        writer.UInt32((uint)index);
        writer.Text(envelope.Id);
        writer.Key(envelope.Producer);
        writer.Int64(envelope.TimestampSeconds);
        writer.Digest(envelope.ContentHash);
        writer.UInt8((byte)envelope.Profile);
        switch (envelope.Content)
        {
            case AlertContent.Anomaly anomaly:
                writer.Text(anomaly.Type);
                writer.Text(anomaly.Source);
                writer.UInt8(anomaly.Severity);
                writer.UInt32(anomaly.ConfidenceBasisPoints);
                writer.Text(anomaly.ModelVersion);
                break;
            case AlertContent.Evidence evidence:
                writer.Text(evidence.EvidenceType);
                writer.Count(evidence.Refs.Length);
                foreach (var reference in evidence.Refs) writer.Digest(reference);
                writer.Count(evidence.Custody.Length);
                writer.UInt8(envelope.CustodyVerified ? (byte)1 : (byte)0);
                break;
            case AlertContent.Policy policy:
                writer.Text(policy.Action);
                writer.Text(policy.Rule);
                break;
            default:
                throw Invariant.Unreachable(envelope.Content);
        }
    }

    private void CountForProducer(PublicKey key, RejectionReason result)
    {
        if (!Producers.TryFind(key, out var producer)) return;
        var (accepted, rejected) = _producerCounts.GetValueOrDefault(key);
        _producerCounts[key] = result == RejectionReason.None ? (accepted + 1, rejected) : (accepted, rejected + 1);
        WriteProducer(producer);
    }

    private void WriteProducer(Producer producer)
    {
        var (accepted, rejected) = _producerCounts.GetValueOrDefault(producer.Key);
        var buffer = new ArrayBufferWriter<byte>(256);
        var writer = new CanonicalWriter(buffer);
        producer.Write(writer);
        writer.UInt64(accepted);
        writer.UInt64(rejected);
        Span<byte> key = stackalloc byte[StateKeys.ProducerLength];
        _tree.Set(StateKeys.Producer(key, producer.Key), buffer.WrittenSpan);
    }

    private void WriteLeaders()
    {
        Span<byte> key = stackalloc byte[StateKeys.LeaderLength];
        Span<byte> value = stackalloc byte[16];
        for (var i = 0; i < Leaders.Standings.Length; i++)
        {
            var validator = new ValidatorIndex((ushort)i);
            var standing = Leaders[validator];
            BinaryPrimitives.WriteInt32BigEndian(value, standing.Score);
            BinaryPrimitives.WriteUInt64BigEndian(value[4..], standing.BarredThrough);
            BinaryPrimitives.WriteInt32BigEndian(value[12..], standing.Credit);
            _tree.Set(StateKeys.Leader(key, validator), value);
        }
    }

    private void WriteLog()
    {
        var buffer = new ArrayBufferWriter<byte>(64);
        var writer = new CanonicalWriter(buffer);
        writer.UInt64(Log.Size);
        writer.Digest(Log.Root());
        writer.Height(LogEnd.Height);
        writer.Time(LogEnd.Time);
        _tree.Set(StateKeys.Log, buffer.WrittenSpan);
    }

    private void WriteGovernance()
    {
        _tree.Set("g"u8, Governance.EncodeOpen());
        Span<byte> key = stackalloc byte[StateKeys.EpochLength];
        _tree.Set(StateKeys.Epoch(key, Governance.Epochs.Latest.Epoch), Governance.EncodeLatest());
    }

    private void ExpireNonces(Timestamp blockTime)
    {
        Span<byte> key = stackalloc byte[StateKeys.NonceLength];
        while (_nonces.TryExpire(blockTime, out var expired))
            _tree.Remove(StateKeys.Nonce(key, expired.Producer, expired.Nonce));
    }
}
