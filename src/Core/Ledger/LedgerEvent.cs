using System;
using System.Buffers;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>Where an alert stands (docs/state-machine.md).</summary>
public enum AlertStatus : byte
{
    Reported = 1,
    Corroborated = 2,
    Confirmed = 3,
    Disputed = 4,
    FalsePositive = 5,

    /// <summary>Nobody has confirmed it while it was open.</summary>
    Expired = 6,
}

/// <summary>Where a policy stands.</summary>
public enum PolicyStatus : byte
{
    Proposed = 1,
    Active = 2,
    Expired = 3,
    Revoked = 4,
}

public enum ReputationCause : byte
{
    Corroborated = 1,
    Confirmed = 2,
    Disputed = 3,
    FalsePositive = 4,

    /// <summary>A nonce used again, or a message its signer is not allowed, signed by the producer itself.</summary>
    Breach = 5,
}

/// <summary>
/// What a block changed besides taking in its transactions. Follows from the blocks alone, so it is the same on every validator; kept with the
/// block for those who do not execute: the queryable copy and the control topics.
/// </summary>
public abstract record LedgerEvent
{
    private LedgerEvent() { }

    /// <param name="By">Who decided; empty when block time or other alerts did.</param>
    public sealed record AlertChanged(Digest Alert, AlertStatus Status, string By) : LedgerEvent;

    /// <param name="Message">The transaction it is about.</param>
    /// <param name="Note">Of the analyst.</param>
    public sealed record ReputationChanged(
        string Producer, PublicKey Key, ReputationCause Cause, int Before, int After, Digest Message, string MessageId, byte Severity, string Note) : LedgerEvent;

    /// <param name="Alert">The alert the reference names; null when it is dangling.</param>
    public sealed record EvidenceLinked(Digest Evidence, Digest Reference, Digest? Alert) : LedgerEvent;

    /// <param name="Until">End of the time in force, or of the wait for approval.</param>
    /// <param name="By">Who or what brought it there.</param>
    public sealed record PolicyChanged(
        Digest Policy, string Id, PolicyStatus Status, Timestamp Until, string By, string Action, string RuleType, string RollbackOf, bool RequiresAck,
        ReadOnlyMemory<byte> Params) : LedgerEvent;

    public static byte[] Encode(ImmutableArray<LedgerEvent> events)
    {
        if (events.IsEmpty) return [];
        var buffer = new ArrayBufferWriter<byte>(1024);
        var writer = new CanonicalWriter(buffer);
        foreach (var change in events) change.Write(writer);
        return buffer.WrittenSpan.ToArray();
    }

    private void Write(CanonicalWriter writer)
    {
        switch (this)
        {
            case AlertChanged e:
                writer.UInt8(1);
                writer.Digest(e.Alert);
                writer.UInt8((byte)e.Status);
                writer.Text(e.By);
                break;
            case ReputationChanged e:
                writer.UInt8(2);
                writer.Text(e.Producer);
                writer.Key(e.Key);
                writer.UInt8((byte)e.Cause);
                writer.UInt32((uint)e.Before);
                writer.UInt32((uint)e.After);
                writer.Digest(e.Message);
                writer.Text(e.MessageId);
                writer.UInt8(e.Severity);
                writer.Text(e.Note);
                break;
            case EvidenceLinked e:
                writer.UInt8(3);
                writer.Digest(e.Evidence);
                writer.Digest(e.Reference);
                writer.UInt8(e.Alert is null ? (byte)0 : (byte)1);
                if (e.Alert is { } alert) writer.Digest(alert);
                break;
            case PolicyChanged e:
                writer.UInt8(4);
                writer.Digest(e.Policy);
                writer.Text(e.Id);
                writer.UInt8((byte)e.Status);
                writer.Time(e.Until);
                writer.Text(e.By);
                writer.Text(e.Action);
                writer.Text(e.RuleType);
                writer.Text(e.RollbackOf);
                writer.UInt8(e.RequiresAck ? (byte)1 : (byte)0);
                writer.Bytes(e.Params.Span);
                break;
            default:
                throw Invariant.Unreachable(this);
        }
    }

    /// <exception cref="InvariantViolation">The bytes are not what <see cref="Encode"/> wrote: the store is damaged.</exception>
    public static ImmutableArray<LedgerEvent> Decode(ReadOnlySpan<byte> bytes)
    {
        var events = ImmutableArray.CreateBuilder<LedgerEvent>();
        var reader = new CanonicalReader(bytes);
        while (reader.Remaining > 0 && reader.Error == DecodeError.None) events.Add(Read(ref reader));
        Invariant.Holds(reader.Finish(out var error), "the stored events of a block are damaged: " + error);
        return events.ToImmutable();
    }

    private static LedgerEvent Read(ref CanonicalReader reader)
    {
        const int text = Limits.RecordBytesMax;
        switch (reader.UInt8())
        {
            case 1:
                return new AlertChanged(reader.Digest(), (AlertStatus)reader.UInt8(), reader.Text(text));
            case 2:
                return new ReputationChanged(
                    reader.Text(text), reader.Key(), (ReputationCause)reader.UInt8(), reader.Int32(), reader.Int32(), reader.Digest(), reader.Text(text), reader.UInt8(), reader.Text(text));
            case 3:
                return new EvidenceLinked(reader.Digest(), reader.Digest(), reader.UInt8() == 1 ? reader.Digest() : null);
            case 4:
                return new PolicyChanged(
                    reader.Digest(), reader.Text(text), (PolicyStatus)reader.UInt8(), reader.Time(), reader.Text(text), reader.Text(text), reader.Text(text),
                    reader.Text(text), reader.UInt8() == 1, reader.Bytes(text));
            default:
                reader.Fail(DecodeError.UnknownTag);
                return new AlertChanged(default, default, "");
        }
    }
}
