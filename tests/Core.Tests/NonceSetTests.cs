using System;
using System.Buffers;
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

    private static byte[] Encode(NonceSet set)
    {
        var buffer = new ArrayBufferWriter<byte>();
        set.Write(new CanonicalWriter(buffer));
        return buffer.WrittenSpan.ToArray();
    }

    private static (NonceSet Set, bool IsRead) Decode(byte[] bytes)
    {
        var set = new NonceSet();
        var reader = new CanonicalReader(bytes);
        set.Read(ref reader);
        return (set, reader.Finish(out _));
    }

    [Fact]
    public void It_remembers_forgets_and_is_written_and_read_as_plain_sets_would_be() =>
        Gen.Select(Gen.Int[0, 9], Gen.Int[0, 3], Gen.Int[0, 40], Gen.Bool).Array[0, 400].Sample(steps =>
        {
            var set = new NonceSet();
            var model = new List<Used>();
            var (transactions, now) = (0, 0);
            foreach (var (ahead, producer, nonce, expires) in steps)
            {
                if (expires && ahead > 6)
                {
                    now++;
                    while (set.TryExpire(At(now), out var expired)) Assert.True(expired < At(now));
                    model.RemoveAll(u => u.Second < now);
                }
                else
                {
                    set.Add(At(now + ahead), Producer(producer), new Nonce((UInt128)nonce << 64), Transaction(transactions));
                    model.Add(new Used(now + ahead, producer, nonce, transactions++, !model.Any(u => u.IsFirst && (u.Producer, u.Nonce) == (producer, nonce))));
                }

                Assert.Equal(model.Count(u => u.IsFirst), set.Count);
            }

            for (var p = 0; p < 4; p++)
                for (var n = 0; n <= 40; n++)
                    Assert.Equal(model.Any(u => u.IsFirst && (u.Producer, u.Nonce) == (p, n)), set.Contains(Producer(p), new Nonce((UInt128)n << 64)));
            for (var t = 0; t < transactions; t++) Assert.Equal(model.Any(u => u.Transaction == t), set.ContainsTransaction(Transaction(t)));
            foreach (var bucket in model.GroupBy(u => u.Second))
                Assert.Equal(bucket.Aggregate(default(Digest), (chain, u) => MerkleTree.Pair(DigestDomain.NonceChain, chain, Transaction(u.Transaction))), set.ChainOf(At(bucket.Key)));

            var written = Encode(set);
            var (read, isRead) = Decode(written);
            Assert.True(isRead);
            Assert.Equal(written, Encode(read));
            Assert.Equal(set.Count, read.Count);
        });

    [Fact]
    public void What_was_not_written_by_it_is_refused()
    {
        var set = new NonceSet();
        set.Add(At(1), Producer(1), new Nonce(1), Transaction(1));
        set.Add(At(1), Producer(1), new Nonce(2), Transaction(2));
        var good = Encode(set);
        const int entry = 32 + 16 + 32 + 1;
        var first = good.Length - 2 * entry;
        var twice = good.ToArray();
        twice.AsSpan(first, entry).CopyTo(twice.AsSpan(first + entry));
        Assert.False(Decode(twice).IsRead); // one transaction twice
        Transaction(3).CopyTo(twice.AsSpan(first + entry + 48));
        Assert.False(Decode(twice).IsRead); // two that were first with one nonce
        twice[^1] = 0;
        Assert.True(Decode(twice).IsRead);
        Assert.False(Decode(good[..^1]).IsRead);
    }

    [Fact]
    public void Chains_stay_short_while_it_grows_and_places_are_used_again()
    {
        var held = new List<uint>();
        var index = new SlotIndex(slot => held[slot]);
        var random = new Random(1);
        for (var slot = 0; slot < 100_000; slot++)
        {
            held.Add((uint)random.Next());
            index.Add(slot);
        }

        var longest = 0;
        for (var slot = 0; slot < held.Count; slot++)
        {
            var length = 1;
            var found = index.Find(held[slot]);
            for (; found != slot; found = index.Following(found)) length++;
            longest = Math.Max(longest, length);
        }

        Assert.InRange(longest, 2, 16);
        for (var slot = 0; slot < held.Count; slot += 2) index.Remove(slot);
        Assert.Equal(50_000, index.Count);

        var places = new Slots<int>();
        for (var i = 0; i < 5000; i++) Assert.Equal(i, places.Take());
        for (var i = 0; i < 5000; i += 3) places.Free(i);
        var again = Enumerable.Range(0, 1667).Select(_ => places.Take()).ToHashSet();
        Assert.Equal(Enumerable.Range(0, 5000).Where(i => i % 3 == 0).ToHashSet(), again);
        Assert.Equal((5000, 5000), (places.Length, places.Take()));
    }
}
