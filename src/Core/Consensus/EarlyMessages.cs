using System.Collections.Generic;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Messages of a view this replica has not entered yet: per sender those of one view (the highest), a fixed number at most.
/// What does not fit is lost and will be sent again.
/// </summary>
public sealed class EarlyMessages(int perSenderMax)
{
    private readonly SortedDictionary<ValidatorIndex, (View View, List<PeerMessage.Signed> Messages)> _bySender = [];

    public int Count
    {
        get
        {
            var count = 0;
            foreach (var (_, (_, messages)) in _bySender) count += messages.Count;
            return count;
        }
    }

    public void Keep(PeerMessage.Signed message, View view)
    {
        if (!_bySender.TryGetValue(message.Sender, out var kept) || view > kept.View) _bySender[message.Sender] = kept = (view, []);
        if (view == kept.View && kept.Messages.Count < perSenderMax) kept.Messages.Add(message);
    }

    /// <summary>Takes out the messages of a view that was just entered, and forgets those of lower ones.</summary>
    public List<PeerMessage.Signed> TakeFor(View view)
    {
        var taken = new List<PeerMessage.Signed>();
        var done = new List<ValidatorIndex>();
        foreach (var (sender, kept) in _bySender)
        {
            if (kept.View > view) continue;
            if (kept.View == view) taken.AddRange(kept.Messages);
            done.Add(sender);
        }

        foreach (var sender in done) _bySender.Remove(sender);
        return taken;
    }
}
