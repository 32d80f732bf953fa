using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>
/// The nonces used within the time a message could still be accepted: replicated state, expiring by block time alone, so a restart or another
/// validator cannot be talked into accepting a replay. Also knows which transactions used them. Under the state root, those that expire together are
/// one value, the chain over their transactions in the order they were executed: a transaction names its nonce.
/// </summary>
/// <remarks>
/// There are millions of them, an hour's traffic, so they stand in memory as they stand in a snapshot: in segments, to which those that expire within
/// the same minute are appended, and in which nothing changes any more. A full segment is a chunk of every snapshot until its minute is over; its
/// digest is worked out once and its bytes are never copied. A nonce takes 54 bytes and 24 in the indexes.
/// </remarks>
public sealed class NonceSet
{
    /// <summary>Those that expire within such a time share segments.</summary>
    private const int WindowMs = 60_000;

    private const int SegmentBits = 14;
    private const int SegmentEntries = 1 << SegmentBits;
    private const int FirstEntries = 16;

    // An entry: when it expires within its window, the producer's number with the mark of those that used the nonce again, nonce, transaction.
    private const int HolderAt = sizeof(ushort);
    private const int NonceAt = HolderAt + sizeof(uint);
    private const int TransactionAt = NonceAt + Limits.NonceBytes;
    internal const int EntryBytes = TransactionAt + Digest.Size;

    private const int ProducersEverMax = 1 << 24;

    /// <summary>Places given free for each that is taken, and for each block: what expired does not pile up, and no block pays for a whole minute.</summary>
    private const int FreedPerAdded = 2, FreedPerBlock = 256;

    private sealed class Segment(int number, Window window)
    {
        private Digest _digest;
        private int _hashed;

        public readonly int Number = number;
        public readonly Window Window = window;

        /// <summary>What stands in it stays as it is, so a part of it can be given away while more is appended.</summary>
        public byte[] Bytes = new byte[FirstEntries * EntryBytes];
        public int Count;

        public ReadOnlyMemory<byte> Written => Bytes.AsMemory(0, Count * EntryBytes);

        public Digest DigestOfWritten()
        {
            if (_hashed != Count) (_digest, _hashed) = (Snapshot.ChunkDigest(Written.Span), Count);
            return _digest;
        }
    }

    private sealed class Window(Timestamp start)
    {
        public readonly Timestamp Start = start;
        public readonly List<Segment> Segments = [];

        public int Count => Segments.Count == 0 ? 0 : (Segments.Count - 1) * SegmentEntries + Segments[^1].Count;
    }

    /// <summary>Those that expire at one time.</summary>
    private sealed class Bucket
    {
        public int Count;
        public Digest Chain;
    }

    private readonly SortedDictionary<Timestamp, Window> _windows = [];
    private readonly SortedDictionary<Timestamp, Bucket> _buckets = [];

    // The slot of an entry: the number of its segment and its place there.
    private readonly List<Segment?> _segments = [];
    private readonly Stack<int> _freeNumbers = new();
    private readonly SlotIndex _byNonce = new();
    private readonly SlotIndex _byTransaction = new();

    /// <summary>All in them has expired; still in the indexes, from a place in the first on.</summary>
    private readonly Queue<Segment> _expired = new();
    private int _freed;

    /// <summary>What expires before is forgotten, whether or not its place is free yet.</summary>
    private Timestamp _now;

    // As many as the operators have ever enrolled, in the order of their first message.
    private readonly List<PublicKey> _producers = [];
    private readonly Dictionary<PublicKey, int> _producerNumbers = [];

    // Hashes of tuples have a secret seed: producers choose nonces, and can choose among digests. Nothing that is agreed on depends on them.
    private static uint HashOf(int producer, Nonce nonce) => unchecked((uint)(producer, nonce.Value).GetHashCode());

    private static uint HashOf(Digest transaction) => unchecked((uint)(transaction.Value.A, transaction.Value.D).GetHashCode());

    private ReadOnlySpan<byte> EntryAt(int slot) => _segments[slot >> SegmentBits]!.Bytes.AsSpan((slot & (SegmentEntries - 1)) * EntryBytes, EntryBytes);

    private static int OffsetOf(ReadOnlySpan<byte> entry) => BinaryPrimitives.ReadUInt16BigEndian(entry);

    private static int ProducerOf(ReadOnlySpan<byte> entry) => (int)(BinaryPrimitives.ReadUInt32BigEndian(entry[HolderAt..]) >> 1);

    /// <summary>The nonce is its own. A message that used it again is remembered, and only known by its digest.</summary>
    private static bool IsFirst(ReadOnlySpan<byte> entry) => (BinaryPrimitives.ReadUInt32BigEndian(entry[HolderAt..]) & 1) == 0;

    private static Nonce NonceOf(ReadOnlySpan<byte> entry) => new(BinaryPrimitives.ReadUInt128BigEndian(entry[NonceAt..]));

    private static Digest TransactionOf(ReadOnlySpan<byte> entry) => new(Bytes32.From(entry[TransactionAt..]));

    private bool IsForgotten(int slot, ReadOnlySpan<byte> entry) => _segments[slot >> SegmentBits]!.Window.Start.PlusMs(OffsetOf(entry)) < _now;

    private static Timestamp StartOf(Timestamp expiresAt) => expiresAt.PlusMs(-(expiresAt.Milliseconds % WindowMs));

    /// <summary>Messages that are remembered.</summary>
    public int Count { get; private set; }

    /// <summary>Segments that stand in memory.</summary>
    internal int SegmentCount => _segments.Count - _freeNumbers.Count;

    public bool Contains(PublicKey producer, Nonce nonce) => _producerNumbers.TryGetValue(producer, out var number) && Contains(number, nonce);

    private bool Contains(int producer, Nonce nonce)
    {
        for (var slot = _byNonce.Find(HashOf(producer, nonce)); slot >= 0; slot = _byNonce.Following(slot))
            if (EntryAt(slot) is var entry && NonceOf(entry) == nonce && ProducerOf(entry) == producer && !IsForgotten(slot, entry))
                return true;
        return false;
    }

    /// <summary>Was this very transaction accepted in a block, recently enough to be remembered?</summary>
    public bool ContainsTransaction(Digest transaction)
    {
        Span<byte> wanted = stackalloc byte[Digest.Size];
        transaction.CopyTo(wanted);
        for (var slot = _byTransaction.Find(HashOf(transaction)); slot >= 0; slot = _byTransaction.Following(slot))
            if (EntryAt(slot) is var entry && entry[TransactionAt..].SequenceEqual(wanted) && !IsForgotten(slot, entry))
                return true;
        return false;
    }

    /// <summary>Remembers a message until then. The first with a nonce holds it; another one is only known by its digest.</summary>
    public void Add(Timestamp expiresAt, PublicKey producer, Nonce nonce, Digest transaction)
    {
        Invariant.Holds(expiresAt >= _now, "what has expired is refused before");
        Invariant.Holds(!ContainsTransaction(transaction), "a message is decided once");
        if (!_producerNumbers.TryGetValue(producer, out var number))
        {
            Invariant.Holds(_producers.Count < ProducersEverMax, "operators do not enrol so many");
            number = Number(producer);
        }

        Span<byte> entry = stackalloc byte[EntryBytes];
        var start = StartOf(expiresAt);
        BinaryPrimitives.WriteUInt16BigEndian(entry, (ushort)(expiresAt.Milliseconds - start.Milliseconds));
        BinaryPrimitives.WriteUInt32BigEndian(entry[HolderAt..], ((uint)number << 1) | (Contains(number, nonce) ? 1u : 0));
        BinaryPrimitives.WriteUInt128BigEndian(entry[NonceAt..], nonce.Value);
        transaction.CopyTo(entry[TransactionAt..]);
        Append(WindowOf(start), entry);
        Free(FreedPerAdded);
    }

    /// <summary>What stands for those that expire then under the state root.</summary>
    public Digest ChainOf(Timestamp expiresAt) => _buckets[expiresAt].Chain;

    /// <summary>Forgets all that expire at one time before <paramref name="blockTime"/>; false when there are none.</summary>
    public bool TryExpire(Timestamp blockTime, out Timestamp expired)
    {
        _now = blockTime;
        foreach (var (expiresAt, bucket) in _buckets)
        {
            if (expiresAt >= blockTime) break;
            Count -= bucket.Count;
            _buckets.Remove(expired = expiresAt);
            return true;
        }

        while (FirstWindow() is { } window && window.Start.PlusMs(WindowMs) <= blockTime)
        {
            foreach (var segment in window.Segments) _expired.Enqueue(segment);
            _windows.Remove(window.Start);
        }

        Free(FreedPerBlock);
        expired = default;
        return false;
    }

    private Window? FirstWindow()
    {
        foreach (var window in _windows.Values) return window;
        return null;
    }

    private void Free(int places)
    {
        for (; places > 0 && _expired.TryPeek(out var segment); places--)
        {
            var slot = (segment.Number << SegmentBits) + _freed;
            if (IsFirst(EntryAt(slot))) _byNonce.Remove(slot);
            _byTransaction.Remove(slot);
            if (++_freed < segment.Count) continue;
            _freed = 0;
            _expired.Dequeue();
            _segments[segment.Number] = null;
            _freeNumbers.Push(segment.Number);
        }
    }

    /// <summary>By time of expiry, and within a window in the order they were used. Last in a snapshot: their segments are chunks of their own.</summary>
    internal void Write(SnapshotWriter output)
    {
        var writer = output.Items;
        writer.Count(_producers.Count);
        foreach (var producer in _producers)
        {
            writer.Key(producer);
            output.EndItem();
        }

        writer.Count(_windows.Count);
        foreach (var window in _windows.Values)
        {
            writer.Time(window.Start);
            writer.Count(window.Count);
        }

        foreach (var window in _windows.Values)
            foreach (var segment in window.Segments)
                output.Chunk(segment.Written, segment.DigestOfWritten());
    }

    /// <param name="reader">Fails when it holds anything else than what <see cref="Write"/> has written.</param>
    /// <param name="now">The time of the last block.</param>
    internal void Read(ref CanonicalReader reader, Timestamp now)
    {
        _now = now;
        for (var left = reader.Count(ProducersEverMax, Bytes32.Size); left > 0; left--)
        {
            var producer = reader.Key();
            if (_producerNumbers.ContainsKey(producer)) reader.Fail(DecodeError.NotCanonical);
            else Number(producer);
        }

        var windows = new (Timestamp Start, int Count)[reader.Count(int.MaxValue, sizeof(long) + sizeof(int) + EntryBytes)];
        for (var i = 0; i < windows.Length; i++)
        {
            windows[i] = (reader.Time(), reader.Count(int.MaxValue, EntryBytes));
            var (start, count) = windows[i];
            if (count == 0 || start.Milliseconds is < 0 or > long.MaxValue / 2 || start != StartOf(start) || start.PlusMs(WindowMs) <= now || (i > 0 && start <= windows[i - 1].Start)) reader.Fail(DecodeError.NotCanonical);
        }

        foreach (var (start, count) in windows)
            for (var left = count; left > 0 && reader.Error == DecodeError.None; left -= SegmentEntries)
                for (var entries = reader.Raw(Math.Min(left, SegmentEntries) * EntryBytes); !entries.IsEmpty; entries = entries[EntryBytes..])
                    if (!TryRead(start, entries[..EntryBytes]))
                    {
                        reader.Fail(DecodeError.NotCanonical);
                        return;
                    }
    }

    private bool TryRead(Timestamp start, ReadOnlySpan<byte> entry)
    {
        // Windows come by expiry, not by use, so who came first stands in the entry.
        if (OffsetOf(entry) >= WindowMs || ProducerOf(entry) >= _producers.Count || ContainsTransaction(TransactionOf(entry))) return false;
        if (IsFirst(entry) && Contains(ProducerOf(entry), NonceOf(entry))) return false;
        Append(WindowOf(start), entry);
        return true;
    }

    private int Number(PublicKey producer)
    {
        _producers.Add(producer);
        return _producerNumbers[producer] = _producers.Count - 1;
    }

    private Window WindowOf(Timestamp start)
    {
        if (!_windows.TryGetValue(start, out var window)) _windows[start] = window = new Window(start);
        return window;
    }

    private void Append(Window window, ReadOnlySpan<byte> entry)
    {
        if (window.Segments is not [.., { Count: < SegmentEntries } segment])
        {
            if (!_freeNumbers.TryPop(out var number))
            {
                number = _segments.Count;
                _segments.Add(null);
            }

            _segments[number] = segment = new Segment(number, window);
            window.Segments.Add(segment);
        }

        var at = segment.Count * EntryBytes;
        if (at == segment.Bytes.Length) Array.Resize(ref segment.Bytes, 2 * at);
        entry.CopyTo(segment.Bytes.AsSpan(at));
        var slot = (segment.Number << SegmentBits) + segment.Count++;
        // Now and not in a snapshot, which nothing else waits through.
        if (segment.Count == SegmentEntries) segment.DigestOfWritten();
        if (IsFirst(entry)) _byNonce.Add(slot, HashOf(ProducerOf(entry), NonceOf(entry)));
        _byTransaction.Add(slot, HashOf(TransactionOf(entry)));

        var expiresAt = window.Start.PlusMs(OffsetOf(entry));
        if (expiresAt < _now) return; // read again with its window
        if (!_buckets.TryGetValue(expiresAt, out var bucket)) _buckets[expiresAt] = bucket = new Bucket();
        bucket.Count++;
        bucket.Chain = MerkleTree.Pair(DigestDomain.NonceChain, bucket.Chain, TransactionOf(entry));
        Count++;
    }
}
