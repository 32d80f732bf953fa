using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>One replica's consensus on a bench: the test plays all other validators. Own messages come back at once, as after a durable write.</summary>
internal sealed class ConsensusBench
{
    public ConsensusBench(int me = 1, int termBlocks = 128, int window = 8)
    {
        Me = new ValidatorIndex((ushort)me);
        Samples = new Samples(parameters: new ChainParameters { TermBlocks = termBlocks, Window = window, RootDistance = window });
        Pbft = Samples.NewPbft(me);
        Now = Samples.Genesis.Time.PlusMs(300);
        Pbft.Resume(Now, Outbox);
        Settle();
        Sent.Clear();
    }

    public Samples Samples { get; }
    public ValidatorIndex Me { get; }
    public Pbft Pbft { get; }
    public Outbox Outbox { get; } = new();
    public List<PeerMessage> Sent { get; } = [];
    public List<DurableRecord> Records { get; } = [];
    public List<Consensus.Decision> Decided { get; } = [];
    public Timestamp Now { get; set; }
    public Block Genesis => Samples.Genesis.Block;

    public void Give(params PeerMessage.Signed[] messages)
    {
        foreach (var message in messages)
        {
            Pbft.Receive(message, Now, Outbox);
            Settle();
        }
    }

    /// <summary>Lets time pass in ticks.</summary>
    public void Wait(int ms, Action? each = null)
    {
        for (var passed = 0; passed < ms; passed += 20)
        {
            Now = Now.PlusMs(20);
            each?.Invoke();
            Pbft.Tick(Now, Outbox);
            Settle();
        }
    }

    private void Settle()
    {
        for (var again = true; again;)
        {
            again = false;
            Records.AddRange(Outbox.Records);
            Outbox.Records.Clear();
            foreach (var outgoing in Outbox.Messages.ToArray())
            {
                Outbox.Messages.Remove(outgoing);
                Sent.Add(outgoing.Message);
                Assert.True(Sent.Count < 100_000, "a message storm");
                if (outgoing.To is not null || outgoing.Message is not PeerMessage.Signed own) continue;
                Pbft.Receive(own, Now, Outbox);
                again = true;
            }

            if (Pbft.NextCandidate(Now, Outbox) is { } block)
            {
                Pbft.Accept(new BlockWithBodies(block, []), Now, Outbox);
                again = true;
            }

            while (Pbft.TryTakeDecision(out var decision)) Decided.Add(decision!);
            again |= Outbox.Messages.Count > 0;
        }
    }

    public IEnumerable<T> All<T>() where T : PeerMessage => Sent.OfType<T>();

    public Block Propose(Block parent, View view = default)
    {
        var leader = (int)view.Attempt % 4;
        var block = Samples.Block(parent, view, leader);
        Give(Samples.Messages(leader).PrePrepare(block));
        return block;
    }

    public void Prepares(Block block, View view, params int[] from) => Give([.. from.Select(i => Samples.Messages(i).Prepare(view, block.Height, block.Digest))]);

    public void Commits(Block block, View view, params int[] from) => Give([.. from.Select(i => Samples.Messages(i).Commit(view, block.Height, block.Digest))]);

    public PeerMessage.ViewChange ViewChange(int from, View view, QuorumCertificate? best = null, Justification? justification = null) =>
        Samples.Messages(from).ViewChange(view, best ?? QuorumCertificate.ForGenesis(Genesis.Digest), default, justification ?? Justification.None);

    public PeerMessage.NewView NewView(View view, QuorumCertificate best, params int[] claimants)
    {
        var changes = claimants.Select(i => ViewChange(i, view, i == claimants[0] ? best : null));
        return Samples.Messages((int)view.Attempt % 4).NewView(view, [.. changes.Select(c => new SignedClaim(c.Sender, c.Claim, c.Signature))], best);
    }

    public Justification Justified(View left, params int[] from) =>
        new(left, [.. from.Select(i => new SignedSuspicion(new ValidatorIndex((ushort)i), SuspectReason.NoProgress, Samples.Messages(i).Suspect(left, SuspectReason.NoProgress).Signature))], null);
}

/// <summary>One test for each numbered rule of docs/protocol.md, the number in its name.</summary>
public sealed class ProtocolRuleTests
{
    private static readonly View First = default;
    private static readonly View Second = new(0, 1);
    private static readonly View Third = new(0, 2);
    private readonly ConsensusBench _bench = new();

    [Fact]
    public void N1_only_the_leader_of_the_current_view_is_voted_for()
    {
        _bench.Give(_bench.Samples.Messages(2).PrePrepare(_bench.Samples.Block(_bench.Genesis, First, 2)));
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(_bench.Samples.Block(_bench.Genesis, First, 3)));
        Assert.Empty(_bench.All<PeerMessage.Prepare>());
        Assert.Contains(_bench.All<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.InvalidProposal);
    }

    [Fact]
    public void N2_a_block_is_voted_for_only_after_its_parent()
    {
        var one = _bench.Samples.Block(_bench.Genesis, First, 0);
        var two = _bench.Samples.Block(one, First, 0);
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(two));
        Assert.Empty(_bench.All<PeerMessage.Prepare>());
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(one));
        Assert.Equal([one.Digest, two.Digest], _bench.All<PeerMessage.Prepare>().Select(p => p.Digest));
    }

    [Fact]
    public void N2_a_block_on_another_parent_is_refused()
    {
        _bench.Propose(_bench.Genesis);
        var stranger = _bench.Samples.Block(_bench.Samples.Block(_bench.Genesis, First, 0, Samples.Digest(9)), First, 0);
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(stranger));
        Assert.Single(_bench.All<PeerMessage.Prepare>());
        Assert.Contains(_bench.All<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.InvalidProposal);
    }

    [Fact]
    public void N3_every_agreed_field_of_the_header_must_be_the_expected_one()
    {
        var other = Samples.Digest(5);
        foreach (var change in new Func<BlockHeader, BlockHeader>[]
                 {
                     h => h with { ChainId = other }, h => h with { Epoch = 1 }, h => h with { ValidatorsHash = other }, h => h with { NextValidatorsHash = other },
                     h => h with { ParametersHash = other }, h => h with { AppVersion = 2 }, h => h with { NewViewDigest = other },
                 })
        {
            var bench = new ConsensusBench();
            bench.Give(bench.Samples.Messages(0).PrePrepare(new Block(change(bench.Samples.Block(bench.Genesis, First, 0).Header), null, [])));
            Assert.Empty(bench.All<PeerMessage.Prepare>());
            Assert.Contains(bench.All<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.InvalidProposal);
        }
    }

    [Fact]
    public void N4_a_block_from_the_future_waits_and_is_no_reason_to_suspect()
    {
        var block = _bench.Samples.Block(_bench.Genesis, First, 0);
        var early = new Block(block.Header with { Time = _bench.Now.PlusMs(2_100) }, null, []);
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(early));
        Assert.Empty(_bench.All<PeerMessage.Prepare>());
        _bench.Wait(200);
        Assert.Single(_bench.All<PeerMessage.Prepare>());
        Assert.Empty(_bench.All<PeerMessage.Suspect>());
    }

    [Fact]
    public void N4_block_time_strictly_increases()
    {
        var block = _bench.Samples.Block(_bench.Genesis, First, 0);
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(new Block(block.Header with { Time = _bench.Genesis.Header.Time }, null, [])));
        Assert.Empty(_bench.All<PeerMessage.Prepare>());
        Assert.Single(_bench.All<PeerMessage.Suspect>());
    }

    [Fact]
    public void N6_commit_votes_go_strictly_up_and_lower_heights_are_implied()
    {
        var one = _bench.Propose(_bench.Genesis);
        var two = _bench.Propose(one);
        _bench.Prepares(two, First, 0, 2);
        _bench.Prepares(one, First, 0, 2);
        Assert.Equal([two.Digest], _bench.All<PeerMessage.Commit>().Select(c => c.Digest));
    }

    [Fact]
    public void N7_a_commit_certificate_commits_its_block_and_every_ancestor()
    {
        var one = _bench.Propose(_bench.Genesis);
        var two = _bench.Propose(one);
        _bench.Commits(two, First, 0, 2, 3);
        Assert.Equal([one.Digest, two.Digest], _bench.Decided.Select(d => d.Block.Digest));
        Assert.Null(_bench.Decided[0].Certificate);
        Assert.Equal(two.Digest, _bench.Decided[1].Certificate!.Digest);
    }

    [Fact]
    public void N7_two_commit_votes_and_one_counted_twice_commit_nothing()
    {
        var one = _bench.Propose(_bench.Genesis);
        _bench.Commits(one, First, 0, 2, 2, 0);
        Assert.Empty(_bench.Decided);
    }

    [Fact]
    public void N8_a_seal_of_another_branch_or_height_is_refused()
    {
        foreach (var (height, digest) in new[] { (1UL, Samples.Digest(3)), (2UL, Samples.Digest(3)), (0UL, Samples.Digest(3)) })
        {
            var bench = new ConsensusBench();
            var one = bench.Propose(bench.Genesis);
            var seal = bench.Samples.Certificate(CertificateKind.Commit, First, new Height(height), digest, 0, 2, 3);
            var two = bench.Samples.Block(one, First, 0);
            bench.Give(bench.Samples.Messages(0).PrePrepare(new Block(two.Header with { SealDigest = seal.Hash() }, seal, [])));
            Assert.Single(bench.All<PeerMessage.Prepare>());
            Assert.Contains(bench.All<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.InvalidProposal);
        }
    }

    [Fact]
    public void N8_a_seal_commits_its_block_for_those_who_missed_the_votes()
    {
        var one = _bench.Propose(_bench.Genesis);
        var seal = _bench.Samples.Certificate(CertificateKind.Commit, First, one.Height, one.Digest, 0, 2, 3);
        var two = _bench.Samples.Block(one, First, 0);
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(new Block(two.Header with { SealDigest = seal.Hash() }, seal, [])));
        Assert.Equal([one.Digest], _bench.Decided.Select(d => d.Block.Digest));
        Assert.Equal(2, _bench.All<PeerMessage.Prepare>().Count());
    }

    [Fact]
    public void D1_every_vote_has_its_record_in_the_same_step()
    {
        var one = _bench.Propose(_bench.Genesis);
        _bench.Prepares(one, First, 0, 2);
        Assert.Collection(_bench.Records,
            r => Assert.Equal(one.Digest, Assert.IsType<DurableRecord.BlockHeld>(r).Block.Block.Digest),
            r => Assert.Equal(one.Digest, Assert.IsType<DurableRecord.PrepareVote>(r).Digest),
            r => Assert.Equal(one.Digest, Assert.IsType<DurableRecord.CommitVote>(r).Prepared.Digest));
    }

    [Fact]
    public void D1_a_leaders_prepare_leaves_with_its_proposal_and_counts_once_it_is_durable()
    {
        var leader = new ConsensusBench(me: 0);
        var one = leader.Samples.Block(leader.Genesis, First, 0);
        leader.Pbft.Propose(one, leader.Now, leader.Outbox);
        leader.Pbft.Accept(new BlockWithBodies(leader.Pbft.NextCandidate(leader.Now, leader.Outbox)!, []), leader.Now, leader.Outbox);
        Assert.Equal([typeof(DurableRecord.Proposed), typeof(DurableRecord.BlockHeld), typeof(DurableRecord.PrepareVote)], leader.Outbox.Records.Select(r => r.GetType()));
        var own = leader.Outbox.Messages.Select(m => m.Message).Cast<PeerMessage.Signed>().ToArray();
        Assert.Equal([typeof(PeerMessage.PrePrepare), typeof(PeerMessage.Prepare)], own.Select(m => m.GetType()));
        leader.Outbox.Messages.Clear();
        leader.Prepares(one, First, 1, 2);
        Assert.Empty(leader.All<PeerMessage.Commit>());
        leader.Give(own);
        Assert.Single(leader.All<PeerMessage.Commit>());
        Assert.Equal(one.Digest, leader.Pbft.Tip.Digest);
    }

    [Fact]
    public void V5_a_new_view_below_the_own_best_certificate_is_entered_all_the_same()
    {
        // Q claims prove that the own certificate was not committed; a lock against them would stall for ever.
        var one = _bench.Propose(_bench.Genesis);
        _bench.Prepares(one, First, 0, 2);
        Assert.Single(_bench.All<PeerMessage.Commit>());
        _bench.Give(_bench.NewView(Third, QuorumCertificate.ForGenesis(_bench.Genesis.Digest), 0, 2, 3));
        Assert.Equal(Third, _bench.Pbft.View);
        Assert.Equal(_bench.Genesis.Digest, _bench.Pbft.Tip.Digest);
    }

    [Fact]
    public void D1_leaving_and_opening_a_view_have_their_records()
    {
        _bench.Give(_bench.ViewChange(0, Second), _bench.ViewChange(2, Second), _bench.ViewChange(3, Second));
        var sent = _bench.All<PeerMessage.NewView>().First();
        Assert.Collection(
            _bench.Records,
            r => Assert.Equal(Second, Assert.IsType<DurableRecord.ViewChangeSent>(r).View),
            r => Assert.Same(sent, Assert.IsType<DurableRecord.NewViewSent>(r).Message),
            r => Assert.Same(sent, Assert.IsType<DurableRecord.ViewEntered>(r).Message));
    }

    [Fact]
    public void D3_after_a_restart_on_a_shorter_chain_nothing_is_voted_for_again_up_to_the_last_vote()
    {
        // Votes for heights 1 and 2; the restart knows the last vote and its block, but not the block below.
        var one = _bench.Samples.Block(_bench.Genesis, First, 0);
        var two = _bench.Samples.Block(one, First, 0);
        _bench.Pbft.Restore(new DurableRecord.BlockHeld(new BlockWithBodies(two, [])));
        _bench.Pbft.Restore(new DurableRecord.PrepareVote(First, two.Height, two.Digest));
        _bench.Give(_bench.Samples.Messages(0).PrePrepare(one), _bench.Samples.Messages(0).PrePrepare(two));
        Assert.All(_bench.All<PeerMessage.Prepare>(), p => Assert.Equal(two.Digest, p.Digest));
        Assert.Equal(two.Digest, _bench.Pbft.Tip.Digest);
        Assert.DoesNotContain(_bench.Records, r => r is DurableRecord.PrepareVote);

        var other = new ConsensusBench();
        other.Pbft.Restore(new DurableRecord.BlockHeld(new BlockWithBodies(two, [])));
        other.Pbft.Restore(new DurableRecord.PrepareVote(First, two.Height, two.Digest));
        var branch = new Block(two.Header with { Time = two.Header.Time.PlusMs(1) }, null, []);
        other.Give(other.Samples.Messages(0).PrePrepare(one), other.Samples.Messages(0).PrePrepare(branch));
        Assert.Equal(one.Digest, other.Pbft.Tip.Digest);
        Assert.Empty(other.All<PeerMessage.Prepare>());
    }

    [Fact]
    public void D1_what_was_recorded_is_said_again_after_a_restart_and_nothing_else()
    {
        var one = _bench.Propose(_bench.Genesis);
        _bench.Prepares(one, First, 0, 2);
        var again = _bench.Samples.NewPbft(1);
        foreach (var record in _bench.Records) again.Restore(record);
        var outbox = new Outbox();
        again.Resume(_bench.Now, outbox);
        Assert.Equal(_bench.All<PeerMessage.Prepare>(), outbox.Messages.Select(m => m.Message).OfType<PeerMessage.Prepare>());
        Assert.Equal(_bench.All<PeerMessage.Commit>(), outbox.Messages.Select(m => m.Message).OfType<PeerMessage.Commit>());
        // Another block for the same height meets the guard, not a second vote.
        var other = _bench.Samples.Block(_bench.Genesis, First, 0, Samples.Digest(1));
        again.Receive(_bench.Samples.Messages(0).PrePrepare(other), _bench.Now, outbox);
        Assert.Null(again.NextCandidate(_bench.Now, outbox));
    }

    [Fact]
    public void D2_a_second_vote_for_a_slot_or_a_step_back_is_a_broken_invariant()
    {
        var guard = new Guard();
        guard.Prepare(new Guard.Vote(Second, new Height(5), default));
        Assert.Throws<InvariantViolation>(() => guard.Prepare(new Guard.Vote(Second, new Height(5), Samples.Digest(1))));
        Assert.Throws<InvariantViolation>(() => guard.Prepare(new Guard.Vote(Second, new Height(4), default)));
        Assert.Throws<InvariantViolation>(() => guard.Prepare(new Guard.Vote(First, new Height(9), default)));
        guard.Prepare(new Guard.Vote(Third, new Height(2), default));
        guard.ChangeView(new View(0, 7));
        Assert.Throws<InvariantViolation>(() => guard.Commit(new Guard.Vote(Third, new Height(9), default)));
        Assert.Throws<InvariantViolation>(() => guard.ChangeView(new View(0, 7)));
    }

    [Fact]
    public void V1_nothing_is_signed_in_a_view_that_was_left()
    {
        var one = _bench.Propose(_bench.Genesis);
        _bench.Give(_bench.Samples.Messages(0).Suspect(First, SuspectReason.Silent), _bench.Samples.Messages(2).Suspect(First, SuspectReason.Silent));
        Assert.Single(_bench.All<PeerMessage.ViewChange>());
        _bench.Sent.Clear();
        _bench.Prepares(one, First, 0, 2);
        _bench.Propose(one);
        Assert.Empty(_bench.All<PeerMessage.Prepare>());
        Assert.Empty(_bench.All<PeerMessage.Commit>());
    }

    [Fact]
    public void V2_f_suspicions_end_no_view_and_f_plus_1_do()
    {
        _bench.Give(_bench.Samples.Messages(2).Suspect(First, SuspectReason.Silent));
        _bench.Give(_bench.Samples.Messages(2).Suspect(First, SuspectReason.NoProgress));
        Assert.False(_bench.Pbft.IsChangingView);
        _bench.Propose(_bench.Genesis);
        Assert.Single(_bench.All<PeerMessage.Prepare>());
        _bench.Give(_bench.Samples.Messages(3).Suspect(First, SuspectReason.Silent));
        Assert.Equal(Second, Assert.Single(_bench.All<PeerMessage.ViewChange>()).View);
    }

    [Fact]
    public void V2_a_suspicion_that_is_not_repeated_lapses()
    {
        _bench.Give(_bench.Samples.Messages(2).Suspect(First, SuspectReason.Silent));
        _bench.Wait(1_100, () => _bench.Give(_bench.Samples.Messages(0).Heartbeat(First, QuorumCertificate.ForGenesis(_bench.Genesis.Digest))));
        _bench.Give(_bench.Samples.Messages(3).Suspect(First, SuspectReason.Silent));
        Assert.False(_bench.Pbft.IsChangingView);
    }

    [Fact]
    public void V2_a_handover_of_the_leader_ends_the_view_at_once()
    {
        _bench.Give(_bench.Samples.Messages(2).Handover(First));
        Assert.False(_bench.Pbft.IsChangingView);
        _bench.Give(_bench.Samples.Messages(0).Handover(First));
        Assert.True(_bench.Pbft.IsChangingView);
    }

    [Fact]
    public void V3_a_justified_view_change_is_followed_and_an_unjustified_one_is_not()
    {
        var alone = new ConsensusBench();
        alone.Give(alone.ViewChange(2, Second, justification: alone.Justified(First, 2)));
        Assert.Empty(alone.All<PeerMessage.ViewChange>());
        _bench.Give(_bench.ViewChange(2, Second, justification: _bench.Justified(First, 2, 3)));
        Assert.Equal(Second, Assert.Single(_bench.All<PeerMessage.ViewChange>()).View);
    }

    [Fact]
    public void V3_f_plus_1_validators_ahead_pull_the_rest_to_the_lower_of_their_views()
    {
        _bench.Give(_bench.ViewChange(3, new View(0, 60_000)));
        Assert.False(_bench.Pbft.IsChangingView);
        _bench.Give(_bench.ViewChange(2, new View(0, 5)));
        Assert.Equal(new View(0, 5), Assert.Single(_bench.All<PeerMessage.ViewChange>()).View);
    }

    [Fact]
    public void V4_a_new_view_needs_q_genuine_claims_and_their_best_certificate()
    {
        var samples = _bench.Samples;
        var authenticator = samples.Authenticator();
        bool Genuine(PeerMessage message) => authenticator.TryVerify(message, out _, out _);
        var prepared = samples.Certificate(CertificateKind.Prepare, First, new Height(1), Samples.Digest(1), 0, 1, 2);
        var genesis = QuorumCertificate.ForGenesis(_bench.Genesis.Digest);
        var good = _bench.NewView(Second, prepared, 0, 2, 3);
        Assert.True(Genuine(good));
        Assert.False(Genuine(samples.Messages(1).NewView(Second, good.Claims, genesis)));
        Assert.False(Genuine(samples.Messages(1).NewView(Second, good.Claims[..2], prepared)));
        Assert.False(Genuine(samples.Messages(1).NewView(Third, good.Claims, prepared)));
        var overstated = good.Claims[1] with { Claim = good.Claims[1].Claim with { Best = prepared.Rank } };
        Assert.False(Genuine(samples.Messages(1).NewView(Second, good.Claims.SetItem(1, overstated), prepared)));
        var fake = new QuorumCertificate(CertificateKind.Prepare, 0, First, new Height(2), Samples.Digest(2), prepared.Signatures);
        Assert.False(Genuine(_bench.NewView(Second, fake, 0, 2, 3)));
        Assert.False(Genuine(_bench.ViewChange(3, First, prepared)));
    }

    [Fact]
    public void V4_a_new_view_of_anybody_but_the_leader_of_that_view_is_ignored()
    {
        var good = _bench.NewView(Third, QuorumCertificate.ForGenesis(_bench.Genesis.Digest), 0, 2, 3);
        _bench.Give(_bench.Samples.Messages(3).NewView(Third, good.Claims, good.Best));
        Assert.Equal(First, _bench.Pbft.View);
        _bench.Give(good);
        Assert.Equal(Third, _bench.Pbft.View);
    }

    [Fact]
    public void V5_a_view_is_entered_when_its_base_is_held_and_never_a_lower_one()
    {
        var one = _bench.Samples.Block(_bench.Genesis, First, 0);
        var prepared = _bench.Samples.Certificate(CertificateKind.Prepare, First, one.Height, one.Digest, 0, 2, 3);
        _bench.Give(_bench.NewView(Third, prepared, 0, 2, 3));
        Assert.Equal(First, _bench.Pbft.View);
        Assert.Equal(one.Digest, _bench.Pbft.WantedBlock);
        _bench.Pbft.Supply(new BlockWithBodies(one, []), _bench.Now, _bench.Outbox);
        Assert.Equal(Third, _bench.Pbft.View);
        _bench.Give(_bench.NewView(Second, QuorumCertificate.ForGenesis(_bench.Genesis.Digest), 0, 2, 3));
        Assert.Equal(Third, _bench.Pbft.View);
    }

    [Fact]
    public void V6_the_tip_itself_is_prepared_again_and_not_the_lower_heights()
    {
        var one = _bench.Propose(_bench.Genesis);
        var two = _bench.Propose(one);
        var three = _bench.Propose(two);
        var prepared = _bench.Samples.Certificate(CertificateKind.Prepare, First, two.Height, two.Digest, 0, 2, 3);
        _bench.Sent.Clear();
        _bench.Give(_bench.NewView(Third, prepared, 0, 2, 3));
        var vote = Assert.Single(_bench.All<PeerMessage.Prepare>());
        Assert.Equal((Third, two.Height, two.Digest), (vote.View, vote.Height, vote.Digest));
        Assert.Equal(two.Digest, _bench.Pbft.Tip.Digest);
        Assert.NotEqual(three.Digest, _bench.Pbft.Tip.Digest);
    }

    [Fact]
    public void T1_the_timeout_doubles_after_three_attempts_and_is_capped()
    {
        var parameters = new ChainParameters();
        var pacemaker = new Pacemaker(parameters);
        long At(uint attempts)
        {
            pacemaker.EnterView(attempts, default);
            return pacemaker.ProgressTimeoutMs;
        }

        Assert.Equal([1000, 1000, 1000, 2000, 4000, 60_000, 60_000], new uint[] { 0, 1, 2, 3, 4, 9, 60_000 }.Select(At));
        for (var i = 0; i < 8; i++) pacemaker.Measured(300);
        // The base is frozen while a term lasts.
        Assert.Equal(1000, At(0));
        pacemaker.EnterTerm(parameters, default);
        Assert.InRange(At(0), 1200, parameters.ProgressTimeoutMaxMs);
        for (var i = 0; i < 100; i++) pacemaker.Measured(1);
        pacemaker.EnterTerm(parameters, default);
        Assert.Equal(parameters.ProgressTimeoutMinMs, At(0));
    }

    [Fact]
    public void T2_heartbeats_alone_do_not_keep_a_leader_that_commits_nothing()
    {
        _bench.Pbft.WorkWaiting = true;
        var alive = _bench.Samples.Messages(0).Heartbeat(First, QuorumCertificate.ForGenesis(_bench.Genesis.Digest));
        _bench.Wait(900, () => _bench.Give(alive));
        Assert.Empty(_bench.All<PeerMessage.Suspect>());
        _bench.Wait(300, () => _bench.Give(alive));
        Assert.All(_bench.All<PeerMessage.Suspect>(), s => Assert.Equal(SuspectReason.NoProgress, s.Reason));
        Assert.NotEmpty(_bench.All<PeerMessage.Suspect>());
    }

    [Fact]
    public void T2_an_idle_leader_lives_from_heartbeats_and_a_silent_one_is_suspected()
    {
        var alive = _bench.Samples.Messages(0).Heartbeat(First, QuorumCertificate.ForGenesis(_bench.Genesis.Digest));
        _bench.Wait(5_000, () => _bench.Give(alive));
        Assert.Empty(_bench.All<PeerMessage.Suspect>());
        _bench.Wait(2_500);
        Assert.Contains(_bench.All<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.Silent);
    }

    [Fact]
    public void T3_attempts_do_not_run_away_while_a_quorum_is_missing()
    {
        _bench.Give(_bench.Samples.Messages(2).Suspect(First, SuspectReason.Silent), _bench.Samples.Messages(3).Suspect(First, SuspectReason.Silent));
        _bench.Wait(3_600_000 / 10);
        Assert.All(_bench.All<PeerMessage.ViewChange>(), v => Assert.Equal(Second, v.View));
    }

    [Fact]
    public void T5_no_timer_runs_while_too_few_peers_are_connected()
    {
        _bench.Pbft.WorkWaiting = true;
        _bench.Pbft.ConnectedPeers = 1;
        _bench.Wait(60_000);
        Assert.Empty(_bench.All<PeerMessage.Suspect>());
        _bench.Pbft.ConnectedPeers = 2;
        _bench.Wait(1_100);
        Assert.NotEmpty(_bench.All<PeerMessage.Suspect>());
    }

    [Fact]
    public void A_proposal_that_was_lost_is_asked_for_without_a_view_change()
    {
        var one = _bench.Samples.Block(_bench.Genesis, First, 0);
        var genesis = QuorumCertificate.ForGenesis(_bench.Genesis.Digest);
        _bench.Give(_bench.Samples.Messages(0).Status(First, one.Height, StatusKind.Question, genesis, genesis));
        var asked = Assert.Single(_bench.All<PeerMessage.Status>());
        Assert.Equal(StatusKind.Question, asked.Kind);

        var leader = new ConsensusBench(me: 0);
        leader.Pbft.Propose(leader.Samples.Block(leader.Genesis, First, 0), leader.Now, leader.Outbox);
        leader.Give(leader.Samples.Messages(3).Status(First, default, StatusKind.Answer, genesis, genesis));
        leader.Sent.Clear();
        leader.Wait(200);
        leader.Give(leader.Samples.Messages(1).Status(First, default, StatusKind.Question, genesis, genesis));
        Assert.Contains(leader.All<PeerMessage.PrePrepare>(), p => p.Block.Digest == one.Digest);
    }

    [Fact]
    public void T3_the_new_view_timer_counts_validators_that_have_moved_on()
    {
        var bench = new ConsensusBench(me: 3);
        bench.Give(bench.Samples.Messages(1).Suspect(First, SuspectReason.Silent), bench.Samples.Messages(2).Suspect(First, SuspectReason.Silent));
        bench.Give(bench.ViewChange(1, Second), bench.ViewChange(2, Third));
        bench.Wait(1_100);
        Assert.Equal(Third, bench.All<PeerMessage.ViewChange>().Last().View);
    }
}

/// <summary>Rules that need the content of blocks: kept by the replica.</summary>
public sealed class ReplicaRuleTests
{
    private readonly Samples _samples = new();
    private readonly Replica.Replica _replica;
    private readonly Effects _effects = new();
    private Timestamp _now;

    public ReplicaRuleTests()
    {
        _replica = new Replica.Replica(_samples.Genesis, new SingleKey(_samples.Signers[1]));
        _now = _samples.Genesis.Time.PlusMs(300);
        _replica.Resume(_now, _effects);
        _effects.Clear();
    }

    private AlertEnvelope Alert()
    {
        return Decode(_samples.Alerts.Anomaly(_samples.Genesis.Time.Milliseconds / 1000));
    }

    private void Give(int from, PeerMessage message)
    {
        Assert.True(_samples.Authenticator().TryVerify(message, out var verified, out var problem), problem);
        _replica.Receive(new ValidatorIndex((ushort)from), verified, _now, _effects);
    }

    private Block Block(params AlertEnvelope[] alerts)
    {
        var block = _samples.Block(_samples.Genesis.Block, default, 0, [.. alerts.Select(a => a.Digest)]);
        return new Block(block.Header with { BodyBytes = (uint)alerts.Sum(a => a.BodyLength) }, null, block.Transactions);
    }

    private IEnumerable<T> Sent<T>() where T : PeerMessage => _effects.Messages.Select(m => m.Message).OfType<T>();

    [Fact]
    public void N5_a_block_with_another_state_root_is_refused()
    {
        var block = Block();
        Give(0, _samples.Messages(0).PrePrepare(new Block(block.Header with { StateRoot = Samples.Digest(1) }, null, [])));
        Assert.Empty(Sent<PeerMessage.Prepare>());
        Assert.Equal(SuspectReason.InvalidProposal, Assert.Single(Sent<PeerMessage.Suspect>()).Reason);
    }

    [Fact]
    public void N11_a_chain_at_rest_goes_on_until_a_header_names_its_state()
    {
        var leader = new Replica.Replica(_samples.Genesis, new SingleKey(_samples.Signers[0]));
        leader.Resume(_now, _effects);
        Assert.True(new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(Alert(), SigningProfiles.V1, out var verified));
        leader.Submit(verified, _now, _effects);
        var proposed = new List<(Block Block, long AtMs)>();
        var start = _now;
        for (var i = 0; i < 500; i++)
        {
            _now = _now.PlusMs(10);
            leader.Tick(_now, _effects);
            var sent = _effects.Messages.Select(m => m.Message).OfType<PeerMessage.Signed>().ToArray();
            _effects.Clear();
            foreach (var message in sent)
            {
                leader.Receive(new ValidatorIndex(0), PeerAuthenticator.Own(message), _now, _effects);
                if (message is not PeerMessage.PrePrepare { Block: var block }) continue;
                proposed.Add((block, _now.Since(start)));
                for (var v = 1; v < 4; v++)
                    foreach (var vote in new PeerMessage[] { _samples.Messages(v).Prepare(default, block.Height, block.Digest), _samples.Messages(v).Commit(default, block.Height, block.Digest) })
                    {
                        Assert.True(_samples.Authenticator().TryVerify(vote, out var incoming, out _));
                        leader.Receive(new ValidatorIndex((ushort)v), incoming, _now, _effects);
                    }
            }
        }

        // The alert at once; then eight more, so that the last one names the state after the first.
        var blocks = proposed.DistinctBy(p => p.Block.Digest).ToArray();
        Assert.Equal(1 + _samples.Genesis.Parameters.RootDistance, blocks.Length);
        Assert.Equal((ulong)blocks.Length, leader.Height.Value);
        Assert.Equal(1UL, blocks[^1].Block.Header.RootHeight.Value);
        Assert.All(blocks.Skip(1), b => Assert.Empty(b.Block.Transactions));
        Assert.InRange(blocks[1].AtMs, 1000, 1300);
    }

    /// <summary>A log that starts over holds what the old one held: nothing else would stop a second vote after the next restart.</summary>
    [Fact]
    public void D1_a_log_that_starts_over_begins_with_all_votes()
    {
        Give(0, _samples.Messages(0).PrePrepare(Block()));
        Assert.Single(Sent<PeerMessage.Prepare>());
        _effects.Clear();
        _replica.Stored(new Height(64), _now, _effects);
        Assert.IsType<DurableRecord.Reset>(_effects.Records[0]);

        var log = _effects.Records.ToArray();
        var alert = Alert();
        var other = Block(alert);
        Assert.True(VotesForOther([]));
        Assert.False(VotesForOther(log));

        bool VotesForOther(DurableRecord[] records)
        {
            var restarted = new Replica.Replica(_samples.Genesis, new SingleKey(_samples.Signers[1]));
            foreach (var record in records) restarted.Restore(record, new EnvelopeAuthenticator(_samples.Signatures));
            _effects.Clear();
            restarted.Resume(_now, _effects);
            foreach (var message in new PeerMessage[] { _samples.Messages(0).PrePrepare(other), new PeerMessage.Transactions([alert.Body]) })
            {
                Assert.True(_samples.Authenticator().TryVerify(message, out var verified, out _));
                restarted.Receive(new ValidatorIndex(0), verified, _now, _effects);
                restarted.Tick(_now = _now.PlusMs(10), _effects);
            }

            return Sent<PeerMessage.Prepare>().Any(p => p.Digest == other.Digest);
        }
    }

    [Fact]
    public void N9_a_transaction_twice_in_a_block_is_refused()
    {
        var alert = Alert();
        Give(0, _samples.Messages(0).PrePrepare(Block(alert, alert)));
        Assert.Equal(SuspectReason.InvalidProposal, Assert.Single(Sent<PeerMessage.Suspect>()).Reason);
    }

    [Fact]
    public void N9_a_missing_body_is_asked_of_the_leader_and_the_vote_waits_for_it()
    {
        var alert = Alert();
        Give(0, _samples.Messages(0).PrePrepare(Block(alert)));
        Assert.Empty(Sent<PeerMessage.Prepare>());
        _now = _now.PlusMs(30);
        _replica.Tick(_now, _effects);
        Assert.Equal(new ValidatorIndex(0), _effects.Messages.Single(m => m.Message is PeerMessage.GetTransactions).To);
        Give(0, new PeerMessage.Transactions([alert.Body]));
        Assert.Single(Sent<PeerMessage.Prepare>());
    }

    [Fact]
    public void N9_a_body_with_a_bad_signature_never_reaches_the_replica()
    {
        var body = Alert().Body.ToArray();
        Assert.True(EnvelopeDecoder.TryDecodeBody(body, out var envelope, out _));
        body[1 + envelope.SignatureField.Start.Value + 10] ^= 1;
        Assert.False(_samples.Authenticator().TryVerify(new PeerMessage.Transactions([body]), out _, out var problem));
        Assert.Contains("bad signature", problem, StringComparison.Ordinal);
    }

    /// <summary>A producer signs two messages with one nonce; the one that lost reached nobody but this validator.</summary>
    [Fact]
    public void T7_what_can_never_be_accepted_any_more_is_not_waited_for()
    {
        var seconds = _samples.Genesis.Time.Milliseconds / 1000;
        var winner = Decode(_samples.Alerts.Anomaly(seconds, new Nonce(7), "winner", 5));
        var loser = Decode(_samples.Alerts.Anomaly(seconds, new Nonce(7), "loser", 5));
        Submit(loser);
        var block = Block(winner);
        var commit = _samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, 0, 2, 3);
        Give(0, _samples.Messages(0).Heartbeat(default, commit));
        _replica.Tick(_now, _effects);
        Give(_effects.Messages.Single(m => m.Message is PeerMessage.GetBlocks).To!.Value.Value, new PeerMessage.Blocks([new BlockWithBodies(block, [winner.Body])], commit));
        Assert.Single(_effects.Decided);
        var refusal = Assert.Single(_effects.Refused);
        Assert.Equal((loser.Digest, RejectionReason.ReplayedNonce), (refusal.Transaction, refusal.Rejection.Reason));
        for (var i = 0; i < 500; i++)
        {
            _now = _now.PlusMs(10);
            Give(0, _samples.Messages(0).Heartbeat(default, commit));
            _replica.Tick(_now, _effects);
        }

        Assert.Empty(Sent<PeerMessage.Transactions>());
        Assert.Empty(Sent<PeerMessage.Suspect>());
    }

    /// <summary>Its key is revoked by an order in a block, while it waits.</summary>
    [Fact]
    public void T7_a_message_whose_key_is_gone_is_not_announced()
    {
        var waiting = Alert();
        Submit(waiting);
        var change = new ChangeOrder(_samples.Genesis.Chain.ChainId, 1, new Change.RevokeProducer(_samples.Genesis.Producers.All.Single(p => p.Key == waiting.Producer).Name), []);
        var order = AlertEnvelope.Of(change.SignedBy(0, _samples.OperatorKeys[0]).SignedBy(2, _samples.OperatorKeys[2]));
        var block = Block(order);
        var commit = _samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, 0, 2, 3);
        Give(0, _samples.Messages(0).Heartbeat(default, commit));
        _replica.Tick(_now, _effects);
        Give(_effects.Messages.Single(m => m.Message is PeerMessage.GetBlocks).To!.Value.Value, new PeerMessage.Blocks([new BlockWithBodies(block, [order.Body])], commit));
        Assert.Equal(RejectionReason.None, _effects.Decided.Single().Receipts.Single().Result);
        for (var i = 0; i < 500 && _replica.PoolCount > 0; i++)
        {
            _now = _now.PlusMs(10);
            Give(0, _samples.Messages(0).Heartbeat(default, commit));
            _replica.Tick(_now, _effects);
        }

        Assert.Equal(waiting.Digest, Assert.Single(_effects.Refused).Transaction);
        Assert.Empty(Sent<PeerMessage.Announcement>());
        Assert.DoesNotContain(Sent<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.Censorship);
    }

    private void Submit(AlertEnvelope alert)
    {
        Assert.True(new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(alert, SigningProfiles.V1, out var verified));
        Assert.Equal(AdmissionKind.Admitted, _replica.Submit(verified, _now, _effects).Kind);
    }

    private static AlertEnvelope Decode(byte[] record)
    {
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _));
        return envelope;
    }

    [Fact]
    public void T4_a_waiting_transaction_is_announced_to_all_and_then_the_leader_is_suspected()
    {
        Assert.True(new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(Alert(), SigningProfiles.V1, out var verified));
        Assert.Equal(AdmissionKind.Admitted, _replica.Submit(verified, _now, _effects).Kind);
        Assert.Equal(AdmissionKind.Waiting, _replica.Submit(verified, _now, _effects).Kind);
        var heartbeat = _samples.Messages(0).Heartbeat(default, QuorumCertificate.ForGenesis(_samples.Genesis.Block.Digest));
        for (var i = 0; i < 450; i++)
        {
            _now = _now.PlusMs(10);
            Give(0, heartbeat);
            _replica.Tick(_now, _effects);
        }

        // Again each T_tx of 2 s, for those who missed it.
        Assert.InRange(Sent<PeerMessage.Announcement>().Count(), 2, 3);
        Assert.All(_effects.Messages.Where(m => m.Message is PeerMessage.Announcement), m => Assert.Null(m.To));
        Assert.All(Sent<PeerMessage.Announcement>(), m => Assert.Equal([verified.Value.Digest], m.Digests));
        Assert.NotEmpty(Sent<PeerMessage.Suspect>());
    }

    [Fact]
    public void T4_what_is_announced_and_lacking_is_fetched_and_waits_like_what_came_from_Kafka()
    {
        var (known, lacking) = (Alert(), Alert());
        Submit(known);
        Give(2, new PeerMessage.Announcement([known.Digest, lacking.Digest]));
        var request = _effects.Messages.Single(m => m.Message is PeerMessage.GetTransactions);
        Assert.Equal((new ValidatorIndex(2), lacking.Digest), (request.To!.Value, Assert.Single(((PeerMessage.GetTransactions)request.Message).Digests)));
        Give(2, new PeerMessage.Transactions([lacking.Body]));
        Assert.Equal(2, _replica.PoolCount);

        // And whoever asks for it gets it from here.
        _effects.Clear();
        Give(3, new PeerMessage.GetTransactions([lacking.Digest]));
        Assert.Equal(lacking.Body, ((PeerMessage.Transactions)Assert.Single(_effects.Messages).Message).Bodies.Single().ToArray());
    }

    [Fact]
    public void C1_blocks_are_taken_only_from_the_peer_that_was_asked_linked_complete_and_certified()
    {
        var alert = Alert();
        var block = Block(alert);
        var certificate = _samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, 0, 2, 3);
        ImmutableArray<ReadOnlyMemory<byte>> bodies = [alert.Body];
        var good = new PeerMessage.Blocks([new BlockWithBodies(block, bodies)], certificate);
        Give(2, good);
        Assert.Equal(0UL, _replica.Height.Value);

        Give(0, _samples.Messages(0).Heartbeat(default, certificate));
        _replica.Tick(_now, _effects);
        var asked = _effects.Messages.Single(m => m.Message is PeerMessage.GetBlocks).To!.Value;
        var other = Block(Alert());
        var forged = _samples.Certificate(CertificateKind.Commit, default, block.Height, other.Digest, 0, 2);
        Assert.False(_samples.Authenticator().TryVerify(new PeerMessage.Blocks([new BlockWithBodies(other, bodies)], forged), out _, out _));
        Give(asked.Value, new PeerMessage.Blocks([new BlockWithBodies(block, [])], certificate));
        Give(asked.Value, new PeerMessage.Blocks([new BlockWithBodies(block, [Alert().Body])], certificate));
        Give(asked.Value, new PeerMessage.Blocks([new BlockWithBodies(other, bodies)], certificate));
        Give((asked.Value + 1) % 4, good);
        Assert.Equal(0UL, _replica.Height.Value);
        Give(asked.Value, good);
        Assert.Equal(1UL, _replica.Height.Value);
        Assert.True(Assert.Single(_effects.Decided).Receipts[0].Accepted);
    }
}
