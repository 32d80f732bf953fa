using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using CyberMesh.Node.Crypto;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>'verify' on proofs that a real network has made: what it says, and that it never passes on a part of it.</summary>
public sealed class VerifyTests
{
    private const string Digest = "06cd64e603c59c04070d354f55e53a6ec43d0094a30bb9c46b82825284e23f2f";

    private static string In(string file) => Path.Combine(Paths.Root, "tests/Node.Tests/Proofs", file);

    private static async Task<(int Code, string Output)> VerifyAsync(string file, params string[] more)
    {
        var start = new System.Diagnostics.ProcessStartInfo("dotnet", [Paths.Program, "verify", file, "--policy", In("trust.policy"), .. more]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = System.Diagnostics.Process.Start(start)!;
        var (output, errors) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(2));
        return (process.ExitCode, await output + await errors);
    }

    public static TheoryData<string, string[], int, string> Cases => new()
    {
        { "alert.tlog-proof", [], 0, "not checked: which message" },
        { "alert.tlog-proof", ["--message", "alert.record"], 0, "result accepted" },
        { "alert.tlog-proof", ["--message", "trust.policy"], 5, "failed: the message" },
        { "alert.tlog-proof", ["--state", "log"], 5, "about the log, not about the state" },
        { "alert.block-proof", [], 0, "not checked: what came of it" },
        { "alert.block-proof", ["--message", "alert.record"], 0, "ok: signed by its producer" },
        { "alert.block-proof", ["--message", "state.block-proof"], 5, "another one than that transaction" },
        { "alert.block-proof", ["--state", "alert:" + Digest], 5, "not about the state" },
        { "state.block-proof", ["--state", "alert:" + Digest], 0, "of producer-2 (beta), block 38, severity 3: Corroborated" },
        { "state.block-proof", ["--state", "evidence:" + Digest], 5, "about another key" },
        { "state.block-proof", [], 5, "say about which key" },
        { "state.block-proof", ["--state", "alert:" + Digest, "--message", "alert.record"], 5, "about no message" },
        { "state.block-proof", ["--state", "alert:12"], 1, "is no key of the state. Use one of: alert:DIGEST" },
        { "absent.block-proof", ["--state", "policy:" + Digest], 0, "not proposed and not in force" },
        { "trust.policy", [], 5, "this is no proof" },
        { "missing", [], 1, "does not exist" },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Verify_says_what_it_checked_and_what_not(string file, string[] more, int code, string says)
    {
        var result = await VerifyAsync(In(file), [.. more.Select((argument, i) => i > 0 && more[i - 1] == "--message" ? In(argument) : argument)]);
        Assert.Contains(says, result.Output, StringComparison.Ordinal);
        Assert.Equal(code, result.Code);
    }

    /// <summary>With real keys: whatever byte is changed, in the proof or in the keys that are believed, it does not pass.</summary>
    [Fact]
    public void No_byte_of_a_real_proof_can_change()
    {
        var policy = File.ReadAllBytes(In("trust.policy"));
        var record = File.ReadAllBytes(In("alert.record"));
        Assert.True(StateKeyOf(out var key));
        foreach (var name in new[] { "alert.tlog-proof", "alert.block-proof", "state.block-proof" })
        {
            var file = File.ReadAllBytes(In(name));
            Assert.True(Passes(file, policy, record, key), name);
            for (var i = 0; i < file.Length; i++)
            {
                file[i] ^= 1;
                Assert.False(Passes(file, policy, record, key), $"{name}, byte {i}");
                file[i] ^= 1;
            }
        }
    }

    private static bool StateKeyOf(out byte[] key)
    {
        var parsed = Core.Ledger.StateKey.TryParse("alert:" + Digest, out var state);
        key = state?.Bytes.ToArray() ?? [];
        return parsed;
    }

    private static bool Passes(byte[] file, byte[] policyFile, byte[] record, byte[] key)
    {
        if (!TrustPolicy.TryParse(policyFile, out var policy, out _)) return false;
        var verifier = new ProofVerifier(policy, new Ed25519Verifier());
        if (LogProof.TryParse(file, out var log, out _)) return verifier.Verify(log, record).Passed;
        return BlockProof.TryParse(file, out var block, out _) && block.Claim switch
        {
            BlockClaim.Contains contains => verifier.Verify(block.Block, contains, record).Passed,
            BlockClaim.State state => verifier.Verify(block.Block, state, key).Passed,
            _ => throw Invariant.Unreachable(block.Claim),
        };
    }
}
