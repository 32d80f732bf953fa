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

    internal static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        AllowDuplicateProperties = false,
        WriteIndented = true,
        MaxDepth = 16,
        Converters = { new NeverBlockConverter() },
    };

    internal sealed record ValidatorEntry(string Name, string ConsensusKey, string ControlKey, string CosignerKey, string LogKey, string? Address = null)
    {
        public static ValidatorEntry Of(Validator v) => new(v.Name, v.ConsensusKey.ToString(), v.ControlKey.ToString(), v.CosignerKey.ToString(), v.LogKey.ToString(), v.Address);

        public Validator Read(List<string> problems) => new(
            Name ?? "", Key(ConsensusKey, $"consensus_key of {Name}", problems), Key(ControlKey, $"control_key of {Name}", problems), Key(CosignerKey, $"cosigner_key of {Name}", problems),
            Key(LogKey, $"log_key of {Name}", problems), Address ?? "");
    }

    private sealed record OperatorsEntry(int Threshold, string[] Keys);

    internal sealed record ProducerEntry(
        string Name, string Organisation, string Key, string[]? Kinds = null, string[]? Profiles = null, uint? QuotaPerSecond = null, ulong? ValidFrom = null, ulong? ValidTo = null, bool? Revoked = null)
    {
        public static ProducerEntry Of(Producer p) => new(
            p.Name, p.Organisation, p.Key.ToString(), [.. p.Kinds.Names()], Names(p.Profiles), p.QuotaPerSecond, p.ValidFrom.Value, p.ValidTo?.Value, p.Revoked);

        public Producer Read(List<string> problems) => new(
            GenesisFile.Key(Key, $"key of producer {Name}", problems), Name ?? "", Organisation ?? "", GenesisFile.Kinds(Kinds, problems), GenesisFile.Profiles(Profiles, problems),
            QuotaPerSecond ?? 1000, new Height(ValidFrom ?? 0), ValidTo is { } to ? new Height(to) : null, Revoked ?? false);
    }

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
        var validators = document.Validators.Select(v => v.Read(problems)).ToList();
        var producers = document.Producers.Select(p => p.Read(problems)).ToList();
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
            [.. validators.Select(ValidatorEntry.Of)], [.. producers.Select(ProducerEntry.Of)],
            parameters, operators.Keys.IsEmpty ? null : new OperatorsEntry(operators.Threshold, [.. operators.Keys.Select(k => k.ToString())]));
        File.WriteAllText(path, JsonSerializer.Serialize(document, Json) + "\n");
    }

    /// <summary>A JSON array of producers, as they stand in a genesis.</summary>
    /// <exception cref="UserError">It cannot be read, or is not sound.</exception>
    public static List<Producer> ReadProducers(string path)
    {
        try
        {
            var problems = new List<string>();
            var producers = (JsonSerializer.Deserialize<ProducerEntry[]>(File.ReadAllBytes(path), Json) ?? []).Select(p => p.Read(problems)).ToList();
            return problems.Count == 0 ? producers : throw new UserError($"{path} is not sound: {string.Join("; ", problems)}", "correct it");
        }
        catch (Exception problem) when (problem is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path} cannot be read: {problem.Message}", """write an array such as [{"name": "ids-1", "organisation": "acme", "key": "64 hex digits", "kinds": ["anomaly"], "profiles": ["v2"]}]""");
        }
    }

    internal static PublicKey Key(string? hex, string what, List<string> problems)
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
