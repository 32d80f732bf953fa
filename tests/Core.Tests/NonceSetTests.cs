using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>The nonces that are remembered, beside sets that are obviously right.</summary>
public sealed class NonceSetTests
{
    private static PublicKey Producer(int number) => new(Samples.Digest((byte)number).Value);

    private static Digest Transaction(int number) => Digest.Sha256(BitConverter.GetBytes(number));

    private static Timestamp At(int second) => Timestamp.FromSeconds(second);

    private sealed record Used(int Second, int Producer, int Nonce, int Transaction, bool IsFirst);

    private static Snapshot Write(NonceSet set)
    {
        var output = new SnapshotWriter();
        set.Write(output);
        return output.Finish();
    }

    private static (NonceSet Set, bool IsRead) Read(IEnumerable<ReadOnlyMemory<byte>> chunks, int now)
    {
        var set = new NonceSet();
        var reader = new CanonicalReader(chunks.ToArray());
        set.Read(ref reader, At(now));
        return (set, reader.Finish(out _));
    }

    [Fact]
    public void It_remembers_forgets_and_is_written_and_read_as_plain_sets_would_be() =>
        Gen.Select(Gen.Int[0, 9], Gen.Int[0, 3], Gen.Int[0, 40], Gen.Bool).Array[0, 400].Sample(steps =>
        {
            // Several times of expiry share a window, and windows end within a run.
            const int apart = 17;
            var set = new NonceSet();
            var model = new List<Used>();
            var (transactions, now) = (0, 0);
            foreach (var (ahead, producer, nonce, expires) in steps)
            {
                if (expires && ahead > 6)
                {
                    now += apart;
                    while (set.TryExpire(At(now), out var expired)) Assert.True(expired < At(now));
                    model.RemoveAll(u => u.Second < now);
                    if (ahead == 9) set = Read(Write(set).Chunks, now).Set;
                }
                else
                {
                    var second = now + (ahead * apart);
                    set.Add(At(second), Producer(producer), new Nonce((UInt128)nonce << 64), Transaction(transactions));
                    model.Add(new Used(second, producer, nonce, transactions++, !model.Any(u => u.IsFirst && (u.Producer, u.Nonce) == (producer, nonce))));
                }

                Assert.Equal(model.Count, set.Count);
            }

            for (var p = 0; p < 4; p++)
                for (var n = 0; n <= 40; n++)
                    Assert.Equal(model.Any(u => u.IsFirst && (u.Producer, u.Nonce) == (p, n)), set.Contains(Producer(p), new Nonce((UInt128)n << 64)));
            for (var t = 0; t < transactions; t++) Assert.Equal(model.Any(u => u.Transaction == t), set.ContainsTransaction(Transaction(t)));
            foreach (var bucket in model.GroupBy(u => u.Second))
                Assert.Equal(bucket.Aggregate(default(Digest), (chain, u) => MerkleTree.Pair(DigestDomain.NonceChain, chain, Transaction(u.Transaction))), set.ChainOf(At(bucket.Key)));

            var written = Write(set);
            var (read, isRead) = Read(written.Chunks, now);
            Assert.True(isRead);
            Assert.Equal(written.Digests, Write(read).Digests);
            Assert.Equal(set.Count, read.Count);
        });

    [Fact]
    public void P4_a_full_segment_is_the_same_chunk_in_every_snapshot_until_its_minute_is_over()
    {
        const int full = 1 << 14;
        var set = new NonceSet();
        var used = 0;
        void Use(int count, int second)
        {
            for (var i = 0; i < count; i++) set.Add(At(second), Producer(1), new Nonce((UInt128)used), Transaction(used++));
        }

        Use(full + 1, 30);
        Use(5, 3000);
        var first = Write(set);
        Use(full, 40);
        Use(5, 3000);
        var second = Write(set);
        // The table of windows, then theirs: full and begun; full, full and begun.
        Assert.Equal((4, 5), (first.Chunks.Length, second.Chunks.Length));
        Assert.Equal(first.Digests[1], second.Digests[1]);
        Assert.True(first.Chunks[1].Equals(second.Chunks[1]), "its bytes are not copied");
        Assert.All(second.Chunks[1..3], chunk => Assert.Equal(full * NonceSet.EntryBytes, chunk.Length));
        // What was given away before more was added is still what its digest says.
        Assert.All(first.Chunks.Zip(first.Digests), chunk => Assert.Equal(chunk.Second, Snapshot.ChunkDigest(chunk.First.Span)));
        var (read, isRead) = Read(second.Chunks, 35);
        Assert.True(isRead);
        Assert.Equal(second.Digests, Write(read).Digests);
        Assert.Equal((full + 10, false), (read.Count, read.ContainsTransaction(Transaction(full))));

        // Each block frees some of the places, and each nonce more than it takes.
        Expire(59);
        Assert.Equal((10, 4, 5), (set.Count, set.SegmentCount, Write(set).Chunks.Length));
        Expire(60);
        Assert.Equal((10, 4, 2), (set.Count, set.SegmentCount, Write(set).Chunks.Length));
        for (var i = 0; i < 64; i++) Expire(60);
        Assert.Equal(3, set.SegmentCount);
        Use(full, 3000);
        Expire(60);
        Assert.Equal(2, set.SegmentCount);
        Assert.Equal(full + 10, set.Count);
        Assert.True(Enumerable.Range(used - full, full).All(n => set.Contains(Producer(1), new Nonce((UInt128)n)) && set.ContainsTransaction(Transaction(n))));

        void Expire(int second)
        {
            while (set.TryExpire(At(second), out _)) { }
        }
    }

    [Fact]
    public void What_was_not_written_by_it_is_refused()
    {
        var set = new NonceSet();
        set.Add(At(61), Producer(1), new Nonce(1), Transaction(1));
        set.Add(At(61), Producer(1), new Nonce(2), Transaction(2));
        var good = Write(set).Chunks;
        var (table, segment) = (good[0].ToArray(), good[1].ToArray());
        Assert.True(Read(good, 0).IsRead);
        Assert.True(Read([(byte[])[.. table, .. segment]], 0).IsRead);
        Assert.True(Read(good, 119).IsRead);
        Assert.False(Read(good, 120).IsRead); // forgotten as a whole
        var twice = segment.ToArray();
        twice.AsSpan(0, NonceSet.EntryBytes).CopyTo(twice.AsSpan(NonceSet.EntryBytes));
        Assert.False(Read([table, twice], 0).IsRead); // one transaction twice
        Transaction(3).CopyTo(twice.AsSpan(NonceSet.EntryBytes + 22));
        Assert.False(Read([table, twice], 0).IsRead); // two that were first with one nonce
        Assert.True(Read([table, twice], 62).IsRead); // neither is any more
        twice[NonceSet.EntryBytes + 5] |= 1;
        Assert.True(Read([table, twice], 0).IsRead);
        Assert.False(Read([table, segment[..^1]], 0).IsRead);
        Assert.False(Read([table, (byte[])[.. segment, 0]], 0).IsRead);

        byte[] Segment(int at, byte value)
        {
            var bytes = segment.ToArray();
            bytes[at] = value;
            return bytes;
        }

        byte[] Table(Action<byte[]> change)
        {
            var bytes = table.ToArray();
            change(bytes);
            return bytes;
        }

        Assert.False(Read([table, Segment(0, 0xff)], 0).IsRead); // expires in another window
        Assert.False(Read([table, Segment(5, 2)], 0).IsRead); // a producer that is not there
        const int start = 4 + 32 + 4;
        Assert.False(Read([Table(t => t[start + 7]++), segment], 0).IsRead); // no full minute
        Assert.False(Read([Table(t => t[start] = 0x80), segment], 0).IsRead);
        Assert.False(Read([Table(t => t[start] = 0x7f), segment], 0).IsRead);
        Assert.False(Read([Table(t => t[^1] = 0), segment], 0).IsRead); // an empty window
        byte[] again = [.. table[..^16], 0, 0, 0, 2, .. table[^12..], .. table[^12..]];
        Assert.False(Read([again, segment, segment], 0).IsRead); // one window twice
        byte[] known = [0, 0, 0, 2, .. table[4..36], .. table[4..]];
        Assert.False(Read([known, segment], 0).IsRead); // one producer twice
    }

    [Fact]
    public void Chains_stay_short_while_it_grows()
    {
        var held = new List<uint>();
        var index = new SlotIndex();
        var random = new Random(1);
        for (var slot = 0; slot < 100_000; slot++)
        {
            held.Add((uint)random.Next());
            index.Add(slot, held[slot]);
        }

        Assert.InRange(index.LongestChain, 2, 16);
        for (var slot = 0; slot < held.Count; slot += 2) index.Remove(slot);
        Assert.Equal(50_000, index.Count);
        Assert.InRange(index.LongestChain, 2, 16);
    }

    [Fact]
    public void All_slots_of_a_hash_are_found_and_no_others()
    {
        var index = new SlotIndex();
        var held = new Dictionary<uint, HashSet<int>>();
        var random = new Random(2);
        var hashOf = new Dictionary<int, uint>();
        Assert.Equal(-1, index.Find(0));
        for (var step = 0; step < 50_000; step++)
        {
            var slot = random.Next(5_000);
            if (hashOf.Remove(slot, out var old))
            {
                index.Remove(slot);
                held[old].Remove(slot);
            }
            else
            {
                var hash = (uint)random.Next(3_000);
                index.Add(slot, hash);
                hashOf[slot] = hash;
                if (!held.TryGetValue(hash, out var slots)) held[hash] = slots = [];
                slots.Add(slot);
            }
        }

        Assert.Equal(hashOf.Count, index.Count);
        for (uint hash = 0; hash < 3_100; hash++)
        {
            var found = new List<int>();
            for (var slot = index.Find(hash); slot >= 0; slot = index.Following(slot)) found.Add(slot);
            Assert.Equal(held.GetValueOrDefault(hash, []).Order(), found.Order());
        }
    }
}
