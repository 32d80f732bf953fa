using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using CyberMesh.Core.Replica;

namespace CyberMesh.Node.Hosting;

/// <summary>
/// What a validator keeps when its state is not the certified one (rule P3), and what it does at the next start: once a day it sets its block
/// store aside and follows the others from the beginning; a second time it stays out.
/// </summary>
public static class DivergenceAccount
{
    private const string Pattern = "divergence-*.json";
    private static readonly TimeSpan Patience = TimeSpan.FromDays(1);
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true };

    /// <summary>Writes the account and returns its path.</summary>
    public static string Keep(string home, Divergence divergence, DateTimeOffset now)
    {
        var path = Path.Combine(home, $"divergence-{now.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture)}.json");
        File.WriteAllText(path, JsonSerializer.Serialize(
            new
            {
                Time = now,
                Program = typeof(DivergenceAccount).Assembly.GetName().Version?.ToString(),
                Runtime = Environment.Version.ToString(),
                Height = divergence.Height.Value,
                CertifiedRoot = divergence.Certified.ToString(),
                OwnRoot = divergence.Own.ToString(),
                Blocks = divergence.Recent.Select(b => new
                {
                    Height = b.Block.Height.Value,
                    Hash = b.Block.Digest.ToString(),
                    OwnRoot = b.StateRoot.ToString(),
                    Transactions = b.Receipts.Select(r => new { Digest = r.Transaction.ToString(), Kind = r.Kind.ToString(), Result = r.Result.ToString() }),
                }),
            },
            Json) + "\n");
        return path;
    }

    /// <summary>
    /// Before the store is opened: after a divergence the blocks are set aside, and those of the others are executed anew. The log of
    /// votes stays.
    /// </summary>
    /// <exception cref="UserError">It was the second time within a day.</exception>
    public static void StartOver(string home, DateTimeOffset now)
    {
        var accounts = Directory.GetFiles(home, Pattern).Order(StringComparer.Ordinal).ToArray();
        var unsettled = accounts.Where(a => !File.Exists(a + ".settled")).ToArray();
        if (unsettled.Length == 0) return;
        if (accounts.Count(a => now - File.GetLastWriteTimeUtc(a) < Patience) > 1)
            throw new UserError(
                $"this validator computed another state than the quorum twice within a day ({unsettled[^1]})",
                "compare the accounts with the other operators, check memory and disk, and remove the older account to try once more");
        foreach (var name in (ReadOnlySpan<string>)["blocks.db", "projection.db"])
            foreach (var suffix in (ReadOnlySpan<string>)["", "-wal", "-shm"])
                if (Path.Combine(home, "data", name + suffix) is var path && File.Exists(path))
                    File.Move(path, path + ".diverged", overwrite: true);
        var snapshots = Path.Combine(home, "data", "snapshots");
        if (Directory.Exists(snapshots)) Directory.Delete(snapshots, recursive: true);
        foreach (var account in unsettled) File.WriteAllText(account + ".settled", "");
    }
}

/// <summary>The validator has stopped to start over from the blocks of the others.</summary>
public sealed class DivergedException(string account) : Exception($"this validator's state is not the certified one; the account is {account}")
{
}
