using System;
using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using Xunit;
using static System.Text.Encoding;

namespace CyberMesh.Core.Tests;

/// <summary>What a certified header proves: a transaction of its block, and the state it names.</summary>
public sealed class BlockProofTests
{
    private readonly ProofBench _bench = new();
    private readonly Block _block;
    private readonly Block _child;

    public BlockProofTests()
    {
        _block = Samples.Block(Samples.Genesis.Block, default, 0, [Samples.Digest(1), Samples.Digest(2), _bench.Alert.Digest, Samples.Digest(4), Samples.Digest(5)]);
        _child = Samples.Block(_block, default, 0);
    }

    private Samples Samples => _bench.Samples;

    private CertifiedHeader Certified(params int[] signers) => new([_block.Header], Commit(_block, signers));

    private QuorumCertificate Commit(Block block, params int[] signers) => Samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, signers);

    private BlockProof Contains(CertifiedHeader block) => new(block, new BlockClaim.Contains(2, _bench.Alert.Digest, MerkleTree.Path(2, _block.Transactions.AsSpan())));

    private ProofVerifier Verifier => new(_bench.Policy, Samples.Signatures);

    private Verdict Verify(BlockProof proof, ReadOnlyMemory<byte>? record = null) => proof.Claim switch
    {
        BlockClaim.Contains contains => Verifier.Verify(proof.Block, contains, record ?? _bench.Alert.Record),
        BlockClaim.State state => Verifier.Verify(proof.Block, state, Key.Bytes.Span),
        _ => throw Invariant.Unreachable(proof.Claim),
    };

    private bool Passes(byte[] file) => BlockProof.TryParse(file, out var proof, out _) && Verify(proof).Passed;

    private static string Failure(Verdict verdict) => verdict.Checks.First(c => !c.Passed).What;

    private static StateKey Key => Parse("reputation:sensor");

    private static StateKey Parse(string text) => StateKey.TryParse(text, out var key) ? key : throw new InvalidOperationException(text);

    /// <summary>A state of many entries in which the key holds a value, or none; the block names its root.</summary>
    private BlockProof State(bool held)
    {
        var tree = new StateTree();
        for (byte i = 0; i < 50; i++) tree.Set([i], [i, i]);
        byte[] value = [0, 0, 2, 88, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
        if (held) tree.Set(Key.Bytes.Span, value);
        var block = new Block(_block.Header with { StateRoot = tree.Root() }, null, _block.Transactions);
        var claim = new BlockClaim.State(Key.Bytes, held ? value : null, tree.Prove(Key.Bytes.Span));
        return new BlockProof(new CertifiedHeader([block.Header], Commit(block, 0, 1, 2)), claim);
    }

    [Fact]
    public void A_certified_block_proves_its_transactions_and_the_message()
    {
        var proof = Contains(Certified(0, 1, 3));
        Assert.True(BlockProof.TryParse(UTF8.GetBytes(proof.ToString()), out var read, out _));
        Assert.Equal(proof.ToString(), read.ToString());
        var verdict = Verify(read);
        Assert.True(verdict.Passed);
        Assert.Equal(
            ["block 1 is certified by 3 of 3 needed", "transaction 2 of 5 is in the block", "the message is that transaction", $"signed by its producer {_bench.Alert.Producer}, profile v1"],
            verdict.Checks.Select(c => c.What));
        Assert.Contains("another one", Failure(Verify(read, _bench.Envelope(1, 2).Record)), StringComparison.Ordinal);
    }

    [Fact]
    public void Every_transaction_of_every_block_size_has_its_path()
    {
        for (var count = 1; count <= 33; count++)
        {
            var digests = Enumerable.Range(0, count).Select(i => Samples.Digest((byte)i)).ToArray();
            for (var i = 0; i < count; i++)
            {
                var path = MerkleTree.Path(i, digests);
                Assert.Equal(MerkleTree.Root(digests), MerkleProof.RootOf((ulong)i, (ulong)count, MerkleTree.Leaf(digests[i]), path.AsSpan()));
            }
        }
    }

    [Fact]
    public void A_descendant_certifies_the_block_and_nothing_else_does()
    {
        Assert.True(Verify(Contains(new CertifiedHeader([_block.Header, _child.Header], Commit(_child, 0, 2, 3)))).Passed);
        var other = Samples.Block(Samples.Genesis.Block, default, 0, Samples.Digest(9));
        foreach (var (block, why) in new (CertifiedHeader, string)[]
                 {
                     (Certified(0, 3), "certified by 2 of 3 needed"),
                     (new CertifiedHeader([_block.Header], Commit(_child, 0, 1, 2)), "certificate is of another block"),
                     (new CertifiedHeader([_block.Header], Samples.Certificate(CertificateKind.Prepare, default, _block.Height, _block.Digest, 0, 1, 2)), "certificate is of another block"),
                     (new CertifiedHeader([other.Header, _child.Header], Commit(_child, 0, 1, 2)), "do not follow one another"),
                     (new CertifiedHeader([_block.Header with { ChainId = Samples.Digest(7) }], Commit(_block, 0, 1, 2)), "another chain"),
                     (new CertifiedHeader([_block.Header], QuorumCertificate.ForGenesis(_block.Digest)), "certificate is of another block"),
                     (new CertifiedHeader([_block.Header], Samples.Certificate(CertificateKind.Commit, new View(1, 0), _block.Height, _block.Digest, 0, 1, 2)), "not one of these validators"),
                 })
            Assert.Contains(why, Failure(Verify(Contains(block))), StringComparison.Ordinal);
    }

    [Fact]
    public void A_quorum_of_another_chain_or_epoch_is_none()
    {
        foreach (var text in new[] { TrustPolicy.Of(Samples.Genesis.Chain with { Epoch = 1 }), TrustPolicy.Of(new Samples(7).Genesis.Chain) })
        {
            Assert.True(TrustPolicy.TryParse(UTF8.GetBytes(text), out var policy, out _));
            Assert.False(new ProofVerifier(policy, Samples.Signatures).Verify(Certified(0, 1, 2), (BlockClaim.Contains)Contains(Certified(0, 1, 2)).Claim, null).Passed);
        }
    }

    [Fact]
    public void A_policy_without_consensus_keys_proves_no_block()
    {
        var plain = string.Join('\n', TrustPolicy.Of(Samples.Genesis.Chain).Split('\n').Where(line => !line.StartsWith("#cybermesh", StringComparison.Ordinal)));
        Assert.True(TrustPolicy.TryParse(UTF8.GetBytes(plain), out var policy, out _));
        Assert.Contains("no consensus keys", Failure(new ProofVerifier(policy, Samples.Signatures).Verify(Certified(0, 1, 2), (BlockClaim.Contains)Contains(Certified(0, 1, 2)).Claim, null)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("#cybermesh validator 0 x", "means nothing")]
    [InlineData("#cybermesh nonsense", "means nothing")]
    [InlineData("#cybermesh validator 70000 x 00", "no validator")]
    [InlineData("#cybermesh chain 00 epoch 0 term 128", "named twice")]
    [InlineData("KEY AGAIN", "stands twice")]
    [InlineData("PLACE AGAIN", "is taken")]
    public void A_policy_says_what_is_wrong_with_its_consensus_keys(string line, string why)
    {
        var text = TrustPolicy.Of(Samples.Genesis.Chain);
        line = line.Replace("KEY AGAIN", "#cybermesh validator 9 x " + Samples.Genesis.Chain.Validators.Members[1].ConsensusKey, StringComparison.Ordinal)
            .Replace("PLACE AGAIN", "#cybermesh validator 1 x " + new string('a', 64), StringComparison.Ordinal);
        Assert.False(TrustPolicy.TryParse(UTF8.GetBytes(text + line + "\n"), out _, out var problem));
        Assert.Contains(why, problem, StringComparison.Ordinal);
    }

    [Fact]
    public void The_state_a_certified_header_names_is_proven_and_so_is_what_it_does_not_hold()
    {
        var (held, absent) = (State(held: true), State(held: false));
        Assert.True(Verify(held).Passed);
        Assert.True(Verify(absent).Passed);
        Assert.Equal("sensor has a reputation of 600, 9 messages accepted and 1 rejected", Key.Describe(((BlockClaim.State)held.Claim).Value));
        Assert.Null(Key.Describe([1, 2, 3]));

        var claim = (BlockClaim.State)held.Claim;
        var other = Parse("reputation:other").Bytes;
        Assert.Contains("another key", Failure(Verifier.Verify(held.Block, claim, other.Span)), StringComparison.Ordinal);
        foreach (var wrong in new[] { claim with { Value = null }, claim with { Value = new byte[20] }, (BlockClaim.State)absent.Claim, claim with { Key = other } })
            Assert.False(Verifier.Verify(held.Block, wrong, wrong.Key.Span).Passed);
    }

    public static TheoryData<string> Keys => [.. new[]
    {
        "alert:" + new string('a', 64), "evidence:" + new string('b', 64), "policy:" + new string('c', 64), "producer:" + new string('d', 64), "reputation:alpha sensor", "log",
    }];

    [Theory]
    [MemberData(nameof(Keys))]
    public void A_key_is_written_one_way(string text)
    {
        Assert.Equal(text, Parse(text).ToString());
        Assert.NotEmpty(Parse(text).DescribeAbsence());
        foreach (var wrong in new[] { text + "a", text + ":", "x" + text, text.Split(':')[0] + ":" })
            Assert.False(StateKey.TryParse(wrong, out var key) && key.Bytes.Span.SequenceEqual(Parse(text).Bytes.Span), wrong);
    }

    /// <summary>Everything a chain has written is under its key as <see cref="StateKey"/> says, with the value the ledger gives for it.</summary>
    [Fact]
    public void The_ledger_proves_each_kind_of_key()
    {
        var chain = new StateMachine();
        var alert = chain.Alert(chain.AlphaSensor, "a", 5);
        var policy = chain.BlockPolicy("p", "203.0.113.7");
        var evidence = chain.Evidence(chain.AlphaSensor, "e", alert.Digest);
        chain.Block(alert, evidence, policy);
        var said = new List<string>();
        foreach (var text in new[]
                 {
                     $"alert:{alert.Digest}", $"evidence:{evidence.Digest}", $"policy:{policy.Digest}", $"producer:{alert.Producer}", "log", $"reputation:alpha-sensor",
                     $"alert:{policy.Digest}", $"producer:{new string('1', 64)}", "reputation:nobody",
                 })
        {
            var key = Parse(text);
            var value = chain.Ledger.ValueOf(key);
            var claim = new BlockClaim.State(key.Bytes, value, chain.Ledger.CopyTree().Prove(key.Bytes.Span));
            Assert.True(claim.IsShownBy(chain.Ledger.StateRoot()), text);
            said.Add(value is null ? key.DescribeAbsence() : key.Describe(value)!);
        }

        Assert.Contains("Reported, 1 pieces of evidence", said[0], StringComparison.Ordinal);
        Assert.Contains("1 references, 0 of them dangling", said[1], StringComparison.Ordinal);
        Assert.Contains("Proposed until", said[2], StringComparison.Ordinal);
        Assert.Contains("from block 0", said[3], StringComparison.Ordinal);
        Assert.Contains("3 entries", said[4], StringComparison.Ordinal);
        Assert.Contains("reputation of 500", said[5], StringComparison.Ordinal);
        Assert.Equal(3, said.Skip(6).Distinct().Count());
    }

    [Fact]
    [Trait("Time", "long")]
    public void Every_bit_of_a_block_proof_that_is_flipped_makes_it_fail()
    {
        foreach (var proof in new[] { Contains(new CertifiedHeader([_block.Header, _child.Header], Commit(_child, 0, 1, 3))), State(held: true), State(held: false) })
        {
            var file = UTF8.GetBytes(proof.ToString());
            Assert.True(Passes(file));
            for (var bit = 0; bit < 8 * file.Length; bit++)
            {
                file[bit / 8] ^= (byte)(1 << (bit % 8));
                Assert.False(Passes(file), $"bit {bit}");
                file[bit / 8] ^= (byte)(1 << (bit % 8));
            }

            for (var length = 0; length < file.Length; length++) Assert.False(Passes(file[..length]));
            Assert.False(Passes([.. file, (byte)'\n']));
        }
    }
}
