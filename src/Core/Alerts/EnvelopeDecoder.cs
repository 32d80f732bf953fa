using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text.Unicode;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// Record bytes to <see cref="AlertEnvelope"/>, with every rule that needs nothing but the bytes (docs/wire-format.md,
/// "What is valid"). All validators run exactly this, so a transaction body is statically valid for all or for none.
/// </summary>
public static class EnvelopeDecoder
{
    private static readonly FieldNumbers AnomalyFields = new(Id: 1, Timestamp: 6, ContentHash: 7, Producer: 10, Nonce: 11, Signature: 12, PublicKey: 13, Algorithm: 14);
    private static readonly FieldNumbers EvidenceFields = new(Id: 1, Timestamp: 6, ContentHash: 7, Producer: 8, Nonce: 9, Signature: 10, PublicKey: 11, Algorithm: 12);
    private static readonly FieldNumbers PolicyFields = new(Id: 1, Timestamp: 5, ContentHash: 6, Producer: 7, Nonce: 8, Signature: 9, PublicKey: 10, Algorithm: 11);

    private sealed record FieldNumbers(
        uint Id, uint Timestamp, uint ContentHash, uint Producer, uint Nonce, uint Signature, uint PublicKey, uint Algorithm);

    /// <summary>Decodes a transaction body: the kind byte, then the record. The envelope keeps <paramref name="body"/>: the caller must not change it afterwards.</summary>
    public static bool TryDecodeBody(
        ReadOnlyMemory<byte> body, [NotNullWhen(true)] out AlertEnvelope? envelope, [NotNullWhen(false)] out Rejection? rejection)
    {
        if (body.Length > 0 && body.Span[0] is >= (byte)AlertKind.Anomaly and <= (byte)AlertKind.Decision)
            return TryDecode((AlertKind)body.Span[0], body.Span[1..], body, null, out envelope, out rejection);
        envelope = null;
        rejection = new Rejection(RejectionReason.Malformed, "the transaction body does not start with a known kind");
        return false;
    }

    /// <summary>Decodes a record value; the envelope keeps a copy of it.</summary>
    public static bool TryDecode(
        AlertKind kind, ReadOnlySpan<byte> record, [NotNullWhen(true)] out AlertEnvelope? envelope, [NotNullWhen(false)] out Rejection? rejection) =>
        TryDecode(kind, record, default, null, out envelope, out rejection);

    /// <summary>
    /// A body out of a block of the own store, for those who only tell what is in it: hashes and payload were checked before the block was voted for, and are not
    /// looked at again. So an anomaly has no correlation key.
    /// </summary>
    /// <param name="digest">As the block names it.</param>
    /// <exception cref="InvariantViolation">The store is damaged.</exception>
    public static AlertEnvelope DecodeCommitted(ReadOnlyMemory<byte> body, Digest digest)
    {
        Rejection? rejection = null;
        AlertEnvelope? envelope = null;
        var decoded = body.Length > 0 && TryDecode((AlertKind)body.Span[0], body.Span[1..], body, digest, out envelope, out rejection);
        Invariant.Holds(decoded, "a stored body decodes");
        return envelope!;
    }

    /// <summary>The producer's id in a body out of a block of the own store.</summary>
    /// <exception cref="InvariantViolation">The store is damaged.</exception>
    public static string IdOfCommitted(ReadOnlyMemory<byte> body)
    {
        var kind = (AlertKind)body.Span[0];
        var raw = new RawFields(kind);
        Invariant.Holds(TryWalk(kind, body[1..], ref raw), "a stored body decodes");
        return System.Text.Encoding.UTF8.GetString(raw.Id.Span);
    }

    /// <param name="body">Kind and record, where they stand together already.</param>
    /// <param name="committedAs">Its digest, when it is known and all was checked before.</param>
    private static bool TryDecode(
        AlertKind kind, ReadOnlySpan<byte> record, ReadOnlyMemory<byte> body, Digest? committedAs, [NotNullWhen(true)] out AlertEnvelope? envelope, [NotNullWhen(false)] out Rejection? rejection)
    {
        envelope = null;
        if (record.Length > Limits.RecordBytesMax)
        {
            rejection = new Rejection(RejectionReason.TooLarge, $"record has {record.Length} bytes; at most {Limits.RecordBytesMax} are accepted");
            return false;
        }

        if (kind.IsControl() || kind == AlertKind.Decision)
        {
            envelope = DecodeCanonical(kind, record);
            rejection = envelope is null ? new Rejection(RejectionReason.Malformed, $"the record is no message of kind {kind.Name()}") : null;
            return envelope is not null;
        }

        var raw = new RawFields(kind);
        if (body.IsEmpty) body = AlertEnvelope.BodyOf(kind, record);
        if (!TryWalk(kind, body[1..], ref raw))
        {
            rejection = new Rejection(RejectionReason.Malformed, "record is not a protobuf message of its topic's type");
            return false;
        }

        var candidate = new AlertEnvelope(kind, body, committedAs) { Canonical = raw.Canonical, SignatureField = raw.SignatureField };
        var isChecked = committedAs is not null;
        rejection = CheckCommon(raw, candidate) ?? kind switch
        {
            AlertKind.Anomaly => CheckAnomaly(raw, candidate, isChecked),
            AlertKind.Evidence => CheckEvidence(raw, candidate, isChecked),
            AlertKind.Policy => CheckPolicy(raw, candidate, isChecked),
            _ => throw Invariant.Unreachable(kind),
        };
        if (rejection is not null) return false;
        envelope = candidate;
        return true;
    }

    /// <summary>What validators, operators, analysts and approvers send, in the canonical encoding: one content, one record.</summary>
    private static AlertEnvelope? DecodeCanonical(AlertKind kind, ReadOnlySpan<byte> record) => kind switch
    {
        AlertKind.Misbehaviour => Chain.Misbehaviour.TryDecode(record, out var proof) ? AlertEnvelope.Of(proof) : null,
        AlertKind.Order => Chain.ChangeOrder.TryDecode(record, out var order) ? AlertEnvelope.Of(order) : null,
        AlertKind.Ready => Chain.Readiness.TryDecode(record, out var readiness) ? AlertEnvelope.Of(readiness) : null,
        AlertKind.Decision => Decision.TryDecode(record, out var decision) ? AlertEnvelope.Of(decision) : null,
        _ => throw Invariant.Unreachable(kind),
    };

    private struct RawFields(AlertKind kind)
    {
        public ReadOnlyMemory<byte> Id, Type, Source, ModelVersion, Content, ContentHash, Producer, Nonce, Signature, PublicKey, Algorithm;
        public ulong Severity, ConfidenceBits;
        public long Timestamp;

        // Only evidence has these.
        public ImmutableArray<ReadOnlyMemory<byte>>.Builder Refs = kind == AlertKind.Evidence ? ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>() : null!;
        public ImmutableArray<ReadOnlyMemory<byte>>.Builder Custody = kind == AlertKind.Evidence ? ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>() : null!;
        public bool Canonical;
        public Range SignatureField;
    }

    private static bool TryWalk(AlertKind kind, ReadOnlyMemory<byte> record, ref RawFields raw)
    {
        var numbers = kind switch
        {
            AlertKind.Anomaly => AnomalyFields,
            AlertKind.Evidence => EvidenceFields,
            AlertKind.Policy => PolicyFields,
            _ => throw Invariant.Unreachable(kind),
        };
        var walk = new ProtobufWalk(record.Span);
        var onceOnly = true;
        var seen = 0u;
        while (walk.Next())
        {
            if (walk.Field < 32 && !(kind == AlertKind.Evidence && walk.Field is 3 or 5))
            {
                onceOnly &= (seen & 1u << (int)walk.Field) == 0;
                seen |= 1u << (int)walk.Field;
            }

            var known = TakeCommon(ref walk, numbers, record, ref raw, out var wrongType)
                        || TakeByKind(kind, ref walk, record, ref raw, out wrongType);
            if (known && wrongType) return false;
        }

        raw.Canonical = walk.Canonical && onceOnly;
        return !walk.Malformed;
    }

    private static bool TakeCommon(
        scoped ref ProtobufWalk walk, FieldNumbers numbers, ReadOnlyMemory<byte> record, ref RawFields raw, out bool wrongType)
    {
        wrongType = walk.WireType != (walk.Field == numbers.Timestamp ? 0 : 2);
        var bytes = Slice(ref walk, record);
        if (walk.Field == numbers.Id) raw.Id = bytes;
        else if (walk.Field == numbers.Timestamp) raw.Timestamp = unchecked((long)walk.Number);
        else if (walk.Field == numbers.ContentHash) raw.ContentHash = bytes;
        else if (walk.Field == numbers.Producer) raw.Producer = bytes;
        else if (walk.Field == numbers.Nonce) raw.Nonce = bytes;
        else if (walk.Field == numbers.PublicKey) raw.PublicKey = bytes;
        else if (walk.Field == numbers.Algorithm) raw.Algorithm = bytes;
        else if (walk.Field == numbers.Signature)
        {
            raw.Signature = bytes;
            raw.SignatureField = walk.Start..walk.End;
        }
        else return false;
        return true;
    }

    private static bool TakeByKind(AlertKind kind, scoped ref ProtobufWalk walk, ReadOnlyMemory<byte> record, ref RawFields raw, out bool wrongType)
    {
        wrongType = walk.WireType != 2;
        var bytes = Slice(ref walk, record);
        switch (kind, walk.Field)
        {
            case (AlertKind.Anomaly, 2) or (AlertKind.Evidence, 2) or (AlertKind.Policy, 2):
                raw.Type = bytes;
                return true;
            case (AlertKind.Anomaly, 3) or (AlertKind.Policy, 3):
                raw.Source = bytes;
                return true;
            case (AlertKind.Anomaly, 4):
                wrongType = walk.WireType != 0;
                raw.Severity = walk.Number;
                return true;
            case (AlertKind.Anomaly, 5):
                wrongType = walk.WireType != 1;
                raw.ConfidenceBits = walk.Number;
                return true;
            case (AlertKind.Anomaly, 8) or (AlertKind.Evidence, 4) or (AlertKind.Policy, 4):
                raw.Content = bytes;
                return true;
            case (AlertKind.Anomaly, 9):
                raw.ModelVersion = bytes;
                return true;
            case (AlertKind.Evidence, 3):
                // One more than allowed is kept so that the rule can see it; the rest only costs this loop.
                if (raw.Refs.Count <= Limits.EvidenceRefsMax) raw.Refs.Add(bytes);
                return true;
            case (AlertKind.Evidence, 5):
                if (raw.Custody.Count <= Limits.ChainOfCustodyMax) raw.Custody.Add(bytes);
                return true;
            default:
                return false;
        }
    }

    private static ReadOnlyMemory<byte> Slice(scoped ref ProtobufWalk walk, ReadOnlyMemory<byte> record) =>
        walk.WireType == 2 ? record[(walk.End - walk.Bytes.Length)..walk.End] : default;

    private static Rejection? CheckCommon(in RawFields raw, AlertEnvelope envelope)
    {
        if (Text("id", raw.Id, Limits.IdBytesMax, out var id) is { } badId) return badId;
        if (raw.Timestamp == 0) return OutOfRange("ts is missing");
        if (raw.Producer.Length != PublicKey.Size) return OutOfRange($"producer_id has {raw.Producer.Length} bytes, not 32");
        if (!raw.PublicKey.Span.SequenceEqual(raw.Producer.Span)) return OutOfRange("pubkey is not equal to producer_id");
        if (raw.Nonce.Length != Limits.NonceBytes) return OutOfRange($"nonce has {raw.Nonce.Length} bytes, not 16");
        if (raw.ContentHash.Length != Digest.Size) return OutOfRange($"content_hash has {raw.ContentHash.Length} bytes, not 32");
        if (!raw.Algorithm.Span.SequenceEqual("Ed25519"u8))
            return new Rejection(RejectionReason.UnsupportedAlgorithm, "alg must be exactly Ed25519");
        if (raw.Signature.Length != Signature.Size) return OutOfRange($"signature has {raw.Signature.Length} bytes, not 64");

        envelope.Id = id;
        envelope.TimestampSeconds = raw.Timestamp;
        envelope.Producer = PublicKey.From(raw.Producer.Span);
        envelope.Nonce = new Nonce(BinaryPrimitives.ReadUInt128BigEndian(raw.Nonce.Span));
        envelope.ContentHash = Digest.From(raw.ContentHash.Span);
        envelope.Signature = Signature.From(raw.Signature.Span);
        return null;
    }

    private static Rejection? CheckAnomaly(in RawFields raw, AlertEnvelope envelope, bool isChecked)
    {
        if (Text("type", raw.Type, Limits.TextBytesMax, out var type) is { } badType) return badType;
        if (Text("source", raw.Source, Limits.TextBytesMax, out var source) is { } badSource) return badSource;
        if (Text("model_version", raw.ModelVersion, Limits.TextBytesMax, out var modelVersion) is { } badModel) return badModel;
        // Compared as 64 bits: a narrowing cast would let 2^32 + 1 pass as 1.
        if (raw.Severity is < 1 or > 10) return OutOfRange($"severity is {raw.Severity}; it must be 1 to 10");
        if (!Confidence.TryFromBits(raw.ConfidenceBits, out var confidence)) return OutOfRange("confidence must be 0 to 1");
        if (raw.Content.Length is 0) return OutOfRange("payload is empty");
        if (raw.Content.Length > Limits.PayloadBytesMax) return TooLong("payload", raw.Content.Length, Limits.PayloadBytesMax);
        string? correlationKey = null;
        if (!isChecked)
        {
            if (CheckContentHash("payload", raw.Content, envelope) is { } badHash) return badHash;
            if (!AnomalyPayload.Agrees(raw.Content.Span, (uint)raw.Severity, confidence, out correlationKey, out var problem))
                return new Rejection(RejectionReason.PayloadMismatch, problem!);
        }

        envelope.Content = new AlertContent.Anomaly(type, source, (byte)raw.Severity, confidence.BasisPoints, modelVersion, raw.Content, correlationKey);
        return null;
    }

    private static Rejection? CheckEvidence(in RawFields raw, AlertEnvelope envelope, bool isChecked)
    {
        if (Text("evidence_type", raw.Type, Limits.TextBytesMax, out var type) is { } badType) return badType;
        if (raw.Refs.Count > Limits.EvidenceRefsMax) return OutOfRange($"more than {Limits.EvidenceRefsMax} refs");
        if (raw.Custody.Count > Limits.ChainOfCustodyMax) return OutOfRange($"more than {Limits.ChainOfCustodyMax} chain-of-custody entries");
        if (raw.Content.Length > Limits.ProofBlobBytesMax) return TooLong("proof_blob", raw.Content.Length, Limits.ProofBlobBytesMax);

        var refs = ImmutableArray.CreateBuilder<Digest>(raw.Refs.Count);
        foreach (var reference in raw.Refs)
        {
            if (reference.Length != Digest.Size) return OutOfRange($"a ref has {reference.Length} bytes, not 32");
            refs.Add(Digest.From(reference.Span));
        }

        var custody = ImmutableArray.CreateBuilder<CustodyEntry>(raw.Custody.Count);
        foreach (var bytes in raw.Custody)
        {
            if (CheckCustody(bytes, envelope, out var entry) is { } badEntry) return badEntry;
            custody.Add(entry!);
        }

        if (!isChecked && CheckContentHash("proof_blob", raw.Content, envelope) is { } badHash) return badHash;
        envelope.Content = new AlertContent.Evidence(type, refs.ToImmutable(), raw.Content, custody.ToImmutable());
        return null;
    }

    private static Rejection? CheckCustody(ReadOnlyMemory<byte> bytes, AlertEnvelope envelope, out CustodyEntry? entry)
    {
        entry = null;
        ReadOnlySpan<byte> refHash = default, actor = default, signature = default;
        long timestamp = 0;
        var walk = new ProtobufWalk(bytes.Span);
        var seen = 0u;
        while (walk.Next())
        {
            if (walk.Field > 4) continue;
            if (walk.WireType != (walk.Field == 3 ? 0 : 2)) return new Rejection(RejectionReason.Malformed, "a chain-of-custody entry has a field of the wrong type");
            if ((seen & 1u << (int)walk.Field) != 0) envelope.Canonical = false;
            seen |= 1u << (int)walk.Field;
            if (walk.Field == 1) refHash = walk.Bytes;
            else if (walk.Field == 2) actor = walk.Bytes;
            else if (walk.Field == 3) timestamp = unchecked((long)walk.Number);
            else signature = walk.Bytes;
        }

        if (walk.Malformed) return new Rejection(RejectionReason.Malformed, "a chain-of-custody entry is not a protobuf message");
        if (!walk.Canonical) envelope.Canonical = false;
        if (refHash.Length != Digest.Size) return OutOfRange($"ref_hash of a chain-of-custody entry has {refHash.Length} bytes, not 32");
        if (actor.Length != PublicKey.Size) return OutOfRange($"actor_id of a chain-of-custody entry has {actor.Length} bytes, not 32");
        if (signature.Length != Signature.Size) return OutOfRange($"signature of a chain-of-custody entry has {signature.Length} bytes, not 64");
        entry = new CustodyEntry(Digest.From(refHash), PublicKey.From(actor), timestamp, Signature.From(signature));
        return null;
    }

    private static Rejection? CheckPolicy(in RawFields raw, AlertEnvelope envelope, bool isChecked)
    {
        if (Text("action", raw.Type, Limits.TextBytesMax, out var action) is { } badAction) return badAction;
        if (Text("rule", raw.Source, Limits.TextBytesMax, out var rule) is { } badRule) return badRule;
        if (raw.Content.Length > Limits.PayloadBytesMax) return TooLong("params", raw.Content.Length, Limits.PayloadBytesMax);
        if (!isChecked && CheckContentHash("params", raw.Content, envelope) is { } badHash) return badHash;
        envelope.Content = new AlertContent.Policy(action, rule, raw.Content);
        return null;
    }

    private static Rejection? CheckContentHash(string field, ReadOnlyMemory<byte> content, AlertEnvelope envelope) =>
        Digest.Sha256(content.Span) == envelope.ContentHash
            ? null
            : new Rejection(RejectionReason.ContentHashMismatch, $"content_hash is not the SHA-256 of {field}");

    private static Rejection? Text(string field, ReadOnlyMemory<byte> bytes, int max, out string text)
    {
        text = "";
        if (bytes.Length is 0) return OutOfRange($"{field} is empty");
        if (bytes.Length > max) return OutOfRange($"{field} has {bytes.Length} bytes; at most {max} are accepted");
        if (!Utf8.IsValid(bytes.Span)) return new Rejection(RejectionReason.Malformed, $"{field} is not UTF-8");
        text = System.Text.Encoding.UTF8.GetString(bytes.Span);
        return null;
    }

    private static Rejection OutOfRange(string explanation) => new(RejectionReason.FieldOutOfRange, explanation);

    private static Rejection TooLong(string field, int length, int max) =>
        new(RejectionReason.TooLarge, $"{field} has {length} bytes; at most {max} are accepted");
}
