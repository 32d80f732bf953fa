using System;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Proofs;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What an auditor needs: the keys to believe, proofs, and checking both without a network.</summary>
internal static class ProofVerbs
{
    private const int FileBytesMax = 16 << 20;
    private const int RetriesMax = 50;

    public static Command Trust()
    {
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var export = new Command("export", "Write the policy of a chain: the one small file of keys that 'verify' and 'audit' need.") { genesis };
        export.SetAction(parsed => Console.Write(TrustPolicy.Of(GenesisFile.Load(parsed.GetValue(genesis)!.FullName).Chain)));
        return new Command("trust", "Whom a verifier believes.") { export };
    }

    public static Command Proof()
    {
        var id = new Argument<string>("id") { Description = "Id or digest of an alert, evidence or policy." };
        var url = ValidatorClient.UrlOption();
        var file = new Option<FileInfo>("-f", "--file") { Description = "Where the proof goes; without it to the output." };
        var message = new Option<FileInfo>("--message") { Description = "Where the message goes that the proof is about, as it was published." };
        var get = new Command("get", "Fetch the proof that a transaction is in the log. Waits a few seconds for the next checkpoint.") { id, url, file, message };
        get.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var name = Uri.EscapeDataString(parsed.GetValue(id)!);
            var proof = await FetchAsync(validator, "/v1/proofs/" + name, stop);
            if (parsed.GetValue(message) is { } record) await File.WriteAllBytesAsync(record.FullName, await validator.ReadAsync("/v1/messages/" + name, stop), stop);
            if (parsed.GetValue(file) is { } to) await File.WriteAllBytesAsync(to.FullName, proof, stop);
            else Console.Write(System.Text.Encoding.UTF8.GetString(proof));
            return ExitCode.Ok;
        });
        return new Command("proof", "Proofs that anyone can check.") { get };
    }

    private static async Task<byte[]> FetchAsync(ValidatorClient validator, string path, CancellationToken stop)
    {
        for (var i = 0; i < RetriesMax; i++)
        {
            var (status, body) = await validator.GetAsync(path, stop);
            if (status == HttpStatusCode.OK) return body;
            if (status != HttpStatusCode.ServiceUnavailable) break;
            await Task.Delay(100, stop);
        }

        return await validator.ReadAsync(path, stop);
    }

    public static Command Verify()
    {
        var file = new Argument<FileInfo>("file") { Description = "A .tlog-proof file." };
        var policyFile = PolicyFile();
        var message = new Option<FileInfo>("--message") { Description = "The record as it was published: is the proof about it?" };
        var command = new Command("verify", "Check a proof offline with a policy and say what was checked. Exit code 5 when anything does not hold.") { file, policyFile, message };
        command.SetAction(parsed =>
        {
            var policy = ReadPolicy(parsed.GetValue(policyFile)!);
            ReadOnlyMemory<byte>? record = parsed.GetValue(message) is { } given ? Read(given) : null;
            if (!LogProof.TryParse(Read(parsed.GetValue(file)!), out var proof, out var problem))
            {
                Console.WriteLine($"failed: this is no proof: {problem}");
                return ExitCode.VerificationFailed;
            }

            var verdict = new ProofVerifier(policy, new Ed25519Verifier()).Verify(proof, record);
            Say(verdict);
            if (!verdict.Passed) return ExitCode.VerificationFailed;
            var entry = verdict.Entry!;
            var time = DateTimeOffset.FromUnixTimeMilliseconds(entry.BlockTime.Milliseconds).UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);
            Console.WriteLine($"proven: {entry.Kind.Name()} {entry.Transaction} stands in block {entry.Height} at {time}, result {entry.Result.Code()}");
            if (record is null) Console.WriteLine("not checked: which message that digest is of (--message)");
            return ExitCode.Ok;
        });
        return command;
    }

    private static void Say(Verdict verdict)
    {
        foreach (var (passed, what) in verdict.Checks) Console.WriteLine($"{(passed ? "ok" : "failed")}: {what}");
    }

    public static Command Audit()
    {
        var url = ValidatorClient.UrlOption();
        var policyFile = PolicyFile();
        var directory = new Option<DirectoryInfo>("--dir") { Description = "Where the audit remembers what it saw, for the next one.", Required = true };
        var from = new Option<ulong?>("--from") { Description = "Download entries from this one on only; those below are taken from --dir. Without it all are compared again." };
        var command = new Command("audit", "Download the log, recompute its root, and compare with what the last audit saw. Exit code 5 when anything does not hold.") { url, policyFile, directory, from };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var audit = new LogAudit(ReadPolicy(parsed.GetValue(policyFile)!), new Ed25519Verifier(), parsed.GetValue(directory)!.FullName);
            foreach (var line in await audit.RunAsync(validator, parsed.GetValue(from) ?? 0, stop)) Console.WriteLine(line);
            return audit.Passed ? ExitCode.Ok : ExitCode.VerificationFailed;
        });
        return command;
    }

    private static Option<FileInfo> PolicyFile() => new("--policy") { Description = "The trust policy, from 'trust export'.", Required = true };

    private static byte[] Read(FileInfo file)
    {
        if (!file.Exists) throw new UserError($"{file} does not exist", "check the path");
        if (file.Length > FileBytesMax) throw new UserError($"{file} is larger than {FileBytesMax} bytes", "check the path");
        return File.ReadAllBytes(file.FullName);
    }

    private static TrustPolicy ReadPolicy(FileInfo file) =>
        TrustPolicy.TryParse(Read(file), out var policy, out var problem) ? policy : throw new UserError($"{file} is no policy: {problem}", "make one with 'cybermesh trust export --genesis GENESIS'");
}
