using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// CHECKPOINTs of the present term and the one before, one per validator and term: a term's checkpoint is signed when it ends, by some a
/// little earlier than by others.
/// </summary>
public sealed class CheckpointVotes
{
    private readonly SortedDictionary<ulong, SortedDictionary<ValidatorIndex, PeerMessage.Checkpoint>> _byTerm = [];

    public int Count
    {
        get
        {
            var count = 0;
            foreach (var votes in _byTerm.Values) count += votes.Count;
            return count;
        }
    }

    /// <summary>The first CHECKPOINT this validator signed for the term, when it is another one.</summary>
    public PeerMessage.Checkpoint? Add(PeerMessage.Checkpoint vote)
    {
        if (!_byTerm.TryGetValue(vote.Content.Term, out var votes)) _byTerm[vote.Content.Term] = votes = [];
        if (votes.TryAdd(vote.Sender, vote)) return null;
        var first = votes[vote.Sender];
        return first.Content == vote.Content ? null : first;
    }

    /// <summary>The certificate of the term's checkpoint, once Q validators of its epoch have signed the same.</summary>
    public CheckpointCertificate? TryCertify(ulong term, ChainContext chain)
    {
        if (!_byTerm.TryGetValue(term, out var votes)) return null;
        foreach (var candidate in votes.Values)
        {
            var signatures = ImmutableArray.CreateBuilder<SignerSignature>();
            foreach (var (sender, vote) in votes)
                if (vote.Content == candidate.Content && signatures.Count < chain.Validators.Quorum)
                    signatures.Add(new SignerSignature(sender, vote.Signature));
            if (signatures.Count == chain.Validators.Quorum) return new CheckpointCertificate(chain.Epoch, candidate.Content, signatures.ToImmutable());
        }

        return null;
    }

    public void DropBelow(ulong term)
    {
        var drop = new List<ulong>();
        foreach (var (at, _) in _byTerm)
            if (at < term)
                drop.Add(at);
        foreach (var at in drop) _byTerm.Remove(at);
    }
}
