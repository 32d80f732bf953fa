using System;
using System.CommandLine;
using System.IO;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What an auditor needs: the keys to believe, proofs, and checking both without a network.</summary>
internal static class ProofVerbs
{

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
        var now = new Option<bool>("--now") { Description = "Do not wait for the log's next checkpoint: the certified block it stands in, which does not say what came of it." };
        var get = new Command("get", "Fetch the proof that a transaction is in the log. Waits a few seconds for the next checkpoint.") { id, url, file, message, now };
        get.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var name = Uri.EscapeDataString(parsed.GetValue(id)!);
            var proof = await FetchAsync(validator, (parsed.GetValue(now) ? "/v1/block-proofs/" : "/v1/proofs/") + name, seconds: 5, stop);
            if (parsed.GetValue(message) is { } record) await File.WriteAllBytesAsync(record.FullName, await validator.ReadAsync("/v1/messages/" + name, stop), stop);
            await GiveAsync(proof, parsed.GetValue(file), stop);
            return ExitCode.Ok;
        });

        var key = new Argument<string>("key") { Description = "What to ask for: " + StateKey.Forms + "." };
        var wait = new Option<int>("--wait") { Description = "Ask again for so many seconds until a certified header names the state.", DefaultValueFactory = _ => 5 };
        var state = new Command("state", "Fetch the proof of what the state holds under a key, or that it holds nothing.") { key, url, file, wait };
        state.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var path = "/v1/state/" + Uri.EscapeDataString(parsed.GetValue(key)!);
            await GiveAsync(await FetchAsync(validator, path, parsed.GetValue(wait), stop), parsed.GetValue(file), stop);
            return ExitCode.Ok;
        });
        return new Command("proof", "Proofs that anyone can check.") { get, state };
    }

    private static async Task GiveAsync(byte[] proof, FileInfo? file, CancellationToken stop)
    {
        if (file is not null) await File.WriteAllBytesAsync(file.FullName, proof, stop);
        else Console.Write(System.Text.Encoding.UTF8.GetString(proof));
    }

    private static async Task<byte[]> FetchAsync(ValidatorClient validator, string path, int seconds, CancellationToken stop)
    {
        for (var i = 0; i < 10 * seconds; i++)
        {
            var (status, body) = await validator.GetAsync(path, stop);
            if (status == HttpStatusCode.OK) return body;
            if (status != HttpStatusCode.ServiceUnavailable) break;
            await Task.Delay(100, stop);
        }

        return await validator.ReadAsync(path, stop);
    }

    public static Command Audit()
    {
        var url = ValidatorClient.UrlOption();
        var policyFile = VerifyVerb.PolicyFile();
        var directory = new Option<DirectoryInfo>("--dir") { Description = "Where the audit remembers what it saw, for the next one.", Required = true };
        var from = new Option<ulong?>("--from") { Description = "Download entries from this one on only; those below are taken from --dir. Without it all are compared again." };
        var command = new Command("audit", "Download the log, recompute its root, and compare with what the last audit saw. Exit code 5 when anything does not hold.") { url, policyFile, directory, from };
        command.SetAction(async (parsed, stop) =>
        {
            using var validator = new ValidatorClient(parsed.GetValue(url)!);
            var audit = new LogAudit(VerifyVerb.ReadPolicy(parsed.GetValue(policyFile)!), new Ed25519Verifier(), parsed.GetValue(directory)!.FullName);
            foreach (var line in await audit.RunAsync(validator, parsed.GetValue(from) ?? 0, stop)) Console.WriteLine(line);
            return audit.Passed ? ExitCode.Ok : ExitCode.VerificationFailed;
        });
        return command;
    }
}
