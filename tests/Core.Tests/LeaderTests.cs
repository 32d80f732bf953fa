using System;
using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Terms and leaders (rules L1 to L6) and the demands on leaders (T6, T8).</summary>
public sealed class LeaderTests
{
    private const int Term = 8;
    private readonly Samples _samples = new(7);
    private readonly ChainParameters _parameters = new() { TermBlocks = Term, BlockTransactionsMax = 10 };
    private readonly LeaderScores _scores;
    private BlockHeader _last;

    public LeaderTests()
    {
        _scores = new LeaderScores(_samples.Genesis.Chain with { Parameters = _parameters });
        _last = _samples.Genesis.Block.Header;
    }

    /// <summary>The next block of the chain, led by whoever leads that attempt.</summary>
    private bool Block(uint attempt = 0, int[]? sealedBy = null, int intervalMs = 10, uint transactions = 10)
    {
        var height = _last.Height.Next;
        _last = _last with
        {
            Height = height,
            View = new View(_parameters.TermOf(height), attempt),
            Proposer = _scores.Order.Leader(attempt),
            Time = _last.Time.PlusMs(intervalMs),
            TransactionCount = transactions,
        };
        var signatures = (sealedBy ?? [0, 1, 2, 3, 4]).Select(i => new SignerSignature(new ValidatorIndex((ushort)i), default));
        return Observe(_scores, new QuorumCertificate(CertificateKind.Commit, 0, default, height, default, [.. signatures]));
    }

    private bool Observe(LeaderScores scores, QuorumCertificate seal)
    {
        if (!scores.Observe(_last, seal)) return false;
        scores.BeginTerm(_samples.Genesis.Chain with { Parameters = _parameters });
        return true;
    }

    private int Score(int validator) => _scores[new ValidatorIndex((ushort)validator)].Score;

    [Fact]
    public void L1_equal_blocks_give_equal_scores_and_orders_and_nothing_else_counts()
    {
        var other = new LeaderScores(_samples.Genesis.Chain with { Parameters = _parameters });
        for (var i = 0; i < 10 * Term; i++)
        {
            Block((uint)(i % Term / 3));
            Observe(other, new QuorumCertificate(CertificateKind.Commit, 0, default, _last.Height, default,
                [.. Enumerable.Range(0, 5).Select(s => new SignerSignature(new ValidatorIndex((ushort)s), default))]));
            Assert.Equal(_scores.Order.Attempts, other.Order.Attempts);
            Assert.Equal(_scores.Standings, other.Standings);
        }
    }

    [Fact]
    public void L2_every_validator_leads_within_n_attempts_whatever_the_scores_say()
    {
        for (var term = 0; term < 50; term++)
        {
            Assert.Equal(Enumerable.Range(0, 7), _scores.Order.Attempts.Select(v => (int)v.Value).Order());
            for (var i = 0; i < Term; i++) Block((uint)(term % 4));
        }
    }

    [Fact]
    public void L3_bad_leaders_come_last_but_at_most_f_of_them()
    {
        for (var i = 0; i < 4; i++) _scores.Convict(new ValidatorIndex((ushort)i));
        for (var term = 0; term < 4; term++)
        {
            for (var i = 0; i < Term; i++) Block(attempt: 6);
            var last = _scores.Order.Attempts.TakeLast(2).Select(v => (int)v.Value).Order().ToArray();
            Assert.All(last, v => Assert.InRange(v, 0, 3));
            Assert.Equal(7, _scores.Order.Attempts.Distinct().Count());
        }
    }

    [Fact]
    public void L3_good_leaders_take_turns()
    {
        var first = new List<int>();
        for (var term = 0; term < 14; term++)
        {
            first.Add(_scores.Order.Leader(0).Value);
            for (var i = 0; i < Term; i++) Block(sealedBy: [0, 1, 2, 3, 4, 5, 6]);
        }

        Assert.Equal(7, first.Distinct().Count());
    }

    [Fact]
    public void L4_scores_follow_the_formula()
    {
        var order = _scores.Order.Attempts.Select(v => (int)v.Value).ToArray();
        // Attempt 0 produced nothing, attempt 1 made progress and lost, attempt 2 finished the term.
        for (var i = 0; i < 4; i++) Block(attempt: 1, sealedBy: [order[5]]);
        for (var i = 0; i < 4; i++) Block(attempt: 2, sealedBy: [order[6]]);
        Assert.Equal(700 - 360, Score(order[0]));
        Assert.Equal(700 + 40 - 120, Score(order[1]));
        Assert.Equal(700 + 40, Score(order[2]));
        Assert.Equal(700 + 10, Score(order[5]));
        Assert.Equal(700, Score(order[3]));
        Assert.Equal(1ul, _scores.Term);

        var slow = _scores.Order.Attempts[0];
        var before = Score(slow.Value);
        for (var i = 0; i < 3; i++) Block(intervalMs: 100, sealedBy: []);
        for (var i = 0; i < 5; i++) Block(attempt: 1, intervalMs: 10, sealedBy: []);
        Assert.Equal(before + 40 - 120 - 60, Score(slow.Value));

        _scores.Convict(new ValidatorIndex(0));
        Assert.Equal((0, 2 + LeaderScores.BarredTerms), (Score(0), _scores[new ValidatorIndex(0)].BarredThrough));
    }

    [Fact]
    public void L6_who_loses_attempts_leads_late_for_twice_as_long_each_time_and_who_leads_well_for_less()
    {
        var liar = _scores.Order.Leader(0);
        var led = new List<ulong>();
        for (var term = 0; term < 300; term++)
        {
            var leads = _scores.Order.Leader(0) == liar;
            if (leads) led.Add(_scores.Term);
            // After one block of its own it is replaced; everybody signs, so its score is no reason.
            for (var i = 0; i < Term; i++) Block(attempt: leads && i > 0 ? 1u : 0u, sealedBy: [0, 1, 2, 3, 4, 5, 6]);
        }

        Assert.Equal(0ul, led[0]);
        for (var i = 1; i < led.Count; i++) Assert.InRange(led[i] - led[i - 1], LeaderScores.RestTerms(i) + 1, LeaderScores.RestTerms(i) + 20);
        Assert.Equal((6, 6), (led.Count, _scores[liar].Losses));

        while (_scores[liar].Losses > 0)
            for (var i = 0; i < Term; i++)
                Block(sealedBy: [0, 1, 2, 3, 4, 5, 6]);
        Assert.InRange(_scores.Term, led[5] + LeaderScores.RestTerms(6), led[5] + LeaderScores.RestTerms(6) + 60);
    }

    [Fact]
    public void L6_of_several_who_rest_those_who_lost_most_lead_last_and_at_most_f()
    {
        for (var i = 0; i < Term; i++) Block(attempt: 3, sealedBy: [0, 1, 2, 3, 4, 5, 6]); // three lose, f is two
        Assert.Equal(3, _scores.Standings.Count(s => s.Losses == 1));
        for (var i = 0; i < Term; i++) Block(attempt: 1, sealedBy: [0, 1, 2, 3, 4, 5, 6]);
        var twice = Enumerable.Range(0, 7).Where(v => _scores[new ValidatorIndex((ushort)v)].Losses > 1).ToArray();
        var resting = Enumerable.Range(0, 7).Where(v => _scores[new ValidatorIndex((ushort)v)].RestsThrough >= _scores.Term).ToArray();
        Assert.True(resting.Length > 2);
        var last = _scores.Order.Attempts.TakeLast(2).Select(v => (int)v.Value).ToArray();
        Assert.Subset(resting.ToHashSet(), last.ToHashSet());
        Assert.All(twice, v => Assert.Contains(v, last));
    }

    [Fact]
    public void L5_nothing_is_proposed_or_voted_for_beyond_a_term_before_the_next_one_is_entered()
    {
        var bench = new ConsensusBench(termBlocks: 4);
        var blocks = new List<Block>();
        for (var i = 0; i < 4; i++) blocks.Add(bench.Propose(i == 0 ? bench.Genesis : blocks[^1]));
        bench.Prepares(blocks[3], default, 0, 2);
        bench.Commits(blocks[3], default, 0, 2);
        Assert.Equal(4, bench.Decided.Count);
        Assert.True(bench.Pbft.TermIsComplete);
        bench.Sent.Clear();

        var next = new LeaderOrder([new(2), new(1), new(0), new(3)]);
        var fifth = bench.Samples.Block(blocks[3], new View(1, 0), 2);
        bench.Give(bench.Samples.Messages(2).PrePrepare(fifth));
        bench.Wait(5000);
        Assert.Empty(bench.All<PeerMessage.Prepare>());
        Assert.Empty(bench.All<PeerMessage.Suspect>());

        bench.Pbft.EnterTerm(next, bench.Now, bench.Outbox);
        bench.Wait(20);
        Assert.Equal(fifth.Digest, Assert.Single(bench.All<PeerMessage.Prepare>()).Digest);
        Assert.Equal(new ValidatorIndex(2), bench.Pbft.Leader);
    }

    /// <summary>As after a divergence: the blocks are gone, the log tells of blocks of the next term.</summary>
    [Fact]
    public void L5_held_blocks_of_the_next_term_are_not_committed_before_it_is_entered()
    {
        var bench = new ConsensusBench(termBlocks: 4);
        var blocks = new List<Block> { bench.Genesis };
        for (var height = 1; height <= 6; height++) blocks.Add(bench.Samples.Block(blocks[^1], new View(height > 4 ? 1ul : 0, 0), 0));
        QuorumCertificate Commit(int height) => bench.Samples.Certificate(CertificateKind.Commit, blocks[height].Header.View, blocks[height].Height, blocks[height].Digest, 0, 2, 3);
        foreach (var block in blocks[5..]) bench.Pbft.Restore(new DurableRecord.BlockHeld(new BlockWithBodies(block, [])));
        bench.Pbft.CatchUp(blocks[1..5], Commit(4), bench.Now, bench.Outbox);
        bench.Wait(20);
        Assert.True(bench.Pbft.TermIsComplete);

        bench.Give(bench.Samples.Messages(0).Heartbeat(new View(1, 0), Commit(6)));
        Assert.Equal(4ul, bench.Pbft.Committed.Height.Value);
        Assert.Equal(6ul, bench.Pbft.Ahead!.Height.Value);
        bench.Pbft.EnterTerm(new LeaderOrder([new(2), new(1), new(0), new(3)]), bench.Now, bench.Outbox);
        bench.Give(bench.Samples.Messages(0).Heartbeat(new View(1, 0), Commit(6)));
        Assert.Equal(6ul, bench.Pbft.Committed.Height.Value);
    }

    [Fact]
    public void L5_a_proposal_beyond_the_term_is_refused()
    {
        var bench = new ConsensusBench(termBlocks: 4);
        var block = bench.Genesis;
        for (var i = 0; i < 5; i++) block = bench.Propose(block);
        Assert.Equal(4, bench.All<PeerMessage.Prepare>().Count());
        Assert.Contains(bench.All<PeerMessage.Suspect>(), s => s.Reason == SuspectReason.InvalidProposal);
    }

    [Fact]
    public void T6_a_leader_that_delivers_far_less_than_others_did_is_suspected_once_a_term()
    {
        var demand = new ThroughputDemand();
        var now = Timestamp.FromSeconds(1);
        bool Slices(int count, int intervalMs, bool backlog = true)
        {
            var suspected = false;
            for (var i = 0; i < count * ThroughputDemand.SliceBlocks; i++) suspected |= demand.Committed(100, backlog, now = now.PlusMs(intervalMs));
            return suspected;
        }

        for (var term = 0; term < 3; term++)
        {
            Assert.Equal(0, demand.Demand);
            Assert.False(Slices(5, 10));
            demand.EnterTerm();
        }

        Assert.Equal(5_000_000, demand.Demand);
        Assert.False(Slices(8, 19));
        Assert.False(Slices(8, 100, backlog: false));
        Assert.True(Slices(4, 30));
        Assert.False(Slices(20, 100));
        Assert.Equal(2_500_000, demand.Demand);
    }

    [Fact]
    public void T8_late_blocks_are_those_later_than_is_usual_and_some_in_a_row_are_too_many()
    {
        var parameters = new ChainParameters();
        var delay = new ProposalDelay();
        var now = Timestamp.FromSeconds(1);
        bool Blocks(int count, long waitedMs, long everyMs = 200)
        {
            var suspected = false;
            for (var i = 0; i < count; i++) suspected |= delay.Proposed(waitedMs, delay.AllowedMs(12, parameters), now = now.PlusMs(everyMs));
            return suspected;
        }

        // At first a fifth of the shortest timeout is allowed.
        Assert.Equal(100, delay.AllowedMs(12, parameters));
        Assert.False(Blocks(20, 100));
        Assert.False(Blocks(3, 101));
        Assert.False(Blocks(1, 100));
        Assert.False(Blocks(3, 101));
        Assert.True(Blocks(1, 101));
        Assert.False(Blocks(20, 101)); // once a term
        delay.EnterTerm();
        // What comes together was held up together, however much it is.
        Assert.False(Blocks(100, 450, everyMs: 3));
        for (var term = 0; term < 8; term++)
        {
            delay.EnterTerm();
            Assert.False(Blocks(20, 3));
        }

        delay.EnterTerm();
        Assert.Equal(20, delay.AllowedMs(12, parameters));
        Assert.Equal(70, delay.AllowedMs(70, parameters)); // agreement itself takes as long
        Assert.False(Blocks(20, 20));
        Assert.True(Blocks(4, 21));
        for (var term = 0; term < 8; term++)
        {
            Blocks(20, 15);
            delay.EnterTerm();
        }

        Assert.Equal(60, delay.AllowedMs(12, parameters)); // four times what is usual
    }

    [Fact]
    public void T8_a_leader_that_lets_transactions_wait_is_suspected()
    {
        Assert.Empty(Suspicions(waitMs: 90, transactions: 1, view: 0));
        Assert.Equal(SuspectReason.Slow, Assert.Single(Suspicions(waitMs: 150, transactions: 1, view: 0)).Reason);
        Assert.Empty(Suspicions(waitMs: 150, transactions: 1000, view: 0)); // with more than fits into a block, somebody waits
        Assert.Empty(Suspicions(waitMs: 150, transactions: 1, view: 2)); // the first leader of a term alone

        static List<PeerMessage.Suspect> Suspicions(int waitMs, uint transactions, uint view)
        {
            var bench = new ConsensusBench(window: 64);
            var at = new View(0, view);
            if (view > 0) bench.Give(bench.NewView(at, QuorumCertificate.ForGenesis(bench.Genesis.Digest), 2, 0, 3));
            var block = bench.Genesis;
            for (var i = 0; i < 20; i++)
            {
                bench.Wait(200);
                block = new Block(bench.Samples.Block(block, at, (int)view).Header with { Time = bench.Now, NewViewDigest = bench.Pbft.NewViewDigest }, null, []);
                bench.Give(bench.Samples.Messages((int)view).PrePrepare(block));
                bench.Prepares(block, at, 0, 2, 3);
                bench.Commits(block, at, 0, 2, 3);
                bench.Pbft.ReviewDelay(new Block(block.Header with { TransactionCount = transactions }, null, []), bench.Now.PlusMs(-waitMs), bench.Now, bench.Outbox);
                bench.Wait(20);
            }

            Assert.Equal(20UL, bench.Pbft.Committed.Height.Value);
            return [.. bench.All<PeerMessage.Suspect>().DistinctBy(s => s.Reason)];
        }
    }
}
