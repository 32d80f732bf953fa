using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// Why a message is refused. Numbers stand in receipts (agreed state) and names on the wire; neither is ever reused.
/// docs/wire-format.md lists them.
/// </summary>
public enum RejectionReason : ushort
{
    None = 0,
    Malformed = 1,
    TooLarge = 2,
    FieldOutOfRange = 3,
    UnsupportedAlgorithm = 4,
    PayloadMismatch = 5,
    ContentHashMismatch = 6,
    UnknownProducer = 7,
    KindNotAllowed = 8,
    ProfileNotAllowed = 9,
    ProducerNotValid = 10,
    StaleTimestamp = 11,
    FutureTimestamp = 12,
    BadSignature = 13,
    ReplayedNonce = 14,
    AlreadyConvicted = 15,
    NotNextOrder = 16,
    ChangeInFlight = 17,
    OrderRefused = 18,
    NoOpenOrder = 19,
    WrongChain = 20,
    UnknownSubject = 21,
    NoEffect = 22,
    VerdictSettled = 23,
    ReputationTooLow = 24,
    PoliciesHalted = 25,
    PolicyMalformed = 26,
    PolicyMismatch = 27,
    PolicyUnsupported = 28,
    TtlOutOfRange = 29,
    TargetMissing = 30,
    TargetNotAllowed = 31,
    PrefixTooWide = 32,
    NeverBlock = 33,
    DuplicatePolicy = 34,
    PolicyCap = 35,
    RollbackUnknown = 36,
    AlreadyDecided = 37,
}

/// <summary>A refusal as a value: the stable code and a sentence for people that says what was found and what is allowed.</summary>
public sealed record Rejection(RejectionReason Reason, string Explanation)
{
    public string Code => Reason.Code();
}

public static class RejectionReasons
{
    public static string Code(this RejectionReason reason) => reason switch
    {
        RejectionReason.None => "accepted",
        RejectionReason.Malformed => "malformed",
        RejectionReason.TooLarge => "too_large",
        RejectionReason.FieldOutOfRange => "field_out_of_range",
        RejectionReason.UnsupportedAlgorithm => "unsupported_algorithm",
        RejectionReason.PayloadMismatch => "payload_mismatch",
        RejectionReason.ContentHashMismatch => "content_hash_mismatch",
        RejectionReason.UnknownProducer => "unknown_producer",
        RejectionReason.KindNotAllowed => "kind_not_allowed",
        RejectionReason.ProfileNotAllowed => "profile_not_allowed",
        RejectionReason.ProducerNotValid => "producer_not_valid",
        RejectionReason.StaleTimestamp => "stale_timestamp",
        RejectionReason.FutureTimestamp => "future_timestamp",
        RejectionReason.BadSignature => "bad_signature",
        RejectionReason.ReplayedNonce => "replayed_nonce",
        RejectionReason.AlreadyConvicted => "already_convicted",
        RejectionReason.NotNextOrder => "not_next_order",
        RejectionReason.ChangeInFlight => "change_in_flight",
        RejectionReason.OrderRefused => "order_refused",
        RejectionReason.NoOpenOrder => "no_open_order",
        RejectionReason.WrongChain => "wrong_chain",
        RejectionReason.UnknownSubject => "unknown_subject",
        RejectionReason.NoEffect => "no_effect",
        RejectionReason.VerdictSettled => "verdict_settled",
        RejectionReason.ReputationTooLow => "reputation_too_low",
        RejectionReason.PoliciesHalted => "policies_halted",
        RejectionReason.PolicyMalformed => "policy_malformed",
        RejectionReason.PolicyMismatch => "policy_mismatch",
        RejectionReason.PolicyUnsupported => "policy_unsupported",
        RejectionReason.TtlOutOfRange => "ttl_out_of_range",
        RejectionReason.TargetMissing => "target_missing",
        RejectionReason.TargetNotAllowed => "target_not_allowed",
        RejectionReason.PrefixTooWide => "prefix_too_wide",
        RejectionReason.NeverBlock => "never_block",
        RejectionReason.DuplicatePolicy => "duplicate_policy",
        RejectionReason.PolicyCap => "policy_cap",
        RejectionReason.RollbackUnknown => "rollback_unknown",
        RejectionReason.AlreadyDecided => "already_decided",
    };

    public static bool IsKnown(ushort number) => number <= (ushort)RejectionReason.AlreadyDecided;

    /// <summary>The reason with this number, for receipts read back from disk.</summary>
    public static RejectionReason FromNumber(ushort number)
    {
        Invariant.Holds(IsKnown(number), "known rejection reason");
        return (RejectionReason)number;
    }
}
