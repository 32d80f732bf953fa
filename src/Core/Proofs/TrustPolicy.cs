using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// Whom a verifier believes, as C2SP tlog-policy writes it: keys of logs, keys of cosigners ("witnesses"), groups of them, and the group that must
/// have signed. The only thing a verifier has to be given by somebody it trusts. The consensus keys, which that format has no word for, stand in
/// comments that begin with <c>#cybermesh</c>: tools that know the format alone pass over them.
/// </summary>
public sealed class TrustPolicy
{
    private const int LinesMax = 8192;
    private const string Own = "#cybermesh";

    private sealed record Group(int Needed, ImmutableArray<string> Members);

    private readonly Dictionary<string, Group> _groups = new(StringComparer.Ordinal);
    private readonly SortedDictionary<ushort, Validator> _validators = [];
    private (Digest Id, ulong Epoch, int TermBlocks)? _chain;
    private string? _quorum;

    private TrustPolicy()
    {
    }

    /// <summary>Any of them may sign as the log.</summary>
    public List<NoteKey> Logs { get; } = [];

    /// <summary>By name, in the order of the file.</summary>
    public List<(string Name, NoteKey Key)> Witnesses { get; } = [];

    /// <summary>Whose votes certify blocks, and who signs control records (a file of an earlier version names no control keys); null when the policy does not say, and block proofs cannot be checked.</summary>
    public ChainContext? Chain { get; private set; }

    /// <summary>The policy of a chain: one log key and one cosigner key per validator, Q cosigners needed.</summary>
    public static string Of(ChainContext chain)
    {
        var text = new StringBuilder();
        var names = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Chain {chain.ChainId}, epoch {chain.Epoch}: {chain.Validators.Quorum} of {chain.Validators.Count} validators.\n");
        text.Append(CultureInfo.InvariantCulture, $"{Own} chain {chain.ChainId} epoch {chain.Epoch} term {chain.Parameters.TermBlocks}\n");
        foreach (var index in chain.Validators.Indices)
            text.Append(CultureInfo.InvariantCulture, $"{Own} validator {index} {LogNames.Label(chain, index)} {chain.Validators[index].ConsensusKey} {chain.Validators[index].ControlKey}\n");
        foreach (var index in chain.Validators.Indices) text.Append(CultureInfo.InvariantCulture, $"log {LogNames.LogKey(chain, index)}\n");
        foreach (var index in chain.Validators.Indices)
        {
            var name = LogNames.Label(chain, index);
            names.Append(' ').Append(name);
            text.Append(CultureInfo.InvariantCulture, $"witness {name} {LogNames.CosignerKey(chain, index)}\n");
        }

        return text.Append(CultureInfo.InvariantCulture, $"group validators {chain.Validators.Quorum}{names}\nquorum validators\n").ToString();
    }

    /// <summary>False with a sentence that names the line.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out TrustPolicy? policy, out string problem)
    {
        policy = null;
        problem = "the policy is larger than a policy can be, or not UTF-8 text";
        if (bytes.Length > SignedNote.BytesMax || !System.Text.Unicode.Utf8.IsValid(bytes)) return false;
        var read = new TrustPolicy();
        var lines = System.Text.Encoding.UTF8.GetString(bytes).Split('\n');
        problem = $"the policy has more than {LinesMax} lines";
        if (lines.Length > LinesMax) return false;
        for (var i = 0; i < lines.Length; i++)
        {
            var words = lines[i].Split([' ', '\t', '\r'], StringSplitOptions.RemoveEmptyEntries);
            if (words.Length == 0 || (words[0][0] == '#' && words[0] != Own) || read.Take(words) is not { } refused) continue;
            problem = string.Create(CultureInfo.InvariantCulture, $"line {i + 1}: {refused}");
            return false;
        }

        problem = "no line names the quorum";
        if (read._quorum is null) return false;
        problem = "no line names a log";
        if (read.Logs.Count == 0) return false;
        problem = "a chain needs validators, and validators a chain";
        if (read._chain is null != (read._validators.Count == 0)) return false;
        if (read._chain is { } chain)
            read.Chain = new ChainContext(chain.Id, chain.Epoch, ValidatorSet.AtPlaces(read._validators), new ChainParameters { TermBlocks = chain.TermBlocks });
        policy = read;
        return true;
    }

    private string? Take(string[] words)
    {
        switch (words[0])
        {
            case "log" when words.Length is 2 or 3:
                if (!NoteKey.TryParse(words[1], out var log) || log.Type != NoteKeyType.Ed25519) return "this is no log key";
                if (Logs.Contains(log)) return "this log key stands twice";
                Logs.Add(log);
                return null;
            case "witness" when words.Length is 3 or 4:
                if (IsTaken(words[1])) return $"the name '{words[1]}' is used twice";
                if (!NoteKey.TryParse(words[2], out var witness) || witness.Type != NoteKeyType.Cosignature) return "this is no cosigner key";
                // One key under two names would count twice.
                foreach (var (_, other) in Witnesses)
                    if (other.Key == witness.Key)
                        return "this cosigner key stands twice";
                Witnesses.Add((words[1], witness));
                return null;
            case "group" when words.Length >= 4:
                if (IsTaken(words[1])) return $"the name '{words[1]}' is used twice";
                var members = ImmutableArray.Create(words, 3, words.Length - 3);
                foreach (var member in members)
                    if (member == "none" || !IsTaken(member))
                        return $"'{member}' is no witness or group of a line above";
                if (new HashSet<string>(members, StringComparer.Ordinal).Count != members.Length) return "a member stands twice";
                var needed = words[2] switch { "all" => members.Length, "any" => 1, _ => int.TryParse(words[2], NumberStyles.None, CultureInfo.InvariantCulture, out var k) ? k : 0 };
                if (needed < 1 || needed > members.Length) return $"'{words[2]}' of {members.Length} members cannot be met or needs nobody";
                _groups.Add(words[1], new Group(needed, members));
                return null;
            case "quorum" when words.Length == 2:
                if (_quorum is not null) return "the quorum is named twice";
                if (words[1] == "none" || !IsTaken(words[1])) return $"the quorum must be a witness or a group of a line above, not '{words[1]}'";
                _quorum = words[1];
                return null;
            case Own when words.Length == 7 && words[1] == "chain" && words[3] == "epoch" && words[5] == "term":
                if (_chain is not null) return "the chain is named twice";
                if (!Digest.TryParse(words[2], out var id) || !LogCheckpoint.TryNumber(words[4], out var epoch) || !LogCheckpoint.TryNumber(words[6], out var term) || term is 0 or > int.MaxValue)
                    return "this is no chain: an id, its epoch, and the blocks of a term";
                _chain = (id, epoch, (int)term);
                return null;
            case Own when words.Length is 5 or 6 && words[1] == "validator":
                var control = default(PublicKey);
                if (!LogCheckpoint.TryNumber(words[2], out var place) || place >= Limits.PlacesMax || !PublicKey.TryParse(words[4], out var key) || (words.Length == 6 && !PublicKey.TryParse(words[5], out control)))
                    return "this is no validator: its place, name, consensus key and control key";
                if (_validators.Count == Limits.ValidatorsMax) return $"more than {Limits.ValidatorsMax} validators";
                foreach (var (_, other) in _validators)
                {
                    if (other.ConsensusKey == key) return "this consensus key stands twice";
                    if (words.Length == 6 && other.ControlKey == control) return "this control key stands twice";
                }

                return _validators.TryAdd((ushort)place, new Validator(words[3], key, control, default, default)) ? null : "this place is taken";
            default:
                return $"'{words[0]}' with {words.Length - 1} words after it means nothing here";
        }
    }

    private bool IsTaken(string name) => name == "none" || _groups.ContainsKey(name) || Find(name) is not null;

    private NoteKey? Find(string witness)
    {
        foreach (var (name, key) in Witnesses)
            if (name == witness)
                return key;
        return null;
    }

    /// <summary>Do the signatures of these witnesses meet the quorum?</summary>
    public bool IsMetBy(IReadOnlySet<string> signed) => Counts(_quorum!, signed) is var (have, needed) && have >= needed;

    /// <summary>Of the members of the quorum how many have signed, and how many must.</summary>
    public (int Have, int Needed) Quorum(IReadOnlySet<string> signed) => Counts(_quorum!, signed);

    private (int Have, int Needed) Counts(string name, IReadOnlySet<string> signed)
    {
        if (!_groups.TryGetValue(name, out var group)) return (signed.Contains(name) ? 1 : 0, 1);
        var have = 0;
        foreach (var member in group.Members)
            if (Counts(member, signed) is var (inner, needed) && inner >= needed)
                have++;
        return (have, group.Needed);
    }
}
