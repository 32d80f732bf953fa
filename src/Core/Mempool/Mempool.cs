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
    private readonly IntrusiveList<Entry, Entry.InPool> _byAge = new();

    /// <summary>The last that came with each nonce; it leads to the others.</summary>
    private readonly Dictionary<(PublicKey, Nonce), Entry> _byNonce = [];
    private readonly Dictionary<PublicKey, Share> _shares = [];
    private readonly List<Share> _allShares = [];

    /// <summary>Of producers in the trust store, so not more than those.</summary>
    private readonly Dictionary<PublicKey, TokenBucket> _buckets = [];
    private Entry? _toAnnounce;
    private Entry? _oldestFree;
    private int _asideCount;
    private int _asideBytes;
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

        /// <summary>How many blocks on their way hold it.</summary>
        internal int Aside { get; set; }

        internal bool IsFree => Aside == 0;

        /// <summary>Another one with the same nonce of the same producer.</summary>
        internal Entry? Rival { get; set; }

        private Links<Entry> _inPool;
        private Links<Entry> _inShare;

        internal readonly struct InPool : ILinksOf<Entry>
        {
            public static ref Links<Entry> In(Entry item) => ref item._inPool;
        }

        internal readonly struct InShare : ILinksOf<Entry>
        {
            public static ref Links<Entry> In(Entry item) => ref item._inShare;
        }

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
        public PublicKey Producer { get; } = producer;
        public int Room { get; set; }
        public SortedSet<Entry> ByPriority { get; } = new(Entry.ByPriority);
        public IntrusiveList<Entry, Entry.InShare> ByAge { get; } = new();

        /// <summary>Its place among all shares.</summary>
        public int Place { get; set; }

        public bool TakesMoreThan(Share other) => Room != other.Room ? Room > other.Room : Producer.CompareTo(other.Producer) > 0;
    }

    public int Count => _byAge.Count;

    /// <summary>Sum of the body lengths.</summary>
    public int Bytes { get; private set; }

    /// <summary>Room taken, of <c>bytesMax</c>.</summary>
    public int Room { get; private set; }

    /// <summary>Those that are in no block on its way.</summary>
    public int FreeCount => Count - _asideCount;

    /// <summary>Sum of their body lengths.</summary>
    public int FreeBytes => Bytes - _asideBytes;

    /// <summary>The one of them that waits longest.</summary>
    public Entry? OldestFree
    {
        get
        {
            while (_oldestFree is { IsFree: false }) _oldestFree = IntrusiveList<Entry, Entry.InPool>.Next(_oldestFree);
            return _oldestFree;
        }
    }

    public bool Contains(Digest digest) => _byDigest.ContainsKey(digest);

    public bool TryFind(Digest digest, [NotNullWhen(true)] out Entry? entry) => _byDigest.TryGetValue(digest, out entry);

    /// <summary>All that wait with this nonce of this producer.</summary>
    public IReadOnlyList<Entry> WithNonce(PublicKey producer, Nonce nonce)
    {
        if (!_byNonce.TryGetValue((producer, nonce), out var last)) return [];
        var entries = new List<Entry>();
        for (var entry = last; entry is not null; entry = entry.Rival) entries.Insert(0, entry);
        return entries;
    }

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
            var largest = Largest();
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

    private Share? Largest()
    {
        Share? largest = null;
        foreach (var share in _allShares)
            if (largest is null || share.TakesMoreThan(largest))
                largest = share;
        return largest;
    }

    /// <summary>Enough of a producer's last in order to free so much room; none when that would take too many, or one that is not lower than <paramref name="below"/>.</summary>
    private static List<Entry> LowestOf(Share share, int room, Entry? below)
    {
        var lowest = new List<Entry>();
        foreach (var entry in share.ByPriority.Reverse())
        {
            if (!entry.IsFree) continue;
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
        if (!_shares.TryGetValue(alert.Producer, out var share))
        {
            _shares[alert.Producer] = share = new Share(alert.Producer) { Place = _allShares.Count };
            _allShares.Add(share);
        }

        Resize(share, entry.Room);
        share.ByPriority.Add(entry);
        share.ByAge.AddLast(entry);
        _byAge.AddLast(entry);
        _toAnnounce ??= entry;
        _oldestFree ??= entry;
        Bytes += alert.BodyLength;
        entry.Rival = _byNonce.GetValueOrDefault((alert.Producer, alert.Nonce));
        _byNonce[(alert.Producer, alert.Nonce)] = entry;
    }

    public void Remove(Digest digest)
    {
        if (!_byDigest.Remove(digest, out var entry)) return;
        var alert = entry.Alert;
        var share = _shares[alert.Producer];
        if (_toAnnounce == entry) _toAnnounce = IntrusiveList<Entry, Entry.InPool>.Next(entry);
        if (_oldestFree == entry) _oldestFree = IntrusiveList<Entry, Entry.InPool>.Next(entry);
        if (!entry.IsFree) CountAside(entry, -1);
        share.ByPriority.Remove(entry);
        share.ByAge.Remove(entry);
        _byAge.Remove(entry);
        Resize(share, -entry.Room);
        if (share.ByAge.Count == 0) Close(share);
        Bytes -= alert.BodyLength;
        LeaveRivals(entry);
    }

    private void Close(Share share)
    {
        _shares.Remove(share.Producer);
        _allShares[share.Place] = _allShares[^1];
        _allShares[share.Place].Place = share.Place;
        _allShares.RemoveAt(_allShares.Count - 1);
    }

    private void LeaveRivals(Entry entry)
    {
        var nonce = (entry.Alert.Producer, entry.Alert.Nonce);
        var other = _byNonce[nonce];
        if (other == entry)
        {
            if (entry.Rival is { } rival) _byNonce[nonce] = rival;
            else _byNonce.Remove(nonce);
            return;
        }

        while (other.Rival != entry) other = other.Rival!;
        other.Rival = entry.Rival;
    }

    /// <summary>A block that is on its way holds it, if it is here: it is not chosen for another, and makes no room for others.</summary>
    public void SetAside(Digest digest)
    {
        if (_byDigest.TryGetValue(digest, out var entry) && ++entry.Aside == 1) CountAside(entry, 1);
    }

    /// <summary>One block less holds it.</summary>
    public void TakeBack(Digest digest)
    {
        if (!_byDigest.TryGetValue(digest, out var entry)) return;
        Invariant.Holds(entry.Aside > 0, "what is taken back was set aside");
        if (--entry.Aside > 0) return;
        CountAside(entry, -1);
        if (_oldestFree is null || entry.Number < _oldestFree.Number) _oldestFree = entry;
    }

    private void CountAside(Entry entry, int change)
    {
        _asideCount += change;
        _asideBytes += change * entry.Alert.BodyLength;
    }

    private void Resize(Share share, int difference)
    {
        share.Room += difference;
        Room += difference;
        Invariant.Holds(Room <= bytesMax, "the pool has room");
    }

    /// <summary>
    /// What goes into the next block (rule M3), of what no block on its way holds. Producers take turns, who has taken least room goes first; each gives
    /// its oldest message and the one of highest priority by turns, so that neither waits for ever.
    /// </summary>
    public List<AlertEnvelope> Select(int transactions, int bytes)
    {
        var taken = new HashSet<Digest>();
        var chosen = new List<AlertEnvelope>();
        var turns = new PriorityQueue<Turns, (int Taken, int Priority, ulong Number)>();
        foreach (var share in _allShares)
            if (new Turns(share, taken) is var turn && turn.Next is { } first)
                turns.Enqueue(turn, (0, -first.Priority, first.Number));
        while (chosen.Count < transactions && turns.TryDequeue(out var turn, out _))
        {
            var entry = turn.Next!;
            // What is too long for this block leaves its producer's turn to others.
            if (entry.Alert.BodyLength > bytes) continue;
            chosen.Add(entry.Alert);
            taken.Add(entry.Alert.Digest);
            bytes -= entry.Alert.BodyLength;
            turn.Take();
            if (turn.Next is { } next) turns.Enqueue(turn, (turn.Taken, -next.Priority, next.Number));
        }

        return chosen;
    }

    private sealed class Turns
    {
        private readonly HashSet<Digest> _taken;
        private SortedSet<Entry>.Enumerator _byPriority;
        private Entry? _byAge;
        private bool _oldest = true;
        private bool _morePriority;

        public Turns(Share share, HashSet<Digest> taken)
        {
            _taken = taken;
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

        private bool IsLeft(Entry entry) => entry.IsFree && !_taken.Contains(entry.Alert.Digest);

        private void Choose()
        {
            _oldest = !_oldest;
            while (_byAge is not null && !IsLeft(_byAge)) _byAge = IntrusiveList<Entry, Entry.InShare>.Next(_byAge);
            while (_morePriority && !IsLeft(_byPriority.Current)) _morePriority = _byPriority.MoveNext();
            Next = _oldest ? _byAge : _morePriority ? _byPriority.Current : null;
        }
    }

    /// <summary>The one that waits longest.</summary>
    public Entry? Oldest => _byAge.First;

    /// <summary>All are to be announced again.</summary>
    public void AnnounceAgain() => _toAnnounce = _byAge.First;

    /// <summary>The oldest that has not been announced yet.</summary>
    public Entry? ToAnnounce => _toAnnounce;

    public void Announced() => _toAnnounce = IntrusiveList<Entry, Entry.InPool>.Next(_toAnnounce!);

    /// <summary>All of them; for the rare occasion that changes everything.</summary>
    public IEnumerable<Entry> OldestFirst()
    {
        for (var entry = _byAge.First; entry is not null; entry = IntrusiveList<Entry, Entry.InPool>.Next(entry)) yield return entry;
    }
}
