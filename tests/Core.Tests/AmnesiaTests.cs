using System;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Lost votes (rules A1 to A4), views that were missed (N10) and evidence (E1, E2).</summary>
public sealed class AmnesiaTests
{
    private const int Term = 4;
    private readonly ConsensusBench _bench = new(termBlocks: Term);

    private Samples Samples => _bench.Samples;

    private PeerMessage.Status Answer(int from, QuorumCertificate best) =>
        Samples.Messages(from).Status(best.View, best.Height, StatusKind.Answer, QuorumCertificate.ForGenesis(_bench.Genesis.Digest), best);

    private QuorumCertificate Prepared(ulong term) => Samples.Certificate(CertificateKind.Prepare, new View(term, 0), new Height(term * Term + 1), Samples.Digest(7), 0, 2, 3);

    [Fact]
    public void A1_a_validator_that_lost_its_votes_signs_none_until_enough_others_have_answered()
    {
        _bench.Pbft.Quarantine("test", _bench.Outbox);
        _bench.Wait(20);
        Assert.Contains(new DurableRecord.Quarantined(), _bench.Records);
        var block = _bench.Propose(_bench.Genesis);
        _bench.Prepares(block, default, 0, 2, 3);
        _bench.Wait(3000);
        Assert.DoesNotContain(_bench.Sent, m => m is PeerMessage.Prepare or PeerMessage.Commit or PeerMessage.ViewChange or PeerMessage.Suspect);
        Assert.Contains(_bench.All<PeerMessage.Status>(), s => s.Kind == StatusKind.Quarantined);

        // n − Q + f = 2 answers of different others are needed.
        _bench.Give(Answer(0, Prepared(0)), Answer(0, Prepared(0)));
        Assert.DoesNotContain(_bench.Records, r => r is DurableRecord.VoteFromTerm);
        _bench.Give(Answer(2, Prepared(0)));
        Assert.Contains(new DurableRecord.VoteFromTerm(2), _bench.Records);
        Assert.False(_bench.Pbft.MayVote);
    }

    [Fact]
    public void A1_a_validator_in_quarantine_answers_others_and_repeats_nothing_for_ever()
    {
        _bench.Pbft.Quarantine("test", _bench.Outbox);
        var one = Samples.Block(_bench.Genesis, default, 0);
        var other = new Block(one.Header with { Time = one.Header.Time.PlusMs(1) }, null, []);
        // Two proposals are spread once, also by one that may not suspect.
        _bench.Give(Samples.Messages(0).PrePrepare(one), Samples.Messages(0).PrePrepare(other));
        Assert.Equal(2, _bench.All<PeerMessage.PrePrepare>().Count());
    }

    [Fact]
    public void A2_it_votes_again_two_terms_after_the_highest_certificate_shown()
    {
        _bench.Pbft.Quarantine("test", _bench.Outbox);
        _bench.Give(Answer(0, Prepared(0)), Answer(3, Prepared(5)));
        Assert.Contains(new DurableRecord.VoteFromTerm(7), _bench.Records);

        // The log brings the abstention back after a restart.
        var again = Samples.NewPbft(1);
        again.Restore(new DurableRecord.Quarantined());
        Assert.False(again.MayVote);
        again.Restore(new DurableRecord.VoteFromTerm(7));
        Assert.False(again.MayVote);
        Assert.Contains(new DurableRecord.VoteFromTerm(7), again.DurableState(b => new BlockWithBodies(b, [])));
    }

    [Fact]
    public void A3_a_certificate_with_a_forgotten_vote_leads_to_quarantine()
    {
        var forgotten = Samples.Certificate(CertificateKind.Commit, default, new Height(2), Samples.Digest(7), 0, 1, 2);
        _bench.Give(Samples.Messages(0).Heartbeat(default, forgotten));
        Assert.False(_bench.Pbft.MayVote);
        Assert.Contains(new DurableRecord.Quarantined(), _bench.Records);
    }

    /// <summary>A validator on a new disk, without a mark: nothing there says that it has ever voted, but the blocks do.</summary>
    [Fact]
    public void A3_the_certificate_of_fetched_blocks_shows_a_forgotten_vote() => FetchTwo(sealSigner: 2, lastSigner: 1);

    [Fact]
    public void A3_the_seal_of_a_fetched_block_shows_a_forgotten_vote() => FetchTwo(sealSigner: 1, lastSigner: 2);

    private void FetchTwo(int sealSigner, int lastSigner)
    {
        var first = Samples.Block(_bench.Genesis, default, 0);
        var seal = Samples.Certificate(CertificateKind.Commit, default, first.Height, first.Digest, 0, sealSigner, 3);
        var second = new Block(Samples.Block(first, default, 0).Header with { SealDigest = seal.Hash() }, seal, []);
        _bench.Pbft.CatchUp([first, second], Samples.Certificate(CertificateKind.Commit, default, second.Height, second.Digest, 0, lastSigner, 3), _bench.Now, _bench.Outbox);
        Assert.False(_bench.Pbft.MayVote);
        Assert.Contains(new DurableRecord.Quarantined(), _bench.Outbox.Records);
    }

    /// <summary>Places in the set of another epoch are other validators'.</summary>
    [Fact]
    public void A3_a_vote_from_the_same_place_in_another_epoch_is_somebody_elses()
    {
        var signatures = Samples.Certificate(CertificateKind.Commit, default, new Height(2), Samples.Digest(7), 0, 1, 2).Signatures;
        _bench.Give(Samples.Messages(0).Heartbeat(default, new QuorumCertificate(CertificateKind.Commit, 1, default, new Height(2), Samples.Digest(7), signatures)));
        Assert.True(_bench.Pbft.MayVote);
    }

    [Fact]
    public void A3_a_foreign_vote_with_the_own_key_stops_a_validator_that_has_voted()
    {
        _bench.Propose(_bench.Genesis);
        var foreign = Samples.Certificate(CertificateKind.Commit, default, new Height(2), Samples.Digest(7), 0, 1, 2);
        var stop = Assert.Throws<InvariantViolation>(() => _bench.Give(Samples.Messages(0).Heartbeat(default, foreign)));
        Assert.Contains("another process", stop.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A4_a_leader_may_close_the_term_for_a_quarantined_validator_but_not_for_ever()
    {
        var leader = new ConsensusBench(me: 0, termBlocks: Term);
        Assert.False(leader.Pbft.MayProposeEmpty);
        var genesis = QuorumCertificate.ForGenesis(leader.Genesis.Digest);
        leader.Give(leader.Samples.Messages(3).Status(default, default, StatusKind.Quarantined, genesis, genesis));
        Assert.True(leader.Pbft.MayProposeEmpty);
        Assert.Contains(leader.All<PeerMessage.Status>(), s => s.Kind == StatusKind.Answer);
    }

    /// <summary>The blocks are gone; the log tells of votes up to view 1.3.</summary>
    [Fact]
    public void A5_a_validator_that_lost_its_blocks_signs_nothing_before_the_view_it_signed_for_last()
    {
        var (pbft, outbox) = (Samples.NewPbft(1), new Outbox());
        pbft.Restore(new DurableRecord.PrepareVote(new View(1, 0), new Height(Term + 2), Samples.Digest(7)));
        pbft.Restore(new DurableRecord.ViewChangeSent(new View(1, 3)));
        pbft.Restore(new DurableRecord.BestCertificate(Prepared(1)));
        pbft.Resume(_bench.Now, outbox);
        Assert.False(pbft.MayVote);
        // Others in quarantine count on the certificates of all who have voted (A1).
        Assert.Equal(Prepared(1).Hash(), Said<PeerMessage.Status>(outbox).Best!.Hash());

        var last = Fetch(pbft, _bench.Genesis, Term, outbox);
        pbft.EnterTerm(new LeaderOrder([new(1), new(0), new(2), new(3)]), _bench.Now, outbox);
        Assert.True(pbft.MayVote);
        Assert.Equal(new View(1, 3), Said<PeerMessage.ViewChange>(outbox).View);
        Assert.False(pbft.CanPropose);
        pbft.Receive(Samples.Messages(0).PrePrepare(Samples.Block(last, new View(1, 0), 0)), _bench.Now, outbox);
        Assert.Null(pbft.NextCandidate(_bench.Now, outbox));
    }

    /// <summary>With the keys alone restored: the blocks that are ahead hold votes of its own, and it has not seen them yet.</summary>
    [Fact]
    public void A3_a_leader_that_knows_of_a_certified_block_ahead_proposes_nothing_before_it_has_it()
    {
        var bench = new ConsensusBench(me: 0);
        Assert.True(bench.Pbft.CanPropose);
        var one = bench.Samples.Block(bench.Genesis, default, 0);
        var two = bench.Samples.Block(one, default, 0);
        var certificate = bench.Samples.Certificate(CertificateKind.Commit, default, two.Height, two.Digest, 1, 2, 3);
        bench.Give(bench.Samples.Messages(1).Status(default, default, StatusKind.Question, certificate, certificate));
        Assert.Equal(two.Height, bench.Pbft.Ahead!.Height);
        Assert.False(bench.Pbft.CanPropose);
        bench.Pbft.CatchUp([one, two], certificate, bench.Now, bench.Outbox);
        // There may be more.
        Assert.False(bench.Pbft.CanPropose);
        bench.Wait(bench.Samples.Genesis.Parameters.ResendMs + 20);
        Assert.True(bench.Pbft.CanPropose);
    }

    [Fact]
    public void A5_a_leader_that_lost_its_blocks_proposes_nothing_where_it_has_proposed_before()
    {
        var (pbft, outbox) = (Samples.NewPbft(1), new Outbox());
        var header = Samples.Block(_bench.Genesis, new View(1, 0), 1).Header;
        pbft.Restore(new DurableRecord.Proposed(new Block(header with { Height = new Height(Term + 2) }, null, [])));
        pbft.Resume(_bench.Now, outbox);
        var last = Fetch(pbft, _bench.Genesis, Term, outbox);
        pbft.EnterTerm(new LeaderOrder([new(1), new(0), new(2), new(3)]), _bench.Now, outbox);
        Assert.Equal(pbft.Me, pbft.Leader);
        Assert.False(CanPropose());
        last = Fetch(pbft, last, 1, outbox);
        Assert.False(CanPropose());
        Fetch(pbft, last, 1, outbox);
        Assert.True(CanPropose());

        // When it has not fetched anything for a while.
        bool CanPropose()
        {
            pbft.Tick(_bench.Now.PlusMs(Samples.Genesis.Parameters.ResendMs), outbox);
            return pbft.CanPropose;
        }
    }

    [Fact]
    public void A5_a_leader_that_lost_its_blocks_opens_no_view_a_second_time()
    {
        var (pbft, outbox) = (Samples.NewPbft(1), new Outbox());
        var view = new View(1, 1);
        var sent = Samples.Messages(1).NewView(view, [], QuorumCertificate.ForGenesis(_bench.Genesis.Digest));
        pbft.Restore(new DurableRecord.ViewChangeSent(view));
        pbft.Restore(new DurableRecord.NewViewSent(sent));
        pbft.Resume(_bench.Now, outbox);
        var last = Fetch(pbft, _bench.Genesis, Term, outbox);
        pbft.EnterTerm(new LeaderOrder([new(0), new(1), new(2), new(3)]), _bench.Now, outbox);
        Assert.Contains(pbft.DurableState(b => new BlockWithBodies(b, [])), r => r is DurableRecord.NewViewSent kept && kept.Message == sent);
        var best = Samples.Certificate(CertificateKind.Commit, default, last.Height, last.Digest, 0, 2, 3);
        foreach (var other in new[] { 0, 2, 3 }) pbft.Receive(Samples.Messages(other).ViewChange(view, best, last.Height, Justification.None), _bench.Now, outbox);
        Assert.DoesNotContain(outbox.Records, r => r is DurableRecord.NewViewSent);
        Assert.All(outbox.Messages.Select(m => m.Message).OfType<PeerMessage.NewView>(), m => Assert.Same(sent, m));
    }

    /// <summary>The log started over after the proposal was committed, and then the blocks got lost.</summary>
    [Fact]
    public void A5_a_log_that_starts_over_still_knows_the_last_proposal()
    {
        var leader = new ConsensusBench(me: 0, termBlocks: Term);
        var block = leader.Samples.Block(leader.Genesis, leader.Pbft.View, 0);
        leader.Pbft.Propose(block, leader.Now, leader.Outbox);
        var commit = leader.Samples.Certificate(CertificateKind.Commit, leader.Pbft.View, block.Height, block.Digest, 1, 2, 3);
        leader.Pbft.CatchUp([block], commit, leader.Now, leader.Outbox);
        var kept = leader.Pbft.DurableState(b => new BlockWithBodies(b, [])).ToArray();
        // Its certificate, which stands there too, would say as much once its block is gone; the proposal says it by itself.
        Assert.Equal(block.Height, Assert.Single(kept.OfType<DurableRecord.ProposedLast>()).Height);
        var (pbft, outbox) = (leader.Samples.NewPbft(0), new Outbox());
        foreach (var record in kept) pbft.Restore(record);
        pbft.Resume(leader.Now, outbox);
        Assert.Equal(pbft.Me, pbft.Leader);
        Assert.False(pbft.CanPropose);
    }

    /// <summary>The next blocks come by catching up. Returns the last of them.</summary>
    private Block Fetch(Pbft pbft, Block parent, int count, Outbox outbox)
    {
        var last = parent;
        var blocks = Enumerable.Range(0, count).Select(_ => last = Samples.Block(last, pbft.View, 0)).ToArray();
        pbft.CatchUp(blocks, Samples.Certificate(CertificateKind.Commit, pbft.View, last.Height, last.Digest, 0, 2, 3), _bench.Now, outbox);
        return last;
    }

    private static T Said<T>(Outbox outbox) => Assert.Single(outbox.Messages.Select(m => m.Message).OfType<T>());

    [Fact]
    public void N10_nothing_is_voted_for_or_proposed_in_a_view_the_chain_has_left_behind()
    {
        // Blocks of view 0.1 come by catching up; this validator is still in view 0.0.
        var one = Samples.Block(_bench.Genesis, default, 0);
        var two = Samples.Block(one, new View(0, 1), 1);
        var certificate = Samples.Certificate(CertificateKind.Commit, new View(0, 1), two.Height, two.Digest, 0, 2, 3);
        _bench.Pbft.CatchUp([one, two], certificate, _bench.Now, _bench.Outbox);
        _bench.Give(Samples.Messages(0).PrePrepare(Samples.Block(two, default, 0)));
        Assert.Empty(_bench.All<PeerMessage.Prepare>());
        Assert.Empty(_bench.All<PeerMessage.Suspect>());

        var leader = new ConsensusBench(me: 0, termBlocks: Term);
        leader.Pbft.CatchUp([one, two], certificate, leader.Now, leader.Outbox);
        Assert.False(leader.Pbft.CanPropose);
    }

    [Fact]
    public void E1_contradictory_signatures_become_evidence_that_anyone_can_check()
    {
        var block = _bench.Propose(_bench.Genesis);
        _bench.Give(Samples.Messages(2).Prepare(default, block.Height, block.Digest), Samples.Messages(2).Prepare(default, block.Height, Samples.Digest(9)));
        Assert.True(_bench.Pbft.TryTakeAccusation(out var proof));
        Assert.Equal((new ValidatorIndex(2), MisbehaviourKind.TwoVotes), (proof.Offender, proof.Kind));
        Assert.True(proof.Verify(Samples.Genesis.Chain, Samples.Signatures));
        Assert.True(Misbehaviour.TryDecode(proof.Encode(), out var read));
        Assert.Equal(proof.Encode(), read.Encode());
        // Another offender, another chain: not proven.
        var bytes = proof.Encode();
        bytes[1] = 3;
        Assert.True(Misbehaviour.TryDecode(bytes, out var forged));
        Assert.False(forged.Verify(Samples.Genesis.Chain, Samples.Signatures));
        // The other order of the same pair is no second encoding.
        byte[] swapped = [.. bytes[..2], .. bytes[(2 + (bytes.Length - 2) / 2)..], .. bytes[2..(2 + (bytes.Length - 2) / 2)]];
        Assert.False(Misbehaviour.TryDecode(swapped, out _));
    }

    [Fact]
    public void E1_a_claim_below_an_own_commit_is_a_denial_and_an_honest_claim_is_none()
    {
        var block = _bench.Propose(_bench.Genesis);
        _bench.Give(Samples.Messages(2).Commit(default, block.Height, block.Digest), Samples.Messages(3).Commit(default, block.Height, block.Digest));
        var known = Samples.Certificate(CertificateKind.Prepare, default, block.Height, block.Digest, 0, 2, 3);
        _bench.Give(_bench.ViewChange(3, new View(0, 1), known));
        Assert.False(_bench.Pbft.TryTakeAccusation(out _));
        _bench.Give(_bench.ViewChange(2, new View(0, 1)));
        Assert.True(_bench.Pbft.TryTakeAccusation(out var proof));
        Assert.Equal((new ValidatorIndex(2), MisbehaviourKind.Understated), (proof.Offender, proof.Kind));
        Assert.True(proof.Verify(Samples.Genesis.Chain, Samples.Signatures));
    }

    [Fact]
    public void E2_evidence_costs_the_offender_its_place_once_and_more_of_it_changes_nothing()
    {
        var ledger = Samples.Genesis.NewLedger();
        AlertEnvelope Evidence(byte fill)
        {
            var proof = Misbehaviour.TryCreate(new ValidatorIndex(2), Vote(1), Vote(fill))!;
            Assert.True(EnvelopeDecoder.TryDecodeBody(AlertEnvelope.Of(proof).Body, out var envelope, out _));
            Assert.True(new EnvelopeAuthenticator(Samples.Signatures, new EpochSchedule(Samples.Genesis.Chain)).TryAuthenticate(envelope, SigningProfiles.V1, out _));
            Assert.False(new EnvelopeAuthenticator(Samples.Signatures).TryAuthenticate(envelope, SigningProfiles.V1, out _));
            return envelope;
        }

        SignedVote Vote(byte fill) =>
            new(StatementType.Prepare, default, new Height(1), Samples.Digest(fill), default, Samples.Messages(2).Prepare(default, new Height(1), Samples.Digest(fill)).Signature);

        var root = ledger.StateRoot();
        var block = new Block(_bench.Genesis.Header with { Height = new Height(1), Time = _bench.Genesis.Header.Time.PlusMs(1), TransactionCount = 2 }, null, []);
        var results = ledger.Apply(block, [Evidence(2), Evidence(3)]).Receipts.Select(r => r.Result);
        Assert.Equal([RejectionReason.None, RejectionReason.AlreadyConvicted], results);
        Assert.Equal((0, LeaderScores.BarredTerms), (ledger.Leaders[new ValidatorIndex(2)].Score, ledger.Leaders[new ValidatorIndex(2)].BarredThrough));
        Assert.NotEqual(root, ledger.StateRoot());
        Assert.True(ledger.HasDecided(Evidence(2).Digest));
    }
}
