using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class LedgerTests
{
    private readonly Samples _samples = new();

    private AlertEnvelope Alert(long timestamp, Nonce? nonce = null, string id = "a")
    {
        var record = nonce is { } n ? _samples.Alerts.Anomaly(timestamp, n, id, 5) : _samples.Alerts.Anomaly(timestamp);
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _));
        Assert.True(new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(envelope, SigningProfiles.V1, out _));
        return envelope;
    }

    private static Block Next(Ledger.Ledger ledger, Replica.Genesis genesis, long timeSeconds, int count) => new(
        genesis.Block.Header with
        {
            Height = ledger.Height.Next,
            Time = Timestamp.FromSeconds(timeSeconds),
            TransactionCount = (uint)count,
        },
        null, []);

    [Fact]
    public void One_bad_transaction_gets_a_code_and_does_not_fail_its_block()
    {
        var ledger = _samples.Genesis.NewLedger();
        const long time = 1_790_010_000;
        AlertEnvelope[] alerts =
        [
            Alert(time), Alert(time - 3601), Alert(time + 301), Alert(time, new Nonce(500)), Alert(time, new Nonce(500), "other"), Alert(time - 3600),
        ];
        var results = ledger.Apply(Next(ledger, _samples.Genesis, time, alerts.Length), alerts).Receipts.Select(r => r.Result);
        Assert.Equal(
            [RejectionReason.None, RejectionReason.StaleTimestamp, RejectionReason.FutureTimestamp, RejectionReason.None, RejectionReason.ReplayedNonce, RejectionReason.None],
            results);
    }

    [Fact]
    public void A_nonce_is_remembered_as_long_as_its_message_could_be_accepted()
    {
        var ledger = _samples.Genesis.NewLedger();
        const long time = 1_790_010_000;
        var alert = Alert(time);
        ledger.Apply(Next(ledger, _samples.Genesis, time, 1), [alert]);
        Assert.True(ledger.HasDecided(alert.Digest));
        var replay = ledger.Apply(Next(ledger, _samples.Genesis, time + 3600, 1), [alert]).Receipts;
        Assert.Equal(RejectionReason.ReplayedNonce, replay[0].Result);
        var late = ledger.Apply(Next(ledger, _samples.Genesis, time + 3601, 1), [alert]).Receipts;
        Assert.Equal(RejectionReason.StaleTimestamp, late[0].Result);
        Assert.Equal(0, ledger.NonceCount);
    }

    [Fact]
    public void Producers_outside_the_trust_store_are_refused()
    {
        var other = new Samples(7);
        var ledger = other.Genesis.NewLedger();
        var stranger = new Simulator.AlertFactory(_samples.Signatures.NewSigner("stranger"));
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, stranger.Anomaly(1_790_000_100), out var envelope, out _));
        Assert.Equal(RejectionReason.UnknownProducer, ledger.Check(envelope, Timestamp.FromSeconds(1_790_000_100))?.Reason);
    }

    [Fact]
    public void Equal_blocks_give_equal_roots()
    {
        var alerts = Enumerable.Range(0, 50).Select(_ => Alert(1_790_010_000)).ToArray();
        Digest Run()
        {
            var ledger = _samples.Genesis.NewLedger();
            for (var i = 0; i < 5; i++) ledger.Apply(Next(ledger, _samples.Genesis, 1_790_010_000 + i, 10), alerts.AsSpan(10 * i, 10));
            return ledger.StateRoot();
        }

        Assert.Equal(Run(), Run());
    }

    [Fact]
    public void The_root_depends_on_the_content_and_not_on_the_order_of_changes()
    {
        Gen.Select(Gen.Select(Gen.Int[0, 40], Gen.Byte, Gen.Bool).List[0, 80], Gen.Int).Sample((changes, seed) =>
        {
            var tree = new StateTree();
            var model = new SortedDictionary<int, byte>();
            foreach (var (key, value, set) in changes)
            {
                if (set)
                {
                    tree.Set([(byte)key], [value]);
                    model[key] = value;
                }
                else
                {
                    tree.Remove([(byte)key]);
                    model.Remove(key);
                }
            }

            var rebuilt = new StateTree();
            foreach (var (key, value) in model.OrderBy(e => e.Key * 7919 ^ seed)) rebuilt.Set([(byte)key], [value]);
            return rebuilt.Root() == tree.Root() && rebuilt.Count == tree.Count && tree.Count == model.Count;
        }, iter: 2_000);
    }

    [Fact]
    public void Different_content_gives_different_roots()
    {
        var roots = new HashSet<Digest>();
        var tree = new StateTree();
        Assert.True(roots.Add(tree.Root()));
        for (var i = 0; i < 500; i++)
        {
            tree.Set(BitConverter.GetBytes(i), [1]);
            Assert.True(roots.Add(tree.Root()));
        }

        tree.Set(BitConverter.GetBytes(3), [2]);
        Assert.True(roots.Add(tree.Root()));
    }

    /// <summary>RFC 6962 §2.1: the hashes of the empty tree and of one empty leaf are printed in the Certificate Transparency test suites.</summary>
    [Fact]
    public void Merkle_roots_follow_rfc_6962()
    {
        Assert.Equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", MerkleTree.Root([]).ToString());
        Digest[] leaves = [.. Enumerable.Range(1, 7).Select(i => Samples.Digest((byte)i))];
        var left = MerkleTree.Node(MerkleTree.Node(MerkleTree.Leaf(leaves[0]), MerkleTree.Leaf(leaves[1])), MerkleTree.Node(MerkleTree.Leaf(leaves[2]), MerkleTree.Leaf(leaves[3])));
        var right = MerkleTree.Node(MerkleTree.Node(MerkleTree.Leaf(leaves[4]), MerkleTree.Leaf(leaves[5])), MerkleTree.Leaf(leaves[6]));
        Assert.Equal(MerkleTree.Node(left, right), MerkleTree.Root(leaves));
    }
}
