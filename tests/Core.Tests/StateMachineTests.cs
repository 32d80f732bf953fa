using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using Xunit;
using static System.Text.Encoding;

namespace CyberMesh.Core.Tests;

/// <summary>One test per row of docs/state-machine.md; the row stands in the name.</summary>
public sealed class StateMachineTests
{
    private const RejectionReason Accepted = RejectionReason.None;
    private readonly StateMachine _chain = new();

    // ---- Alerts -----------------------------------------------------------------------------------------------

    [Fact]
    public void AL1_an_accepted_alert_is_reported()
    {
        var entries = _chain.Ledger.StateEntries;
        Assert.Equal(Accepted, _chain.Apply(_chain.Alert(_chain.AlphaSensor, "a")));
        Assert.Equal(1, _chain.Ledger.OpenAlerts);
        Assert.Empty(_chain.AlertChanges());
        // That it was reported the log tells; the state notes its nonce and the standing of its producer.
        Assert.Equal(entries + 2, _chain.Ledger.StateEntries);
    }

    [Fact]
    public void AL2_alerts_of_enough_organisations_become_corroborated_together()
    {
        var (first, second, third) = (_chain.Alert(_chain.AlphaSensor, "a"), _chain.Alert(_chain.AlphaSensor, "b"), _chain.Alert(_chain.BetaSensor, "c"));
        Assert.Equal(StateMachine.BothAccepted, _chain.Block(first, second));
        Assert.Empty(_chain.AlertChanges());
        _chain.Apply(third);
        Assert.Equal([(first.Digest, AlertStatus.Corroborated), (second.Digest, AlertStatus.Corroborated), (third.Digest, AlertStatus.Corroborated)], _chain.AlertChanges());
        var fourth = _chain.Alert(_chain.GammaSensor, "d");
        _chain.Apply(fourth);
        Assert.Equal([(fourth.Digest, AlertStatus.Corroborated)], _chain.AlertChanges());
    }

    [Fact]
    public void AL2_k_is_a_parameter()
    {
        var chain = new StateMachine(new ChainParameters { CorroborationOrganisations = 3 });
        chain.Block(chain.Alert(chain.AlphaSensor, "a"), chain.Alert(chain.BetaSensor, "b"));
        Assert.Empty(chain.AlertChanges());
        chain.Apply(chain.Alert(chain.GammaSensor, "c"));
        Assert.Equal(3, chain.AlertChanges().Length);
    }

    [Fact]
    public void AL3_alerts_of_one_organisation_do_not_corroborate_one_another()
    {
        _chain.Block(_chain.Alert(_chain.AlphaSensor, "a"), _chain.Alert(_chain.AlphaSecond, "b"), _chain.Alert(_chain.AlphaSensor, "c"));
        Assert.Empty(_chain.AlertChanges());
    }

    [Fact]
    public void AL3_of_one_organisation_the_newest_sixteen_are_remembered()
    {
        var alerts = Enumerable.Range(0, 20).Select(i => _chain.Alert(_chain.AlphaSensor, $"a{i}")).ToArray();
        _chain.Block(alerts);
        _chain.Apply(_chain.Alert(_chain.BetaSensor, "b"));
        Assert.Equal(alerts[4..].Select(a => a.Digest), _chain.AlertChanges().Select(c => c.Alert).Take(16));
        Assert.Equal(17, _chain.AlertChanges().Length);
    }

    [Fact]
    public void AL4_alerts_further_apart_than_the_window_do_not_corroborate_one_another()
    {
        _chain.Apply(_chain.Alert(_chain.AlphaSensor, "a"));
        _chain.Now += 600;
        _chain.Apply(_chain.Alert(_chain.BetaSensor, "b"));
        Assert.Empty(_chain.AlertChanges());
        _chain.Now += 598;
        _chain.Apply(_chain.Alert(_chain.GammaSensor, "c"));
        Assert.Equal(2, _chain.AlertChanges().Length);
    }

    [Fact]
    public void AL5_type_and_source_make_the_key_of_an_alert_signed_under_v1()
    {
        _chain.Block(_chain.Alert(_chain.AlphaSensor, "a", source: "10.0.0.9"), _chain.Alert(_chain.BetaSensor, "b"), _chain.Alert(_chain.GammaSensor, "c", type: "worm"));
        Assert.Empty(_chain.AlertChanges());
        // v1 does not sign for a key of its own.
        _chain.Block(_chain.Alert(_chain.AlphaSensor, "d", source: "x", more: ",\"correlation_key\":\"k\""), _chain.Alert(_chain.BetaSensor, "e", source: "y", more: ",\"correlation_key\":\"k\""));
        Assert.Empty(_chain.AlertChanges());
    }

    [Theory]
    [InlineData(",\"correlation_key\":\"k\"", ",\"correlation_key\":\"k\"", true)]
    [InlineData(",\"community_id\":\"1:abc=\"", ",\"community_id\":\"1:abc=\"", true)]
    [InlineData(",\"correlation_key\":\"k\",\"community_id\":\"1:abc=\"", ",\"community_id\":\"1:abc=\",\"correlation_key\":\"k\"", true)]
    [InlineData(",\"correlation_key\":\"k\",\"community_id\":\"1:abc=\"", ",\"community_id\":\"1:abc=\"", false)]
    [InlineData(",\"correlation_key\":\"k\"", ",\"correlation_key\":\"l\"", false)]
    [InlineData(",\"correlation_key\":\"\"", ",\"correlation_key\":\"\"", false)]
    [InlineData(",\"x\":{\"correlation_key\":\"k\"}", ",\"x\":{\"correlation_key\":\"k\"}", false)]
    public void AL5_a_key_in_the_payload_counts_under_v2(string one, string other, bool same)
    {
        _chain.Block(_chain.Alert(_chain.BetaSensor, "a", source: "x", more: one), _chain.Alert(_chain.GammaSensor, "b", source: "y", more: other));
        Assert.Equal(same ? 2 : 0, _chain.AlertChanges().Length);
    }

    [Fact]
    public void AL6_a_producer_of_low_reputation_corroborates_nothing()
    {
        Discredit("beta-sensor", _chain.BetaSensor);
        _chain.Now += 601;
        _chain.Block(_chain.Alert(_chain.AlphaSensor, "a"), _chain.Alert(_chain.BetaSensor, "b"));
        Assert.Empty(_chain.AlertChanges());
        _chain.Apply(_chain.Alert(_chain.GammaSensor, "c"));
        Assert.Equal(2, _chain.AlertChanges().Length);
    }

    /// <summary>Seven false positives.</summary>
    private void Discredit(string name, Simulator.AlertFactory sensor)
    {
        for (var i = 0; i < 7; i++)
        {
            var alert = _chain.Alert(sensor, $"{name} {i}", source: $"discredited {i}");
            _chain.Block(alert, _chain.Decide(_chain.AlphaAnalyst, alert, Ruling.FalsePositive));
        }

        Assert.Equal(80, _chain.Reputation(name));
    }

    [Theory]
    [InlineData(Ruling.Confirm, AlertStatus.Confirmed)]
    [InlineData(Ruling.Dispute, AlertStatus.Disputed)]
    [InlineData(Ruling.FalsePositive, AlertStatus.FalsePositive)]
    public void AL7_an_analyst_gives_an_open_alert_its_status(Ruling ruling, AlertStatus status)
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Apply(alert);
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.BetaAnalyst, alert, ruling)));
        Assert.Equal([new LedgerEvent.AlertChanged(alert.Digest, status, "beta-analyst")], _chain.Events.OfType<LedgerEvent.AlertChanged>());
    }

    [Fact]
    public void AL7_a_verdict_may_stand_in_the_block_of_its_alert()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        Assert.Equal(StateMachine.BothAccepted, _chain.Block(alert, _chain.Decide(_chain.BetaAnalyst, alert, Ruling.Confirm)));
    }

    [Fact]
    public void AL8_a_verdict_stands_until_somebody_disputes_it()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Block(alert, _chain.Decide(_chain.BetaAnalyst, alert, Ruling.Confirm));
        Assert.Equal(RejectionReason.NoEffect, _chain.Apply(_chain.Decide(_chain.AlphaAnalyst, alert, Ruling.Confirm)));
        Assert.Equal(RejectionReason.VerdictSettled, _chain.Apply(_chain.Decide(_chain.AlphaAnalyst, alert, Ruling.FalsePositive)));
        Assert.Empty(_chain.AlertChanges());
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.AlphaAnalyst, alert, Ruling.Dispute)));
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.BetaAnalyst, alert, Ruling.FalsePositive)));
        Assert.Equal([(alert.Digest, AlertStatus.FalsePositive)], _chain.AlertChanges());
    }

    [Fact]
    public void AL9_who_disputes_an_alert_does_not_settle_it()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Block(alert, _chain.Decide(_chain.BetaAnalyst, alert, Ruling.Dispute));
        Assert.Equal(RejectionReason.AlreadyDecided, _chain.Apply(_chain.Decide(_chain.BetaAnalyst, alert, Ruling.FalsePositive)));
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.AlphaAnalyst, alert, Ruling.FalsePositive)));
    }

    [Fact]
    public void AL10_a_verdict_needs_an_open_alert_of_this_chain_and_an_analyst()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Apply(alert);
        Assert.Equal(RejectionReason.UnknownSubject, _chain.Apply(_chain.Decide(_chain.BetaAnalyst, Samples.Digest(9), Ruling.Confirm)));
        Assert.Equal(RejectionReason.WrongChain, _chain.Apply(_chain.Decide(_chain.BetaAnalyst, alert.Digest, Ruling.Confirm, chain: Samples.Digest(1))));
        Assert.Equal(RejectionReason.KindNotAllowed, _chain.Apply(_chain.Decide(_chain.Approvers[0], alert, Ruling.Confirm)));
        Assert.Equal(RejectionReason.KindNotAllowed, _chain.Apply(_chain.Decide(_chain.AlphaSensor, alert, Ruling.Confirm)));
        Assert.Equal(RejectionReason.UnknownProducer, _chain.Apply(_chain.Decide(_chain.Factory("stranger"), alert, Ruling.Confirm)));
    }

    [Fact]
    public void AL11_an_alert_is_closed_after_its_time_and_expires_unless_it_is_settled()
    {
        var chain = new StateMachine(new ChainParameters { AlertOpenMs = 1_000_000 });
        var alerts = Enumerable.Range(0, 4).Select(i => chain.Alert(chain.AlphaSensor, $"a{i}", source: $"s{i}")).ToArray();
        chain.Block([.. alerts, chain.Decide(chain.BetaAnalyst, alerts[1], Ruling.Dispute), chain.Decide(chain.BetaAnalyst, alerts[2], Ruling.Confirm), chain.Decide(chain.BetaAnalyst, alerts[3], Ruling.FalsePositive)]);
        chain.Now += 999;
        chain.Block();
        Assert.Empty(chain.Events);
        Assert.Equal(4, chain.Ledger.OpenAlerts);
        chain.Block();
        Assert.Equal([(alerts[0].Digest, AlertStatus.Expired), (alerts[1].Digest, AlertStatus.Expired)], chain.AlertChanges());
        Assert.Equal(0, chain.Ledger.OpenAlerts);
        Assert.Equal(RejectionReason.UnknownSubject, chain.Apply(chain.Decide(chain.AlphaAnalyst, alerts[2], Ruling.Dispute)));
    }

    [Fact]
    public void AL12_an_organisation_pushes_out_its_own_oldest_alerts_only()
    {
        var chain = new StateMachine(new ChainParameters { AlertsOpenMax = 3 });
        var other = chain.Alert(chain.BetaSensor, "b", source: "elsewhere");
        var own = Enumerable.Range(0, 5).Select(i => chain.Alert(i % 2 == 0 ? chain.AlphaSensor : chain.AlphaSecond, $"a{i}")).ToArray();
        chain.Block([other, .. own]);
        Assert.Equal([(own[0].Digest, AlertStatus.Expired), (own[1].Digest, AlertStatus.Expired)], chain.AlertChanges());
        Assert.Equal(4, chain.Ledger.OpenAlerts);
        Assert.Equal(Accepted, chain.Apply(chain.Decide(chain.AlphaAnalyst, other, Ruling.Confirm)));
    }

    [Fact]
    public void AL13_a_false_positive_corroborates_nothing()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Block(alert, _chain.Decide(_chain.BetaAnalyst, alert, Ruling.FalsePositive));
        _chain.Apply(_chain.Alert(_chain.BetaSensor, "b"));
        Assert.Empty(_chain.AlertChanges());
    }

    // ---- Evidence ---------------------------------------------------------------------------------------------

    [Fact]
    public void EV1_a_reference_names_an_alert_by_transaction_content_or_id()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Apply(alert);
        Digest[] names = [alert.Digest, alert.ContentHash, Digest.From(SHA256.HashData(UTF8.GetBytes("a")))];
        var evidence = _chain.Evidence(_chain.BetaSensor, "e", names);
        Assert.Equal(Accepted, _chain.Apply(evidence));
        Assert.Equal(names.Select(n => new LedgerEvent.EvidenceLinked(evidence.Digest, n, alert.Digest)), _chain.Events.OfType<LedgerEvent.EvidenceLinked>());
    }

    [Fact]
    public void EV2_a_reference_that_names_no_open_alert_is_dangling()
    {
        var evidence = _chain.Evidence(_chain.BetaSensor, "e", Samples.Digest(7));
        Assert.Equal(Accepted, _chain.Apply(evidence));
        Assert.Equal([new LedgerEvent.EvidenceLinked(evidence.Digest, Samples.Digest(7), null)], _chain.Events.OfType<LedgerEvent.EvidenceLinked>());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void EV3_custody_is_verified_where_the_signature_covers_it(bool v2)
    {
        var actor = _chain.Signer("actor");
        var step = new CustodyEntry(Samples.Digest(3), actor.PublicKey, _chain.Now, default);
        step = step with { Signature = actor.Sign(SigningBytes.Custody(step)) };
        var sensor = v2 ? _chain.BetaSensor : _chain.AlphaSensor;
        var evidence = _chain.Verified(AlertKind.Evidence, sensor.Evidence(_chain.Now, _chain.Nonce(), "e", [], step));
        Assert.Equal(v2, evidence.CustodyVerified);
        Assert.Equal(Accepted, _chain.Apply(evidence));
        var forged = sensor.Evidence(_chain.Now, _chain.Nonce(), "f", [], step with { TimestampSeconds = 5 });
        Assert.Equal(!v2, _chain.TryVerify(AlertKind.Evidence, forged, out _));
    }

    [Fact]
    public void EV4_evidence_leaves_the_state_as_alerts_do()
    {
        var chain = new StateMachine(new ChainParameters { AlertsOpenMax = 2, AlertOpenMs = 1_000_000 });
        var before = chain.Ledger.StateEntries;
        for (var i = 0; i < 5; i++) Assert.Equal(Accepted, chain.Apply(chain.Evidence(chain.AlphaSensor, $"e{i}")));
        var held = chain.Ledger.StateEntries;
        chain.Now += 4000;
        chain.Block();
        // Besides the two pieces of evidence: the nonces, one standing.
        Assert.Equal(before + 1, chain.Ledger.StateEntries);
        Assert.Equal(held, before + 1 + 2 + 5);
    }

    // ---- Producers --------------------------------------------------------------------------------------------

    [Fact]
    public void PR1_corroboration_adds_ten()
    {
        _chain.Block(_chain.Alert(_chain.AlphaSensor, "a"), _chain.Alert(_chain.BetaSensor, "b"));
        Assert.Equal((510, 510, 500), (_chain.Reputation("alpha-sensor"), _chain.Reputation("beta-sensor"), _chain.Reputation("gamma-sensor")));
        var change = _chain.Events.OfType<LedgerEvent.ReputationChanged>().First();
        Assert.Equal(("alpha-sensor", ReputationCause.Corroborated, 500, 510, "a", (byte)5), (change.Producer, change.Cause, change.Before, change.After, change.MessageId, change.Severity));
    }

    [Theory]
    [InlineData(Ruling.Confirm, 525)]
    [InlineData(Ruling.Dispute, 495)]
    [InlineData(Ruling.FalsePositive, 440)]
    public void PR2_a_verdict_counts_in_place_of_what_the_alert_counted_before(Ruling ruling, int reputation)
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Block(alert, _chain.Alert(_chain.BetaSensor, "b"));
        _chain.Apply(_chain.Decide(_chain.BetaAnalyst, alert, ruling, "looked at it"));
        Assert.Equal(reputation, _chain.Reputation("alpha-sensor"));
        Assert.Equal("looked at it", Assert.Single(_chain.Events.OfType<LedgerEvent.ReputationChanged>()).Note);
    }

    [Fact]
    public void PR2_a_corrected_verdict_is_undone()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Block(alert, _chain.Decide(_chain.BetaAnalyst, alert, Ruling.FalsePositive), _chain.Decide(_chain.BetaAnalyst, alert, Ruling.Dispute));
        Assert.Equal(495, _chain.Reputation("alpha-sensor"));
        _chain.Apply(_chain.Decide(_chain.AlphaAnalyst, alert, Ruling.FalsePositive));
        Assert.Equal(440, _chain.Reputation("alpha-sensor"));
    }

    [Fact]
    public void PR3_who_confirms_an_alert_of_the_own_organisation_adds_nothing()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        Assert.Equal(StateMachine.BothAccepted, _chain.Block(alert, _chain.Decide(_chain.AlphaAnalyst, alert, Ruling.Confirm)));
        Assert.Equal([(alert.Digest, AlertStatus.Confirmed)], _chain.AlertChanges());
        Assert.Equal(500, _chain.Reputation("alpha-sensor"));
        var second = _chain.Alert(_chain.AlphaSensor, "b");
        _chain.Block(second, _chain.Decide(_chain.AlphaAnalyst, second, Ruling.FalsePositive));
        Assert.Equal(440, _chain.Reputation("alpha-sensor"));
    }

    [Fact]
    public void PR4_what_a_producer_signs_against_the_rules_costs_five()
    {
        var nonce = _chain.Nonce();
        AlertEnvelope Twice(Simulator.AlertFactory sensor, string id) => _chain.Verified(AlertKind.Anomaly, sensor.Anomaly(_chain.Now, nonce, id, 5, source: id));
        Assert.Equal([Accepted, RejectionReason.ReplayedNonce], _chain.Block(Twice(_chain.BetaSensor, "a"), Twice(_chain.BetaSensor, "b")));
        Assert.Equal(495, _chain.Reputation("beta-sensor"));
        Assert.Equal(RejectionReason.KindNotAllowed, _chain.Apply(_chain.Evidence(_chain.AlphaSecond, "e")));
        Assert.Equal(495, _chain.Reputation("alpha-second"));
    }

    [Fact]
    public void PR4_one_message_costs_reputation_once()
    {
        var (nonce, breach) = (_chain.Nonce(), _chain.Evidence(_chain.AlphaSecond, "e"));
        AlertEnvelope Twice(string id) => _chain.Verified(AlertKind.Anomaly, _chain.BetaSensor.Anomaly(_chain.Now, nonce, id, 5, source: id));
        var (first, replay) = (Twice("a"), Twice("b"));
        _chain.Block(first, replay, breach);
        // A leader that lies puts them into one block after the other.
        Assert.Equal([RejectionReason.ReplayedNonce, RejectionReason.KindNotAllowed], _chain.Block(replay, breach));
        Assert.Equal((495, 495), (_chain.Reputation("beta-sensor"), _chain.Reputation("alpha-second")));
        Assert.True(_chain.Ledger.HasDecided(replay.Digest) && _chain.Ledger.HasDecided(breach.Digest));
        // What is out of its time cannot be remembered, so it does not count.
        var old = _chain.Verified(AlertKind.Evidence, _chain.AlphaSecond.Evidence(_chain.Now - 4000, _chain.Nonce(), "f", []));
        Assert.Equal(RejectionReason.KindNotAllowed, _chain.Apply(old));
        Assert.Equal(495, _chain.Reputation("alpha-second"));
        // The nonce of the first is still used when the replay is forgotten, and free when the first one is.
        _chain.Now += 3590;
        Assert.Equal(1, _chain.Ledger.OpenAlerts);
        _chain.Now += 20;
        _chain.Block();
        Assert.Equal(0, _chain.Ledger.NonceCount);
    }

    [Fact]
    public void PR4_a_nonce_again_under_v1_proves_nothing_against_the_producer()
    {
        // Whoever carries a v1 message can alter what its signature does not cover.
        var nonce = _chain.Nonce();
        AlertEnvelope Altered(string source) => _chain.Verified(AlertKind.Anomaly, _chain.AlphaSensor.Anomaly(_chain.Now, nonce, "a", 5, source: source));
        Assert.Equal([Accepted, RejectionReason.ReplayedNonce], _chain.Block(Altered("x"), Altered("y")));
        Assert.Equal(500, _chain.Reputation("alpha-sensor"));
        Assert.Equal((1UL, 1UL), (_chain.Ledger.StandingOf("alpha-sensor").Accepted, _chain.Ledger.StandingOf("alpha-sensor").Rejected));
    }

    [Fact]
    public void PR5_a_reputation_stays_between_nothing_and_a_thousand()
    {
        for (var i = 0; i < 25; i++)
        {
            var (good, bad) = (_chain.Alert(_chain.AlphaSensor, $"g{i}", source: $"g{i}"), _chain.Alert(_chain.GammaSensor, $"b{i}", source: $"b{i}"));
            _chain.Block(good, bad, _chain.Decide(_chain.BetaAnalyst, good, Ruling.Confirm), _chain.Decide(_chain.BetaAnalyst, bad, Ruling.FalsePositive));
        }

        Assert.Equal((1000, 0), (_chain.Reputation("alpha-sensor"), _chain.Reputation("gamma-sensor")));
    }

    private Producer Entry(string name, string keyName, AlertKinds kinds = AlertKinds.All) =>
        new(_chain.Key(keyName), name, "delta", kinds, SigningProfiles.V2, 50, default, null, false);

    [Fact]
    public void PR6_operators_add_a_producer_and_change_its_terms()
    {
        var sensor = _chain.Factory("delta key", SigningProfile.V2);
        Assert.Equal(RejectionReason.UnknownProducer, _chain.Apply(_chain.Alert(sensor, "a")));
        Assert.Equal(Accepted, _chain.Apply(_chain.Order(new Change.PutProducer(Entry("delta-sensor", "delta key")))));
        Assert.Equal(Accepted, _chain.Apply(_chain.Alert(sensor, "b")));
        Assert.Equal(Accepted, _chain.Apply(_chain.Order(new Change.PutProducer(Entry("delta-sensor", "delta key", AlertKinds.Evidence) with { QuotaPerSecond = 7 }))));
        Assert.Equal(RejectionReason.KindNotAllowed, _chain.Apply(_chain.Alert(sensor, "c")));
        Assert.True(_chain.Ledger.Producers.TryFind(_chain.Key("delta key"), out var known));
        Assert.Equal(7u, known.QuotaPerSecond);
    }

    [Fact]
    public void PR7_a_rotated_key_works_beside_the_old_one_for_a_while_and_keeps_the_standing()
    {
        var alert = _chain.Alert(_chain.AlphaSensor, "a");
        _chain.Block(alert, _chain.Decide(_chain.BetaAnalyst, alert, Ruling.FalsePositive));
        var next = _chain.Factory("alpha-sensor, next");
        Assert.Equal(Accepted, _chain.Apply(_chain.Order(new Change.RotateProducer("alpha-sensor", next.Signer.PublicKey, 2))));
        for (var i = 0; i < 2; i++) Assert.Equal(StateMachine.BothAccepted, _chain.Block(_chain.Alert(_chain.AlphaSensor, $"old {i}"), _chain.Alert(next, $"new {i}")));
        Assert.Equal([RejectionReason.ProducerNotValid, Accepted], _chain.Block(_chain.Alert(_chain.AlphaSensor, "old"), _chain.Alert(next, "new")));
        Assert.Equal(440, _chain.Reputation("alpha-sensor"));
        var late = _chain.Alert(next, "late", source: "late");
        _chain.Block(late, _chain.Decide(_chain.BetaAnalyst, late, Ruling.Confirm));
        Assert.Equal(465, _chain.Reputation("alpha-sensor"));
    }

    [Fact]
    public void PR8_a_revoked_producer_is_heard_no_more_under_any_key()
    {
        var next = _chain.Factory("alpha-sensor, next");
        _chain.Apply(_chain.Order(new Change.RotateProducer("alpha-sensor", next.Signer.PublicKey, 1000)));
        Assert.Equal(Accepted, _chain.Apply(_chain.Order(new Change.RevokeProducer("alpha-sensor"))));
        Assert.Equal([RejectionReason.ProducerNotValid, RejectionReason.ProducerNotValid], _chain.Block(_chain.Alert(_chain.AlphaSensor, "a"), _chain.Alert(next, "b")));
    }

    [Fact]
    public void PR9_orders_about_producers_that_make_no_sense_are_refused()
    {
        IEnumerable<Change> changes =
        [
            new Change.PutProducer(Entry("beta-sensor", "another key")), new Change.PutProducer(Entry("delta-sensor", "beta-sensor")),
            new Change.PutProducer(Entry("delta-sensor", "control")), new Change.PutProducer(Entry("v1", "new key")), new Change.PutProducer(Entry("", "new key")),
            new Change.PutProducer(Entry("delta-sensor", "new key", AlertKinds.None)), new Change.RotateProducer("nobody", _chain.Key("new key"), 5),
            new Change.RotateProducer("beta-sensor", _chain.Key("gamma-sensor"), 5), new Change.RevokeProducer("nobody"),
        ];
        Assert.All(changes, change => Assert.Equal(RejectionReason.OrderRefused, _chain.Apply(_chain.Order(change))));
    }

    // ---- Policies ---------------------------------------------------------------------------------------------

    [Fact]
    public void PO1_a_sound_policy_is_proposed()
    {
        Assert.Equal(Accepted, _chain.Apply(_chain.BlockPolicy("p", "203.0.113.7")));
        Assert.Equal([("p", PolicyStatus.Proposed)], _chain.PolicyChanges());
    }

    [Fact]
    public void PO2_params_bind_what_the_policy_does()
    {
        string Json(string action, string id) => $$"""{"action":"{{action}}","rule_type":"block","policy_id":"{{id}}","guardrails":{"ttl_seconds":5},"target":{"ips":["203.0.113.7"]} }""";
        Assert.Equal(RejectionReason.PolicyMismatch, _chain.Apply(_chain.Policy("p", "reject", "block", Json("drop", "p"))));
        Assert.Equal(RejectionReason.PolicyMismatch, _chain.Apply(_chain.Policy("p", "drop", "blacklist", Json("drop", "p"))));
        Assert.Equal(RejectionReason.PolicyMismatch, _chain.Apply(_chain.Policy("p", "drop", "block", Json("drop", "q"))));
        Assert.Equal(Accepted, _chain.Apply(_chain.Policy("p", "drop", "block", Json("drop", "p"))));
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{\"a\":1,\"a\":2}")]
    [InlineData("{\"target\":{\"ips\":[\"not an address\"]}}")]
    [InlineData("{\"target\":{\"ips\":[7]}}")]
    [InlineData("{\"target\":{\"cidrs\":[\"10.0.0.1/24\"]}}")]
    [InlineData("{\"target\":\"everything\"}")]
    [InlineData("{\"guardrails\":{\"ttl_seconds\":\"300\"}}")]
    [InlineData("{\"guardrails\":{\"ttl_seconds\":1.5}}")]
    [InlineData("{\"alert\":\"no digest\"}")]
    [InlineData("{\"action\":\"\\ud800\"}")]
    public void PO3_params_that_cannot_be_read_are_refused(string json) =>
        Assert.Equal(RejectionReason.PolicyMalformed, _chain.Apply(_chain.Policy("p", "drop", "block", json)));

    [Fact]
    public void PO4_only_what_enforcers_know_is_accepted() =>
        Assert.Equal(
            RejectionReason.PolicyUnsupported,
            _chain.Apply(_chain.Policy("p", "nuke", "block", """{"action":"nuke","rule_type":"block","policy_id":"p","guardrails":{"ttl_seconds":5},"target":{"ips":["203.0.113.7"]}}""")));

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    [InlineData(86_401)]
    public void PO5_a_policy_needs_a_time_to_live_in_range(int seconds) =>
        Assert.Equal(RejectionReason.TtlOutOfRange, _chain.Apply(_chain.BlockPolicy("p", "203.0.113.7", seconds)));

    [Fact]
    public void PO5_no_time_to_live_is_none() => Assert.Equal(
        RejectionReason.TtlOutOfRange,
        _chain.Apply(_chain.Policy("p", "drop", "block", """{"action":"drop","rule_type":"block","policy_id":"p","target":{"ips":["203.0.113.7"]}}""")));

    [Fact]
    public void PO6_a_policy_that_acts_on_networks_names_them() => Assert.Equal(
        RejectionReason.TargetMissing,
        _chain.Apply(_chain.Policy("p", "drop", "block", """{"action":"drop","rule_type":"block","policy_id":"p","guardrails":{"ttl_seconds":5}}""")));

    [Theory]
    [InlineData("203.0.112.0/23", RejectionReason.PrefixTooWide)]
    [InlineData("203.0.113.0/24", Accepted)]
    [InlineData("2001:db8::/63", RejectionReason.PrefixTooWide)]
    [InlineData("2001:db8::/64", Accepted)]
    [InlineData("::ffff:203.0.112.0/119", RejectionReason.PrefixTooWide)]
    [InlineData("64:ff9b::/64", RejectionReason.NeverBlock)]
    public void PO7_a_network_may_not_be_too_wide(string network, RejectionReason expected) =>
        Assert.Equal(expected, _chain.Apply(_chain.BlockPolicy("p", network)));

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    [InlineData("::ffff:127.0.0.1")]
    [InlineData("64:ff9b::7f00:1")]
    [InlineData("198.51.100.53")]
    [InlineData("198.51.100.0/24")]
    [InlineData("2001:db8:5::/64")]
    public void PO8_the_never_block_list_is_never_touched(string network)
    {
        Assert.True(NeverBlockList.TryCreate(["198.51.100.53", "2001:db8:5::53"], out var list, out _));
        var chain = new StateMachine(new ChainParameters { NeverBlock = list });
        Assert.Equal(RejectionReason.NeverBlock, chain.Apply(chain.BlockPolicy("p", network)));
        Assert.Equal(Accepted, chain.Apply(chain.BlockPolicy("q", "198.51.101.0/24")));
    }

    [Fact]
    public void PO8_the_list_of_the_chain_counts_as_well()
    {
        Assert.True(NeverBlockList.TryCreate(["198.51.100.0/24"], out var list, out _));
        var chain = new StateMachine(new ChainParameters { NeverBlock = list });
        Assert.Equal(RejectionReason.NeverBlock, chain.Apply(chain.BlockPolicy("p", "198.51.100.53")));
        Assert.Equal(Accepted, _chain.Apply(_chain.BlockPolicy("p", "198.51.100.53")));
    }

    [Fact]
    public void PO9_the_same_policy_is_not_open_twice()
    {
        _chain.Apply(_chain.BlockPolicy("p", "203.0.113.7"));
        Assert.Equal(RejectionReason.DuplicatePolicy, _chain.Apply(_chain.BlockPolicy("p", "203.0.113.8")));
        Assert.Equal(RejectionReason.DuplicatePolicy, _chain.Apply(_chain.BlockPolicy("q", "203.0.113.7", 60)));
        Assert.Equal(RejectionReason.DuplicatePolicy, _chain.Apply(_chain.BlockPolicy("q", "::ffff:203.0.113.7")));
        Assert.Equal(Accepted, _chain.Apply(_chain.BlockPolicy("q", "203.0.113.8")));
    }

    [Fact]
    public void PO10_a_producer_of_low_reputation_proposes_nothing()
    {
        Discredit("beta-sensor", _chain.BetaSensor);
        Assert.Equal(RejectionReason.ReputationTooLow, _chain.Apply(_chain.BlockPolicy("p", "203.0.113.7", sensor: _chain.BetaSensor)));
    }

    [Fact]
    public void PO11_enough_approvers_put_a_policy_in_force_for_its_time_to_live()
    {
        var policy = _chain.BlockPolicy("p", "203.0.113.7", 300);
        _chain.Apply(policy);
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.Approvers[0], policy, Ruling.Approve)));
        Assert.Empty(_chain.PolicyChanges());
        Assert.Equal(RejectionReason.AlreadyDecided, _chain.Apply(_chain.Decide(_chain.Approvers[0], policy, Ruling.Approve)));
        Assert.Equal(RejectionReason.KindNotAllowed, _chain.Apply(_chain.Decide(_chain.AlphaAnalyst, policy, Ruling.Approve)));
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.Approvers[2], policy, Ruling.Approve)));
        var change = Assert.Single(_chain.Events.OfType<LedgerEvent.PolicyChanged>());
        Assert.Equal((PolicyStatus.Active, "alpha-approver, gamma-approver", Timestamp.FromSeconds(_chain.Now - 1 + 300)), (change.Status, change.By, change.Until));
        Assert.Equal(((AlertContent.Policy)policy.Content).Params.ToArray(), change.Params.ToArray());
        Assert.Equal(RejectionReason.NoEffect, _chain.Apply(_chain.Decide(_chain.Approvers[1], policy, Ruling.Approve)));
        Assert.Equal(RejectionReason.UnknownSubject, _chain.Apply(_chain.Decide(_chain.Approvers[1], Samples.Digest(2), Ruling.Approve)));
    }

    [Fact]
    public void PO12_a_policy_in_force_expires_by_block_time()
    {
        var policy = _chain.BlockPolicy("p", "203.0.113.7", 300);
        _chain.Apply(policy);
        _chain.Approve(policy);
        var end = _chain.Now - 1 + 300;
        Assert.Equal(Timestamp.FromSeconds(end), _chain.Ledger.NextPolicyEnd);
        _chain.Now = end - 1;
        _chain.Block();
        Assert.Empty(_chain.PolicyChanges());
        _chain.Block();
        Assert.Equal([("p", PolicyStatus.Expired)], _chain.PolicyChanges());
        Assert.NotEqual(0, Assert.Single(_chain.Events.OfType<LedgerEvent.PolicyChanged>()).Params.Length);
        Assert.Null(_chain.Ledger.NextPolicyEnd);
        Assert.Equal(Accepted, _chain.Apply(_chain.BlockPolicy("p", "203.0.113.7")));
    }

    [Fact]
    public void PO13_a_proposal_that_nobody_approves_expires()
    {
        _chain.Apply(_chain.BlockPolicy("p", "203.0.113.7"));
        _chain.Now += 24 * 3600;
        _chain.Block();
        Assert.Equal([("p", PolicyStatus.Expired)], _chain.PolicyChanges());
        Assert.Equal(0, Assert.Single(_chain.Events.OfType<LedgerEvent.PolicyChanged>()).Params.Length);
    }

    [Fact]
    public void PO14_enough_approvers_revoke_a_policy()
    {
        var policy = _chain.BlockPolicy("p", "203.0.113.7");
        _chain.Apply(policy);
        _chain.Approve(policy);
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.Approvers[1], policy, Ruling.Revoke)));
        Assert.Equal(RejectionReason.AlreadyDecided, _chain.Apply(_chain.Decide(_chain.Approvers[1], policy, Ruling.Revoke)));
        Assert.Equal(Accepted, _chain.Apply(_chain.Decide(_chain.Approvers[2], policy, Ruling.Revoke)));
        Assert.Equal([("p", PolicyStatus.Revoked)], _chain.PolicyChanges());
    }

    [Fact]
    public void PO15_only_so_many_policies_come_into_force_in_a_block_and_in_a_minute()
    {
        OnlyTwo(perBlock: 2, perMinute: 60);
        OnlyTwo(perBlock: 60, perMinute: 2);

        static void OnlyTwo(int perBlock, int perMinute)
        {
            var chain = new StateMachine(new ChainParameters { PolicyApprovals = 1, PoliciesPerBlockMax = perBlock, PoliciesPerMinuteMax = perMinute });
            var policies = Enumerable.Range(0, 3).Select(i => chain.BlockPolicy($"p{i}", $"203.0.113.{i}")).ToArray();
            chain.Block(policies);
            Assert.Equal([Accepted, Accepted, RejectionReason.PolicyCap], chain.Block([.. policies.Select(p => chain.Decide(chain.Approvers[0], p, Ruling.Approve))]));
            Assert.Equal(perBlock == 2 ? Accepted : RejectionReason.PolicyCap, chain.Apply(chain.Decide(chain.Approvers[1], policies[2], Ruling.Approve)));
            chain.Now += 60;
            Assert.Equal(perBlock == 2 ? RejectionReason.NoEffect : Accepted, chain.Apply(chain.Decide(chain.Approvers[2], policies[2], Ruling.Approve)));
        }
    }

    [Theory]
    [InlineData(0, 9, true, false)]
    [InlineData(8, 7, true, false)]
    [InlineData(8, 8, false, false)]
    [InlineData(8, 8, true, true)]
    public void PO16_a_policy_that_answers_a_corroborated_alert_may_need_no_approval(int threshold, int severity, bool corroborated, bool active)
    {
        var chain = new StateMachine(new ChainParameters { AutoApproveSeverity = threshold });
        var alert = chain.Alert(chain.AlphaSensor, "a", severity);
        chain.Apply(alert);
        if (corroborated) chain.Apply(chain.Alert(chain.BetaSensor, "b"));
        chain.Apply(chain.BlockPolicy("p", "203.0.113.7", more: $",\"alert\":\"{alert.Digest}\""));
        Assert.Equal(active ? [("p", PolicyStatus.Proposed), ("p", PolicyStatus.Active)] : [("p", PolicyStatus.Proposed)], chain.PolicyChanges());
    }

    [Fact]
    public void PO17_a_policy_replaces_the_one_it_names()
    {
        var first = _chain.BlockPolicy("p", "203.0.113.7");
        _chain.Apply(first);
        Assert.Equal(RejectionReason.RollbackUnknown, _chain.Apply(_chain.BlockPolicy("q", "203.0.113.7", more: ",\"rollback_policy_id\":\"p\"")));
        _chain.Approve(first);
        var second = _chain.BlockPolicy("q", "203.0.113.7", 600, ",\"rollback_policy_id\":\"p\"");
        Assert.Equal(Accepted, _chain.Apply(second));
        _chain.Approve(second);
        Assert.Equal([("q", PolicyStatus.Active), ("p", PolicyStatus.Revoked)], _chain.PolicyChanges());
    }

    [Fact]
    public void PO18_the_switch_ends_every_policy_and_lets_none_in()
    {
        var (first, second) = (_chain.BlockPolicy("p", "203.0.113.7"), _chain.BlockPolicy("q", "203.0.113.8"));
        _chain.Block(first, second);
        _chain.Approve(first);
        Assert.Equal(Accepted, _chain.Apply(_chain.Order(new Change.HaltPolicies(true))));
        Assert.Equal([("p", PolicyStatus.Revoked), ("q", PolicyStatus.Revoked)], _chain.PolicyChanges().Order());
        Assert.Equal(RejectionReason.PoliciesHalted, _chain.Apply(_chain.BlockPolicy("r", "203.0.113.9")));
        Assert.Equal(Accepted, _chain.Apply(_chain.Order(new Change.HaltPolicies(false))));
        Assert.Equal(Accepted, _chain.Apply(_chain.BlockPolicy("r", "203.0.113.9")));
    }

    // ---- All --------------------------------------------------------------------------------------------------

    [Fact]
    public void ST1_a_refused_message_changes_nothing_and_is_not_decided_again()
    {
        var refused = _chain.BlockPolicy("p", "127.0.0.1");
        var root = RootWithoutBookkeeping(() => _chain.Apply(refused));
        Assert.Empty(_chain.Events);
        Assert.True(_chain.Ledger.HasDecided(refused.Digest));
        Assert.Equal(RejectionReason.ReplayedNonce, _chain.Apply(refused));
        Assert.Equal(0, root);
    }

    /// <summary>Entries beyond the nonces of the message and the standing of its producer.</summary>
    private int RootWithoutBookkeeping(System.Action step)
    {
        var before = _chain.Ledger.StateEntries;
        step();
        return _chain.Ledger.StateEntries - before - 2;
    }
}
