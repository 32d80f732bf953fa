using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Votes of one phase in one view, at most one per validator and height, heights bounded by the window. Counts distinct
/// validators that voted for the same digest (rule Q2).
/// </summary>
public sealed class VoteTally(CertificateKind kind, ValidatorSet validators)
{
    private sealed class Slot(int n)
    {
        public readonly (Digest Digest, Signature Signature)?[] Votes = new (Digest, Signature)?[n];
    }

    private readonly SortedDictionary<ulong, Slot> _slots = [];

    /// <summary>Heights with a vote.</summary>
    public int Count => _slots.Count;

    public enum Outcome
    {
        Added,
        Known,

        /// <summary>The validator voted for another digest at this height before: it lies.</summary>
        Conflicting,
    }

    /// <summary>The caller has checked that the height is within the window.</summary>
    public Outcome Add(ValidatorIndex sender, Height height, Digest digest, Signature signature)
    {
        if (!_slots.TryGetValue(height.Value, out var slot)) _slots[height.Value] = slot = new Slot(validators.Places);
        ref var vote = ref slot.Votes[sender.Value];
        if (vote is { } before) return before.Digest == digest ? Outcome.Known : Outcome.Conflicting;
        vote = (digest, signature);
        return Outcome.Added;
    }

    /// <summary>The vote this validator cast first at this height.</summary>
    public (Digest Digest, Signature Signature)? Find(ValidatorIndex sender, Height height) =>
        _slots.TryGetValue(height.Value, out var slot) ? slot.Votes[sender.Value] : null;

    /// <summary>The certificate for this block, or null while fewer than Q validators voted for it.</summary>
    public QuorumCertificate? TryCertify(ulong epoch, View view, Height height, Digest digest)
    {
        if (!_slots.TryGetValue(height.Value, out var slot)) return null;
        if (CountFor(slot, digest) < validators.Quorum) return null;
        var signatures = ImmutableArray.CreateBuilder<SignerSignature>(validators.Quorum);
        for (var i = 0; i < slot.Votes.Length && signatures.Count < validators.Quorum; i++)
            if (slot.Votes[i] is { } vote && vote.Digest == digest)
                signatures.Add(new SignerSignature(new ValidatorIndex((ushort)i), vote.Signature));
        return new QuorumCertificate(kind, epoch, view, height, digest, signatures.DrainToImmutable());
    }

    private static int CountFor(Slot slot, Digest digest)
    {
        var count = 0;
        foreach (var vote in slot.Votes)
            if (vote is { } cast && cast.Digest == digest)
                count++;
        return count;
    }

    /// <summary>The digest that Q validators voted for at this height, if there is one.</summary>
    public Digest? QuorumDigest(Height height)
    {
        if (!_slots.TryGetValue(height.Value, out var slot)) return null;
        foreach (var candidate in slot.Votes)
            if (candidate is { } vote && CountFor(slot, vote.Digest) >= validators.Quorum)
                return vote.Digest;
        return null;
    }

    public void DropUpTo(Height height)
    {
        while (_slots.Count > 0)
        {
            var first = FirstHeight();
            if (first > height.Value) return;
            _slots.Remove(first);
        }
    }

    public void Clear() => _slots.Clear();

    private ulong FirstHeight()
    {
        foreach (var entry in _slots) return entry.Key;
        throw new InvariantViolation("not empty");
    }
}
