using System.Buffers;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>What all validators start from. Its digest is the chain id: a validator with another genesis is on another chain.</summary>
public sealed class Genesis
{
    public const ushort Version = 1;

    /// <exception cref="InvariantViolation">Duplicate keys or a bad parameter: <see cref="Problems"/> reports these to people before.</exception>
    public Genesis(
        string name, Timestamp time, IEnumerable<Validator> validators, IEnumerable<Producer> producers, ChainParameters parameters, Operators? operators = null)
    {
        Operators = operators ?? Operators.None;
        Name = name;
        Time = time;
        Producers = new ProducerRegistry(producers);
        Parameters = parameters;
        var set = new ValidatorSet(validators);
        Chain = new ChainContext(HashOf(set), 0, set, parameters);
        Block = Core.Chain.Block.Genesis(Chain, parameters.Hash(), NewLedger().StateRoot(), time);
    }

    public string Name { get; }
    public Timestamp Time { get; }
    public ProducerRegistry Producers { get; }
    public ChainParameters Parameters { get; }

    /// <summary>Who may change validators and parameters later.</summary>
    public Operators Operators { get; }

    /// <summary>The first epoch.</summary>
    public ChainContext Chain { get; }

    /// <summary>The block at height 0.</summary>
    public Block Block { get; }

    public Ledger.Ledger NewLedger() => new(Chain, Producers, Time);

    private Digest HashOf(ValidatorSet set)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        var writer = new CanonicalWriter(buffer);
        writer.UInt16(Version);
        writer.Text(Name);
        writer.Time(Time);
        set.Write(writer);
        writer.Count(Producers.All.Length);
        foreach (var producer in Producers.All) producer.Write(writer);
        Parameters.Write(writer);
        Operators.Write(writer);
        return Digest.Sha256(DigestDomain.Genesis, buffer.WrittenSpan);
    }

    /// <summary>Everything wrong with the parts of a genesis, as sentences for the people who wrote it; empty when it is sound.</summary>
    public static ImmutableArray<string> Problems(
        IReadOnlyList<Validator> validators, IReadOnlyList<Producer> producers, ChainParameters parameters, Operators operators)
    {
        var problems = ImmutableArray.CreateBuilder<string>();
        if (validators.Count is 0 or > Limits.ValidatorsMax) problems.Add($"{validators.Count} validators; there must be 1 to {Limits.ValidatorsMax}");
        if (producers.Count > Limits.ProducersMax) problems.Add($"{producers.Count} producers; at most {Limits.ProducersMax} are allowed");
        var keys = new Dictionary<PublicKey, string>();
        var names = new HashSet<string>(System.StringComparer.Ordinal);
        foreach (var v in validators)
        {
            CheckName(v.Name, "validator", names, problems);
            CheckKey(v.ConsensusKey, $"consensus key of validator {v.Name}", keys, problems);
            CheckKey(v.ControlKey, $"control key of validator {v.Name}", keys, problems);
            CheckKey(v.CosignerKey, $"cosigner key of validator {v.Name}", keys, problems);
            CheckKey(v.LogKey, $"log key of validator {v.Name}", keys, problems);
        }

        foreach (var p in producers)
        {
            if (p.Problem() is { } doubt) problems.Add(doubt);
            else if (!names.Add(p.Name)) problems.Add($"the name {p.Name} is used twice");
            CheckKey(p.Key, $"key of producer {p.Name}", keys, problems);
        }

        if (operators.Problem() is { } ofOperators) problems.Add(ofOperators);
        if (parameters.Problem() is { } problem) problems.Add(problem);
        return problems.ToImmutable();
    }

    private static void CheckName(string name, string what, HashSet<string> names, ImmutableArray<string>.Builder problems)
    {
        if (name.Length is 0 or > Limits.NameBytesMax) problems.Add($"a {what} has the name '{name}'; names have 1 to {Limits.NameBytesMax} characters");
        else if (!names.Add(name)) problems.Add($"the name {name} is used twice");
    }

    private static void CheckKey(PublicKey key, string what, Dictionary<PublicKey, string> keys, ImmutableArray<string>.Builder problems)
    {
        if (!keys.TryAdd(key, what)) problems.Add($"{what} is also the {keys[key]}: every role needs a key of its own");
    }
}
