using System;
using System.Collections.Generic;
using System.CommandLine;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What was done at a validator's HTTP API: whether the record of it is whole.</summary>
internal static class AuditLogVerb
{
    private const int AnchorsMax = 100_000;

    public static Command Create() => new("audit-log", "Check the log of what was done at a validator's HTTP API.") { Verify() };

    private static Command Verify()
    {
        var directory = new Option<DirectoryInfo>("--dir") { Description = "The directory of the log: data/audit in the validator's home, or a copy.", Required = true };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis; the control keys in it count.", Required = true };
        var key = new Option<string[]>("--key") { Description = "A public key that counts instead: of AUDIT_SIGNING_KEY, or a control key that came later." };
        var seen = new Option<string?>("--seen") { Description = "What an earlier check has printed: that entry must still be there." };
        var anchors = new Option<string?>("--anchors") { Description = "URL of a validator, better another's: every head of the log that it has committed must be in the log; needs --anchor-key." };
        var anchorKey = new Option<string?>("--anchor-key") { Description = "The public key that has signed those heads, of AUDIT_ANCHOR_KEY_FILE." };
        var command = new Command("verify", "Check every entry, its place and its signature. Exit code 5 when anything does not hold.") { directory, genesis, key, seen, anchors, anchorKey };
        command.SetAction(async (parsed, stop) =>
        {
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName).Chain;
            var given = (parsed.GetValue(key) ?? []).Select(KeyOf).ToList();
            IReadOnlyCollection<PublicKey> keys = given.Count > 0 ? given : [.. chain.Validators.Members.Select(v => v.ControlKey)];
            var earlier = new HashSet<AuditHead>();
            if (parsed.GetValue(seen) is { } text) earlier.Add(AuditHead.TryParse(text, out var head) ? head : throw new UserError($"--seen {text} was not printed by this command", "give it as it was printed, NUMBER:HASH"));
            if (parsed.GetValue(anchors) is null != parsed.GetValue(anchorKey) is null) throw new UserError("--anchors and --anchor-key belong together", "give both or none");
            if (parsed.GetValue(anchors) is { } validator) earlier.UnionWith(await AnchoredAsync(validator, chain.ChainId, KeyOf(parsed.GetValue(anchorKey)!), stop));
            if (!parsed.GetValue(directory)!.Exists) throw new UserError($"{parsed.GetValue(directory)} does not exist", "name the directory data/audit of a validator's home");
            var lines = AuditChain.Files(parsed.GetValue(directory)!.FullName).SelectMany(File.ReadLines);
            var problem = AuditChain.Check(lines, chain.ChainId, keys, earlier, new Ed25519Verifier(), out var last);
            if (problem is not null)
            {
                Console.Error.WriteLine($"error: {problem}; {last.Sequence} entries before it hold");
                return ExitCode.VerificationFailed;
            }

            Console.WriteLine($"{last.Sequence} entries hold{(earlier.Count == 0 ? "" : $" (known heads among them: {earlier.Count})")}; the last is\n{last}");
            return ExitCode.Ok;
        });
        return command;
    }

    /// <summary>Heads of the log in committed evidence. What was signed counts, not what the validator says of it; one that leaves some out is found by asking another.</summary>
    private static async Task<List<AuditHead>> AnchoredAsync(string url, Digest chainId, PublicKey key, CancellationToken stop)
    {
        using var validator = new ValidatorClient(url);
        var authenticator = new EnvelopeAuthenticator(new Ed25519Verifier());
        var heads = new List<AuditHead>();
        var cursor = "";
        do
        {
            var page = await validator.ReadJsonAsync($"/v1/evidence?type={AuditAnchor.EvidenceType}&limit=500{cursor}", stop);
            foreach (var entry in page["evidence"]!.AsArray())
            {
                var record = await validator.ReadAsync($"/v1/messages/{entry!["digest"]}", stop);
                if (EnvelopeDecoder.TryDecode(AlertKind.Evidence, record, out var envelope, out _) && envelope.Producer == key && authenticator.TryAuthenticate(envelope, SigningProfiles.V2, out _) &&
                    AuditAnchor.TryDecode((AlertContent.Evidence)envelope.Content, chainId, out var head))
                    heads.Add(head);
            }

            cursor = (string?)page["next"] is { } next ? "&cursor=" + next : "";
        }
        while (cursor.Length > 0 && heads.Count < AnchorsMax);

        return heads.Count > 0 ? heads : throw new UserError($"{url} has committed no head of an audit log signed by {key}", "see AUDIT_ANCHOR_KEY_FILE in docs/cli.md, or ask another validator");
    }

    private static PublicKey KeyOf(string hex) => PublicKey.TryParse(hex, out var key) ? key : throw new UserError($"--key {hex} is no public key", "give 64 hex digits");
}
