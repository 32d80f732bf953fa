using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;
using Microsoft.Data.Sqlite;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class DigestIndexTests
{
    /// <summary>Against a dictionary, through three levels of merges, with digests that come again in other batches and in their own.</summary>
    /// <param name="alike">Many digests begin with the same 64 bits.</param>
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(3, true)]
    public void What_was_noted_is_found_whatever_was_merged(int seed, bool alike)
    {
        Digest DigestOf(int number) => Digest.Sha256(BitConverter.GetBytes(number)) is var digest && alike ? new Digest(digest.Value with { A = (ulong)number % 7 }) : digest;
        var random = new Random(seed);
        using var directory = new TemporaryDirectory();
        using var connection = new SqliteConnection($"Data Source={Path.Combine(directory.Path, "index.db")};Pooling=False");
        connection.Open();
        using var index = new DigestIndex(connection, "things");
        index.CreateTables();
        var model = new Dictionary<Digest, long>();
        for (var batch = 0; batch < 600; batch++)
        {
            var entries = Enumerable.Range(0, random.Next(60)).Select(_ => new DigestIndex.Entry(DigestOf(random.Next(20_000)), random.Next(9), batch)).ToArray();
            using var transaction = connection.BeginTransaction();
            index.Append(entries);
            transaction.Commit();
            foreach (var entry in entries) model[entry.Key] = Math.Min(entry.First, model.GetValueOrDefault(entry.Key, long.MaxValue));
        }

        foreach (var (key, least) in model) Assert.Equal(least, index.Find(key).Min(e => e.First));
        for (var i = 20_000; i < 21_000; i++) Assert.Empty(index.Find(DigestOf(i)));
        using var runs = connection.CreateCommand();
        runs.CommandText = "SELECT count(*) FROM things_runs";
        Assert.InRange((long)runs.ExecuteScalar()!, 1, 45);
    }

    [Fact]
    public void One_digest_in_every_batch_stays_one_entry_of_a_run()
    {
        using var connection = new SqliteConnection("Data Source=:memory:");
        connection.Open();
        using var index = new DigestIndex(connection, "things");
        index.CreateTables();
        var key = Digest.Sha256("again"u8);
        for (var i = 0; i < 1000; i++)
        {
            using var transaction = connection.BeginTransaction();
            index.Append([new DigestIndex.Entry(key, 1000 - i, i), new DigestIndex.Entry(key, 2000, i)]);
            transaction.Commit();
        }

        Assert.Equal(1, index.Find(key).Min(e => e.First));
        Assert.InRange(index.Find(key).Count(), 1, 45);
    }
}
