using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>Sixteen opaque bytes, unique per producer.</summary>
public readonly record struct Nonce(UInt128 Value) : IComparable<Nonce>
{
    public int CompareTo(Nonce other) => Value.CompareTo(other.Value);

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt64((ulong)(Value >> 64));
        writer.UInt64((ulong)(Value & ulong.MaxValue));
    }

    internal static Nonce Read(ref CanonicalReader reader) => new(new UInt128(reader.UInt64(), reader.UInt64()));
}

/// <summary>What a message says, by kind.</summary>
public abstract record AlertContent
{
    private AlertContent() { }

    /// <param name="Severity">1 to 10.</param>
    /// <param name="ConfidenceBasisPoints">0 to 10,000.</param>
    /// <param name="Payload">A JSON object.</param>
    /// <param name="CorrelationKey">What the payload names as the incident's key (correlation_key, or else community_id); counts under profile v2.</param>
    public sealed record Anomaly(
        string Type, string Source, byte Severity, uint ConfidenceBasisPoints, string ModelVersion, ReadOnlyMemory<byte> Payload, string? CorrelationKey) : AlertContent;

    public sealed record Evidence(
        string EvidenceType, ImmutableArray<Digest> Refs, ReadOnlyMemory<byte> ProofBlob, ImmutableArray<CustodyEntry> Custody) : AlertContent;

    public sealed record Misbehaviour(Chain.Misbehaviour Proof) : AlertContent;

    public sealed record Order(ChangeOrder Content) : AlertContent;

    public sealed record Ready(Readiness Content) : AlertContent;

    public sealed record Decided(Decision Decision) : AlertContent;

    public sealed record Policy(string Action, string Rule, ReadOnlyMemory<byte> Params) : AlertContent;
}

/// <summary>One step of a chain of custody: who had the referenced item, when, signed by that actor.</summary>
public sealed record CustodyEntry(Digest RefHash, PublicKey Actor, long TimestampSeconds, Signature Signature);

/// <summary>
/// One signed message, decoded and checked in itself (sizes, ranges, content hash), with the record bytes it came from.
/// Whether to believe it is decided later: the signature by <see cref="EnvelopeAuthenticator"/>, the rest by the ledger.
/// </summary>
public sealed class AlertEnvelope
{
    /// <param name="body">The kind byte, then the record.</param>
    /// <param name="digest">Where it is known.</param>
    internal AlertEnvelope(AlertKind kind, ReadOnlyMemory<byte> body, Digest? digest = null)
    {
        Invariant.Holds(body.Span[0] == (byte)kind, "a body begins with its kind");
        Kind = kind;
        Body = body;
        Digest = digest ?? DigestOf(kind, body.Span[1..]);
    }

    /// <summary>Of a record as it was published, whatever is in it.</summary>
    public static Digest DigestOf(AlertKind kind, ReadOnlySpan<byte> record) => Digest.Sha256([DigestDomain.Transaction, (byte)kind], record);

    /// <summary>Of a record as it was published.</summary>
    internal static ReadOnlyMemory<byte> BodyOf(AlertKind kind, ReadOnlySpan<byte> record)
    {
        var body = new byte[1 + record.Length];
        body[0] = (byte)kind;
        record.CopyTo(body.AsSpan(1));
        return body;
    }

    public AlertKind Kind { get; }

    /// <summary>The Kafka record value exactly as published.</summary>
    public ReadOnlyMemory<byte> Record => Body[1..];

    /// <summary>Digest of the transaction (kind byte and record): its identity in blocks, receipts and proofs.</summary>
    public Digest Digest { get; }

    public string Id { get; internal set; } = "";
    public PublicKey Producer { get; internal set; }
    public Nonce Nonce { get; internal set; }
    public long TimestampSeconds { get; internal set; }
    public Digest ContentHash { get; internal set; }
    public Signature Signature { get; internal set; }
    public AlertContent Content { get; internal set; } = Nothing;

    private static readonly AlertContent Nothing = new AlertContent.Policy("", "", default);

    /// <summary>The profile under which the signature verified; <see cref="SigningProfile.None"/> before that.</summary>
    public SigningProfile Profile { get; internal set; }

    /// <summary>True when every chain-of-custody entry carries a valid signature of its actor (checked for profile v2 only).</summary>
    public bool CustodyVerified { get; internal set; }

    /// <summary>Profile v2 signs exactly the record without its signature field, so the record must be canonical.</summary>
    internal bool Canonical { get; set; }

    /// <summary>Where the signature field stands in <see cref="Record"/>, tag included.</summary>
    internal Range SignatureField { get; set; }

    /// <summary>The transaction as it travels and is stored: the kind byte, then the record.</summary>
    public ReadOnlyMemory<byte> Body { get; }

    public int BodyLength => Body.Length;

    /// <summary>The transaction that brings a proof of misbehaviour on chain. Its id is the digest: the same proof is the same transaction.</summary>
    public static AlertEnvelope Of(Chain.Misbehaviour proof) =>
        new(AlertKind.Misbehaviour, BodyOf(AlertKind.Misbehaviour, proof.Encode())) { Content = new AlertContent.Misbehaviour(proof) };

    public static AlertEnvelope Of(ChangeOrder order) => new(AlertKind.Order, BodyOf(AlertKind.Order, order.Encode())) { Content = new AlertContent.Order(order) };

    public static AlertEnvelope Of(Readiness readiness) => new(AlertKind.Ready, BodyOf(AlertKind.Ready, readiness.Encode())) { Content = new AlertContent.Ready(readiness) };

    public static AlertEnvelope Of(Decision decision) => new(AlertKind.Decision, BodyOf(AlertKind.Decision, decision.Encode()))
    {
        Content = new AlertContent.Decided(decision),
        Producer = decision.Signer,
        Nonce = decision.Nonce,
        TimestampSeconds = decision.TimestampSeconds,
        Signature = decision.Signature,
    };

    /// <summary>What the trust store must allow its signer.</summary>
    public AlertKinds Needs => Kind switch
    {
        AlertKind.Anomaly => AlertKinds.Anomaly,
        AlertKind.Evidence => AlertKinds.Evidence,
        AlertKind.Policy => AlertKinds.Policy,
        AlertKind.Decision => ((AlertContent.Decided)Content).Decision.Ruling.IsOfPolicy() ? AlertKinds.Approval : AlertKinds.Verdict,
        AlertKind.Misbehaviour or AlertKind.Order or AlertKind.Ready => AlertKinds.None,
    };
}
