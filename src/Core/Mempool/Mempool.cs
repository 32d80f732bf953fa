using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Mempool;

/// <summary>
/// Bounded waiting room for verified messages, shared fairly between producers. What does not fit, or has to make room, is not lost: the caller
/// keeps it where it came from (its Kafka partition is paused) and offers it again. What an operation costs grows with what it
/// answers and with the number of producers, not with what waits. Not thread-safe; time is an argument.
/// </summary>
/// <remarks>
/// Both limits are one: a message takes room of its length, but at least a <c>bytesMax / transactionsMax</c>th part.
/// Rules M1 to M3 of docs/protocol.md.
/// </remarks>
public sealed class Mempool(int transactionsMax, int bytesMax)
{
    /// <summary>A message may push out at most so many others; it waits when that is not enough.</summary>
    private const int EvictionsMax = 64;

    private readonly int _leastRoom = Math.Max(1, bytesMax / transactionsMax);
    private readonly Dictionary<Digest, Entry> _byDigest = [];
    private readonly LinkedList<Entry> _byAge = [];
    private readonly Dictionary<(PublicKey, Nonce), List<Entry>> _byNonce = [];
    private readonly Dictionary<PublicKey, Share> _shares = [];
    private readonly SortedSet<Share> _bySize = new(Share.BySize);

    /// <summary>Of producers in the trust store, so not more than those.</summary>
    private readonly Dictionary<PublicKey, TokenBucket> _buckets = [];
    private LinkedListNode<Entry>? _toAnnounce;
    private ulong _admitted;

    /// <summary>A waiting message.</summary>
    public sealed class Entry
    {
        internal static readonly Comparer<Entry> ByPriority = Comparer<Entry>.Create((a, b) =>
            a.Priority != b.Priority ? b.Priority.CompareTo(a.Priority) : a.Number.CompareTo(b.Number));

        internal Entry(AlertEnvelope alert, Timestamp admittedAt, ulong number, int room)
        {
            Alert = alert;
            AdmittedAt = admittedAt;
            Number = number;
            Room = room;
            Priority = PriorityOf(alert);
        }

        public AlertEnvelope Alert { get; }
        public Timestamp AdmittedAt { get; }
        internal ulong Number { get; }
        internal int Room { get; }
        internal int Priority { get; }
        internal LinkedListNode<Entry>? PlaceInShare { get; set; }
        internal LinkedListNode<Entry>? Place { get; set; }

        /// <summary>Decisions of people and accusations, then policies, then alerts by severity and confidence, then evidence.</summary>
        private static int PriorityOf(AlertEnvelope alert) => alert.Kind switch
        {
            AlertKind.Policy => 1_000_000,
            AlertKind.Evidence => 0,
            AlertKind.Anomaly when alert.Content is AlertContent.Anomaly anomaly => anomaly.Severity * 10_001 + (int)anomaly.ConfidenceBasisPoints,
            _ => 2_000_000,
        };
    }

    /// <summary>What one producer has waiting. What validators and operators sign has no producer, and counts as one.</summary>
    private sealed class Share(PublicKey producer)
    {
        public static readonly Comparer<Share> BySize = Comparer<Share>.Create((a, b) =>
            a.Room != b.Room ? a.Room.CompareTo(b.Room) : a.Producer.CompareTo(b.Producer));

        public PublicKey Producer { get; } = producer;
        public int Room { get; set; }
        public SortedSet<Entry> ByPriority { get; } = new(Entry.ByPriority);
        public LinkedList<Entry> ByAge { get; } = [];
    }

    public int Count => _byAge.Count;

    /// <summary>Sum of the body lengths.</summary>
    public int Bytes { get; private set; }

    /// <summary>Room taken, of <c>bytesMax</c>.</summary>
    public int Room { get; private set; }

    public bool Contains(Digest digest) => _byDigest.ContainsKey(digest);

    public bool TryFind(Digest digest, [NotNullWhen(true)] out AlertEnvelope? alert)
    {
        alert = _byDigest.TryGetValue(digest, out var entry) ? entry.Alert : null;
        return alert is not null;
    }

    /// <summary>All that wait with this nonce of this producer.</summary>
    public IReadOnlyList<Entry> WithNonce(PublicKey producer, Nonce nonce) => _byNonce.TryGetValue((producer, nonce), out var entries) ? entries : [];

    /// <summary>
    /// Adds a message that is not in the pool, if its producer has not used up its allowance (rule M1). When the pool is full, others make room for
    /// it (rule M2): the lowest of the producer that takes most, if it still holds as much as this one afterwards, or else lower ones of the same producer.
    /// </summary>
    /// <param name="allowance">Messages per second of this producer; null when they are not counted.</param>
    /// <param name="evicted">Those that made room.</param>
    public AdmissionKind Add(Verified<AlertEnvelope> alert, uint? allowance, Timestamp now, List<Entry> evicted)
    {
        var envelope = alert.Value;
        TokenBucket? bucket = null;
        if (allowance is { } perSecond)
        {
            if (!_buckets.TryGetValue(envelope.Producer, out bucket)) _buckets[envelope.Producer] = bucket = new TokenBucket(now);
            if (!bucket.Fill(perSecond, now)) return AdmissionKind.OverQuota;
        }

        var entry = new Entry(envelope, now, _admitted, Math.Max(_leastRoom, envelope.BodyLength));
        var own = _shares.GetValueOrDefault(envelope.Producer);
        var wanted = Room + entry.Room - bytesMax;
        if (wanted > 0)
        {
            var largest = _bySize.Max;
            var victims = largest is not null && largest != own ? LowestOf(largest, wanted, null) : [];
            if (victims.Count == 0 || largest!.Room - RoomOf(victims) < (own?.Room ?? 0) + entry.Room) victims = own is null ? [] : LowestOf(own, wanted, entry);
            if (victims.Count == 0) return AdmissionKind.Full;
            foreach (var victim in victims) Remove(victim.Alert.Digest);
            evicted.AddRange(victims);
        }

        _admitted++;
        bucket?.Take();
        Insert(entry);
        return AdmissionKind.Admitted;
    }

    /// <summary>Enough of a producer's last in order to free so much room; none when that would take too many, or one that is not lower than <paramref name="below"/>.</summary>
    private static List<Entry> LowestOf(Share share, int room, Entry? below)
    {
        var lowest = new List<Entry>();
        foreach (var entry in share.ByPriority.Reverse())
        {
            if (lowest.Count == EvictionsMax || (below is not null && entry.Priority >= below.Priority)) return [];
            lowest.Add(entry);
            room -= entry.Room;
            if (room <= 0) return lowest;
        }

        return [];
    }

    private static int RoomOf(List<Entry> entries)
    {
        var room = 0;
        foreach (var entry in entries) room += entry.Room;
        return room;
    }

    private void Insert(Entry entry)
    {
        var alert = entry.Alert;
        Invariant.Holds(_byDigest.TryAdd(alert.Digest, entry), "no transaction is in the pool twice");
        if (!_shares.TryGetValue(alert.Producer, out var share)) _shares[alert.Producer] = share = new Share(alert.Producer);
        Resize(share, entry.Room);
        share.ByPriority.Add(entry);
        entry.PlaceInShare = share.ByAge.AddLast(entry);
        entry.Place = _byAge.AddLast(entry);
        _toAnnounce ??= entry.Place;
        Bytes += alert.BodyLength;
        if (!_byNonce.TryGetValue((alert.Producer, alert.Nonce), out var rivals)) _byNonce[(alert.Producer, alert.Nonce)] = rivals = [];
        rivals.Add(entry);
    }

    public void Remove(Digest digest)
    {
        if (!_byDigest.Remove(digest, out var entry)) return;
        var alert = entry.Alert;
        var share = _shares[alert.Producer];
        share.ByPriority.Remove(entry);
        share.ByAge.Remove(entry.PlaceInShare!);
        Resize(share, -entry.Room);
        if (share.ByAge.Count == 0) _shares.Remove(alert.Producer);
        if (_toAnnounce == entry.Place) _toAnnounce = entry.Place!.Next;
        _byAge.Remove(entry.Place!);
        Bytes -= alert.BodyLength;
        var rivals = _byNonce[(alert.Producer, alert.Nonce)];
        rivals.Remove(entry);
        if (rivals.Count == 0) _byNonce.Remove((alert.Producer, alert.Nonce));
    }

    private void Resize(Share share, int difference)
    {
        _bySize.Remove(share);
        share.Room += difference;
        Room += difference;
        if (share.Room > 0) _bySize.Add(share);
        Invariant.Holds(Room <= bytesMax, "the pool has room");
    }

    /// <summary>
    /// What goes into the next block (rule M3). Producers take turns, who has taken least room goes first; each gives its oldest message and the one of
    /// highest priority by turns, so that neither waits for ever.
    /// </summary>
    /// <param name="excluded">In blocks that are on their way already; gains what is chosen.</param>
    public List<AlertEnvelope> Select(HashSet<Digest> excluded, int transactions, int bytes, out Timestamp oldest)
    {
        var chosen = new List<AlertEnvelope>();
        var turns = new PriorityQueue<Turns, (int Taken, int Priority, ulong Number)>();
        foreach (var share in _bySize)
            if (new Turns(share, excluded) is var turn && turn.Next is { } first)
                turns.Enqueue(turn, (0, -first.Priority, first.Number));
        oldest = default;
        while (chosen.Count < transactions && turns.TryDequeue(out var turn, out _))
        {
            var entry = turn.Next!;
            // What is too long for this block leaves its producer's turn to others.
            if (entry.Alert.BodyLength > bytes) continue;
            if (chosen.Count == 0 || entry.AdmittedAt < oldest) oldest = entry.AdmittedAt;
            chosen.Add(entry.Alert);
            excluded.Add(entry.Alert.Digest);
            bytes -= entry.Alert.BodyLength;
            turn.Take();
            if (turn.Next is { } next) turns.Enqueue(turn, (turn.Taken, -next.Priority, next.Number));
        }

        return chosen;
    }

    private sealed class Turns
    {
        private readonly HashSet<Digest> _excluded;
        private SortedSet<Entry>.Enumerator _byPriority;
        private LinkedListNode<Entry>? _byAge;
        private bool _oldest = true;
        private bool _morePriority;

        public Turns(Share share, HashSet<Digest> excluded)
        {
            _excluded = excluded;
            _byPriority = share.ByPriority.GetEnumerator();
            _morePriority = _byPriority.MoveNext();
            _byAge = share.ByAge.First;
            Choose();
        }

        public Entry? Next { get; private set; }

        public int Taken { get; private set; }

        public void Take()
        {
            Taken += Next!.Room;
            Choose();
        }

        private void Choose()
        {
            _oldest = !_oldest;
            while (_byAge is not null && _excluded.Contains(_byAge.Value.Alert.Digest)) _byAge = _byAge.Next;
            while (_morePriority && _excluded.Contains(_byPriority.Current.Alert.Digest)) _morePriority = _byPriority.MoveNext();
            Next = _oldest ? _byAge?.Value : _morePriority ? _byPriority.Current : null;
        }
    }

    /// <summary>The one that waits longest.</summary>
    public Entry? Oldest => _byAge.First?.Value;

    /// <summary>All are to be announced again.</summary>
    public void AnnounceAgain() => _toAnnounce = _byAge.First;

    /// <summary>The oldest that has not been announced yet.</summary>
    public Entry? ToAnnounce => _toAnnounce?.Value;

    public void Announced() => _toAnnounce = _toAnnounce!.Next;

    /// <summary>All of them; for the rare occasion that changes everything.</summary>
    public IEnumerable<Entry> OldestFirst() => _byAge;
}
