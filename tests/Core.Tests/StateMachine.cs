using System.Collections.Immutable;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>A ledger of several organisations that takes one block after the other; for the rows of docs/state-machine.md.</summary>
internal sealed class StateMachine
{
    private readonly StubSignatures _signatures = new();
    private readonly EnvelopeAuthenticator _authenticator;
    private readonly ISigner[] _operators;
    private readonly Genesis _genesis;
    private ulong _nonce;

    public StateMachine(ChainParameters? parameters = null)
    {
        AlphaSensor = Factory("alpha-sensor");
        AlphaSecond = Factory("alpha-second");
        BetaSensor = Factory("beta-sensor", SigningProfile.V2);
        GammaSensor = Factory("gamma-sensor", SigningProfile.V2);
        AlphaAnalyst = Factory("alpha-analyst");
        BetaAnalyst = Factory("beta-analyst");
        Approvers = [Factory("alpha-approver"), Factory("beta-approver"), Factory("gamma-approver")];
        _operators = [.. Enumerable.Range(0, 3).Select(i => _signatures.NewSigner($"operator {i}")).OrderBy(o => o.PublicKey)];
        Producer Entry(AlertFactory key, string name, AlertKinds kinds) =>
            new(key.Signer.PublicKey, name, name.Split('-')[0], kinds, SigningProfiles.V1 | SigningProfiles.V2, 1000, default, null, false);
        _genesis = new Genesis(
            "state machine", Timestamp.FromSeconds(1_790_000_000), [new Validator("v1", Key("consensus"), Key("control"), Key("cosigner"), Key("log"))],
            [
                Entry(AlphaSensor, "alpha-sensor", AlertKinds.All), Entry(AlphaSecond, "alpha-second", AlertKinds.Anomaly),
                Entry(BetaSensor, "beta-sensor", AlertKinds.All), Entry(GammaSensor, "gamma-sensor", AlertKinds.All),
                Entry(AlphaAnalyst, "alpha-analyst", AlertKinds.Verdict), Entry(BetaAnalyst, "beta-analyst", AlertKinds.Verdict),
                .. Approvers.Select((a, i) => Entry(a, new[] { "alpha", "beta", "gamma" }[i] + "-approver", AlertKinds.Approval)),
            ],
            parameters ?? new ChainParameters(), Operators.From(2, _operators.Select(o => o.PublicKey)));
        Ledger = _genesis.NewLedger();
        _authenticator = new EnvelopeAuthenticator(_signatures, null, _genesis.Operators);
        Now = 1_790_000_100;
    }

    public AlertFactory AlphaSensor { get; }
    public AlertFactory AlphaSecond { get; }
    public AlertFactory BetaSensor { get; }
    public AlertFactory GammaSensor { get; }
    public AlertFactory AlphaAnalyst { get; }
    public AlertFactory BetaAnalyst { get; }
    public ImmutableArray<AlertFactory> Approvers { get; }
    public Ledger.Ledger Ledger { get; private set; }
    public Digest ChainId => _genesis.Chain.ChainId;

    /// <summary>Block time of the next block, seconds.</summary>
    public long Now { get; set; }

    /// <summary>What the last block changed besides taking in its transactions.</summary>
    public ImmutableArray<LedgerEvent> Events { get; private set; } = [];

    public AlertFactory Factory(string name, SigningProfile profile = SigningProfile.V1) => new(_signatures.NewSigner(name), profile);

    public PublicKey Key(string name) => _signatures.NewSigner(name).PublicKey;

    public ISigner Signer(string name) => _signatures.NewSigner(name);

    public Nonce Nonce() => new(++_nonce + 1_000_000);

    /// <summary>A block with these transactions, one second after the one before.</summary>
    public RejectionReason[] Block(params AlertEnvelope[] transactions)
    {
        var header = _genesis.Block.Header with { Height = Ledger.Height.Next, Time = Timestamp.FromSeconds(Now), TransactionCount = (uint)transactions.Length };
        (var receipts, Events) = Ledger.Apply(new Block(header, null, []), transactions);
        Now++;
        AssertRestores();
        return [.. receipts.Select(r => r.Result)];
    }

    /// <summary>The state goes through a snapshot after every block, so every row is a test of that too.</summary>
    private void AssertRestores()
    {
        var header = _genesis.Block.Header with { Height = Ledger.Height, Time = Ledger.Time };
        var snapshot = Ledger.TakeSnapshot(new SnapshotHead(header, []));
        Assert.True(Core.Ledger.Ledger.TryRead(_genesis.Chain, _genesis.Producers, _genesis.Time, snapshot.Chunks.AsSpan(), Ledger.StateRoot(), out var read, out _));
        Assert.Equal(snapshot.Root, read!.TakeSnapshot(new SnapshotHead(header, [])).Root);
        Ledger = read;
    }

    /// <summary>One transaction alone in a block.</summary>
    public RejectionReason Apply(AlertEnvelope transaction) => Block(transaction)[0];

    public AlertEnvelope Verified(AlertKind kind, byte[] record)
    {
        Assert.True(TryVerify(kind, record, out var envelope));
        return envelope;
    }

    public bool TryVerify(AlertKind kind, byte[] record, out AlertEnvelope envelope)
    {
        Assert.True(EnvelopeDecoder.TryDecode(kind, record, out var decoded, out var rejection), rejection?.Explanation);
        envelope = decoded;
        return _authenticator.TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out _);
    }

    public AlertEnvelope Alert(AlertFactory sensor, string id, int severity = 5, string type = "scan", string source = "10.0.0.1", string more = "") =>
        Verified(AlertKind.Anomaly, sensor.Anomaly(Now, Nonce(), id, severity, type, source, more));

    public AlertEnvelope Evidence(AlertFactory sensor, string id, params Digest[] references) =>
        Verified(AlertKind.Evidence, sensor.Evidence(Now, Nonce(), id, references));

    public AlertEnvelope BlockPolicy(string id, string network, int ttlSeconds = 300, string more = "", AlertFactory? sensor = null) =>
        Verified(AlertKind.Policy, (sensor ?? AlphaSensor).Block(Now, Nonce(), id, network, ttlSeconds, more));

    public AlertEnvelope Policy(string id, string action, string rule, string json) =>
        Verified(AlertKind.Policy, AlphaSensor.Policy(Now, Nonce(), id, action, rule, json));

    public AlertEnvelope Decide(AlertFactory who, AlertEnvelope subject, Ruling ruling, string note = "") => Decide(who, subject.Digest, ruling, note);

    public AlertEnvelope Decide(AlertFactory who, Digest subject, Ruling ruling, string note = "", Digest? chain = null) =>
        Verified(AlertKind.Decision, who.Decide(chain ?? ChainId, subject, ruling, Now, note).Encode());

    public AlertEnvelope Order(Change change)
    {
        var order = new ChangeOrder(ChainId, Ledger.Governance.LastNumber + 1, change, []);
        return Verified(AlertKind.Order, order.SignedBy(0, _operators[0]).SignedBy(1, _operators[1]).Encode());
    }

    /// <summary>What became of alerts in the last block.</summary>
    public (Digest Alert, AlertStatus Status)[] AlertChanges() => [.. Events.OfType<LedgerEvent.AlertChanged>().Select(e => (e.Alert, e.Status))];

    public (string Policy, PolicyStatus Status)[] PolicyChanges() => [.. Events.OfType<LedgerEvent.PolicyChanged>().Select(e => (e.Id, e.Status))];

    public int Reputation(string producer) => Ledger.StandingOf(producer).Reputation;

    /// <summary>Both, in one block.</summary>
    public static readonly RejectionReason[] BothAccepted = [RejectionReason.None, RejectionReason.None];

    public RejectionReason[] Approve(AlertEnvelope policy, int approvers = 2) =>
        [.. Enumerable.Range(0, approvers).Select(i => Apply(Decide(Approvers[i], policy, Ruling.Approve)))];
}
