using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>What a key of the trust store may sign. Sensors publish the first three; analysts give verdicts, approvers decide on policies.</summary>
[Flags]
public enum AlertKinds : byte
{
    None = 0,
    Anomaly = 1,
    Evidence = 2,
    Policy = 4,
    Verdict = 8,
    Approval = 16,

    /// <summary>All a sensor publishes.</summary>
    All = Anomaly | Evidence | Policy,
}

public static class AlertKindsNames
{
    /// <summary>One name per kind, as they stand in genesis.</summary>
    public static IEnumerable<string> Names(this AlertKinds kinds)
    {
        foreach (var kind in (AlertKinds[])[AlertKinds.Anomaly, AlertKinds.Evidence, AlertKinds.Policy, AlertKinds.Verdict, AlertKinds.Approval])
            if ((kinds & kind) != 0)
                yield return kind.ToString().ToLowerInvariant();
    }
}

[Flags]
public enum SigningProfiles : byte
{
    None = 0,
    V1 = 1,
    V2 = 2,
}

/// <summary>
/// A key of the trust store: whose messages are accepted, of which kinds, under which profiles, and when. During a rotation one name has two.
/// </summary>
/// <param name="QuotaPerSecond">Messages per second this producer may have admitted; part of agreed data, enforced at admission.</param>
/// <param name="ValidFrom">First block height whose transactions may come from this key.</param>
/// <param name="ValidTo">Last such height; null means no end.</param>
public sealed record Producer(
    PublicKey Key, string Name, string Organisation, AlertKinds Kinds, SigningProfiles Profiles,
    uint QuotaPerSecond, Height ValidFrom, Height? ValidTo, bool Revoked)
{
    public bool IsValidAt(Height height) => !Revoked && height >= ValidFrom && (ValidTo is not { } end || height <= end);

    /// <summary>What is wrong with the entry itself, as a sentence for people; null when nothing is.</summary>
    public string? Problem()
    {
        if (Name.Length is 0 or > Limits.NameBytesMax) return $"a producer has the name '{Name}'; names have 1 to {Limits.NameBytesMax} characters";
        if (Organisation.Length is 0 or > Limits.NameBytesMax) return $"producer {Name} needs an organisation of 1 to {Limits.NameBytesMax} characters";
        if (Kinds == AlertKinds.None) return $"producer {Name} may publish no kind of message";
        return Profiles == SigningProfiles.None ? $"producer {Name} has no signing profile" : null;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.Key(Key);
        writer.Text(Name);
        writer.Text(Organisation);
        writer.UInt8((byte)Kinds);
        writer.UInt8((byte)Profiles);
        writer.UInt32(QuotaPerSecond);
        writer.Height(ValidFrom);
        writer.Height(ValidTo ?? new Height(ulong.MaxValue));
        writer.UInt8(Revoked ? (byte)1 : (byte)0);
    }

    internal static Producer Read(ref CanonicalReader reader)
    {
        var (key, name, organisation) = (reader.Key(), reader.Text(Limits.NameBytesMax), reader.Text(Limits.NameBytesMax));
        var (kinds, profiles, quota) = (reader.UInt8(), reader.UInt8(), reader.UInt32());
        var (from, to, revoked) = (reader.Height(), reader.Height(), reader.UInt8());
        if (kinds > (byte)(AlertKinds.All | AlertKinds.Verdict | AlertKinds.Approval) || profiles > (byte)(SigningProfiles.V1 | SigningProfiles.V2) || revoked > 1)
            reader.Fail(DecodeError.NotCanonical);
        return new Producer(
            key, name, organisation, (AlertKinds)kinds, (SigningProfiles)profiles, quota, from, to.Value == ulong.MaxValue ? null : to, revoked == 1);
    }
}

/// <summary>
/// The trust store by key. The ledger changes it; receive loops look up. Readers on other threads see one consistent moment, as everything is
/// behind one reference.
/// </summary>
public sealed class ProducerRegistry
{
    private sealed record Moment(ImmutableArray<Producer> All, Dictionary<PublicKey, Producer> ByKey);

    private Moment _moment;

    /// <exception cref="InvariantViolation">A key twice: genesis validation reports it to people before.</exception>
    public ProducerRegistry(IEnumerable<Producer> producers) => _moment = Sorted(producers);

    private static Moment Sorted(IEnumerable<Producer> producers)
    {
        var all = ImmutableArray.CreateRange(producers).Sort((x, y) => x.Key.CompareTo(y.Key));
        var byKey = new Dictionary<PublicKey, Producer>(all.Length);
        foreach (var producer in all) Invariant.Holds(byKey.TryAdd(producer.Key, producer), "producer keys are distinct");
        return new Moment(all, byKey);
    }

    /// <summary>Sorted by key.</summary>
    public ImmutableArray<Producer> All => _moment.All;

    public bool TryFind(PublicKey key, [NotNullWhen(true)] out Producer? producer) => _moment.ByKey.TryGetValue(key, out producer);

    /// <summary>All keys of a name, sorted.</summary>
    public IEnumerable<Producer> Named(string name)
    {
        foreach (var producer in _moment.All)
            if (producer.Name == name)
                yield return producer;
    }

    /// <summary>Adds a key, or replaces what is known of it.</summary>
    internal void Put(Producer producer)
    {
        var kept = _moment.All.RemoveAll(p => p.Key == producer.Key);
        _moment = Sorted(kept.Add(producer));
    }

    /// <summary>What another registry knows, in one step.</summary>
    internal void Adopt(ProducerRegistry other) => _moment = other._moment;
}
