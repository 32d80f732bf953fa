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
public sealed class NonceSet
{
    /// <param name="IsFirst">False for a message that used the nonce again: it is remembered, and the nonce is not its own.</param>
    private readonly record struct UsedNonce(PublicKey Producer, Nonce Nonce, Digest Transaction, bool IsFirst);

    private sealed class Bucket
    {
        public readonly List<UsedNonce> Used = [];
        public Digest Chain;
    }

    private readonly HashSet<(PublicKey, Nonce)> _used = [];
    private readonly HashSet<Digest> _transactions = [];
    private readonly SortedDictionary<Timestamp, Bucket> _buckets = [];

    public int Count => _used.Count;

    public bool Contains(PublicKey producer, Nonce nonce) => _used.Contains((producer, nonce));

    /// <summary>Was this very transaction accepted in a block, recently enough to be remembered?</summary>
    public bool ContainsTransaction(Digest transaction) => _transactions.Contains(transaction);

    /// <summary>Remembers a message until then. The first with a nonce holds it; another one is only known by its digest.</summary>
    public void Add(Timestamp expiresAt, PublicKey producer, Nonce nonce, Digest transaction)
    {
        Invariant.Holds(_transactions.Add(transaction), "a message is decided once");
        Put(expiresAt, new UsedNonce(producer, nonce, transaction, _used.Add((producer, nonce))));
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
            foreach (var used in bucket.Used)
            {
                if (used.IsFirst) _used.Remove((used.Producer, used.Nonce));
                _transactions.Remove(used.Transaction);
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
            writer.Count(bucket.Used.Count);
            foreach (var used in bucket.Used)
            {
                writer.Key(used.Producer);
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
                var used = new UsedNonce(reader.Key(), Nonce.Read(ref reader), reader.Digest(), reader.UInt8() == 1);
                if (reader.Error != DecodeError.None || !TryRestore(expiresAt, used)) reader.Fail(DecodeError.NotCanonical);
            }
        }
    }

    /// <summary>Buckets come by expiry, not by use, so who came first stands in the snapshot.</summary>
    private bool TryRestore(Timestamp expiresAt, UsedNonce used)
    {
        if (!_transactions.Add(used.Transaction) || (used.IsFirst && !_used.Add((used.Producer, used.Nonce)))) return false;
        Put(expiresAt, used);
        return true;
    }

    private void Put(Timestamp expiresAt, UsedNonce used)
    {
        if (!_buckets.TryGetValue(expiresAt, out var bucket)) _buckets[expiresAt] = bucket = new Bucket();
        bucket.Used.Add(used);
        bucket.Chain = MerkleTree.Pair(DigestDomain.NonceChain, bucket.Chain, used.Transaction);
    }
}
