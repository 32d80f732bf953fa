using System;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Checkpoints and divergence , snapshots (rules P1 to P4).</summary>
public sealed class CheckpointTests
{
    private readonly ConsensusBench _bench = new(me: 1, termBlocks: 4);

    private Samples Samples => _bench.Samples;

    private static Checkpoint Content(byte root = 1) => new(0, new Height(4), Samples.Digest(9), Samples.Digest(root), default);

    private PeerMessage.Checkpoint From(int validator, byte root = 1) => Samples.Messages(validator).Checkpoint(Content(root));

    private void Take(Pbft pbft, byte root = 1)
    {
        pbft.TakeCheckpoint(Content(root), _bench.Now, _bench.Outbox);
        _bench.Wait(20);
    }

    [Fact]
    public void P1_a_checkpoint_is_durable_before_it_is_said_and_never_another_one_for_its_term()
    {
        Take(_bench.Pbft);
        Assert.Equal(Content(), Assert.Single(_bench.All<PeerMessage.Checkpoint>()).Content);
        Assert.Contains(new DurableRecord.CheckpointSent(Content()), _bench.Records);

        foreach (var (root, says) in new (byte, bool)[] { (1, true), (2, false) })
        {
            var again = Samples.NewPbft(1);
            foreach (var record in _bench.Records) again.Restore(record);
            var outbox = new Outbox();
            again.TakeCheckpoint(Content(root), _bench.Now, outbox);
            Assert.Equal(says, outbox.Messages.Any(m => m.Message is PeerMessage.Checkpoint));
            Assert.Empty(outbox.Records);
        }
    }

    [Fact]
    public void P1_who_may_not_vote_signs_no_checkpoint()
    {
        _bench.Pbft.Quarantine("test", _bench.Outbox);
        Take(_bench.Pbft);
        Assert.Empty(_bench.All<PeerMessage.Checkpoint>());
    }

    [Fact]
    public void P2_a_checkpoint_that_was_stable_before_it_was_taken_here_proves_the_own_snapshot()
    {
        _bench.Give(From(0), From(2), From(3));
        Assert.True(_bench.Pbft.TryTakeStable(out var stable));
        Take(_bench.Pbft);
        Assert.True(_bench.Pbft.TryTakeStable(out var again));
        Assert.Same(stable, again);
        Assert.False(_bench.Pbft.TryTakeStable(out _));
    }

    [Fact]
    public void P2_equal_signatures_of_a_quorum_make_it_stable_and_whoever_still_asks_gets_the_certificate()
    {
        Take(_bench.Pbft);
        _bench.Give(From(0), From(0), From(3, root: 2));
        Assert.Null(_bench.Pbft.Stable);
        _bench.Wait(1000);
        Assert.True(_bench.All<PeerMessage.Checkpoint>().Count() > 1, "until then it is said again");
        _bench.Give(From(2));
        var stable = _bench.Pbft.Stable!;
        Assert.Equal(Content(), stable.Checkpoint);
        Assert.True(stable.Verify(Samples.Genesis.Chain, Samples.Signatures));
        Assert.False((stable with { Checkpoint = Content(2) }).Verify(Samples.Genesis.Chain, Samples.Signatures));
        Assert.False((stable with { Signatures = [.. stable.Signatures.Take(2)] }).Verify(Samples.Genesis.Chain, Samples.Signatures));
        Assert.False((stable with { Signatures = [stable.Signatures[0], .. stable.Signatures.Take(2)] }).Verify(Samples.Genesis.Chain, Samples.Signatures));
        _bench.Sent.Clear();
        _bench.Wait(1000);
        Assert.Empty(_bench.All<PeerMessage.Checkpoint>());
        _bench.Give(From(3));
        var answer = Assert.Single(_bench.All<PeerMessage.StableCheckpoint>());
        Assert.True(Samples.Authenticator().TryVerify(answer, out _, out _));
        Assert.False(Samples.Authenticator().TryVerify(new PeerMessage.StableCheckpoint(stable with { Checkpoint = Content(2) }), out _, out _));
    }

    [Fact]
    public void E1_two_checkpoints_of_one_term_are_evidence()
    {
        _bench.Give(From(3), From(3, root: 2));
        Assert.True(_bench.Pbft.TryTakeAccusation(out var proof));
        Assert.Equal((new ValidatorIndex(3), MisbehaviourKind.TwoVotes), (proof.Offender, proof.Kind));
        Assert.True(proof.Verify(Samples.Genesis.Chain, Samples.Signatures));
        Assert.True(Misbehaviour.TryDecode(proof.Encode(), out _));
        Assert.Null(Misbehaviour.TryCreate(proof.Offender, proof.First, proof.First));
    }

    /// <summary>A ledger after the last block of term 0, with something in every table.</summary>
    private static (Ledger.Ledger Ledger, SnapshotHead Head) Grown(Samples samples)
    {
        var ledger = samples.Genesis.NewLedger();
        var header = samples.Genesis.Block.Header;
        for (var i = 1; i <= 4; i++)
        {
            var time = header.Time.PlusMs(1000);
            var record = samples.Alerts.Anomaly(time.Milliseconds / 1000, new Nonce(UInt128.MaxValue - (UInt128)i), $"alert {i}", 5);
            Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var alert, out _));
            Assert.True(new EnvelopeAuthenticator(samples.Signatures).TryAuthenticate(alert, SigningProfiles.V1, out _));
            AlertEnvelope[] transactions = i == 2 ? [alert, samples.EveryControlTransaction().First()] : [alert];
            header = header with { Height = new Height((ulong)i), Time = time, TransactionCount = (uint)transactions.Length };
            Assert.All(ledger.Apply(new Block(header, null, []), transactions).Receipts, r => Assert.True(r.Accepted));
        }

        return (ledger, new SnapshotHead(header, [(new Height(4), header.Hash(), ledger.StateRoot())]));
    }

    private static bool Reads(Samples samples, byte[] bytes, Digest root, out Ledger.Ledger? ledger, out SnapshotHead? head) =>
        Ledger.Ledger.TryRead(samples.Genesis.Chain, samples.Genesis.Producers, samples.Genesis.Time, [bytes], root, out ledger, out head);

    [Fact]
    public void P4_a_snapshot_is_the_state_and_the_same_bytes_wherever_it_is_taken()
    {
        var (ledger, head) = Grown(Samples);
        var snapshot = ledger.TakeSnapshot(head);
        var (other, _) = Grown(Samples);
        Assert.Equal(snapshot.Root, other.TakeSnapshot(head).Root);
        Assert.True(Ledger.Ledger.TryRead(Samples.Genesis.Chain, Samples.Genesis.Producers, Samples.Genesis.Time, snapshot.Chunks.AsSpan(), ledger.StateRoot(), out var read, out _));
        Assert.Equal(snapshot.Root, read!.TakeSnapshot(head).Root);
        Assert.Equal((ledger.Height, ledger.Time, ledger.NonceCount, ledger.StateEntries), (read.Height, read.Time, read.NonceCount, read.StateEntries));
        Assert.Equal(ledger.Leaders.Order.Attempts, read.Leaders.Order.Attempts);
        Assert.Equal(ledger.Leaders.Standings, read.Leaders.Standings);
        Assert.Equal(1UL, read.Governance.LastNumber);
        Assert.Equal(ledger.Governance.Awaited, read.Governance.Awaited);
        Assert.Equal(new ValidatorIndex(4), read.Governance.Epochs.Open!.Index);
        // What was accepted before is known as accepted after.
        Assert.True(read.HasDecided(Samples.EveryControlTransaction().First().Digest));
    }

    [Fact]
    public void P4_a_state_of_many_chunks_is_read_as_it_was_written()
    {
        var (ledger, head) = Grown(Samples);
        var (header, number) = (head.Last, 100);
        var authenticator = new EnvelopeAuthenticator(Samples.Signatures);
        for (var i = 0; i < 7; i++)
        {
            var time = header.Time.PlusMs(1000);
            var transactions = Enumerable.Range(0, 1000).Select(_ =>
            {
                Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, Samples.Alerts.Anomaly(time.Milliseconds / 1000, new Nonce((UInt128)number), $"alert {number++}", 5), out var alert, out var _));
                Assert.True(authenticator.TryAuthenticate(alert, SigningProfiles.V1, out var _));
                return alert;
            }).ToArray();
            header = header with { Height = header.Height.Next, Time = time, TransactionCount = (uint)transactions.Length };
            Assert.All(ledger.Apply(new Block(header, null, []), transactions).Receipts, r => Assert.True(r.Accepted));
        }

        head = new SnapshotHead(header, [(header.Height, header.Hash(), ledger.StateRoot())]);
        var snapshot = ledger.TakeSnapshot(head);
        Assert.InRange(snapshot.Chunks.Length, 3, 20);
        Assert.All(snapshot.Chunks, chunk => Assert.InRange(chunk.Length, 1, Limits.SnapshotChunkBytes + 1024));
        Assert.True(Ledger.Ledger.TryRead(Samples.Genesis.Chain, Samples.Genesis.Producers, Samples.Genesis.Time, snapshot.Chunks.AsSpan(), ledger.StateRoot(), out var read, out _));
        Assert.Equal(snapshot.Digests, read!.TakeSnapshot(head).Digests);
        Assert.Equal(ledger.OpenAlerts, read.OpenAlerts);
        ReadOnlyMemory<byte>[] swapped = [.. snapshot.Chunks];
        (swapped[^1], swapped[^2]) = (swapped[^2], swapped[^1]);
        Assert.False(Ledger.Ledger.TryRead(Samples.Genesis.Chain, Samples.Genesis.Producers, Samples.Genesis.Time, swapped, ledger.StateRoot(), out _, out _));
    }

    [Fact]
    public void P4_bytes_that_are_no_snapshot_of_this_state_are_refused_and_never_throw()
    {
        var (ledger, head) = Grown(Samples);
        byte[] bytes = [.. ledger.TakeSnapshot(head).Chunks.SelectMany(c => c.ToArray())];
        Assert.False(Reads(Samples, bytes, Samples.Digest(1), out _, out _));
        Assert.False(Reads(Samples, [.. bytes, 0], ledger.StateRoot(), out _, out _));
        for (var length = 0; length < bytes.Length; length += 7) Assert.False(Reads(Samples, bytes[..length], ledger.StateRoot(), out _, out _));
        for (var at = 0; at < bytes.Length; at++)
        {
            var damaged = (byte[])bytes.Clone();
            damaged[at] ^= 0x81;
            if (!Reads(Samples, damaged, ledger.StateRoot(), out var other, out var otherHead)) continue;
            Assert.True(ledger.TakeSnapshot(head).Root != other!.TakeSnapshot(otherHead!).Root, $"byte {at} of {bytes.Length} means nothing");
        }
    }

    /// <summary>Fuzzing found it: a made-up term stopped the receive loop with an overflow.</summary>
    [Fact]
    public void C1_heights_and_terms_that_cannot_be_are_refused_and_stop_nobody()
    {
        foreach (var last in new[] { ulong.MaxValue, ulong.MaxValue - 1, ulong.MaxValue / 2, ulong.MaxValue / 4, (ulong.MaxValue / 4) - 1 })
        {
            var offer = Samples.EveryMessage().OfType<PeerMessage.SnapshotOffer>().Single();
            var certificate = offer.Certificate with { Checkpoint = offer.Certificate.Checkpoint with { Term = last } };
            Assert.False(Samples.Authenticator().TryVerify(offer with { Certificate = certificate }, out _, out _));
            Assert.False(Samples.Authenticator().TryVerify(Samples.Cosignature(1, 3, Samples.Digest(1)) with { Height = new Height(last) }, out _, out _));
            var replica = new Replica.Replica(Samples.Genesis, new SingleKey(Samples.Signers[1]));
            var effects = new Effects();
            Assert.True(Samples.Authenticator().TryVerify(new PeerMessage.GetBlocks(new Height(last)), out var verified, out _));
            replica.Receive(new ValidatorIndex(0), verified, Samples.Genesis.Time, effects);
            Assert.Equal(last, Assert.Single(effects.BlockRequests).FirstHeight.Value);
        }
    }

    [Fact]
    public void C2_chunks_are_taken_from_the_peer_that_was_asked_in_order_and_only_as_certified()
    {
        var epochs = new EpochSchedule(Samples.Genesis.Chain);
        var fetch = new SnapshotFetch(epochs);
        var outbox = new Outbox();
        var me = new ValidatorIndex(1);
        byte[][] chunks = [[1, 2], [3]];
        var digests = chunks.Select(c => Snapshot.ChunkDigest(c)).ToArray();
        var sample = Samples.EveryMessage().OfType<PeerMessage.SnapshotOffer>().Single();
        var offer = sample with { Chunks = [.. digests] };
        ValidatorIndex Asked() => outbox.Messages[^1].To!.Value;
        PeerMessage.Chunk Chunk(int index, byte[] bytes) => new(offer.Certificate.Checkpoint.Height, (uint)index, bytes);
        Snapshot? Give(ValidatorIndex from, PeerMessage.Chunk chunk) => fetch.Take(from, chunk, me, default, _bench.Now, outbox);

        fetch.Take(new ValidatorIndex(0), offer, me, default, _bench.Now, outbox);
        Assert.Null(fetch.Offer);
        fetch.Ask(me, default, _bench.Now, outbox);
        Assert.IsType<PeerMessage.GetSnapshot>(outbox.Messages[^1].Message);
        fetch.Take(Asked(), offer, me, default, _bench.Now, outbox);
        Assert.Equal(new PeerMessage.GetChunk(offer.Certificate.Checkpoint.Height, 0), outbox.Messages[^1].Message);
        Assert.Null(Give(Asked(), Chunk(0, [9])));
        Assert.Null(Give(Asked(), Chunk(1, chunks[1])));
        Assert.Null(Give(me, Chunk(0, chunks[0])));
        Assert.Equal(0, fetch.ChunkCount);
        Assert.Null(Give(Asked(), Chunk(0, chunks[0])));
        var fetched = Give(Asked(), Chunk(1, chunks[1]))!;
        Assert.Equal(chunks, fetched.Chunks.Select(c => c.ToArray()));
        Assert.Equal(digests, fetched.Digests);
    }

    [Fact]
    public void C2_an_offer_counts_with_a_certified_checkpoint_its_commit_and_all_digests()
    {
        var samples = new Samples();
        var offer = samples.EveryMessage().OfType<PeerMessage.SnapshotOffer>().Single();
        bool Genuine(PeerMessage message) => samples.Authenticator().TryVerify(message, out var verified, out _) && verified.Value.Message is PeerMessage.SnapshotOffer;
        Assert.True(Genuine(offer));
        Assert.False(Genuine(offer with { Chunks = offer.Chunks.RemoveAt(1) }));
        Assert.False(Genuine(offer with { Chunks = [] }));
        Assert.False(Genuine(offer with { Certificate = offer.Certificate with { Signatures = offer.Certificate.Signatures.RemoveAt(0) } }));
        Assert.False(Genuine(offer with { Certificate = offer.Certificate with { Checkpoint = offer.Certificate.Checkpoint with { StateRoot = Samples.Digest(1) } } }));
        Assert.False(Genuine(offer with { Committed = samples.Certificate(CertificateKind.Commit, default, new Height(128), Samples.Digest(8), 0, 1, 2) }));
        Assert.False(Genuine(offer with { Committed = samples.Certificate(CertificateKind.Prepare, default, new Height(128), Samples.Digest(3), 0, 1, 2) }));
    }

    [Fact]
    public void P3_a_validator_whose_state_is_not_the_certified_one_stops_voting()
    {
        var samples = new Samples();
        var replica = new Replica.Replica(samples.Genesis, new SingleKey(samples.Signers[1]));
        var now = samples.Genesis.Time.PlusMs(300);
        var effects = new Effects();
        replica.Resume(now, effects);
        var honest = samples.Block(samples.Genesis.Block, default, 0);
        var block = new Block(honest.Header with { StateRoot = Samples.Digest(5), BodyBytes = 0 }, null, []);
        var commit = samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, 0, 2, 3);
        void Give(int from, PeerMessage message)
        {
            Assert.True(samples.Authenticator().TryVerify(message, out var verified, out _));
            replica.Receive(new ValidatorIndex((ushort)from), verified, now, effects);
        }

        Give(0, samples.Messages(0).Heartbeat(default, commit));
        replica.Tick(now, effects);
        var asked = effects.Messages.Single(m => m.Message is PeerMessage.GetBlocks).To!.Value;
        Give(asked.Value, new PeerMessage.Blocks([new BlockWithBodies(block, [])], commit));
        Assert.Equal((Samples.Digest(5), samples.Genesis.Block.Header.StateRoot), (effects.Divergence!.Certified, effects.Divergence.Own));
        Assert.True(replica.IsFrozen);
        effects.Clear();
        Give(0, samples.Messages(0).PrePrepare(honest));
        replica.Tick(now.PlusMs(10_000), effects);
        Assert.True(effects.IsEmpty);
    }
}
