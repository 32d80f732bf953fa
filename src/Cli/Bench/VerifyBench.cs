using System;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;

namespace CyberMesh.Cli.Bench;

/// <summary>One signature check on one core: libsodium's, and with tables of the keys, alone and in batches. All by turns in one run, because the machine's speed changes.</summary>
internal static class VerifyBench
{
    private const int Rounds = 40;
    private static readonly int[] Batches = [8, 64, 512];

    /// <param name="Microseconds">Median of the rounds.</param>
    /// <param name="Ratio">How many of these in the time of one by libsodium.</param>
    private sealed record Line(string What, double Microseconds, double Ratio);

    private sealed record Report(string Instructions, int Keys, int MessageBytes, double TableMilliseconds, int TableBytes, Line[] Lines);

    public static Command Create()
    {
        var keys = new Option<int>("--keys") { Description = "So many keys sign by turns.", DefaultValueFactory = _ => 8 };
        var size = new Option<int>("--size") { Description = "Bytes of the signed message; 93 are those of profile v1.", DefaultValueFactory = _ => 93 };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("verify", "Signature checks on one core: libsodium, and tables of known keys.") { keys, size, json };
        command.SetAction(parsed =>
        {
            var report = Measure(parsed.GetValue(keys), parsed.GetValue(size));
            if (parsed.GetValue(json)) Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
            else
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{report.Keys} keys, messages of {report.MessageBytes} bytes, {report.Instructions}; a table of {report.TableBytes / 1024} KiB is made in {report.TableMilliseconds:F1} ms"));
                foreach (var line in report.Lines) Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{line.What,-24} {line.Microseconds,8:F1} us  {line.Ratio,5:F1} x"));
            }

            return ExitCode.Ok;
        });
        return command;
    }

    private static Report Measure(int keys, int size)
    {
        var library = new Ed25519Verifier();
        (string Instructions, ISignatureVerifier Verifier)[] widths = [.. KnownKeyVerifier.Widths.Select(instructions => (instructions, new KnownKeyVerifier(library, instructions: instructions)))];
        var tables = widths[0].Verifier;
        var signers = Enumerable.Range(0, keys).Select(_ => new Ed25519Signer(RandomNumberGenerator.GetBytes(32))).ToArray();
        var clock = Stopwatch.StartNew();
        foreach (var signer in signers)
        {
            var signature = signer.Sign([]);
            for (var i = 0; i < KnownKeyVerifier.SignaturesForTable - 1; i++) library.Verify(signer.PublicKey, [], signature);
        }

        var withoutTables = clock.Elapsed;
        clock.Restart();
        foreach (var signer in signers)
        {
            var signature = signer.Sign([]);
            for (var i = 0; i < KnownKeyVerifier.SignaturesForTable; i++) tables.Verify(signer.PublicKey, [], signature);
        }

        var ofTable = (clock.Elapsed - withoutTables).TotalMilliseconds / keys;
        foreach (var (_, narrower) in widths[1..])
            foreach (var signer in signers)
                for (var i = 0; i < KnownKeyVerifier.SignaturesForTable; i++)
                    narrower.Verify(signer.PublicKey, [], signer.Sign([]));
        var checks = Enumerable.Range(0, Batches[^1]).Select(i =>
        {
            var message = RandomNumberGenerator.GetBytes(size);
            return new SignatureCheck(signers[i % keys].PublicKey, message, signers[i % keys].Sign(message));
        }).ToArray();
        (string What, Action Run, int Count)[] runs =
        [
            ("libsodium", () => OneByOne(library, checks[..64]), 64),
            ("tables, one by one", () => OneByOne(tables, checks[..64]), 64),
            .. Batches.Select(batch => ($"tables, batches of {batch}", (Action)(() => Batch(tables, checks[..batch])), batch)),
            .. widths[1..].SelectMany(width => new (string, Action, int)[]
            {
                ($"{width.Instructions}, one by one", () => OneByOne(width.Verifier, checks[..64]), 64), ($"{width.Instructions}, batches of 64", () => Batch(width.Verifier, checks[..64]), 64),
            }),
        ];
        var times = runs.Select(_ => new double[Rounds]).ToArray();
        for (var round = -Rounds; round < Rounds; round++) // half of them until everything is compiled
            for (var i = 0; i < runs.Length; i++)
            {
                clock.Restart();
                runs[i].Run();
                if (round >= 0) times[i][round] = clock.Elapsed.TotalMicroseconds / runs[i].Count;
            }

        var medians = times.Select(t => t.Order().ElementAt(Rounds / 2)).ToArray();
        foreach (var signer in signers) signer.Dispose();
        return new Report(widths[0].Instructions, keys, size, ofTable, KnownKeyVerifier.BytesPerKey, [.. runs.Select((run, i) => new Line(run.What, medians[i], medians[0] / medians[i]))]);
    }

    private static void OneByOne(ISignatureVerifier verifier, SignatureCheck[] checks)
    {
        foreach (var check in checks) Invariant.Holds(verifier.Verify(check.Key, check.Message.Span, check.Signature), "a genuine signature is accepted");
    }

    private static void Batch(ISignatureVerifier verifier, SignatureCheck[] checks)
    {
        var verdicts = new bool[checks.Length];
        verifier.Verify(checks, verdicts);
        Invariant.Holds(!verdicts.Contains(false), "genuine signatures are accepted");
    }
}
