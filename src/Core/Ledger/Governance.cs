using System.Buffers;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>
/// How set and parameters change: an order committed in term t is decided when t ends, provided whoever gets a new key has said that it
/// is ready; it stands in every header of t + 1 and is in force from the first block of t + 2 (rules S1 to S3). One change at a time. What
/// consensus does not hang on, producers and the switch over policies, changes with the order itself.
/// </summary>
public sealed class Governance(ChainContext genesis, ProducerRegistry producers)
{
    /// <summary>An order whose new key has not said it is ready for this long has lapsed.</summary>
    private const long LapseMs = 24L * 3600 * 1000;

    /// <summary>Stands in a snapshot where the number of epochs would, when each of them says its version: those of chains that were never upgraded stay what they were.</summary>
    private const uint VersionsFollow = uint.MaxValue;

    private Timestamp _openSince;
    private bool _ready;

    public EpochSchedule Epochs { get; private set; } = new(genesis);

    /// <summary>Goes on with the objects that receive loops know.</summary>
    internal void Share(EpochSchedule known, ProducerRegistry registry)
    {
        known.Adopt(Epochs);
        Epochs = known;
        producers = registry;
    }

    /// <summary>Number of the last order accepted; the next has this plus one.</summary>
    public ulong LastNumber { get; private set; }

    /// <summary>The order that waits for the border, or for somebody to be ready.</summary>
    public ChangeOrder? Open { get; private set; }

    /// <summary>The key that has not said yet that it is ready.</summary>
    public PublicKey? Awaited => _ready ? null : NewKey(Open);

    /// <summary>Borders are all that is missing: terms may be closed with empty blocks.</summary>
    public bool AwaitsBorder(ulong term) => (Open is not null && _ready) || Epochs.LatestFrom > term;

    private static PublicKey? NewKey(ChangeOrder? order) => order?.Change switch
    {
        Change.AddValidator c => c.Validator.ConsensusKey,
        Change.RotateKeys c => c.Validator.ConsensusKey,
        _ => null,
    };

    public Rejection? Check(ChangeOrder order, ulong term)
    {
        if (order.ChainId != genesis.ChainId) return new Rejection(RejectionReason.OrderRefused, "the order is for another chain");
        if (order.Number != LastNumber + 1) return new Rejection(RejectionReason.NotNextOrder, $"the order has number {order.Number}; the next is {LastNumber + 1}");
        if (!order.Change.IsImmediate && AwaitsBorder(term)) return new Rejection(RejectionReason.ChangeInFlight, "an earlier change is not in force yet");
        return Problem(order.Change) is { } problem ? new Rejection(RejectionReason.OrderRefused, problem) : null;
    }

    private string? Problem(Change change)
    {
        var set = Epochs.Latest.Validators;
        switch (change)
        {
            case Change.AddValidator { Validator: var added }:
                if (Find(added.Name) is not null) return $"there is a validator {added.Name} already";
                if (added.Name.Length == 0 || added.Address.Length == 0) return "a new validator needs a name and an address";
                if (set.Count == Limits.ValidatorsMax || set.Places == Limits.PlacesMax) return "the set is full";
                return KeyProblem(added, null);
            case Change.RemoveValidator { Name: var name }:
                if (Find(name) is null) return $"there is no validator {name}";
                return set.Count == 1 ? "the last validator cannot be removed" : null;
            case Change.RotateKeys { Validator: var rotated }:
                return Find(rotated.Name) is { } index ? KeyProblem(rotated, index) : $"there is no validator {rotated.Name}";
            case Change.SetParameters { Parameters: var parameters }:
                if (parameters.Problem() is { } problem) return problem;
                return parameters.MayFollow(Epochs.Latest.Parameters) ? null : "window, root_distance, term_blocks, alert_ahead_ms and alert_age_max_ms are fixed for the life of a chain";
            case Change.PutProducer { Producer: var producer }:
                return ProducerProblem(producer);
            case Change.RotateProducer { Name: var name, Key: var key }:
                if (CurrentKey(name) is null) return $"there is no producer {name} with a key in force";
                return IsInUse(key) ? $"key {key} is in use" : producers.All.Length == Limits.ProducersMax ? "the trust store is full" : null;
            case Change.RevokeProducer { Name: var name }:
                return CurrentKey(name) is null ? $"there is no producer {name} with a key in force" : null;
            case Change.HaltPolicies:
                return null;
            case Change.Upgrade { Version: var version }:
                // The same for all, whatever their programs know.
                return version == Epochs.Latest.AppVersion + 1 ? null : $"the chain follows version {Epochs.Latest.AppVersion}; the next is {Epochs.Latest.AppVersion + 1}";
            default:
                throw Invariant.Unreachable(change);
        }
    }

    private string? ProducerProblem(Producer producer)
    {
        if (producer.Problem() is { } problem) return problem;
        if (producers.TryFind(producer.Key, out var known))
            return known.Name == producer.Name ? null : $"key {producer.Key} is that of producer {known.Name}";
        if (producers.All.Length == Limits.ProducersMax) return "the trust store is full";
        if (IsInUse(producer.Key)) return $"key {producer.Key} is in use";
        foreach (var _ in producers.Named(producer.Name)) return $"producer {producer.Name} has another key; rotate it";
        return Find(producer.Name) is null ? null : $"there is a validator {producer.Name}";
    }

    private bool IsInUse(PublicKey key)
    {
        if (producers.TryFind(key, out _)) return true;
        foreach (var index in Epochs.Latest.Validators.Indices)
            foreach (var used in Epochs.Latest.Validators[index].Keys)
                if (used == key)
                    return true;
        return false;
    }

    /// <summary>The key of a producer that has no end and is not revoked.</summary>
    private Producer? CurrentKey(string name)
    {
        foreach (var producer in producers.Named(name))
            if (!producer.Revoked && producer.ValidTo is null)
                return producer;
        return null;
    }

    /// <summary>Every role of every validator has a key of its own; new keys are new.</summary>
    private string? KeyProblem(Validator changed, ValidatorIndex? own)
    {
        var used = new HashSet<PublicKey>();
        foreach (var index in Epochs.Latest.Validators.Indices)
            if (index != own)
                used.UnionWith(Epochs.Latest.Validators[index].Keys);
        if (own is { } me) used.Add(Epochs.Latest.Validators[me].ConsensusKey);
        foreach (var key in changed.Keys)
            if (!used.Add(key))
                return $"key {key} is in use";
        return null;
    }

    private ValidatorIndex? Find(string name)
    {
        foreach (var index in Epochs.Latest.Validators.Indices)
            if (Epochs.Latest.Validators[index].Name == name)
                return index;
        return null;
    }

    /// <summary>Carries out what is in force at once; what that changed in the trust store.</summary>
    public ImmutableArray<Producer> AcceptImmediate(ChangeOrder order, Height height)
    {
        LastNumber = order.Number;
        var changed = ImmutableArray.CreateBuilder<Producer>();
        switch (order.Change)
        {
            case Change.PutProducer c:
                changed.Add(c.Producer);
                break;
            case Change.RotateProducer c:
                var present = CurrentKey(c.Name)!;
                changed.Add(present with { ValidTo = height.Plus(c.OverlapBlocks) });
                changed.Add(present with { Key = c.Key, ValidFrom = height.Next });
                break;
            case Change.RevokeProducer c:
                foreach (var producer in producers.Named(c.Name)) changed.Add(producer with { Revoked = true });
                break;
        }

        foreach (var producer in changed) producers.Put(producer);
        return changed.ToImmutable();
    }

    public void Accept(ChangeOrder order, Timestamp time)
    {
        (LastNumber, Open, _openSince) = (order.Number, order, time);
        _ready = NewKey(order) is null;
        Epochs.Expect(order.Change switch
        {
            Change.AddValidator c => new EpochSchedule.Candidate(new ValidatorIndex((ushort)Epochs.Latest.Validators.Places), c.Validator),
            Change.RotateKeys c => new EpochSchedule.Candidate(Find(c.Validator.Name)!.Value, c.Validator),
            _ => null,
        });
    }

    public Rejection? Check(Readiness readiness, Timestamp time)
    {
        var awaited = Open is not null && Awaited == readiness.Key && Open.Digest() == readiness.Order && time.Since(_openSince) <= LapseMs;
        return awaited ? null : new Rejection(RejectionReason.NoOpenOrder, "no open order waits for this key");
    }

    public void Accept(Readiness readiness)
    {
        Invariant.Holds(Awaited == readiness.Key, "the key of the open order is ready");
        _ready = true;
    }

    /// <summary>A term has ended: what is ready comes into force after the next one, whose headers announce it (rule S3). True when something was decided.</summary>
    public bool CloseTerm(ulong term)
    {
        if (Open is null || !_ready) return false;
        var latest = Epochs.Latest;
        var set = latest.Validators;
        Epochs.Schedule(term + 2, Open.Change switch
        {
            Change.AddValidator c => latest with { Epoch = latest.Epoch + 1, Validators = set.With(c.Validator) },
            Change.RemoveValidator c => latest with { Epoch = latest.Epoch + 1, Validators = set.Without(Find(c.Name)!.Value) },
            Change.RotateKeys c => latest with { Epoch = latest.Epoch + 1, Validators = set.Replace(Find(c.Validator.Name)!.Value, c.Validator) },
            Change.SetParameters c => latest with { Epoch = latest.Epoch + 1, Parameters = c.Parameters },
            Change.Upgrade c => latest with { Epoch = latest.Epoch + 1, AppVersion = c.Version },
            _ => throw Invariant.Unreachable(Open.Change),
        });
        Epochs.Expect(null);
        (Open, _ready) = (null, false);
        return true;
    }

    /// <summary>Everything, for a snapshot.</summary>
    internal void Write(SnapshotWriter output)
    {
        var writer = output.Items;
        writer.Bytes(EncodeOpen());
        var upgraded = Epochs.Latest.AppVersion > 1;
        if (upgraded) writer.UInt32(VersionsFollow);
        writer.Count(Epochs.All.Length);
        foreach (var (firstTerm, epoch) in Epochs.All)
        {
            writer.UInt64(firstTerm);
            epoch.Validators.Write(writer);
            epoch.Parameters.Write(writer);
            if (upgraded) writer.UInt32(epoch.AppVersion);
            output.EndItem();
        }
    }

    internal bool TryRead(ref CanonicalReader reader)
    {
        var open = new CanonicalReader(reader.Bytes(Limits.RecordBytesMax));
        var number = open.UInt64();
        _openSince = open.Time();
        var ready = open.UInt8();
        var order = open.Bytes(Limits.RecordBytesMax);
        var epochs = reader.UInt32();
        var upgraded = epochs == VersionsFollow;
        if (upgraded) epochs = reader.UInt32();
        for (ulong epoch = 0; epoch < epochs && reader.Error == DecodeError.None; epoch++)
        {
            var firstTerm = reader.UInt64();
            if (ValidatorSet.Read(ref reader) is not { } set) return false;
            var parameters = ChainParameters.Read(ref reader);
            var version = upgraded ? reader.UInt32() : 1;
            if (version < Epochs.Latest.AppVersion) return false;
            if (epoch > 0) Epochs.Schedule(firstTerm, genesis with { Epoch = epoch, Validators = set, Parameters = parameters, AppVersion = version });
            else if (firstTerm != 0 || set.Hash() != genesis.Validators.Hash() || parameters != genesis.Parameters || version != 1) return false;
        }

        // One state, one snapshot.
        if (upgraded != Epochs.Latest.AppVersion > 1) return false;

        if (!open.Finish(out _) || ready > 1) return false;
        if (order.Length > 0)
        {
            if (!ChangeOrder.TryDecode(order, out var decoded)) return false;
            Accept(decoded, _openSince);
        }

        (LastNumber, _ready) = (number, ready == 1);
        return true;
    }

    /// <summary>The open order as it stands under the state root.</summary>
    internal byte[] EncodeOpen()
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        var writer = new CanonicalWriter(buffer);
        writer.UInt64(LastNumber);
        writer.Time(_openSince);
        writer.UInt8(_ready ? (byte)1 : (byte)0);
        writer.Bytes(Open?.Encode());
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>The last epoch as it stands under the state root.</summary>
    internal byte[] EncodeLatest()
    {
        var buffer = new ArrayBufferWriter<byte>(2048);
        var writer = new CanonicalWriter(buffer);
        writer.UInt64(Epochs.LatestFrom);
        Epochs.Latest.Validators.Write(writer);
        Epochs.Latest.Parameters.Write(writer);
        if (Epochs.Latest.AppVersion > 1) writer.UInt32(Epochs.Latest.AppVersion);
        return buffer.WrittenSpan.ToArray();
    }
}
