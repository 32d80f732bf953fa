using System;
using System.Collections.Generic;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>
/// The nonces used within the time a message could still be accepted: replicated state, expiring by block time alone, so a restart or another
/// validator cannot be talked into accepting a replay. Also knows which transactions used them. Nonces that expire together stand in one bucket;
/// under the state root a bucket is one value, the chain over its transactions in the order they were executed: a transaction names its nonce.
/// </summary>
/// <remarks>There are millions of them: a nonce takes 72 bytes here, in place of 300 in sets of the framework.</remarks>
public sealed class NonceSet
{
    private const int None = -1;

    private struct UsedNonce
    {
        public ulong High, Low;
        public Digest Transaction;

        /// <summary>The producer's number; its complement for a message that used the nonce again: it is remembered, and the nonce is not its own.</summary>
        public int Holder;

        /// <summary>The next one in the bucket.</summary>
        public int Next;

        public readonly Nonce Nonce => new(new UInt128(High, Low));
        public readonly bool IsFirst => Holder >= 0;
        public readonly int Producer => IsFirst ? Holder : ~Holder;
    }

    private sealed class Bucket
    {
        public int First = None, Last = None, Count;
        public Digest Chain;
    }

    private readonly Slots<UsedNonce> _used = new();
    private readonly SlotIndex _byNonce;
    private readonly SlotIndex _byTransaction;
    private readonly SortedDictionary<Timestamp, Bucket> _buckets = [];

    // As many as the operators have ever enrolled.
    private readonly List<PublicKey> _producers = [];
    private readonly Dictionary<PublicKey, int> _producerNumbers = [];

    public NonceSet()
    {
        _byNonce = new SlotIndex(slot => HashOf(_used[slot].Producer, _used[slot].Nonce));
        _byTransaction = new SlotIndex(slot => HashOf(_used[slot].Transaction));
    }

    // Hashes of tuples have a secret seed: producers choose nonces, and can choose among digests. Nothing that is agreed on depends on them.
    private static uint HashOf(int producer, Nonce nonce) => unchecked((uint)(producer, nonce.Value).GetHashCode());

    private static uint HashOf(Digest transaction) => unchecked((uint)(transaction.Value.A, transaction.Value.D).GetHashCode());

    public int Count => _byNonce.Count;

    public bool Contains(PublicKey producer, Nonce nonce)
    {
        if (!_producerNumbers.TryGetValue(producer, out var number)) return false;
        for (var slot = _byNonce.Find(HashOf(number, nonce)); slot >= 0; slot = _byNonce.Following(slot))
            if (_used[slot].Producer == number && _used[slot].Nonce == nonce)
                return true;
        return false;
    }

    /// <summary>Was this very transaction accepted in a block, recently enough to be remembered?</summary>
    public bool ContainsTransaction(Digest transaction)
    {
        for (var slot = _byTransaction.Find(HashOf(transaction)); slot >= 0; slot = _byTransaction.Following(slot))
            if (_used[slot].Transaction == transaction)
                return true;
        return false;
    }

    /// <summary>Remembers a message until then. The first with a nonce holds it; another one is only known by its digest.</summary>
    public void Add(Timestamp expiresAt, PublicKey producer, Nonce nonce, Digest transaction)
    {
        Invariant.Holds(!ContainsTransaction(transaction), "a message is decided once");
        Put(expiresAt, producer, nonce, transaction, !Contains(producer, nonce));
    }

    /// <summary>What stands for a bucket under the state root.</summary>
    public Digest ChainOf(Timestamp expiresAt) => _buckets[expiresAt].Chain;

    /// <summary>Forgets one bucket that expired before <paramref name="blockTime"/>; false when there is none.</summary>
    public bool TryExpire(Timestamp blockTime, out Timestamp expired)
    {
        expired = default;
        foreach (var (expiresAt, bucket) in _buckets)
        {
            if (expiresAt >= blockTime) return false;
            for (var slot = bucket.First; slot >= 0;)
            {
                var next = _used[slot].Next;
                if (_used[slot].IsFirst) _byNonce.Remove(slot);
                _byTransaction.Remove(slot);
                _used.Free(slot);
                slot = next;
            }

            _buckets.Remove(expired = expiresAt);
            return true;
        }

        return false;
    }

    /// <summary>All, by expiry, in the order they were used.</summary>
    internal void Write(CanonicalWriter writer)
    {
        writer.Count(_buckets.Count);
        foreach (var (expiresAt, bucket) in _buckets)
        {
            writer.Time(expiresAt);
            writer.Count(bucket.Count);
            for (var slot = bucket.First; slot >= 0; slot = _used[slot].Next)
            {
                ref var used = ref _used[slot];
                writer.Key(_producers[used.Producer]);
                used.Nonce.Write(writer);
                writer.Digest(used.Transaction);
                writer.UInt8(used.IsFirst ? (byte)1 : (byte)0);
            }
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var buckets = reader.Count(int.MaxValue, 12); buckets > 0; buckets--)
        {
            var expiresAt = reader.Time();
            for (var left = reader.Count(int.MaxValue, 81); left > 0; left--)
            {
                // Buckets come by expiry, not by use, so who came first stands in the snapshot.
                var (producer, nonce, transaction, isFirst) = (reader.Key(), Nonce.Read(ref reader), reader.Digest(), reader.UInt8() == 1);
                if (reader.Error != DecodeError.None || ContainsTransaction(transaction) || (isFirst && Contains(producer, nonce))) reader.Fail(DecodeError.NotCanonical);
                else Put(expiresAt, producer, nonce, transaction, isFirst);
            }
        }
    }

    private void Put(Timestamp expiresAt, PublicKey producer, Nonce nonce, Digest transaction, bool isFirst)
    {
        if (!_producerNumbers.TryGetValue(producer, out var number))
        {
            _producerNumbers[producer] = number = _producers.Count;
            _producers.Add(producer);
        }

        var slot = _used.Take();
        _used[slot] = new UsedNonce
        {
            High = (ulong)(nonce.Value >> 64),
            Low = (ulong)(nonce.Value & ulong.MaxValue),
            Transaction = transaction,
            Holder = isFirst ? number : ~number,
            Next = None,
        };
        if (isFirst) _byNonce.Add(slot);
        _byTransaction.Add(slot);

        if (!_buckets.TryGetValue(expiresAt, out var bucket)) _buckets[expiresAt] = bucket = new Bucket();
        if (bucket.Last >= 0) _used[bucket.Last].Next = slot;
        else bucket.First = slot;
        bucket.Last = slot;
        bucket.Count++;
        bucket.Chain = MerkleTree.Pair(DigestDomain.NonceChain, bucket.Chain, transaction);
    }
}
