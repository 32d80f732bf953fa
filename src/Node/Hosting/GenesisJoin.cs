using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Node.Hosting;

/// <summary>
/// What one party brings to the genesis of a chain: its validator, its operators, its producers. Signed with every key of the validator, so that nobody brings keys it does
/// not have, and nobody changes on the way what a party has brought.
/// </summary>
public sealed class GenesisJoin
{
    private const int FileBytesMax = 4 << 20;

    private sealed record Document(
        string Chain, GenesisFile.ValidatorEntry Validator, string[] Operators, GenesisFile.ProducerEntry[] Producers, string ConsensusSignature, string ControlSignature, string CosignerSignature, string LogSignature);

    private GenesisJoin(string chain, Validator validator, ImmutableArray<PublicKey> operators, ImmutableArray<Producer> producers) =>
        (Chain, Validator, Operators, Producers) = (chain, validator, operators, producers);

    /// <summary>Name of the chain that is to be.</summary>
    public string Chain { get; }

    public Validator Validator { get; }

    public ImmutableArray<PublicKey> Operators { get; }

    public ImmutableArray<Producer> Producers { get; }

    /// <summary>Lines of text, so that two programs cannot disagree about it.</summary>
    private byte[] Statement()
    {
        var text = new StringBuilder("cybermesh/genesis-join/v1\n");
        foreach (var line in new[] { Chain, Validator.Name, Validator.Address, $"{Validator.ConsensusKey} {Validator.ControlKey} {Validator.CosignerKey} {Validator.LogKey}" }) text.Append(line).Append('\n');
        foreach (var key in Operators) text.Append("operator ").Append(key).Append('\n');
        foreach (var p in Producers)
            text.Append("producer ").AppendJoin('\t', p.Name, p.Organisation, p.Key, (int)p.Kinds, (int)p.Profiles, p.QuotaPerSecond, p.ValidFrom, p.ValidTo, p.Revoked).Append('\n');
        return Encoding.UTF8.GetBytes(text.ToString());
    }

    /// <exception cref="UserError">A text has control characters.</exception>
    public static void Write(string path, string chain, string name, string address, Identity identity, IEnumerable<PublicKey> operators, IEnumerable<Producer> producers)
    {
        var join = new GenesisJoin(chain, identity.ToValidator(name, address), [.. operators], [.. producers]);
        join.CheckTexts(path);
        var statement = join.Statement();
        string Sign(ISigner key) => key.Sign(statement).ToString();
        var document = new Document(
            chain, GenesisFile.ValidatorEntry.Of(join.Validator), [.. join.Operators.Select(k => k.ToString())], [.. join.Producers.Select(GenesisFile.ProducerEntry.Of)],
            Sign(identity.Consensus), Sign(identity.Control), Sign(identity.Cosigner), Sign(identity.Log));
        File.WriteAllText(path, JsonSerializer.Serialize(document, GenesisFile.Json) + "\n");
    }

    /// <exception cref="UserError">It cannot be read, or is not signed with all keys it names.</exception>
    public static GenesisJoin Read(string path, ISignatureVerifier verifier)
    {
        Document document;
        try
        {
            if (new FileInfo(path).Length > FileBytesMax) throw new UserError($"{path} is larger than {FileBytesMax} bytes", "this is not what 'cybermesh genesis join' has written");
            document = JsonSerializer.Deserialize<Document>(File.ReadAllBytes(path), GenesisFile.Json) ?? throw new JsonException("there is nothing in it");
        }
        catch (Exception problem) when (problem is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path} cannot be read: {problem.Message}", "give the file that 'cybermesh genesis join' has written");
        }

        var problems = new List<string>();
        var operators = document.Operators.Select((key, i) => GenesisFile.Key(key, $"operator {i + 1}", problems)).ToImmutableArray();
        var join = new GenesisJoin(document.Chain, document.Validator.Read(problems), operators, [.. document.Producers.Select(p => p.Read(problems))]);
        if (problems.Count > 0) throw new UserError($"{path} is not sound: {string.Join("; ", problems)}", "ask for the file again");
        join.CheckTexts(path);
        var statement = join.Statement();
        foreach (var (role, key, signature) in new[]
                 {
                     ("consensus", join.Validator.ConsensusKey, document.ConsensusSignature), ("control", join.Validator.ControlKey, document.ControlSignature),
                     ("cosigner", join.Validator.CosignerKey, document.CosignerSignature), ("log", join.Validator.LogKey, document.LogSignature),
                 })
            if (!GenesisSignature.IsGenuine(key, statement, signature, verifier))
                throw new UserError($"{path} is not signed with the {role} key it names: it was changed on the way, or its keys are somebody else's", $"ask {join.Validator.Name} for the file again, over another way");
        return join;
    }

    private void CheckTexts(string path)
    {
        var texts = new[] { Chain, Validator.Name, Validator.Address }.Concat(Producers.SelectMany(p => new[] { p.Name, p.Organisation }));
        if (texts.Any(text => text.Any(char.IsControl))) throw new UserError($"{path}: a name has a control character in it", "write names in plain text");
    }
}

/// <summary>Says that a party has read a genesis and found its own validator in it.</summary>
public static class GenesisSignature
{
    private static byte[] Statement(Digest chainId) => Encoding.ASCII.GetBytes($"cybermesh/genesis-sign/v1\n{chainId}\n");

    private sealed record Document(string Chain, string ChainId, string Validator, string Signature);

    /// <param name="place">Of the identity in the set.</param>
    public static void Write(string path, Core.Replica.Genesis genesis, ValidatorIndex place, Identity identity) =>
        File.WriteAllText(path, JsonSerializer.Serialize(
            new Document(genesis.Name, genesis.Chain.ChainId.ToString(), genesis.Chain.Validators[place].Name, identity.Consensus.Sign(Statement(genesis.Chain.ChainId)).ToString()), GenesisFile.Json) + "\n");

    /// <summary>Whose it is.</summary>
    /// <exception cref="UserError">It is of another genesis, or not genuine.</exception>
    public static string Check(string path, Core.Replica.Genesis genesis, ISignatureVerifier verifier)
    {
        Document? document;
        try
        {
            document = JsonSerializer.Deserialize<Document>(File.ReadAllBytes(path), GenesisFile.Json);
        }
        catch (Exception problem) when (problem is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path} cannot be read: {problem.Message}", "give the file that 'cybermesh genesis sign' has written");
        }

        if (document?.ChainId != genesis.Chain.ChainId.ToString())
            throw new UserError($"{path} is about genesis {document?.ChainId}, and this one is {genesis.Chain.ChainId}", "the parties hold different files: compare them, and let all sign the same one");
        if (genesis.Chain.Validators.Members.FirstOrDefault(v => v.Name == document.Validator) is not { } validator || !IsGenuine(validator.ConsensusKey, Statement(genesis.Chain.ChainId), document.Signature, verifier))
            throw new UserError($"{path} is not signed by {document.Validator}", $"ask {document.Validator} for it again");
        return validator.Name;
    }

    internal static bool IsGenuine(PublicKey key, byte[] statement, string? hex, ISignatureVerifier verifier)
    {
        var bytes = new byte[Signature.Size];
        return hex?.Length == 2 * Signature.Size && Convert.FromHexString(hex, bytes, out _, out _) == System.Buffers.OperationStatus.Done && verifier.Verify(key, statement, Signature.From(bytes));
    }
}
