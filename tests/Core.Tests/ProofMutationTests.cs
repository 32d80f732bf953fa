using System;
using System.Linq;
using CyberMesh.Simulator;
using Xunit;
using static System.Text.Encoding;

namespace CyberMesh.Core.Tests;

/// <summary>A proof has one form: whatever is changed in it, it is no proof any more.</summary>
public sealed class ProofMutationTests
{
    private readonly ProofBench _bench = new();

    [Fact]
    public void Every_bit_of_a_proof_that_is_flipped_makes_it_fail()
    {
        var file = UTF8.GetBytes(_bench.Proof(0, 1, 3).ToString());
        Assert.True(_bench.Passes(file));
        for (var bit = 0; bit < 8 * file.Length; bit++)
        {
            file[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.False(_bench.Passes(file), $"bit {bit}");
            file[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }

    [Fact]
    public void Every_line_of_a_proof_that_is_dropped_doubled_or_swapped_makes_it_fail()
    {
        var lines = _bench.Proof(0, 1, 3).ToString().Split('\n');
        Assert.True(_bench.Passes(UTF8.GetBytes(string.Join('\n', lines))));
        for (var i = 0; i < lines.Length; i++)
        {
            Assert.False(_bench.Passes(UTF8.GetBytes(string.Join('\n', lines.Where((_, at) => at != i)))), $"without line {i}");
            // A newline more at the end of a note is not a line of it.
            Assert.False(_bench.Passes(UTF8.GetBytes(string.Join('\n', lines.SelectMany((line, at) => at == i ? [line, line] : new[] { line })))), $"line {i} twice");
            for (var j = i + 1; j < lines.Length; j++)
            {
                if (lines[i] == lines[j]) continue;
                (lines[i], lines[j]) = (lines[j], lines[i]);
                Assert.False(_bench.Passes(UTF8.GetBytes(string.Join('\n', lines))), $"lines {i} and {j}");
                (lines[i], lines[j]) = (lines[j], lines[i]);
            }
        }
    }

    [Fact]
    public void A_hundred_thousand_mutated_proofs_are_refused()
    {
        var right = UTF8.GetBytes(_bench.Proof(0, 1, 3).ToString());
        var prng = new Prng(1, "mutations");
        for (var i = 0; i < 100_000; i++)
        {
            var file = right;
            for (var changes = prng.Between(1, 3); changes > 0 && file.Length > 1; changes--) file = Mutate(file, prng);
            if (!file.AsSpan().SequenceEqual(right)) Assert.False(_bench.Passes(file), $"mutation {i}: {UTF8.GetString(file)}");
        }
    }

    private static byte[] Mutate(byte[] file, Prng prng)
    {
        var (at, length) = (prng.Below(file.Length), prng.Between(1, 40));
        var end = Math.Min(file.Length, at + length);
        var to = prng.Below(file.Length);
        return prng.Below(8) switch
        {
            // Most stay base64, so that what refuses them is a hash or a signature.
            > 4 => [.. file[..at], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"u8[prng.Below(64)], .. file[(at + 1)..]],
            0 => [.. file[..at], (byte)prng.Below(256), .. file[(at + 1)..]],
            1 => [.. file[..at], .. file[end..]],
            2 => [.. file[..to], .. file[at..end], .. file[to..]],
            3 => [.. file[..at], (byte)prng.Between(32, 126), .. file[at..]],
            _ => file[..at],
        };
    }
}
