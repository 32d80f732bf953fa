using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using Xunit;
using static System.Text.Encoding;

namespace CyberMesh.Core.Tests;

/// <summary>The transparency log (rules W1 to W3), its proofs, and the formats they travel in.</summary>
public sealed class ProofTests
{
    private readonly ProofBench _bench = new();

    private Samples Samples => _bench.Samples;

    [Fact]
    public void W1_the_log_has_the_roots_published_for_certificate_transparency()
    {
        string[] leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        string[] roots =
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        var log = new LogTree();
        Assert.Equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", log.Root().ToString());
        for (var i = 0; i < leaves.Length; i++)
        {
            log.Append(Digest.From(SHA256.HashData([0, .. System.Convert.FromHexString(leaves[i])])));
            Assert.Equal(roots[i], log.Root().ToString());
        }
    }

    [Fact]
    public void Inclusion_is_proven_for_every_leaf_of_every_size_and_for_nothing_else()
    {
        var log = new LogTree();
        for (var size = 1; size <= 40; size++)
        {
            log.Append(ProofBench.Leaves[size - 1]);
            var root = ProofBench.Mth(ProofBench.Leaves.AsSpan(0, size));
            Assert.Equal(root, log.Root());
            Assert.Equal(root, MerkleProof.Root((ulong)size, ProofBench.Node));
            for (var i = 0; i < size; i++)
            {
                var path = MerkleProof.Inclusion((ulong)i, (ulong)size, ProofBench.Node);
                Assert.Equal(root, MerkleProof.RootOf((ulong)i, (ulong)size, ProofBench.Leaves[i], path.AsSpan()));
                Assert.NotEqual(root, MerkleProof.RootOf((ulong)i, (ulong)size, Samples.Digest(1), path.AsSpan()));
                Assert.NotEqual(root, MerkleProof.RootOf((ulong)i, (ulong)size, ProofBench.Leaves[i], path.Add(Samples.Digest(1)).AsSpan()));
                if (path.Length > 0) Assert.NotEqual(root, MerkleProof.RootOf((ulong)i, (ulong)size, ProofBench.Leaves[i], path.AsSpan(1, path.Length - 1)));
                for (var other = 0; other < size; other++)
                    if (other != i)
                        Assert.NotEqual(root, MerkleProof.RootOf((ulong)other, (ulong)size, ProofBench.Leaves[i], path.AsSpan()));
            }
        }
    }

    [Fact]
    public void Consistency_is_proven_for_every_pair_of_sizes_and_for_no_other_tree()
    {
        for (var newer = 0; newer <= 40; newer++)
            for (var older = 0; older <= newer; older++)
            {
                var (a, b) = (ProofBench.Mth(ProofBench.Leaves.AsSpan(0, older)), ProofBench.Mth(ProofBench.Leaves.AsSpan(0, newer)));
                var path = MerkleProof.Consistency((ulong)older, (ulong)newer, ProofBench.Node).ToArray();
                Assert.True(MerkleProof.IsConsistent((ulong)older, (ulong)newer, a, b, path));
                Assert.False(MerkleProof.IsConsistent((ulong)older, (ulong)newer, a, b, [.. path, Samples.Digest(1)]));
                if (older == 0) continue;
                Assert.False(MerkleProof.IsConsistent((ulong)older, (ulong)newer, Samples.Digest(1), b, path));
                Assert.False(MerkleProof.IsConsistent((ulong)older, (ulong)newer, a, Samples.Digest(1), path));
                for (var i = 0; i < path.Length; i++)
                {
                    var right = path[i];
                    path[i] = Samples.Digest(2);
                    Assert.False(MerkleProof.IsConsistent((ulong)older, (ulong)newer, a, b, path));
                    path[i] = right;
                }
            }

        Assert.False(MerkleProof.IsConsistent(2, 1, ProofBench.Leaves[0], ProofBench.Leaves[0], []));
    }

    // ---- C2SP signed-note: the note and keys of its reference implementation (golang.org/x/mod/sumdb/note, BSD-3-Clause) ----------

    private const string Poem = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    private const string Peter = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    private const string Enoch = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
    private const string PeterKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    private const string EnochKey = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";

    [Fact]
    public void Notes_are_read_and_written_as_their_specification_says()
    {
        Assert.True(SignedNote.TryParse(UTF8.GetBytes(Poem + "\n" + Peter + Enoch), out var note));
        Assert.Equal(Poem, note.Text);
        Assert.Equal([("PeterNeumann", 0xc74f20a3u), ("EnochRoot", 0xaf0cfe78u)], note.Signatures.Select(s => (s.Name, s.KeyId)));
        Assert.Equal(Poem + "\n" + Peter + Enoch, note.ToString());

        byte[] peter = UTF8.GetBytes(Peter);
        byte[][] bad =
        [
            UTF8.GetBytes(Poem), UTF8.GetBytes(Poem + "\n"), [.. UTF8.GetBytes(Poem + "\n"), .. peter[..^1]],
            UTF8.GetBytes("\u0001" + Poem + "\n" + Peter), [0xff, .. UTF8.GetBytes(Poem + "\n" + Peter)],
            UTF8.GetBytes(Poem + "\n" + Peter.Replace("PeterNeumann", "Bad Name", StringComparison.Ordinal)), UTF8.GetBytes(Poem + "\n" + Peter + "Unexpected line.\n"),
            UTF8.GetBytes(Poem + "\n" + string.Concat(Enumerable.Repeat(Peter, 513))),
        ];
        Assert.All(bad, bytes => Assert.False(SignedNote.TryParse(bytes, out _)));
    }

    [Theory]
    [InlineData(PeterKey)]
    [InlineData(EnochKey)]
    public void Keys_of_notes_are_read_and_written_as_their_specification_says(string text)
    {
        Assert.True(NoteKey.TryParse(text, out var key));
        Assert.Equal(text, key.ToString());
        for (var i = 0; i < text.Length; i++)
        {
            var changed = text.ToCharArray();
            changed[i] = changed[i] == 'A' ? 'B' : 'A';
            Assert.False(NoteKey.TryParse(new string(changed), out _));
            Assert.False(NoteKey.TryParse(text.Remove(i, 1), out _));
        }
    }

    /// <summary>The example of C2SP tlog-cosignature: the time and the checkpoint a witness signs.</summary>
    [Fact]
    public void What_a_cosigner_signs_is_what_the_specification_prints()
    {
        var root = Digest.From(System.Convert.FromBase64String("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="));
        var signed = NoteKey.CosignedBytes(new LogCheckpoint("example.com/behind-the-sofa", 20852163, root).Text, 1679315147);
        Assert.Equal("cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", UTF8.GetString(signed));
    }

    [Fact]
    public void Checkpoints_of_a_log_are_read_as_their_specification_says()
    {
        const string text = "go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n";
        Assert.True(LogCheckpoint.TryParse(text, out var checkpoint));
        Assert.Equal(123456789012UL, checkpoint.Size);
        Assert.Equal(text, checkpoint.Text);
        Assert.True(LogCheckpoint.TryParse(text + "extension\n", out var extended));
        Assert.Equal(checkpoint, extended);
        Assert.False(LogCheckpoint.TryParse(text.Replace("123456789012", "0xabcdef", StringComparison.Ordinal), out _));
        Assert.False(LogCheckpoint.TryParse(text.Replace("123456789012", "0123456789012", StringComparison.Ordinal), out _));
        Assert.False(LogCheckpoint.TryParse(text.Replace("Bb0=", "BTOOBIG=", StringComparison.Ordinal), out _));
        Assert.False(LogCheckpoint.TryParse(text.Replace("Bb0=", "Bb1=", StringComparison.Ordinal), out _));
        Assert.False(LogCheckpoint.TryParse("\n1\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n", out _));
    }

    [Theory]
    [InlineData("quorum a\n", "line 1")]
    [InlineData("log {log}\nlog {log}\n", "line 2: this log key stands twice")]
    [InlineData("log {witness}\n", "no log key")]
    [InlineData("log {log}\nwitness a {log}\n", "no cosigner key")]
    [InlineData("log {log}\nwitness a {witness}\nwitness b {witness}\n", "stands twice")]
    [InlineData("log {log}\nwitness a {witness}\ngroup a 1 a\n", "used twice")]
    [InlineData("log {log}\nwitness a {witness}\ngroup g 2 a\n", "cannot be met")]
    [InlineData("log {log}\nwitness a {witness}\ngroup g 0 a\n", "needs nobody")]
    [InlineData("log {log}\nwitness a {witness}\ngroup g 2 a a\n", "a member stands twice")]
    [InlineData("log {log}\nwitness a {witness}\ngroup g any b\n", "'b' is no witness")]
    [InlineData("log {log}\nwitness a {witness}\nquorum none\n", "must be a witness or a group")]
    [InlineData("log {log}\nwitness a {witness}\n", "no line names the quorum")]
    [InlineData("witness a {witness}\nquorum a\n", "no line names a log")]
    [InlineData("log {log}\nlock {log}\n", "line 2: 'lock'")]
    public void A_policy_that_says_too_little_or_twice_is_refused(string text, string problem)
    {
        text = text.Replace("{log}", LogNames.LogKey(Samples.Genesis.Chain, new(0)).ToString(), StringComparison.Ordinal)
            .Replace("{witness}", LogNames.CosignerKey(Samples.Genesis.Chain, new(0)).ToString(), StringComparison.Ordinal);
        Assert.False(TrustPolicy.TryParse(UTF8.GetBytes(text), out _, out var why));
        Assert.Contains(problem, why, StringComparison.Ordinal);
    }

    [Fact]
    public void Groups_of_a_policy_count_as_they_say()
    {
        var keys = Enumerable.Range(0, 4).Select(i => LogNames.CosignerKey(Samples.Genesis.Chain, new((ushort)i))).ToArray();
        var text = $"log {LogNames.LogKey(Samples.Genesis.Chain, new(0))}\n" + string.Concat(keys.Select((k, i) => $"witness {"abcd"[i]} {k} https://example.org\n"))
                   + "# two organisations\ngroup x all a b\ngroup y any c d\r\ngroup both 2 x y\nquorum both\n";
        Assert.True(TrustPolicy.TryParse(UTF8.GetBytes(text), out var policy, out var problem), problem);
        Assert.True(policy.IsMetBy(new HashSet<string> { "a", "b", "d" }));
        Assert.False(policy.IsMetBy(new HashSet<string> { "a", "c", "d" }));
        Assert.False(policy.IsMetBy(new HashSet<string> { "a", "b" }));
    }

    // ---- Proofs -----------------------------------------------------------------------------------------------

    [Fact]
    public void A_proof_is_accepted_with_the_message_it_is_about_and_with_no_other()
    {
        var proof = _bench.Proof(0, 1, 3);
        Assert.True(LogProof.TryParse(UTF8.GetBytes(proof.ToString()), out var read, out var problem), problem);
        Assert.Equal(proof.ToString(), read.ToString());
        var verdict = _bench.Verify(read, _bench.Alert.Record);
        Assert.True(verdict.Passed, string.Join("; ", verdict.Checks));
        Assert.Equal(7, verdict.Checks.Length);
        Assert.Equal((5UL, RejectionReason.None), (verdict.Entry!.Height.Value, verdict.Entry.Result));
        Assert.Equal("the message is another one than the entry names", _bench.Verify(read, _bench.Envelope(0, 2).Record).Checks[^1].What);
    }

    [Fact]
    public void A_proof_signed_by_fewer_than_a_quorum_is_refused_for_that_reason()
    {
        var refused = _bench.Verify(_bench.Proof(0, 3));
        Assert.False(refused.Passed);
        Assert.Equal(new Check(false, "cosigned by 2 of 3 needed: v1, v4; this is no quorum"), refused.Checks[^1]);
        Assert.False(_bench.Verify(_bench.Proof(0, 3, 3)).Passed);
        Assert.False(_bench.Verify(_bench.Proof()).Passed);
        var proof = _bench.Proof(0, 1, 3);
        Assert.Contains("no key that the policy lists", _bench.Verify(proof with { Checkpoint = proof.Checkpoint with { Signatures = proof.Checkpoint.Signatures.RemoveAt(0) } }).Checks[^1].What, StringComparison.Ordinal);
        Assert.False(_bench.Verify(proof with { Extra = [] }).Passed);
    }

    // ---- State ------------------------------------------------------------------------------------------------

    [Fact]
    public void The_state_tree_proves_what_it_holds_and_that_it_holds_nothing_else()
    {
        var tree = new StateTree();
        Assert.True(tree.Prove("a"u8).ShowsAbsence(tree.Root(), "a"u8));
        for (var count = 1; count <= 200; count++)
        {
            tree.Set(Key(count), Value(count));
            if (count % 25 > 1) continue;
            var root = tree.Root();
            for (var i = 1; i <= 250; i++)
            {
                var proof = tree.Prove(Key(i));
                Assert.Equal(i <= count, proof.ShowsPresence(root, Key(i), Value(i)));
                Assert.Equal(i > count, proof.ShowsAbsence(root, Key(i)));
                Assert.False(proof.ShowsPresence(root, Key(i), Value(i + 1)));
                Assert.False(proof.ShowsPresence(Samples.Digest(1), Key(i), Value(i)) || proof.ShowsAbsence(Samples.Digest(1), Key(i)));
            }
        }

        var before = tree.Root();
        tree.Remove(Key(7));
        Assert.True(tree.Prove(Key(7)).ShowsAbsence(tree.Root(), Key(7)));
        Assert.False(tree.Prove(Key(7)).ShowsAbsence(before, Key(7)));
        static byte[] Key(int i) => ASCII.GetBytes($"key {i}");
        static byte[] Value(int i) => ASCII.GetBytes($"value {i}");
    }

    // ---- Cosigning --------------------------------------------------------------------------------------------

    private sealed class Keys(ISigner[] signers) : IKeyring
    {
        public ISigner? Find(PublicKey key) => Array.Find(signers, s => s.PublicKey == key);
    }

    [Fact]
    public void W1_every_transaction_of_a_block_becomes_an_entry_with_its_result()
    {
        var ledger = Samples.Genesis.NewLedger();
        var before = ledger.StateRoot();
        var alert = _bench.Alert;
        var late = _bench.Envelope(-7200, 2);
        var block = Samples.Block(Samples.Genesis.Block, default, 0, alert.Digest, late.Digest);
        var receipts = ledger.Apply(block, [alert, late]).Receipts;
        Assert.Equal([RejectionReason.None, RejectionReason.StaleTimestamp], receipts.Select(r => r.Result));
        var expected = new LogTree();
        for (var i = 0; i < 2; i++)
            expected.Append(new LogEntry(block.Header.ChainId, block.Height, (uint)i, block.Header.Time, AlertKind.Anomaly, receipts[i].Result, receipts[i].Transaction).LeafHash());
        Assert.Equal((2UL, expected.Root()), (ledger.Log.Size, ledger.Log.Root()));
        Assert.NotEqual(before, ledger.StateRoot());
    }

    [Fact]
    public void Entries_survive_their_encoding_and_nothing_else_is_one()
    {
        var entry = new LogEntry(Samples.Digest(1), new Height(7), 3, Timestamp.FromSeconds(5), AlertKind.Policy, RejectionReason.ReplayedNonce, Samples.Digest(2));
        var bytes = entry.Encode();
        Assert.Equal(LogEntry.Size, bytes.Length);
        Assert.True(LogEntry.TryDecode(bytes, out var read));
        Assert.Equal(entry, read);
        Assert.False(LogEntry.TryDecode(bytes.AsSpan(1), out _));
        Assert.False(LogEntry.TryDecode([.. bytes, 0], out _));
        bytes[70] = 99;
        Assert.False(LogEntry.TryDecode(bytes, out _));
    }

    [Fact]
    public void W2_a_validator_cosigns_a_larger_tree_only_and_says_the_same_again()
    {
        var (cosigner, log, effects, now) = NewCosigner();
        cosigner.Executed((new Height(1), now), log, now, effects);
        var first = Assert.Single(Said(effects));
        Assert.Equal((log.Size, log.Root(), now.Milliseconds / 1000), (first.Size, first.Root, first.TimeSeconds));
        Assert.True(Samples.Authenticator().TryVerify(first, out _, out _));

        // The same second: it waits. Nothing follows: it signs after a second.
        log.Append(Samples.Digest(2));
        cosigner.Executed((new Height(2), now.PlusMs(1)), log, now.PlusMs(1), effects);
        Assert.Empty(Said(effects));
        cosigner.Tick(now.PlusMs(1100), effects);
        Assert.Equal(2UL, Said(effects).Last().Size);
        for (var at = 1200; at < 2200; at += 10) cosigner.Tick(now.PlusMs(at), effects);
        var again = Said(effects);
        Assert.InRange(again.Count, 1, 5);
        Assert.All(again, m => Assert.Equal(2UL, m.Size));

        // An old block of a validator that catches up.
        log.Append(Samples.Digest(3));
        cosigner.Executed((new Height(3), now.PlusMs(5000)), log, now.PlusMs(20_000), effects);
        Assert.Empty(Said(effects));
    }

    [Fact]
    public void W3_a_checkpoint_holds_q_cosignatures_of_one_tree()
    {
        var (cosigner, log, effects, now) = NewCosigner();
        cosigner.Executed((new Height(1), now), log, now, effects);
        var own = Said(effects)[0];
        // Another root, another time, the same one twice.
        cosigner.Receive(Of(own, 0) with { Root = Samples.Digest(9) }, now, effects);
        cosigner.Receive(Of(own, 2), now, effects);
        cosigner.Receive(Of(own, 2), now, effects);
        cosigner.Receive(Of(own, 3) with { TimeSeconds = own.TimeSeconds + 1 }, now, effects);
        Assert.Null(effects.LogCheckpoint);
        cosigner.Receive(Of(own, 3), now, effects);
        var note = effects.LogCheckpoint!;
        Assert.Equal(4, note.Signatures.Length);
        Assert.NotNull(new ProofVerifier(_bench.Policy, Samples.Signatures).Checkpoint(note, out _));

        // One that asks again is answered, one that sends without end keeps little.
        effects.Clear();
        cosigner.Receive(Of(own, 2), now.PlusMs(1000), effects);
        Assert.Equal(own, Assert.Single(Said(effects)));
        for (var i = 0UL; i < 100; i++) cosigner.Receive(Of(own, 2) with { Size = i }, now, effects);
        Assert.True(cosigner.Count <= 3 * Cosigner.KeptPerValidator);
    }

    private (Cosigner Cosigner, LogTree Log, Effects Effects, Timestamp Now) NewCosigner()
    {
        var log = new LogTree();
        log.Append(Samples.Digest(1));
        return (new Cosigner(new EpochSchedule(Samples.Genesis.Chain), new Keys([Samples.Signers[1], Samples.Cosigners[1], Samples.LogKeys[1]])), log, new Effects(), Samples.Genesis.Time);
    }

    /// <summary>The same, signed by another.</summary>
    private PeerMessage.Cosignature Of(PeerMessage.Cosignature own, int validator)
    {
        var text = new LogCheckpoint(LogNames.Origin(Samples.Genesis.Chain.ChainId), own.Size, own.Root).Text;
        return own with { Signer = new((ushort)validator), Signature = Samples.Cosigners[validator].Sign(NoteKey.CosignedBytes(text, own.TimeSeconds)) };
    }

    private static List<PeerMessage.Cosignature> Said(Effects effects)
    {
        var said = effects.Messages.Select(m => m.Message).OfType<PeerMessage.Cosignature>().ToList();
        effects.Messages.Clear();
        return said;
    }
}
