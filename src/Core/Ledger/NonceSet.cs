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
    private readonly record struct UsedNonce(PublicKey Producer, Nonce Nonce, Digest Transaction);

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

    public void Add(Timestamp expiresAt, PublicKey producer, Nonce nonce, Digest transaction)
    {
        Invariant.Holds(_used.Add((producer, nonce)), "a nonce is used once");
        _transactions.Add(transaction);
        if (!_buckets.TryGetValue(expiresAt, out var bucket)) _buckets[expiresAt] = bucket = new Bucket();
        bucket.Used.Add(new UsedNonce(producer, nonce, transaction));
        bucket.Chain = MerkleTree.Pair(DigestDomain.NonceChain, bucket.Chain, transaction);
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
                _used.Remove((used.Producer, used.Nonce));
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
            }
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var buckets = reader.Count(int.MaxValue, 12); buckets > 0; buckets--)
        {
            var expiresAt = reader.Time();
            for (var left = reader.Count(int.MaxValue, 80); left > 0; left--)
            {
                var (producer, nonce, transaction) = (reader.Key(), Nonce.Read(ref reader), reader.Digest());
                if (Contains(producer, nonce)) reader.Fail(DecodeError.NotCanonical);
                else Add(expiresAt, producer, nonce, transaction);
            }
        }
    }
}
