using System.Collections.Generic;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Projection;

/// <summary>Where the newest alerts stand in the chain. The next thing that happens to most alerts happens soon, and looking for it in an index of random digests costs more than all that is written then.</summary>
internal sealed class AlertPlaces
{
    public const int Max = 1 << 16;

    private readonly Dictionary<Digest, (long Height, long Position)> _places = [];
    private readonly Queue<Digest> _oldest = [];

    public void Add(Digest alert, (long Height, long Position) place)
    {
        _places[alert] = place;
        _oldest.Enqueue(alert);
        if (_oldest.Count > Max) _places.Remove(_oldest.Dequeue());
    }

    /// <summary>Null when it is not among the newest.</summary>
    public (long Height, long Position)? Find(Digest alert) => _places.TryGetValue(alert, out var place) ? place : null;
}
