using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>The rules that need the trust store or a time. Written once, used at admission (local clock) and in execution (block time).</summary>
public static class EnvelopeRules
{
    /// <summary>Is the producer known, allowed this kind and valid at this height?</summary>
    public static Rejection? CheckProducer(AlertEnvelope envelope, ProducerRegistry producers, Height height)
    {
        if (!producers.TryFind(envelope.Producer, out var producer))
            return new Rejection(RejectionReason.UnknownProducer, $"producer {envelope.Producer} is not in the trust store");
        if ((producer.Kinds & envelope.Needs) == 0)
            return new Rejection(RejectionReason.KindNotAllowed, $"{producer.Name} may not sign what needs the role {envelope.Needs.ToString().ToLowerInvariant()}");
        return producer.IsValidAt(height)
            ? null
            : new Rejection(RejectionReason.ProducerNotValid, $"producer {producer.Name} is not valid at height {height}");
    }

    /// <summary>May this producer sign under the profile the signature verified with? A decision has one form.</summary>
    public static Rejection? CheckProfile(AlertEnvelope envelope, ProducerRegistry producers)
    {
        if (envelope.Kind == AlertKind.Decision) return null;
        var allowed = producers.TryFind(envelope.Producer, out var producer) ? producer.Profiles : SigningProfiles.None;
        return ((int)allowed & (int)envelope.Profile) != 0
            ? null
            : new Rejection(RejectionReason.ProfileNotAllowed, $"the producer may not sign under profile {envelope.Profile}");
    }

    /// <summary>Is the message's time within the window around <paramref name="reference"/>?</summary>
    public static Rejection? CheckTime(AlertEnvelope envelope, Timestamp reference, long behindMs, long aheadMs)
    {
        // Seconds far outside the range of milliseconds must not wrap into it.
        var seconds = envelope.TimestampSeconds;
        var earliest = (reference.Milliseconds - behindMs + 999) / 1000;
        var latest = (reference.Milliseconds + aheadMs) / 1000;
        if (seconds < earliest)
            return new Rejection(RejectionReason.StaleTimestamp, $"ts {seconds} is more than {behindMs / 1000} s before {reference.Milliseconds / 1000}");
        return seconds > latest
            ? new Rejection(RejectionReason.FutureTimestamp, $"ts {seconds} is more than {aheadMs / 1000} s after {reference.Milliseconds / 1000}")
            : null;
    }
}
