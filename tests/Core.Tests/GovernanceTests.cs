using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Changes of set, keys and parameters (rules S1 to S6).</summary>
public sealed class GovernanceTests
{
    private const int Term = 4;
    private readonly Samples _samples = new(parameters: new ChainParameters { TermBlocks = Term });
    private readonly Ledger.Ledger _ledger;

    public GovernanceTests() => _ledger = _samples.Genesis.NewLedger();

    private EpochSchedule Epochs => _ledger.Governance.Epochs;

    private Validator Validator(string name, int seed = 0) => new(
        name, Key($"{name} {seed}"), Key($"{name} control {seed}"), Key($"{name} cosigner {seed}"), Key($"{name} log {seed}"), "127.0.0.1:1");

    private PublicKey Key(string name) => _samples.Signatures.NewSigner(name).PublicKey;

    private ChangeOrder Order(Change change, ulong number = 1, params int[] signers) =>
        signers.Aggregate(new ChangeOrder(_samples.Genesis.Chain.ChainId, number, change, []), (order, s) => order.SignedBy((ushort)s, _samples.OperatorKeys[s]));

    private bool IsGenuine(ChangeOrder order)
    {
        // As a body from the wire, so that what is signed is also what is decoded.
        var decoded = EnvelopeDecoder.TryDecodeBody(AlertEnvelope.Of(order).Body, out var envelope, out _);
        return decoded && new EnvelopeAuthenticator(_samples.Signatures, Epochs, _samples.Genesis.Operators).TryAuthenticate(envelope!, SigningProfiles.None, out _);
    }

    /// <summary>Executes the next block with these transactions and returns the results.</summary>
    private RejectionReason[] Block(params AlertEnvelope[] transactions)
    {
        var height = _ledger.Height.Next;
        var term = _samples.Genesis.Parameters.TermOf(height);
        var header = _samples.Genesis.Block.Header with
        {
            Height = height,
            View = new View(term, 0),
            Time = _ledger.Time.PlusMs(1000),
            Proposer = _ledger.Leaders.Order.Leader(0),
            TransactionCount = (uint)transactions.Length,
        };
        return [.. _ledger.Apply(new Block(header, null, []), transactions).Receipts.Select(r => r.Result)];
    }

    private void EndTerm()
    {
        for (var term = _ledger.Leaders.Term; _ledger.Leaders.Term == term;) Block();
    }

    private RejectionReason Give(Change change, ulong number = 1) => Block(AlertEnvelope.Of(Order(change, number, 0, 1)))[0];

    private AlertEnvelope Ready(ChangeOrder order, string signer) => AlertEnvelope.Of(Readiness.Sign(order.Digest(), _samples.Signatures.NewSigner(signer)));

    [Fact]
    public void S1_an_order_counts_with_m_genuine_signatures_of_distinct_operators()
    {
        var change = new Change.RemoveValidator("v1");
        Assert.True(IsGenuine(Order(change, 1, 0, 2)));
        Assert.True(IsGenuine(Order(change, 1, 0, 1, 2)));
        Assert.False(IsGenuine(Order(change, 1, 1)));
        Assert.False(IsGenuine(Order(change)));
        var good = Order(change, 1, 0, 2);
        Assert.False(IsGenuine(good with { Number = 2 }));
        Assert.False(IsGenuine(good with { ChainId = Samples.Digest(9) }));
        Assert.False(IsGenuine(good with { Change = new Change.RemoveValidator("v2") }));
        Assert.False(IsGenuine(good with { Signatures = [good.Signatures[0], good.Signatures[0]] }));
        Assert.False(IsGenuine(good with { Signatures = [good.Signatures[1], good.Signatures[0]] }));
        Assert.False(IsGenuine(good with { Signatures = [good.Signatures[0], new OperatorSignature(7, good.Signatures[1].Signature)] }));
        Assert.False(good.Verify(Operators.None, _samples.Signatures));
    }

    [Fact]
    public void S1_numbers_go_up_by_one_and_another_chain_or_an_impossible_change_is_refused()
    {
        Assert.Equal(RejectionReason.NotNextOrder, Give(new Change.RemoveValidator("v1"), 2));
        Assert.Equal(RejectionReason.NotNextOrder, Give(new Change.RemoveValidator("v1"), 0));
        Assert.Equal(RejectionReason.OrderRefused, Block(AlertEnvelope.Of(Order(new Change.RemoveValidator("v1"), 1, 0, 1) with { ChainId = Samples.Digest(1) }))[0]);
        Change[] impossible =
        [
            new Change.RemoveValidator("nobody"), new Change.AddValidator(Validator("v1")), new Change.AddValidator(Validator("v5") with { Address = "" }),
            new Change.AddValidator(Validator("v5") with { LogKey = _samples.Genesis.Chain.Validators.Members[0].ControlKey }),
            new Change.AddValidator(Validator("v5") with { LogKey = Validator("v5").ControlKey }),
            new Change.RotateKeys(Validator("nobody")), new Change.RotateKeys(_samples.Genesis.Chain.Validators.Members[0]),
            new Change.SetParameters(_samples.Genesis.Parameters with { TermBlocks = 8 }), new Change.SetParameters(_samples.Genesis.Parameters with { ResendMs = 0 }),
            new Change.SetParameters(_samples.Genesis.Parameters with { AlertAgeMaxMs = 2 * 3600_000 }),
        ];
        foreach (var change in impossible) Assert.Equal(RejectionReason.OrderRefused, Give(change));
        Assert.Equal(RejectionReason.None, Give(new Change.RemoveValidator("v1")));
        Assert.Equal(RejectionReason.NotNextOrder, Give(new Change.RemoveValidator("v1")));
    }

    [Fact]
    public void S2_a_new_key_takes_effect_only_after_it_has_said_so_itself()
    {
        var order = Order(new Change.AddValidator(Validator("v5")), 1, 0, 1);
        Assert.Equal([RejectionReason.None], Block(AlertEnvelope.Of(order)));
        Assert.Equal(new ValidatorIndex(4), Epochs.Open!.Index);
        EndTerm();
        EndTerm();
        Assert.Equal(0UL, Epochs.Latest.Epoch);
        Assert.Equal([RejectionReason.NoOpenOrder], Block(Ready(order, "somebody")));
        Assert.Equal([RejectionReason.NoOpenOrder], Block(Ready(Order(new Change.RemoveValidator("v1"), 1, 0, 1), "v5 0")));
        var ready = Ready(order, "v5 0");
        var authenticator = new EnvelopeAuthenticator(_samples.Signatures, Epochs, _samples.Genesis.Operators);
        Assert.True(authenticator.TryAuthenticate(ready, SigningProfiles.None, out _));
        var forged = AlertEnvelope.Of(Readiness.Sign(order.Digest(), _samples.Signatures.NewSigner("somebody")) with { Key = Key("v5 0") });
        Assert.False(authenticator.TryAuthenticate(forged, SigningProfiles.None, out _));
        Assert.Equal([RejectionReason.None, RejectionReason.NoOpenOrder], Block(ready, ready));
        EndTerm();
        Assert.Equal(1UL, Epochs.Latest.Epoch);
    }

    [Fact]
    public void S2_one_change_at_a_time_but_one_that_nobody_is_ready_for_gives_way()
    {
        Assert.Equal(RejectionReason.None, Give(new Change.AddValidator(Validator("v5"))));
        Assert.Equal(RejectionReason.None, Give(new Change.RemoveValidator("v1"), 2));
        Assert.Equal(RejectionReason.ChangeInFlight, Give(new Change.RemoveValidator("v2"), 3));
        EndTerm();
        Assert.Equal(RejectionReason.ChangeInFlight, Give(new Change.RemoveValidator("v2"), 3));
        EndTerm();
        Assert.Equal(RejectionReason.None, Give(new Change.RemoveValidator("v2"), 3));
    }

    [Fact]
    public void S2_an_order_nobody_got_ready_for_lapses_after_a_day()
    {
        var order = Order(new Change.AddValidator(Validator("v5")), 1, 0, 1);
        Block(AlertEnvelope.Of(order));
        var ready = Readiness.Sign(order.Digest(), _samples.Signatures.NewSigner("v5 0"));
        Assert.Null(_ledger.Governance.Check(ready, _ledger.Time.PlusMs(24L * 3600 * 1000)));
        Assert.Equal(RejectionReason.NoOpenOrder, _ledger.Governance.Check(ready, _ledger.Time.PlusMs(24L * 3600 * 1000 + 1))!.Reason);
    }

    [Fact]
    public void S3_decided_when_its_term_ends_announced_in_the_next_and_in_force_in_the_one_after()
    {
        var before = Epochs.Latest;
        Assert.Equal(RejectionReason.None, Give(new Change.RemoveValidator("v2")));
        Assert.True(_ledger.Governance.AwaitsBorder(0));
        var root = _ledger.StateRoot();
        EndTerm();
        Assert.NotEqual(root, _ledger.StateRoot());
        Assert.Equal((1UL, 2UL), (Epochs.Latest.Epoch, Epochs.LatestFrom));
        Assert.Same(before, Epochs.Decided(1));
        Assert.Equal(4, _ledger.Leaders.Order.Attempts.Length);
        Assert.True(_ledger.Governance.AwaitsBorder(1));
        EndTerm();
        Assert.Equal(3, Epochs.Decided(2).Validators.Count);
        Assert.DoesNotContain(Find("v2", before), _ledger.Leaders.Order.Attempts);
        Assert.False(_ledger.Governance.AwaitsBorder(2));
    }

    [Fact]
    public void S3_parameters_change_at_the_border_too()
    {
        Assert.Equal(RejectionReason.None, Give(new Change.SetParameters(_samples.Genesis.Parameters with { BlockTransactionsMax = 7 })));
        EndTerm();
        EndTerm();
        Assert.Equal(7, Epochs.Decided(2).Parameters.BlockTransactionsMax);
        Assert.Equal(2000, Epochs.Decided(1).Parameters.BlockTransactionsMax);
    }

    [Fact]
    public void S7_new_rules_are_in_force_from_the_border_on_one_version_after_the_other()
    {
        Assert.Equal(RejectionReason.OrderRefused, Give(new Change.Upgrade(1)));
        Assert.Equal(RejectionReason.OrderRefused, Give(new Change.Upgrade(3)));
        Assert.Equal(RejectionReason.None, Give(new Change.Upgrade(2)));
        var before = _ledger.StateRoot();
        EndTerm();
        Assert.NotEqual(before, _ledger.StateRoot());
        Assert.Equal((1u, 2u), (Epochs.Decided(1).AppVersion, Epochs.Decided(2).AppVersion));
        EndTerm();
        Assert.Equal(2u, Epochs.Decided(2).AppVersion);
        Assert.Equal(RejectionReason.OrderRefused, Give(new Change.Upgrade(2), 2));
        Assert.Equal(RejectionReason.None, Give(new Change.SetParameters(_samples.Genesis.Parameters with { BlockTransactionsMax = 7 }), 2));
        EndTerm();
        EndTerm();
        Assert.Equal((2u, 7), (Epochs.Latest.AppVersion, Epochs.Latest.Parameters.BlockTransactionsMax));

        // A snapshot says which version was in force when.
        var head = new SnapshotHead(_samples.Genesis.Block.Header with { Height = _ledger.Height, Time = _ledger.Time }, []);
        Assert.True(Ledger.Ledger.TryRead(_samples.Genesis.Chain, _samples.Genesis.Producers, _samples.Genesis.Time, _ledger.TakeSnapshot(head).Chunks.AsSpan(), _ledger.StateRoot(), out var read, out _));
        Assert.Equal([1u, 2u, 2u], read!.Governance.Epochs.All.Select(e => e.Context.AppVersion));
        Assert.Equal(_ledger.TakeSnapshot(head).Root, read.TakeSnapshot(head).Root);
    }

    private static ValidatorIndex Find(string name, ChainContext epoch) => epoch.Validators.Indices.Single(i => epoch.Validators[i].Name == name);

    [Fact]
    public void S4_a_message_is_checked_with_the_set_of_its_term_and_one_of_a_later_term_is_only_a_hint()
    {
        var removed = Find("v2", Epochs.Latest);
        Give(new Change.RemoveValidator("v2"));
        EndTerm();
        EndTerm();
        var authenticator = new PeerAuthenticator(Epochs, _samples.Genesis.Block.Digest, _samples.Genesis.Operators, _samples.Signatures);
        PeerMessage Suspect(ulong term, ChainContext chain) =>
            new MessageSigner(chain, removed, _samples.Signers[removed.Value]).Suspect(new View(term, 0), SuspectReason.Silent);

        Assert.True(authenticator.TryVerify(Suspect(1, _samples.Genesis.Chain), out var verified, out _));
        Assert.IsType<PeerMessage.Suspect>(verified.Value.Message);
        Assert.True(authenticator.TryVerify(Suspect(2, _samples.Genesis.Chain), out verified, out _));
        Assert.Equal(new PeerMessage.Beyond(2), verified.Value.Message);

        Epochs.Enter(1);
        Assert.False(authenticator.TryVerify(Suspect(2, _samples.Genesis.Chain), out _, out _));
        Assert.False(authenticator.TryVerify(Suspect(2, Epochs.Latest), out _, out _));
        // Votes do not cross epochs: the number is part of what is signed.
        var stays = Find("v1", Epochs.Latest);
        var key = _samples.Signers[stays.Value];
        Assert.True(authenticator.TryVerify(new MessageSigner(Epochs.Latest, stays, key).Suspect(new View(2, 0), SuspectReason.Silent), out _, out _));
        Assert.False(authenticator.TryVerify(new MessageSigner(_samples.Genesis.Chain, stays, key).Suspect(new View(2, 0), SuspectReason.Silent), out _, out _));
    }

    [Fact]
    public void S4_a_certificate_is_of_the_term_its_height_lies_in()
    {
        var digest = Samples.Digest(3);
        bool Valid(ulong term, ulong height) => _samples.Certificate(CertificateKind.Commit, new View(term, 0), new Height(height), digest, 0, 1, 2)
            .Verify(_samples.Genesis.Chain, _samples.Genesis.Block.Digest, _samples.Signatures);
        Assert.True(Valid(0, 4));
        Assert.True(Valid(1, 5));
        Assert.False(Valid(0, 5));
        Assert.False(Valid(1, 4));
    }

    [Fact]
    public void S5_a_place_is_for_life_and_never_given_again()
    {
        var set = _samples.Genesis.Chain.Validators;
        var two = new ValidatorIndex(2);
        var without = set.Without(two);
        Assert.Equal((3, 4), (without.Count, without.Places));
        Assert.False(without.Contains(two));
        Assert.False(without.TryFind(set[two].ConsensusKey, out _));
        var with = without.With(Validator("v5"));
        Assert.Equal("v5", with[new ValidatorIndex(4)].Name);
        Assert.False(with.Contains(two));
        var rotated = with.Replace(new ValidatorIndex(0), Validator("v1"));
        Assert.True(rotated.TryFind(Validator("v1").ConsensusKey, out var index));
        Assert.Equal(new ValidatorIndex(0), index);
        Assert.Equal(4, new HashSet<Digest>([set.Hash(), without.Hash(), with.Hash(), rotated.Hash()]).Count);
        Assert.Equal(2, with.Rank(new ValidatorIndex(3)));
    }

    [Fact]
    public void S6_who_does_not_vote_when_the_set_changes_asks_again()
    {
        Assert.True(AsksAgain(9));
        Assert.False(AsksAgain(1));
    }

    private bool AsksAgain(ulong voteFromTerm)
    {
        var epochs = new EpochSchedule(_samples.Genesis.Chain);
        epochs.Schedule(1, _samples.Genesis.Chain with { Epoch = 1, Validators = _samples.Genesis.Chain.Validators.Without(new ValidatorIndex(3)) });
        var pbft = new Pbft(epochs, _samples.Genesis.Block, _ledger.Leaders.Order, new SingleKey(_samples.Signers[1]));
        pbft.Restore(new DurableRecord.VoteFromTerm(voteFromTerm));
        var last = new Block(_samples.Genesis.Block.Header with { Height = new Height(Term) }, null, []);
        pbft.RestoreCommitted(last, _samples.Certificate(CertificateKind.Commit, default, last.Height, last.Digest, 0, 1, 2));
        var outbox = new Outbox();
        pbft.EnterTerm(_ledger.Leaders.Order, default, outbox);
        Assert.Equal(1UL, pbft.Epoch.Epoch);
        return outbox.Records.Contains(new DurableRecord.Quarantined());
    }
}
