using System;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// Checks the producer's signature: the one place that turns an envelope into a <see cref="Verified{T}"/>. It says only
/// "this key signed this"; whether the key is trusted, and the profile allowed, is for <see cref="EnvelopeRules"/> and the ledger.
/// </summary>
/// <param name="epochs">The validators of each term, for proofs of misbehaviour; without it those are refused.</param>
/// <param name="operators">Who signs orders; without it those are refused.</param>
public sealed class EnvelopeAuthenticator(ISignatureVerifier verifier, EpochSchedule? epochs = null, Operators? operators = null)
{
    /// <summary>Tries the profiles in <paramref name="profiles"/>. The domains differ, so at most one can match.</summary>
    public bool TryAuthenticate(AlertEnvelope envelope, SigningProfiles profiles, out Verified<AlertEnvelope> verified)
    {
        if (envelope.Kind.IsControl())
        {
            var genuine = IsGenuine(envelope.Content);
            verified = genuine ? new Verified<AlertEnvelope>(envelope) : default;
            return genuine;
        }

        return TryComplete(envelope, envelope.Content is AlertContent.Decided { Decision: var decision }
            ? decision.Verify(verifier) ? SigningProfile.V2 : SigningProfile.None
            : Match(envelope, profiles), out verified);
    }

    /// <summary>As <see cref="TryAuthenticate(AlertEnvelope, SigningProfiles, out Verified{AlertEnvelope})"/> of each, with the signatures checked together.</summary>
    /// <param name="likely">The profile of each that is tried first.</param>
    /// <param name="verified">Null for what is not genuine.</param>
    public void TryAuthenticate(ReadOnlySpan<AlertEnvelope> envelopes, ReadOnlySpan<SigningProfiles> profiles, ReadOnlySpan<SigningProfile> likely, Span<Verified<AlertEnvelope>?> verified)
    {
        var checks = new SignatureCheck[envelopes.Length];
        var places = new int[envelopes.Length];
        var count = 0;
        for (var i = 0; i < envelopes.Length; i++)
        {
            var envelope = envelopes[i];
            if (!envelope.Kind.IsControl() && envelope.Content is not AlertContent.Decided && (profiles[i] & Flag(likely[i])) != 0 && Signed(envelope, likely[i]) is { } signed)
                (checks[count], places[count++]) = (new SignatureCheck(envelope.Producer, signed, envelope.Signature), i);
            else verified[i] = TryAuthenticate(envelope, profiles[i], out var one) ? one : null;
        }

        var verdicts = new bool[count];
        verifier.Verify(checks.AsSpan(0, count), verdicts);
        for (var i = 0; i < count; i++)
        {
            var (envelope, first) = (envelopes[places[i]], likely[places[i]]);
            var matching = verdicts[i] ? first : Match(envelope, profiles[places[i]] & ~Flag(first));
            verified[places[i]] = TryComplete(envelope, matching, out var one) ? one : null;
        }
    }

    private bool TryComplete(AlertEnvelope envelope, SigningProfile matching, out Verified<AlertEnvelope> verified)
    {
        envelope.Profile = matching;
        if (envelope.Profile == SigningProfile.V2) envelope.CustodyVerified = VerifyCustody(envelope);
        verified = envelope.Profile == SigningProfile.None ? default : new Verified<AlertEnvelope>(envelope);
        // Under v2 a chain of custody with a bad link is a false statement by the producer, so the whole message is refused.
        return envelope.Profile == SigningProfile.V1 || (envelope.Profile == SigningProfile.V2 && envelope.CustodyVerified);
    }

    private bool IsGenuine(AlertContent content) => content switch
    {
        AlertContent.Misbehaviour { Proof: var proof } => epochs?.At(proof.Term) is { } chain && proof.Verify(chain, verifier),
        AlertContent.Order { Content: var order } => operators is not null && order.Verify(operators, verifier),
        AlertContent.Ready { Content: var readiness } => readiness.Verify(verifier),
        _ => throw Invariant.Unreachable(content),
    };

    /// <summary>
    /// An envelope read back from this validator's own block store. Its signature was checked before the block was voted for, and
    /// the caller has compared its digest with the certified block; the check is repeated only to learn the profile. Control transactions
    /// have none, and without its blocks a validator may not know the keys of their epoch yet (rule A5).
    /// </summary>
    public Verified<AlertEnvelope> Recovered(AlertEnvelope envelope)
    {
        if (envelope.Kind.IsControl()) return new Verified<AlertEnvelope>(envelope);
        var genuine = TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out var verified);
        Invariant.Holds(genuine, "a committed transaction carries a valid signature");
        return verified;
    }

    private SigningProfile Match(AlertEnvelope envelope, SigningProfiles profiles)
    {
        foreach (var profile in (ReadOnlySpan<SigningProfile>)[SigningProfile.V1, SigningProfile.V2])
            if ((profiles & Flag(profile)) != 0 && Signed(envelope, profile) is { } signed && verifier.Verify(envelope.Producer, signed, envelope.Signature))
                return profile;
        return SigningProfile.None;
    }

    private static SigningProfiles Flag(SigningProfile profile) => (SigningProfiles)profile;

    /// <summary>Null when nothing can be signed under this profile.</summary>
    private static byte[]? Signed(AlertEnvelope envelope, SigningProfile profile)
    {
        if (profile == SigningProfile.V1) return SigningBytes.V1(envelope.Kind, envelope.TimestampSeconds, envelope.Producer, envelope.Nonce, envelope.ContentHash);
        if (profile == SigningProfile.None || !envelope.Canonical) return null;
        var record = envelope.Record.Span;
        return SigningBytes.V2(envelope.Kind, record[..envelope.SignatureField.Start.Value], record[envelope.SignatureField.End.Value..]);
    }

    private bool VerifyCustody(AlertEnvelope envelope)
    {
        if (envelope.Content is not AlertContent.Evidence evidence) return true;
        foreach (var entry in evidence.Custody)
            if (!verifier.Verify(entry.Actor, SigningBytes.Custody(entry), entry.Signature))
                return false;
        return true;
    }
}
