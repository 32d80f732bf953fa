using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Checkpoints and divergence (rules P1 to P3).</summary>
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
