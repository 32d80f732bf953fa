using System;
using System.Collections.Generic;
using System.CommandLine;
using System.IO;
using System.Linq;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What was done at a validator's HTTP API: whether the record of it is whole.</summary>
internal static class AuditLogVerb
{
    public static Command Create() => new("audit-log", "Check the log of what was done at a validator's HTTP API.") { Verify() };

    private static Command Verify()
    {
        var directory = new Option<DirectoryInfo>("--dir") { Description = "The directory of the log: data/audit in the validator's home, or a copy.", Required = true };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis; the control keys in it count.", Required = true };
        var key = new Option<string[]>("--key") { Description = "A public key that counts instead: of AUDIT_SIGNING_KEY, or a control key that came later." };
        var seen = new Option<string?>("--seen") { Description = "What an earlier check has printed: that entry must still be there." };
        var command = new Command("verify", "Check every entry, its place and its signature. Exit code 5 when anything does not hold.") { directory, genesis, key, seen };
        command.SetAction(parsed =>
        {
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName).Chain;
            var given = (parsed.GetValue(key) ?? []).Select(KeyOf).ToList();
            IReadOnlyCollection<PublicKey> keys = given.Count > 0 ? given : [.. chain.Validators.Members.Select(v => v.ControlKey)];
            AuditHead? earlier = null;
            if (parsed.GetValue(seen) is { } text) earlier = AuditHead.TryParse(text, out var head) ? head : throw new UserError($"--seen {text} was not printed by this command", "give it as it was printed, NUMBER:HASH");
            if (!parsed.GetValue(directory)!.Exists) throw new UserError($"{parsed.GetValue(directory)} does not exist", "name the directory data/audit of a validator's home");
            var lines = AuditChain.Files(parsed.GetValue(directory)!.FullName).SelectMany(File.ReadLines);
            var problem = AuditChain.Check(lines, chain.ChainId, keys, earlier, new Ed25519Verifier(), out var last);
            if (problem is not null)
            {
                Console.Error.WriteLine($"error: {problem}; {last.Sequence} entries before it hold");
                return ExitCode.VerificationFailed;
            }

            Console.WriteLine($"{last.Sequence} entries hold; the last is\n{last}");
            return ExitCode.Ok;
        });
        return command;
    }

    private static PublicKey KeyOf(string hex) => PublicKey.TryParse(hex, out var key) ? key : throw new UserError($"--key {hex} is no public key", "give 64 hex digits");
}
