using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Serialization;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Node.Hosting;

/// <summary>genesis.json: equal on all validators. Read strictly; every problem is reported with all others.</summary>
public static class GenesisFile
{
    private const int FileBytesMax = 16 << 20;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        AllowDuplicateProperties = false,
        WriteIndented = true,
        MaxDepth = 16,
        Converters = { new NeverBlockConverter() },
    };

    private sealed record ValidatorEntry(string Name, string ConsensusKey, string ControlKey, string CosignerKey, string LogKey, string? Address = null);

    private sealed record OperatorsEntry(int Threshold, string[] Keys);

    private sealed record ProducerEntry(
        string Name, string Organisation, string Key, string[]? Kinds, string[]? Profiles, uint? QuotaPerSecond, ulong? ValidFrom, ulong? ValidTo, bool? Revoked);

    private sealed record Document(int Version, string Name, DateTimeOffset Time, ValidatorEntry[] Validators, ProducerEntry[] Producers, ChainParameters? Parameters, OperatorsEntry? Operators = null);

    /// <exception cref="UserError">Missing, not JSON, or not a sound genesis.</exception>
    public static Genesis Load(string path)
    {
        if (!File.Exists(path)) throw new UserError($"{path} does not exist", "copy genesis.json from the other validators, or run 'cybermesh testnet'");
        if (new FileInfo(path).Length > FileBytesMax) throw new UserError($"{path} is larger than {FileBytesMax} bytes", "this is not a genesis file");
        Document? document;
        try
        {
            document = JsonSerializer.Deserialize<Document>(File.ReadAllBytes(path), Json);
        }
        catch (JsonException problem)
        {
            throw new UserError($"{path}, line {problem.LineNumber + 1}: {problem.Message}", "compare it with the genesis of another validator");
        }

        return Parse(path, document);
    }

    private static Genesis Parse(string path, Document? document)
    {
        var problems = new List<string>();
        if (document is null || document.Validators is null || document.Producers is null || document.Name is null)
            throw new UserError($"{path} lacks name, validators or producers", "compare it with the genesis of another validator");
        if (document.Version != Genesis.Version) problems.Add($"version {document.Version} is unknown; this program reads version {Genesis.Version}");
        var validators = document.Validators.Select(v => new Validator(
            v.Name ?? "", Key(v.ConsensusKey, $"consensus_key of {v.Name}", problems), Key(v.ControlKey, $"control_key of {v.Name}", problems),
            Key(v.CosignerKey, $"cosigner_key of {v.Name}", problems), Key(v.LogKey, $"log_key of {v.Name}", problems), v.Address ?? "")).ToList();
        var producers = document.Producers.Select(p => new Producer(
            Key(p.Key, $"key of producer {p.Name}", problems), p.Name ?? "", p.Organisation ?? "", Kinds(p.Kinds, problems), Profiles(p.Profiles, problems),
            p.QuotaPerSecond ?? 1000, new Height(p.ValidFrom ?? 0), p.ValidTo is { } to ? new Height(to) : null, p.Revoked ?? false)).ToList();
        var parameters = document.Parameters ?? new ChainParameters();
        var operators = document.Operators is { Keys: not null } entry
            ? Operators.From(entry.Threshold, entry.Keys.Select((key, i) => Key(key, $"key {i + 1} of the operators", problems)))
            : Operators.None;
        if (problems.Count == 0) problems.AddRange(Genesis.Problems(validators, producers, parameters, operators));
        if (problems.Count > 0) throw new UserError($"{path} is not a sound genesis: {string.Join("; ", problems)}", "correct it on every validator alike");
        return new Genesis(document.Name, new Timestamp(document.Time.ToUnixTimeMilliseconds()), validators, producers, parameters, operators);
    }

    public static void Save(string path, string name, DateTimeOffset time, IEnumerable<Validator> validators, IEnumerable<Producer> producers, ChainParameters parameters, Operators operators)
    {
        var document = new Document(
            Genesis.Version, name, time,
            [.. validators.Select(v => new ValidatorEntry(v.Name, v.ConsensusKey.ToString(), v.ControlKey.ToString(), v.CosignerKey.ToString(), v.LogKey.ToString(), v.Address))],
            [.. producers.Select(p => new ProducerEntry(
                p.Name, p.Organisation, p.Key.ToString(), [.. p.Kinds.Names()], Names(p.Profiles), p.QuotaPerSecond, p.ValidFrom.Value, p.ValidTo?.Value, p.Revoked))],
            parameters, operators.Keys.IsEmpty ? null : new OperatorsEntry(operators.Threshold, [.. operators.Keys.Select(k => k.ToString())]));
        File.WriteAllText(path, JsonSerializer.Serialize(document, Json) + "\n");
    }

    private static PublicKey Key(string? hex, string what, List<string> problems)
    {
        if (PublicKey.TryParse(hex, out var key)) return key;
        problems.Add($"{what} is not 64 hex digits");
        return default;
    }

    private static AlertKinds Kinds(string[]? names, List<string> problems)
    {
        if (names is null) return AlertKinds.All;
        var kinds = AlertKinds.None;
        foreach (var name in names)
        {
            if (name is "anomaly") kinds |= AlertKinds.Anomaly;
            else if (name is "evidence") kinds |= AlertKinds.Evidence;
            else if (name is "policy") kinds |= AlertKinds.Policy;
            else if (name is "verdict") kinds |= AlertKinds.Verdict;
            else if (name is "approval") kinds |= AlertKinds.Approval;
            else problems.Add($"kind '{name}' is unknown; use anomaly, evidence, policy, verdict or approval");
        }

        return kinds;
    }

    private static SigningProfiles Profiles(string[]? names, List<string> problems)
    {
        if (names is null) return SigningProfiles.V1;
        var profiles = SigningProfiles.None;
        foreach (var name in names)
        {
            if (name is "v1") profiles |= SigningProfiles.V1;
            else if (name is "v2") profiles |= SigningProfiles.V2;
            else problems.Add($"profile '{name}' is unknown; use v1 or v2");
        }

        return profiles;
    }

    private static string[] Names<T>(T flags) where T : struct, Enum =>
        [.. Enum.GetValues<T>().Where(f => flags.HasFlag(f) && System.Numerics.BitOperations.PopCount(Convert.ToUInt32(f, null)) == 1).Select(f => f.ToString().ToLowerInvariant())];
}
