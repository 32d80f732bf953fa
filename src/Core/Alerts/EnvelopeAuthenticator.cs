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

        envelope.Profile = envelope.Content is AlertContent.Decided { Decision: var decision }
            ? decision.Verify(verifier) ? SigningProfile.V2 : SigningProfile.None
            : Match(envelope, profiles);
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
        if ((profiles & SigningProfiles.V1) != 0)
        {
            var bytes = SigningBytes.V1(envelope.Kind, envelope.TimestampSeconds, envelope.Producer, envelope.Nonce, envelope.ContentHash);
            if (verifier.Verify(envelope.Producer, bytes, envelope.Signature)) return SigningProfile.V1;
        }

        if ((profiles & SigningProfiles.V2) == 0 || !envelope.Canonical) return SigningProfile.None;
        var record = envelope.Record.Span;
        var signed = SigningBytes.V2(
            envelope.Kind, record[..envelope.SignatureField.Start.Value], record[envelope.SignatureField.End.Value..]);
        return verifier.Verify(envelope.Producer, signed, envelope.Signature) ? SigningProfile.V2 : SigningProfile.None;
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
