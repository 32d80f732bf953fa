using System.Collections.Generic;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Messages of a view this replica has not entered yet: per sender those of one view (the highest), a fixed number at most.
/// What does not fit is lost and will be sent again.
/// </summary>
public sealed class EarlyMessages(int validators, int perSenderMax)
{
    private readonly (View View, List<PeerMessage.Signed> Messages)[] _bySender = new (View, List<PeerMessage.Signed>)[validators];

    public int Count
    {
        get
        {
            var count = 0;
            foreach (var (_, messages) in _bySender) count += messages?.Count ?? 0;
            return count;
        }
    }

    public void Keep(PeerMessage.Signed message, View view)
    {
        ref var slot = ref _bySender[message.Sender.Value];
        if (slot.Messages is null || view > slot.View) slot = (view, []);
        if (view == slot.View && slot.Messages.Count < perSenderMax) slot.Messages.Add(message);
    }

    /// <summary>Takes out the messages of a view that was just entered, and forgets those of lower ones.</summary>
    public List<PeerMessage.Signed> TakeFor(View view)
    {
        var taken = new List<PeerMessage.Signed>();
        for (var i = 0; i < _bySender.Length; i++)
        {
            ref var slot = ref _bySender[i];
            if (slot.Messages is null || slot.View > view) continue;
            if (slot.View == view) taken.AddRange(slot.Messages);
            slot = default;
        }

        return taken;
    }
}
