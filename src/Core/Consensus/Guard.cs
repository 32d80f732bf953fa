using System;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// What this validator has signed last, per kind: within a view heights strictly increase, views never go back (rule D2). Any
/// regression would be a second vote, so it is a broken invariant, not a refusal.
/// </summary>
public sealed class Guard
{
    public readonly record struct Vote(View View, Height Height, Digest Digest);

    public Vote? Proposed { get; private set; }
    public Vote? Prepared { get; private set; }
    public Vote? Committed { get; private set; }

    /// <summary>Highest view a VIEW-CHANGE was signed for: below it nothing is voted for any more (rule V1).</summary>
    public View ViewChange { get; private set; }

    /// <summary>The last view anything was signed in, or for.</summary>
    public View View
    {
        get
        {
            var view = ViewChange;
            foreach (var vote in (ReadOnlySpan<Vote?>)[Proposed, Prepared, Committed])
                if (vote is { } last && last.View > view)
                    view = last.View;
            return view;
        }
    }

    public void Propose(Vote vote) => Proposed = Advance(Proposed, vote);

    public void Prepare(Vote vote) => Prepared = Advance(Prepared, vote);

    public void Commit(Vote vote) => Committed = Advance(Committed, vote);

    public void ChangeView(View view)
    {
        Invariant.Holds(view > ViewChange, "a view change goes forward");
        ViewChange = view;
    }

    private Vote Advance(Vote? last, Vote vote)
    {
        Invariant.Holds(vote.View >= ViewChange, "nothing is signed for a view that was left");
        if (last is not { } before) return vote;
        var forward = vote.View > before.View || (vote.View == before.View && vote.Height > before.Height);
        Invariant.Holds(forward, "never two votes for one slot");
        return vote;
    }
}
