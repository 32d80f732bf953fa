using System;
using System.IO;
using System.Linq;
using CsCheck;
using CyberMesh.Fuzz;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The fuzz targets over the corpus in the repository, and over what chance makes of it; fuzz.sh looks much further.</summary>
public sealed class FuzzTests
{
    public static TheoryData<string> Targets => [.. FuzzTargets.All.Keys.Where(name => name != "canary")];

    private static byte[][] CorpusOf(string target) =>
        [.. Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "Corpus", target)).Order(StringComparer.Ordinal).Select(File.ReadAllBytes)];

    [Theory]
    [MemberData(nameof(Targets))]
    public void No_input_near_the_corpus_is_a_finding(string target)
    {
        var run = FuzzTargets.All[target];
        var corpus = CorpusOf(target);
        Assert.NotEmpty(corpus);
        foreach (var input in corpus) run(input);
        Gen.Select(Gen.Int[0, corpus.Length - 1], Gen.Int[0, int.MaxValue], Gen.Byte, Gen.Int[0, 8], Gen.Int[0, 3]).Sample(
            (which, at, value, length, how) =>
            {
                var input = corpus[which];
                var position = at % (input.Length + 1);
                run(how switch
                {
                    0 => [.. input[..position], value, .. input[Math.Min(input.Length, position + 1)..]],
                    1 => [.. input[..position], .. Enumerable.Repeat(value, length), .. input[position..]],
                    2 => input[..position],
                    _ => [.. input[..position], .. input[Math.Min(input.Length, position + length)..]],
                });
            },
            iter: target == "replica" ? 300 : 3000, threads: 1);
    }

    [Fact]
    public void The_corpus_in_the_repository_is_the_one_the_code_writes()
    {
        foreach (var (target, inputs) in Corpus.All())
            Assert.Equal(inputs.Select(Convert.ToHexString), CorpusOf(target).Take(inputs.Length).Select(Convert.ToHexString));
    }

    [Fact]
    public void The_canary_can_sing() => Assert.Throws<FuzzTargets.Finding>(() => FuzzTargets.All["canary"]([(byte)'C', (byte)'M', 0xfe, 150, 150]));
}
