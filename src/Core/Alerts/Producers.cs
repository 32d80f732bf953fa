using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>An entry of the trust store: whose alerts are accepted, of which kinds, under which profiles, and when.</summary>
/// <param name="QuotaPerSecond">Messages per second this producer may have admitted; part of agreed data, enforced at admission.</param>
/// <param name="ValidFrom">First block height whose transactions may come from this producer.</param>
/// <param name="ValidTo">Last such height; null means no end.</param>
public sealed record Producer(
    PublicKey Key, string Name, string Organisation, AlertKinds Kinds, SigningProfiles Profiles,
    uint QuotaPerSecond, Height ValidFrom, Height? ValidTo, bool Revoked)
{
    public bool IsValidAt(Height height) => !Revoked && height >= ValidFrom && (ValidTo is not { } end || height <= end);

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
}

/// <summary>The trust store: producers by key.</summary>
public sealed class ProducerRegistry
{
    private readonly Dictionary<PublicKey, Producer> _byKey = [];

    /// <exception cref="InvariantViolation">A key twice: genesis validation reports it to people before.</exception>
    public ProducerRegistry(IEnumerable<Producer> producers)
    {
        All = ImmutableArray.CreateRange(producers).Sort((x, y) => x.Key.CompareTo(y.Key));
        foreach (var producer in All) Invariant.Holds(_byKey.TryAdd(producer.Key, producer), "producer keys are distinct");
    }

    /// <summary>Sorted by key.</summary>
    public ImmutableArray<Producer> All { get; }

    public bool TryFind(PublicKey key, [NotNullWhen(true)] out Producer? producer) => _byKey.TryGetValue(key, out producer);
}
