using System.Globalization;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Simulator;

/// <summary>
/// What producers, an analyst and an approver of two organisations publish, in a fixed mixture: mostly alerts about a few incidents, so that some
/// become corroborated; evidence, verdicts and short-lived policies among them, some of which the state machine refuses.
/// </summary>
public sealed class Workload
{
    private const int Incidents = 8;

    private readonly AlertFactory _alpha;
    private readonly AlertFactory _beta;
    private readonly AlertFactory _analyst;
    private readonly AlertFactory _approver;
    private readonly EnvelopeAuthenticator _authenticator;
    private Digest _lastAlert;
    private Digest _lastPolicy;
    private int _count;

    /// <param name="quota">Messages per second of the busiest producer.</param>
    public Workload(StubSignatures signatures, int quota = 1000)
    {
        _alpha = new AlertFactory(signatures.NewSigner("producer"));
        _beta = new AlertFactory(signatures.NewSigner("producer of beta"), SigningProfile.V2);
        _analyst = new AlertFactory(signatures.NewSigner("analyst"));
        _approver = new AlertFactory(signatures.NewSigner("approver"));
        _authenticator = new EnvelopeAuthenticator(signatures);
        Producers =
        [
            Entry(_alpha, "alpha-sensor", "alpha", AlertKinds.All) with { QuotaPerSecond = (uint)quota }, Entry(_beta, "beta-sensor", "beta", AlertKinds.All),
            Entry(_analyst, "analyst", "beta", AlertKinds.Verdict), Entry(_approver, "approver", "beta", AlertKinds.Approval),
        ];
    }

    public Producer[] Producers { get; }

    private static Producer Entry(AlertFactory key, string name, string organisation, AlertKinds kinds) =>
        new(key.Signer.PublicKey, name, organisation, kinds, SigningProfiles.V1 | SigningProfiles.V2, 1000, default, null, false);

    /// <summary>Alerts soon expire and policies soon end, so that a run sees it.</summary>
    public static ChainParameters Shortened(ChainParameters parameters) => parameters with
    {
        AlertOpenMs = 6_000,
        CorroborationWindowMs = 2_000,
        AlertsOpenMax = 150,
        PolicyApprovals = 1,
        PolicyProposalMs = 3_000,
    };

    public Verified<AlertEnvelope> Next(Digest chainId, long seconds)
    {
        var number = _count++;
        var (kind, record) = (number % 16) switch
        {
            3 => (AlertKind.Evidence, _beta.Evidence(seconds, _beta.NextNonce(), $"evidence-{number}", [_lastAlert, chainId])),
            5 or 6 => (AlertKind.Policy, _alpha.Block(seconds, _alpha.NextNonce(), $"policy-{number}", Network(number), 1)),
            8 or 13 => (AlertKind.Decision, _approver.Decide(chainId, _lastPolicy, number % 16 == 8 ? Ruling.Approve : Ruling.Revoke, seconds).Encode()),
            10 => (AlertKind.Decision, _analyst.Decide(chainId, _lastAlert, (Ruling)(1 + number / 16 % 3), seconds).Encode()),
            _ => (AlertKind.Anomaly, Alert(number, seconds)),
        };
        var verified = Verified(kind, record);
        if (kind == AlertKind.Anomaly) _lastAlert = verified.Value.Digest;
        if (kind == AlertKind.Policy) _lastPolicy = verified.Value.Digest;
        return verified;
    }

    /// <summary>Two alerts with one nonce: at most one of them can be accepted.</summary>
    public Verified<AlertEnvelope>[] Rivals(long seconds)
    {
        var (number, nonce) = (_count++, _alpha.NextNonce());
        return [.. new[] { "a", "b" }.Select(which => Verified(AlertKind.Anomaly, _alpha.Anomaly(seconds, nonce, $"rival-{number}{which}", 1)))];
    }

    private Verified<AlertEnvelope> Verified(AlertKind kind, byte[] record)
    {
        if (!EnvelopeDecoder.TryDecode(kind, record, out var envelope, out var rejection)) throw new InvariantViolation("the simulator made a bad message: " + rejection.Explanation);
        Invariant.Holds(_authenticator.TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out var verified), "the simulator signs its messages");
        return verified;
    }

    private byte[] Alert(int number, long seconds)
    {
        // Every fourth is about an incident that others see as well.
        var (sensor, source) = (number % 3 == 0 ? _beta : _alpha, number % 4 == 0 ? number / 8 % Incidents : 1000 + number);
        return sensor.Anomaly(seconds, sensor.NextNonce(), $"alert-{number}", 1 + number % 10, source: string.Create(CultureInfo.InvariantCulture, $"host-{source}"));
    }

    /// <summary>Every fourth is one that no policy may touch.</summary>
    private static string Network(int number) => number / 16 % 4 == 3 ? "127.0.0.1" : string.Create(CultureInfo.InvariantCulture, $"203.0.{number >> 8 & 255}.{number & 255}");
}
