using System;
using System.Collections.Generic;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>One used nonce of one producer. Ordered by expiry first, so the expired ones stand in front.</summary>
public readonly record struct UsedNonce(Timestamp ExpiresAt, PublicKey Producer, Nonce Nonce) : IComparable<UsedNonce>
{
    public int CompareTo(UsedNonce other)
    {
        if (ExpiresAt != other.ExpiresAt) return ExpiresAt.CompareTo(other.ExpiresAt);
        return Producer != other.Producer ? Producer.CompareTo(other.Producer) : Nonce.CompareTo(other.Nonce);
    }
}

/// <summary>
/// The nonces used within the time a message could still be accepted: replicated state, expiring by block time alone, so a
/// restart or another validator cannot be talked into accepting a replay. Also knows which transactions used them.
/// </summary>
public sealed class NonceSet
{
    private readonly Dictionary<(PublicKey, Nonce), Digest> _byNonce = [];
    private readonly HashSet<Digest> _transactions = [];
    private readonly SortedSet<UsedNonce> _byExpiry = [];

    public int Count => _byNonce.Count;

    public bool Contains(PublicKey producer, Nonce nonce) => _byNonce.ContainsKey((producer, nonce));

    /// <summary>Was this very transaction accepted in a block, recently enough to be remembered?</summary>
    public bool ContainsTransaction(Digest transaction) => _transactions.Contains(transaction);

    public void Add(UsedNonce used, Digest transaction)
    {
        Invariant.Holds(_byNonce.TryAdd((used.Producer, used.Nonce), transaction), "a nonce is used once");
        _byExpiry.Add(used);
        _transactions.Add(transaction);
    }

    /// <summary>All, by expiry.</summary>
    internal void Write(CanonicalWriter writer)
    {
        writer.Count(_byExpiry.Count);
        foreach (var used in _byExpiry)
        {
            writer.Time(used.ExpiresAt);
            writer.Key(used.Producer);
            writer.UInt64(unchecked((ulong)(used.Nonce.Value >> 64)));
            writer.UInt64(unchecked((ulong)used.Nonce.Value));
            writer.Digest(_byNonce[(used.Producer, used.Nonce)]);
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var left = reader.Count(int.MaxValue, 88); left > 0; left--)
        {
            var used = new UsedNonce(reader.Time(), reader.Key(), new Nonce(new UInt128(reader.UInt64(), reader.UInt64())));
            var digest = reader.Digest();
            if (Contains(used.Producer, used.Nonce)) reader.Fail(DecodeError.NotCanonical);
            else Add(used, digest);
        }
    }

    /// <summary>Takes out one nonce that expired before <paramref name="blockTime"/>; false when there is none.</summary>
    public bool TryExpire(Timestamp blockTime, out UsedNonce expired)
    {
        expired = _byExpiry.Count == 0 ? default : _byExpiry.Min;
        if (_byExpiry.Count == 0 || expired.ExpiresAt >= blockTime) return false;
        _byExpiry.Remove(expired);
        _byNonce.Remove((expired.Producer, expired.Nonce), out var transaction);
        _transactions.Remove(transaction);
        return true;
    }
}
