using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>A validator as genesis names it. One key per role, so that no signature can be mistaken for another kind.</summary>
/// <param name="ConsensusKey">Signs consensus messages and binds the mesh certificate.</param>
/// <param name="ControlKey">Signs records on the <c>control.*</c> topics.</param>
/// <param name="CosignerKey">Cosigns checkpoints of the transparency log.</param>
/// <param name="LogKey">Signs checkpoints as the log.</param>
public sealed record Validator(
    string Name, PublicKey ConsensusKey, PublicKey ControlKey, PublicKey CosignerKey, PublicKey LogKey);

/// <summary>The validators of one epoch, sorted by consensus key; a <see cref="ValidatorIndex"/> is a position here.</summary>
public sealed class ValidatorSet
{
    private readonly Dictionary<PublicKey, ValidatorIndex> _byKey = [];

    /// <exception cref="InvariantViolation">Empty, too many, or a key twice: genesis validation reports these to people before.</exception>
    public ValidatorSet(IEnumerable<Validator> validators)
    {
        Members = ImmutableArray.CreateRange(validators).Sort((x, y) => x.ConsensusKey.CompareTo(y.ConsensusKey));
        Invariant.Holds(Members.Length is > 0 and <= Limits.ValidatorsMax, "a validator set has 1 to 256 members");
        for (var i = 0; i < Members.Length; i++)
        {
            var added = _byKey.TryAdd(Members[i].ConsensusKey, new ValidatorIndex((ushort)i));
            Invariant.Holds(added, "consensus keys are distinct");
        }
    }

    public ImmutableArray<Validator> Members { get; }

    public int Count => Members.Length;

    public int Quorum => Chain.Quorum.Size(Count);

    public int OneHonest => Chain.Quorum.OneHonest(Count);

    public Validator this[ValidatorIndex index] => Members[index.Value];

    public bool Contains(ValidatorIndex index) => index.Value < Count;

    public bool TryFind(PublicKey consensusKey, out ValidatorIndex index) => _byKey.TryGetValue(consensusKey, out index);

    /// <summary>Digest of all members in order; stands in every header.</summary>
    public Digest Hash()
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>();
        Write(new CanonicalWriter(buffer));
        return Digest.Sha256(DigestDomain.ValidatorSet, buffer.WrittenSpan);
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.Count(Count);
        foreach (var member in Members)
        {
            writer.Text(member.Name);
            writer.Key(member.ConsensusKey);
            writer.Key(member.ControlKey);
            writer.Key(member.CosignerKey);
            writer.Key(member.LogKey);
        }
    }
}
