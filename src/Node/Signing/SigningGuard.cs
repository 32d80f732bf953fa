using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Node.Signing;

/// <summary>What was signed for one slot: a height in a view, a view, a term, or a size of the log.</summary>
/// <param name="Kind">A <see cref="StatementType"/>, or <see cref="SigningGuard.LogHead"/>.</param>
/// <param name="Scope">The chain, or the log.</param>
/// <param name="Content">SHA-256 of everything that must not differ.</param>
public readonly record struct SignedSlot(byte Kind, Digest Scope, View View, ulong Height, Digest Content)
{
    internal bool IsAfter(SignedSlot other) => (View, Height).CompareTo((other.View, other.Height)) > 0;

    internal bool IsSameSlot(SignedSlot other) => View == other.View && Height == other.Height;
}

/// <summary>
/// Knows what was signed last with a validator's keys, and refuses what would contradict it, whatever the validator believes: a second proposal or vote for
/// a slot, a vote for a view that was left, a second NEW-VIEW or CHECKPOINT, another log of the same size. The same bytes may be signed again. It sees
/// bytes alone, so it guards as well against a validator whose disk was restored, that was started twice, or that somebody else controls.
/// </summary>
public sealed class SigningGuard
{
    /// <summary>The kind of what cosigner and log keys sign.</summary>
    public const byte LogHead = 0x40;

    /// <summary>Slots remembered of each kind: those that a leader may have to propose again after a restart.</summary>
    private const int Remembered = 128;

    /// <summary>Kinds, times the chains and logs that one set of keys signs for. A validator has one of each; whoever controls it may ask for others.</summary>
    private const int ScopesMax = 256;

    private static ReadOnlySpan<byte> Statement => "CMBFT1"u8;

    private readonly Dictionary<(byte Kind, Digest Scope), List<SignedSlot>> _slots = [];

    /// <summary>All that has to be known to go on, oldest first for each kind.</summary>
    public IEnumerable<SignedSlot> State
    {
        get
        {
            foreach (var (_, slots) in _slots)
                foreach (var slot in slots)
                    yield return slot;
        }
    }

    /// <summary>What a message says; null when nothing it says could contradict another one.</summary>
    public static SignedSlot? Read(ReadOnlySpan<byte> message)
    {
        if (message.StartsWith(Statement)) return ReadStatement(message);
        return TryReadLogHead(message, out var slot) ? slot : null;
    }

    private static SignedSlot? ReadStatement(ReadOnlySpan<byte> message)
    {
        // The layout of SignedStatement. What is shorter than a statement is none, and nobody takes it for one.
        if (message.Length < SignedStatement.FixedSize) return null;
        var type = (StatementType)message[6];
        var view = new View(BinaryPrimitives.ReadUInt64BigEndian(message[47..]), BinaryPrimitives.ReadUInt32BigEndian(message[55..]));
        var height = BinaryPrimitives.ReadUInt64BigEndian(message[59..]);
        var scope = Digest.From(message[7..39]);
        return type switch
        {
            StatementType.PrePrepare or StatementType.Prepare or StatementType.Commit => new SignedSlot((byte)type, scope, view, height, Digest.Sha256(message)),
            StatementType.NewView => new SignedSlot((byte)type, scope, view, 0, Digest.Sha256(message)),
            // The claims of a VIEW-CHANGE may grow, and are bound by the votes; the view counts.
            StatementType.ViewChange => new SignedSlot((byte)type, scope, view, 0, default),
            StatementType.Checkpoint => new SignedSlot((byte)type, scope, new View(view.Term, 0), 0, Digest.Sha256(message)),
            _ => null,
        };
    }

    /// <summary>
    /// <c>ORIGIN\nSIZE\nROOT\n</c>, alone or behind the two lines of a cosignature. More lines may follow, as in <see cref="LogCheckpoint.TryParse"/>: they
    /// mean nothing to whoever verifies the head, so they must not make another one of it here.
    /// </summary>
    private static bool TryReadLogHead(ReadOnlySpan<byte> message, out SignedSlot slot)
    {
        slot = default;
        var lines = Encoding.UTF8.GetString(message).Split('\n');
        var first = lines[0] == "cosignature/v1" ? 2 : 0;
        if (lines.Length < first + 4 || !ulong.TryParse(lines[first + 1], NumberStyles.None, CultureInfo.InvariantCulture, out var size)) return false;
        slot = new SignedSlot(LogHead, Digest.Sha256(Encoding.UTF8.GetBytes(lines[first])), default, size, Digest.Sha256(Encoding.UTF8.GetBytes(lines[first + 2])));
        return true;
    }

    /// <summary>Why it must not be signed; null when it may be.</summary>
    /// <param name="isNew">It says something that has not been signed before, and has to be remembered first.</param>
    public string? Problem(SignedSlot slot, out bool isNew)
    {
        isNew = true;
        var what = slot.Kind == LogHead ? "a log of this size" : ((StatementType)slot.Kind).ToString().ToUpperInvariant();
        if ((StatementType)slot.Kind is StatementType.PrePrepare or StatementType.Prepare or StatementType.Commit && Last((byte)StatementType.ViewChange, slot.Scope) is { } left && slot.View < left.View)
            return $"{what} for view {slot.View} after a VIEW-CHANGE to view {left.View}";
        if (!_slots.TryGetValue((slot.Kind, slot.Scope), out var slots))
            return _slots.Count < ScopesMax ? null : $"{what} for one more chain or log: these keys have signed for too many to remember";
        foreach (var known in slots)
        {
            if (!known.IsSameSlot(slot)) continue;
            isNew = false;
            return known.Content == slot.Content ? null : $"another {what} was signed for view {slot.View} height {slot.Height}";
        }

        // An old log head is the head of a smaller log, and says nothing about a later one.
        if (slot.Kind == LogHead || slot.IsAfter(slots[^1])) return null;
        return $"{what} for view {slot.View} height {slot.Height} after one for view {slots[^1].View} height {slots[^1].Height}";
    }

    /// <summary>From now on it has been signed.</summary>
    public void Remember(SignedSlot slot)
    {
        if (!_slots.TryGetValue((slot.Kind, slot.Scope), out var slots)) _slots[(slot.Kind, slot.Scope)] = slots = [];
        var place = slots.Count;
        while (place > 0 && slots[place - 1].IsAfter(slot)) place--;
        slots.Insert(place, slot);
        if (slots.Count > Remembered) slots.RemoveAt(0);
    }

    private SignedSlot? Last(byte kind, Digest scope) => _slots.TryGetValue((kind, scope), out var slots) ? slots[^1] : null;
}
