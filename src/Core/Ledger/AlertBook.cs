using System;
using System.Buffers;
using System.Collections.Generic;
using System.Globalization;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>An alert that is still open.</summary>
internal sealed class OpenAlert(Origin origin) : OpenItem(origin)
{
    public required PublicKey Key { get; init; }
    public required Digest ContentHash { get; init; }
    public required byte Severity { get; init; }

    /// <summary>Alerts with one correlation speak of one incident.</summary>
    public required string Correlation { get; init; }

    /// <summary>False when its producer's reputation was too low for it to corroborate anything.</summary>
    public required bool Counts { get; init; }

    public AlertStatus Status { get; set; } = AlertStatus.Reported;

    /// <summary>The analyst who gave it its status.</summary>
    public string DecidedBy { get; set; } = "";

    /// <summary>What it has added to its producer's reputation so far.</summary>
    public int Credit { get; set; }

    public uint EvidenceCount { get; set; }

    /// <summary>References by content hash, and by the hash of the id, lead here: the first open alert that has them.</summary>
    public bool HoldsContentHash { get; set; }

    public bool HoldsId { get; set; }

    /// <summary>The next newer alert of the same correlation that is remembered.</summary>
    public OpenAlert? NextOfIncident { get; set; }

    /// <summary>Something has happened to it since it was reported.</summary>
    public bool IsTouched => Status != AlertStatus.Reported || EvidenceCount > 0;
}

/// <summary>
/// The life of alerts: reported, corroborated by other organisations, confirmed, disputed or found false by analysts, expired
/// (docs/state-machine.md, rows AL1 to AL13). Under the state root stand the alerts something has happened to; that others were reported follows from
/// the transparency log, whose root stands there too. So an alert that nobody ever touches costs the tree nothing.
/// </summary>
internal sealed class AlertBook(StateTree tree, ReputationBook reputations, List<LedgerEvent> events)
{
    private readonly OpenItems<OpenAlert> _open = new();
    private readonly Dictionary<Digest, OpenAlert> _byReference = [];

    /// <summary>Per correlation the newest few of each organisation: the oldest of them, which leads to the others.</summary>
    private readonly Dictionary<string, OpenAlert> _incidents = new(StringComparer.Ordinal);

    public int Count => _open.Count;

    public OpenAlert? Find(Digest transaction) => _open.Find(transaction);

    /// <summary>By transaction, by content hash, or by the SHA-256 of the id.</summary>
    public OpenAlert? FindReferenced(Digest reference) => _open.Find(reference) ?? _byReference.GetValueOrDefault(reference);

    /// <summary>Row AL5. The length in front keeps a type and a source from running into one another.</summary>
    public static string CorrelationOf(AlertEnvelope envelope)
    {
        var anomaly = (AlertContent.Anomaly)envelope.Content;
        return envelope.Profile == SigningProfile.V2 && anomaly.CorrelationKey is { } key
            ? "key " + key
            : string.Create(CultureInfo.InvariantCulture, $"type {anomaly.Type.Length} {anomaly.Type} {anomaly.Source}");
    }

    public void Report(OpenAlert alert, ChainParameters parameters, Timestamp time)
    {
        _open.Add(alert);
        alert.HoldsContentHash = _byReference.TryAdd(alert.ContentHash, alert);
        alert.HoldsId = _byReference.TryAdd(IdHash(alert.Origin.Id), alert);
        while (_open.OldestBeyond(alert.Organisation, parameters.AlertsOpenMax) is { } oldest) Close(oldest);
        Join(alert);
        if (alert.Counts) Corroborate(alert.Correlation, parameters, time);
    }

    private static Digest IdHash(string id) => Digest.Sha256(System.Text.Encoding.UTF8.GetBytes(id));

    private void Join(OpenAlert alert)
    {
        if (!alert.Counts || _incidents.TryAdd(alert.Correlation, alert)) return;
        var (own, oldest, last) = (1, (OpenAlert?)null, alert);
        for (var other = _incidents[alert.Correlation]; other is not null; other = other.NextOfIncident)
        {
            last = other;
            if (other.Organisation != alert.Organisation) continue;
            oldest ??= other;
            own++;
        }

        last.NextOfIncident = alert;
        if (own > Limits.CorrelatedPerOrganisationMax) Leave(oldest!);
    }

    /// <summary>Its incident goes on without it, if it does.</summary>
    private void Leave(OpenAlert alert)
    {
        if (!_incidents.TryGetValue(alert.Correlation, out var other)) return;
        if (other == alert)
        {
            if (alert.NextOfIncident is { } next) _incidents[alert.Correlation] = next;
            else _incidents.Remove(alert.Correlation);
        }
        else
        {
            while (other.NextOfIncident is { } next && next != alert) other = next;
            if (other.NextOfIncident == alert) other.NextOfIncident = alert.NextOfIncident;
        }

        alert.NextOfIncident = null;
    }

    private void Corroborate(string correlation, ChainParameters parameters, Timestamp time)
    {
        var first = _incidents[correlation];
        // Of one organisation at most, as most are.
        if (first.NextOfIncident is null) return;
        var organisations = new HashSet<string>(StringComparer.Ordinal);
        for (var alert = first; alert is not null; alert = alert.NextOfIncident)
            if (StillCounts(alert))
                organisations.Add(alert.Organisation);
        if (organisations.Count < parameters.CorroborationOrganisations) return;
        for (var alert = first; alert is not null; alert = alert.NextOfIncident)
            if (StillCounts(alert) && alert.Status == AlertStatus.Reported)
                Change(alert, AlertStatus.Corroborated, "", "");

        bool StillCounts(OpenAlert alert) =>
            alert.Status != AlertStatus.FalsePositive && time.Since(alert.CommittedAt) <= parameters.CorroborationWindowMs;
    }

    /// <summary>Why an analyst's ruling changes nothing; null when it does.</summary>
    public Rejection? Check(Digest subject, Ruling ruling, string analyst)
    {
        if (_open.Find(subject) is not { } alert) return new Rejection(RejectionReason.UnknownSubject, "no open alert has this transaction digest");
        var wanted = StatusOf(ruling);
        if (alert.Status == wanted) return new Rejection(RejectionReason.NoEffect, $"the alert is {alert.Status} already");
        if (alert.Status is AlertStatus.Confirmed or AlertStatus.FalsePositive && wanted != AlertStatus.Disputed)
            return new Rejection(RejectionReason.VerdictSettled, $"the alert is {alert.Status}; somebody has to dispute that first");
        return alert.Status == AlertStatus.Disputed && alert.DecidedBy == analyst
            ? new Rejection(RejectionReason.AlreadyDecided, "this analyst disputes it; another one has to settle that")
            : null;
    }

    public void Decide(Digest subject, Ruling ruling, Producer analyst, string note)
    {
        var alert = _open.Find(subject)!;
        var wanted = StatusOf(ruling);
        alert.DecidedBy = analyst.Name;
        // Who confirms an alert of the own organisation moves the alert and gains nothing by it.
        var gains = wanted != AlertStatus.Confirmed || analyst.Organisation != alert.Organisation;
        Change(alert, wanted, analyst.Name, note, gains);
    }

    private static AlertStatus StatusOf(Ruling ruling) => ruling switch
    {
        Ruling.Confirm => AlertStatus.Confirmed,
        Ruling.Dispute => AlertStatus.Disputed,
        Ruling.FalsePositive => AlertStatus.FalsePositive,
        _ => throw Invariant.Unreachable(ruling),
    };

    /// <summary>What an alert of this status counts for its producer (rows R1 to R4).</summary>
    private static (int Credit, ReputationCause Cause) CreditOf(AlertStatus status) => status switch
    {
        AlertStatus.Corroborated => (10, ReputationCause.Corroborated),
        AlertStatus.Confirmed => (25, ReputationCause.Confirmed),
        AlertStatus.Disputed => (-5, ReputationCause.Disputed),
        AlertStatus.FalsePositive => (-60, ReputationCause.FalsePositive),
        _ => throw Invariant.Unreachable(status),
    };

    private void Change(OpenAlert alert, AlertStatus status, string by, string note, bool countsForProducer = true)
    {
        alert.Status = status;
        events.Add(new LedgerEvent.AlertChanged(alert.Digest, status, by));
        if (countsForProducer)
        {
            var (credit, cause) = CreditOf(status);
            reputations.Adjust(alert.Origin.Producer, alert.Key, credit - alert.Credit, cause, alert.Digest, alert.Origin.Id, alert.Severity, note);
            alert.Credit = credit;
        }

        Write(alert);
    }

    public void AddEvidence(OpenAlert alert)
    {
        alert.EvidenceCount++;
        Write(alert);
    }

    /// <summary>Alerts open for too long are closed; what nobody has confirmed or found false has expired.</summary>
    public void Expire(ChainParameters parameters, Timestamp time)
    {
        while (_open.OldestBefore(time.PlusMs(-parameters.AlertOpenMs)) is { } oldest) Close(oldest);
    }

    private void Close(OpenAlert alert)
    {
        if (alert.Status is AlertStatus.Reported or AlertStatus.Disputed) events.Add(new LedgerEvent.AlertChanged(alert.Digest, AlertStatus.Expired, ""));
        _open.Remove(alert);
        if (alert.HoldsContentHash) _byReference.Remove(alert.ContentHash);
        if (alert.HoldsId) _byReference.Remove(IdHash(alert.Origin.Id));
        if (alert.Counts) Leave(alert);
        if (!alert.IsTouched) return;
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        tree.Remove(StateKeys.Transaction(key, AlertKind.Anomaly, alert.Digest));
    }

    private void Write(OpenAlert alert)
    {
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        var buffer = new ArrayBufferWriter<byte>(256);
        Write(new CanonicalWriter(buffer), alert);
        tree.Set(StateKeys.Transaction(key, AlertKind.Anomaly, alert.Digest), buffer.WrittenSpan);
    }

    private static void Write(CanonicalWriter writer, OpenAlert alert)
    {
        alert.Origin.Write(writer);
        writer.Key(alert.Key);
        writer.Digest(alert.ContentHash);
        writer.Text(alert.Correlation);
        writer.UInt8(alert.Severity);
        writer.UInt8((byte)alert.Status);
        writer.Text(alert.DecidedBy);
        writer.Int64(alert.Credit);
        writer.UInt32(alert.EvidenceCount);
        writer.UInt8((byte)((alert.Counts ? 1 : 0) | (alert.HoldsContentHash ? 2 : 0) | (alert.HoldsId ? 4 : 0)));
    }

    /// <summary>The bytes under the alert's key in the state, for a proof; null when nothing stands there.</summary>
    public byte[]? ValueOf(Digest transaction)
    {
        if (_open.Find(transaction) is not { IsTouched: true } alert) return null;
        var buffer = new ArrayBufferWriter<byte>(256);
        Write(new CanonicalWriter(buffer), alert);
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>All, in the order they were committed.</summary>
    internal void Write(SnapshotWriter output)
    {
        var writer = output.Items;
        writer.Count(_open.Count);
        foreach (var alert in _open.InOrder())
        {
            writer.Digest(alert.Digest);
            Write(writer, alert);
            output.EndItem();
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var left = reader.Count(int.MaxValue, 150); left > 0 && reader.Error == DecodeError.None; left--)
        {
            var digest = reader.Digest();
            if (ReadAlert(ref reader, digest) is not { } alert) return;
            if (_open.Find(digest) is not null)
            {
                reader.Fail(DecodeError.NotCanonical);
                return;
            }

            _open.Add(alert);
            if (alert.HoldsContentHash) _byReference[alert.ContentHash] = alert;
            if (alert.HoldsId) _byReference[IdHash(alert.Origin.Id)] = alert;
            Join(alert);
        }
    }

    /// <summary>What <see cref="ValueOf"/> wrote; null, and the reader failed, when it is none.</summary>
    internal static OpenAlert? ReadAlert(ref CanonicalReader reader, Digest digest)
    {
        var origin = Origin.Read(ref reader, digest);
        var (producerKey, contentHash, correlation) = (reader.Key(), reader.Digest(), reader.Text(2 * Limits.TextBytesMax + 32));
        var (severity, status, decidedBy) = (reader.UInt8(), reader.UInt8(), reader.Text(Limits.NameBytesMax));
        var (credit, evidence, flags) = (reader.Int64(), reader.UInt32(), reader.UInt8());
        if (status is < (byte)AlertStatus.Reported or > (byte)AlertStatus.FalsePositive || credit is < -1000 or > 1000 || flags > 7)
        {
            reader.Fail(DecodeError.NotCanonical);
            return null;
        }

        return new OpenAlert(origin)
        {
            Key = producerKey,
            ContentHash = contentHash,
            Severity = severity,
            Correlation = correlation,
            Counts = (flags & 1) != 0,
            Status = (AlertStatus)status,
            DecidedBy = decidedBy,
            Credit = (int)credit,
            EvidenceCount = evidence,
            HoldsContentHash = (flags & 2) != 0,
            HoldsId = (flags & 4) != 0,
        };
    }
}
