using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>A validator as genesis or an order names it. One key per role, so that no signature can be mistaken for another kind.</summary>
/// <param name="ConsensusKey">Signs consensus messages and binds the mesh certificate.</param>
/// <param name="ControlKey">Signs records on the <c>control.*</c> topics.</param>
/// <param name="CosignerKey">Cosigns checkpoints of the transparency log.</param>
/// <param name="LogKey">Signs checkpoints as the log.</param>
/// <param name="Address">Where the others reach it (host:port); empty when each knows by its own settings.</param>
public sealed record Validator(
    string Name, PublicKey ConsensusKey, PublicKey ControlKey, PublicKey CosignerKey, PublicKey LogKey, string Address = "")
{
    internal void Write(CanonicalWriter writer)
    {
        writer.Text(Name);
        writer.Key(ConsensusKey);
        writer.Key(ControlKey);
        writer.Key(CosignerKey);
        writer.Key(LogKey);
        writer.Text(Address);
    }

    internal static Validator Read(ref CanonicalReader reader) => new(
        reader.Text(Limits.NameBytesMax), reader.Key(), reader.Key(), reader.Key(), reader.Key(), reader.Text(Limits.TextBytesMax));

    internal IEnumerable<PublicKey> Keys => [ConsensusKey, ControlKey, CosignerKey, LogKey];
}

/// <summary>
/// The validators of one epoch. A <see cref="ValidatorIndex"/> is a place a validator keeps for life, also when its keys change; the
/// place of one that has left stays empty (rule S5). In genesis the places follow the order of the consensus keys.
/// </summary>
public sealed class ValidatorSet
{
    private readonly ImmutableArray<Validator?> _places;
    private readonly Dictionary<PublicKey, ValidatorIndex> _byKey = [];
    private readonly Digest _hash;

    /// <exception cref="InvariantViolation">Empty, too many, or a key twice: genesis validation reports these to people before.</exception>
    public ValidatorSet(IEnumerable<Validator> validators)
        : this(ImmutableArray.CreateRange<Validator?>(ImmutableArray.CreateRange(validators).Sort((x, y) => x.ConsensusKey.CompareTo(y.ConsensusKey))))
    {
    }

    private ValidatorSet(ImmutableArray<Validator?> places)
    {
        _places = places;
        var members = ImmutableArray.CreateBuilder<Validator>();
        var indices = ImmutableArray.CreateBuilder<ValidatorIndex>();
        for (var i = 0; i < places.Length; i++)
        {
            if (places[i] is not { } member) continue;
            var added = _byKey.TryAdd(member.ConsensusKey, new ValidatorIndex((ushort)i));
            Invariant.Holds(added, "consensus keys are distinct");
            members.Add(member);
            indices.Add(new ValidatorIndex((ushort)i));
        }

        (Members, Indices) = (members.ToImmutable(), indices.ToImmutable());
        Invariant.Holds(Count is > 0 and <= Limits.ValidatorsMax && Places <= Limits.PlacesMax, "a validator set has 1 to 256 members");
        _hash = ComputeHash();
    }

    /// <summary>Of validators whose places are known.</summary>
    internal static ValidatorSet AtPlaces(SortedDictionary<ushort, Validator> validators)
    {
        var places = ImmutableArray.CreateBuilder<Validator?>();
        foreach (var (place, validator) in validators)
        {
            while (places.Count < place) places.Add(null);
            places.Add(validator);
        }

        return new ValidatorSet(places.ToImmutable());
    }

    /// <summary>By place.</summary>
    public ImmutableArray<Validator> Members { get; }

    /// <summary>The places of <see cref="Members"/>.</summary>
    public ImmutableArray<ValidatorIndex> Indices { get; }

    public int Count => Members.Length;

    /// <summary>One more than the highest index ever used; at least <see cref="Count"/>.</summary>
    public int Places => _places.Length;

    public int Quorum => Chain.Quorum.Size(Count);

    public int OneHonest => Chain.Quorum.OneHonest(Count);

    public Validator this[ValidatorIndex index] => _places[index.Value] ?? throw new InvariantViolation("this place is empty");

    public bool Contains(ValidatorIndex index) => index.Value < Places && _places[index.Value] is not null;

    public bool TryFind(PublicKey consensusKey, out ValidatorIndex index) => _byKey.TryGetValue(consensusKey, out index);

    /// <summary>How many members stand before this one.</summary>
    public int Rank(ValidatorIndex index) => Indices.IndexOf(index);

    public ValidatorSet With(Validator added) => new(_places.Add(added));

    public ValidatorSet Without(ValidatorIndex removed) => new(_places.SetItem(removed.Value, null));

    public ValidatorSet Replace(ValidatorIndex index, Validator changed) => new(_places.SetItem(index.Value, changed));

    /// <summary>Digest of all places in order; stands in every header.</summary>
    public Digest Hash() => _hash;

    private Digest ComputeHash()
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>();
        Write(new CanonicalWriter(buffer));
        return Digest.Sha256(DigestDomain.ValidatorSet, buffer.WrittenSpan);
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.Count(Places);
        foreach (var place in _places)
        {
            writer.UInt8(place is null ? (byte)0 : (byte)1);
            place?.Write(writer);
        }
    }

    internal static ValidatorSet? Read(ref CanonicalReader reader)
    {
        var places = ImmutableArray.CreateBuilder<Validator?>();
        var members = 0;
        for (var left = reader.Count(Limits.PlacesMax, 1); left > 0 && reader.Error == DecodeError.None; left--)
        {
            var taken = reader.UInt8();
            if (taken > 1 || (taken == 1 && ++members > Limits.ValidatorsMax)) reader.Fail(DecodeError.NotCanonical);
            places.Add(taken == 1 ? Validator.Read(ref reader) : null);
        }

        var keys = new HashSet<PublicKey>();
        foreach (var place in places)
            if (place is not null && !keys.Add(place.ConsensusKey))
                reader.Fail(DecodeError.NotCanonical);
        return reader.Error == DecodeError.None && members > 0 ? new ValidatorSet(places.ToImmutable()) : null;
    }
}
