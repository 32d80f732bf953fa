using System;
using System.CommandLine;
using System.Globalization;
using System.IO;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Cli.Verbs;

/// <summary>Checks a proof with a policy and nothing else: no network, no settings. A verb of the program, and a program of its own.</summary>
internal static class VerifyVerb
{
    private const int FileBytesMax = 16 << 20;

    /// <summary>Adds what the verb takes to a command, and what it does.</summary>
    public static T On<T>(T command) where T : Command
    {
        var file = new Argument<FileInfo>("file") { Description = "A proof: from 'proof get', 'proof get --now' or 'proof state'." };
        var policyFile = PolicyFile();
        var message = new Option<FileInfo>("--message") { Description = "The record as it was published: is the proof about it?" };
        var state = new Option<string>("--state") { Description = "The proof is about this key of the state: " + StateKey.Forms + "." };
        foreach (var symbol in new Symbol[] { file, policyFile, message, state })
            if (symbol is Argument argument) command.Add(argument);
            else command.Add((Option)symbol);
        command.SetAction(parsed =>
        {
            var policy = ReadPolicy(parsed.GetValue(policyFile)!);
            var bytes = Read(parsed.GetValue(file)!);
            ReadOnlyMemory<byte>? record = null;
            if (parsed.GetValue(message) is { } given) record = Read(given);
            StateKey? key = null;
            if (parsed.GetValue(state) is { } text && !StateKey.TryParse(text, out key)) throw new UserError($"--state {text} is no key of the state", "use one of: " + StateKey.Forms);
            return BlockProof.IsOne(bytes) ? BlockSays(bytes, policy, record, key) : LogSays(bytes, policy, record, key);
        });
        return command;
    }

    private static int LogSays(byte[] file, TrustPolicy policy, ReadOnlyMemory<byte>? record, StateKey? key)
    {
        if (key is not null) return Refuse("this is a proof about the log, not about the state");
        if (!LogProof.TryParse(file, out var proof, out var problem)) return Refuse("this is no proof: " + problem);
        var verdict = new ProofVerifier(policy, new Ed25519Verifier()).Verify(proof, record);
        if (!Say(verdict)) return ExitCode.VerificationFailed;
        var entry = verdict.Entry!;
        Console.WriteLine($"proven: {entry.Kind.Name()} {entry.Transaction} stands in block {entry.Height} at {Time(entry.BlockTime)}, result {entry.Result.Code()}");
        return UnlessGiven(record);
    }

    private static int BlockSays(byte[] file, TrustPolicy policy, ReadOnlyMemory<byte>? record, StateKey? key)
    {
        if (!BlockProof.TryParse(file, out var proof, out var problem)) return Refuse("this is no proof: " + problem);
        var verifier = new ProofVerifier(policy, new Ed25519Verifier());
        var header = proof.Block.Header;
        switch (proof.Claim)
        {
            case BlockClaim.Contains contains:
                if (key is not null) return Refuse("this is a proof about a transaction, not about the state");
                if (!Say(verifier.Verify(proof.Block, contains, record))) return ExitCode.VerificationFailed;
                Console.WriteLine($"proven: transaction {contains.Transaction} stands in block {header.Height} at {Time(header.Time)}");
                Console.WriteLine("not checked: what came of it; the proof from the log's next checkpoint says that ('proof get' without --now)");
                return UnlessGiven(record);
            case BlockClaim.State claim:
                if (key is null) return Refuse("this is a proof about the state: say about which key (--state)");
                if (record is not null) return Refuse("a proof about the state is about no message (--message)");
                var verdict = verifier.Verify(proof.Block, claim, key.Bytes.Span);
                if (!Say(verdict)) return ExitCode.VerificationFailed;
                var says = claim.Value is { } value ? key.Describe(value) : key.DescribeAbsence();
                if (says is null) return Refuse("the value under the key is of a kind this version does not know");
                Console.WriteLine($"proven: after block {header.RootHeight}, {says}");
                return ExitCode.Ok;
            default:
                throw Invariant.Unreachable(proof.Claim);
        }
    }

    private static int UnlessGiven(ReadOnlyMemory<byte>? record)
    {
        if (record is null) Console.WriteLine("not checked: which message that digest is of (--message)");
        return ExitCode.Ok;
    }

    private static int Refuse(string why)
    {
        Console.WriteLine("failed: " + why);
        return ExitCode.VerificationFailed;
    }

    private static bool Say(Verdict verdict)
    {
        foreach (var (passed, what) in verdict.Checks) Console.WriteLine($"{(passed ? "ok" : "failed")}: {what}");
        return verdict.Passed;
    }

    private static string Time(Timestamp time) =>
        DateTimeOffset.FromUnixTimeMilliseconds(time.Milliseconds).UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    internal static Option<FileInfo> PolicyFile() => new("--policy") { Description = "The trust policy, from 'trust export'.", Required = true };

    internal static TrustPolicy ReadPolicy(FileInfo file) =>
        TrustPolicy.TryParse(Read(file), out var policy, out var problem) ? policy : throw new UserError($"{file} is no policy: {problem}", "make one with 'cybermesh trust export --genesis GENESIS'");

    private static byte[] Read(FileInfo file)
    {
        if (!file.Exists) throw new UserError($"{file} does not exist", "check the path");
        if (file.Length > FileBytesMax) throw new UserError($"{file} is larger than {FileBytesMax} bytes", "check the path");
        return File.ReadAllBytes(file.FullName);
    }
}
