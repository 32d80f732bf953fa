using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>What is known about leaving: one suspicion and one VIEW-CHANGE per validator, the one for the highest view.</summary>
public sealed class ViewChangeBook(ChainContext chain)
{
    private readonly (SignedSuspicion Suspicion, Timestamp At)?[] _suspicions = new (SignedSuspicion, Timestamp)?[chain.Validators.Places];
    private readonly PeerMessage.ViewChange?[] _messages = new PeerMessage.ViewChange?[chain.Validators.Places];

    /// <summary>
    /// Notes a suspicion against the current leader and returns those that are still held. A suspicion not repeated for four resend
    /// periods has been dropped by its sender: old ones of different hours must not add up.
    /// </summary>
    public ImmutableArray<SignedSuspicion> Suspect(SignedSuspicion suspicion, Timestamp now)
    {
        _suspicions[suspicion.Sender.Value] = (suspicion, now);
        var fresh = ImmutableArray.CreateBuilder<SignedSuspicion>();
        foreach (var entry in _suspicions)
            if (entry is { } e && now.Since(e.At) <= 4L * chain.Parameters.ResendMs)
                fresh.Add(e.Suspicion);
        return fresh.ToImmutable();
    }

    /// <summary>Keeps the message if it is for a higher view than the one kept for its sender.</summary>
    public void Keep(PeerMessage.ViewChange message)
    {
        if (_messages[message.Sender.Value] is { } kept && kept.View >= message.View) return;
        _messages[message.Sender.Value] = message;
    }

    /// <summary>Messages for exactly this view, by sender.</summary>
    public ImmutableArray<PeerMessage.ViewChange> For(View view)
    {
        var found = ImmutableArray.CreateBuilder<PeerMessage.ViewChange>();
        foreach (var message in _messages)
            if (message?.View == view)
                found.Add(message);
        return found.ToImmutable();
    }

    /// <summary>How many validators want this view or a later one.</summary>
    public int CountFrom(View view)
    {
        var count = 0;
        foreach (var message in _messages)
            if (message is not null && message.View >= view)
                count++;
        return count;
    }

    /// <summary>The highest view that f+1 validators want or have passed, if it is above the current one: at least one of them is honest.</summary>
    public View? JoinTarget(View current)
    {
        var views = ImmutableArray.CreateBuilder<View>();
        foreach (var message in _messages)
            if (message is not null && message.View > current)
                views.Add(message.View);
        if (views.Count < chain.Validators.OneHonest) return null;
        views.Sort((x, y) => y.CompareTo(x));
        return views[chain.Validators.OneHonest - 1];
    }

    /// <summary>A view was entered: suspicions belong to the old one, and messages up to it have done their work.</summary>
    public void Enter(View view)
    {
        Array.Clear(_suspicions);
        for (var i = 0; i < _messages.Length; i++)
            if (_messages[i] is { } message && message.View <= view)
                _messages[i] = null;
    }
}
