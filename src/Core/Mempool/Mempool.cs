using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Mempool;

/// <summary>
/// Bounded waiting room for verified messages, oldest first. A full pool refuses, it never drops: the caller keeps the
/// message where it came from (its Kafka partition is paused). Not thread-safe; time is an argument.
/// </summary>
public sealed class Mempool(int transactionsMax, int bytesMax)
{
    /// <summary>A waiting message. <see cref="ForwardedIn"/> is the view whose leader was sent its body.</summary>
    public sealed class Entry(Verified<AlertEnvelope> alert, Timestamp admittedAt)
    {
        public Verified<AlertEnvelope> Alert { get; } = alert;
        public Timestamp AdmittedAt { get; } = admittedAt;
        public View? ForwardedIn { get; set; }
    }

    private readonly Dictionary<Digest, LinkedListNode<Entry>> _byDigest = [];
    private readonly LinkedList<Entry> _byAge = [];
    private readonly Dictionary<(PublicKey, Nonce), int> _nonces = [];

    public int Count => _byAge.Count;

    /// <summary>Sum of the body lengths.</summary>
    public int Bytes { get; private set; }

    public bool Contains(Digest digest) => _byDigest.ContainsKey(digest);

    /// <summary>Some message with this nonce of this producer waits. What validators and operators sign has none, and counts as one nonce.</summary>
    public bool HoldsNonce(PublicKey producer, Nonce nonce) => _nonces.ContainsKey((producer, nonce));

    public bool HasRoomFor(AlertEnvelope alert) => Count < transactionsMax && Bytes + alert.BodyLength <= bytesMax;

    public bool TryFind(Digest digest, [NotNullWhen(true)] out AlertEnvelope? alert)
    {
        alert = _byDigest.TryGetValue(digest, out var node) ? node.Value.Alert.Value : null;
        return alert is not null;
    }

    /// <summary>The caller has checked <see cref="HasRoomFor"/> and <see cref="Contains"/>.</summary>
    public void Add(Verified<AlertEnvelope> alert, Timestamp now)
    {
        Invariant.Holds(HasRoomFor(alert.Value), "the pool has room");
        var node = _byAge.AddLast(new Entry(alert, now));
        Invariant.Holds(_byDigest.TryAdd(alert.Value.Digest, node), "no transaction is in the pool twice");
        Bytes += alert.Value.BodyLength;
        var nonce = (alert.Value.Producer, alert.Value.Nonce);
        _nonces[nonce] = _nonces.GetValueOrDefault(nonce) + 1;
    }

    public void Remove(Digest digest)
    {
        if (!_byDigest.Remove(digest, out var node)) return;
        _byAge.Remove(node);
        var envelope = node.Value.Alert.Value;
        Bytes -= envelope.BodyLength;
        var nonce = (envelope.Producer, envelope.Nonce);
        if (--_nonces[nonce] == 0) _nonces.Remove(nonce);
    }

    /// <summary>Entries from the oldest on. Do not change the pool while reading.</summary>
    public IEnumerable<Entry> OldestFirst() => _byAge;
}
