using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Sensors;
using Google.Protobuf;

namespace CyberMesh.Cli.Bench;

/// <summary>What the waiting room costs, and that it costs the same when it is full.</summary>
internal static class MempoolBench
{
    private const int Producers = 16;
    private const int BlockTransactions = 1000;

    private sealed record Report(int Cores, Row[] Sizes);

    /// <param name="MoveMicroseconds">One message in and one out.</param>
    /// <param name="SelectMicroseconds">Choosing a block of 1,000, for each message in it.</param>
    /// <param name="EvictMicroseconds">One message in that makes another one go.</param>
    private sealed record Row(int Transactions, double MoveMicroseconds, double SelectMicroseconds, double EvictMicroseconds);

    public static Command Create()
    {
        var sizes = new Option<int[]>("--transactions") { Description = "Sizes of the pool.", DefaultValueFactory = _ => [1_000, 100_000], AllowMultipleArgumentsPerToken = true };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("mempool", "Admission, eviction and choice of a block, on pools of different sizes.") { sizes, json };
        command.SetAction(parsed =>
        {
            var report = new Report(Environment.ProcessorCount, [.. parsed.GetValue(sizes)!.Select(size => Measure(Math.Max(Producers, size)))]);
            if (parsed.GetValue(json)) Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
            else
                foreach (var row in report.Sizes)
                    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{row.Transactions,8} waiting: in and out {row.MoveMicroseconds:F1} us, in by eviction {row.EvictMicroseconds:F1} us, chosen for a block {row.SelectMicroseconds:F1} us each"));
            return ExitCode.Ok;
        });
        return command;
    }

    private static Row Measure(int size)
    {
        var clock = new ShiftedClock();
        var sensors = Enumerable.Range(0, Producers + 1).Select(i => new AlertSigner(new SignsNothing(PublicKey.From(SHA256.HashData([(byte)i]))), SigningProfile.V1, clock)).ToArray();
        var authenticator = new EnvelopeAuthenticator(new TrustsAll());
        var now = new Timestamp(clock.Now.ToUnixTimeMilliseconds());
        var pool = new Mempool(size, 1 << 30);
        var evicted = new List<Mempool.Entry>();
        for (var i = 0; i < size; i++) pool.Add(Next(i % Producers, i), null, now, evicted);
        const int count = 5_000;
        var more = Enumerable.Range(0, count).Select(i => Next(i % Producers, i)).ToArray();
        var others = Enumerable.Range(0, Math.Min(count, size / (4 * Producers))).Select(i => Next(Producers, i)).ToArray();
        // Twice: the first round compiles.
        double move = 0, select = 0;
        for (var round = 0; round < 2; round++)
        {
            var watch = Stopwatch.StartNew();
            foreach (var alert in more)
            {
                pool.Remove(pool.Oldest!.Alert.Digest);
                pool.Add(alert, null, now, evicted);
                pool.Remove(alert.Value.Digest);
                pool.Add(alert, null, now, evicted);
            }

            move = watch.Elapsed.TotalMicroseconds / (2 * count);
            for (var i = 0; round == 0 && i < count; i++) pool.Remove(more[i].Value.Digest);
            for (var i = 0; round == 0 && i < count; i++) pool.Add(Next(i % Producers, i), null, now, evicted);
            watch.Restart();
            var chosen = 0;
            for (var i = 0; i < 20; i++) chosen += pool.Select(Math.Min(BlockTransactions, size), 1 << 30).Count;
            select = watch.Elapsed.TotalMicroseconds / chosen;
        }

        evicted.Clear();
        var evicting = Stopwatch.StartNew();
        foreach (var alert in others) pool.Add(alert, null, now, evicted);
        evicting.Stop();
        // Not quite all: the first rounds have left a little room.
        Invariant.Holds(evicted.Count > 0.9 * others.Length, "the newcomer's messages push others out");
        return new Row(size, move, select, evicting.Elapsed.TotalMicroseconds / others.Length);

        Verified<AlertEnvelope> Next(int producer, int number)
        {
            var severity = (uint)(1 + number % 10);
            var payload = string.Create(CultureInfo.InvariantCulture, $$"""{"severity":{{severity}},"confidence":0.5}""");
            var record = sensors[producer].Anomaly(new Detection("scan", "10.0.0.1", severity, 0.5, "bench", payload));
            Invariant.Holds(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record.ToByteArray(), out var envelope, out _), "the benchmark makes sound alerts");
            authenticator.TryAuthenticate(envelope!, SigningProfiles.V1, out var verified);
            return verified;
        }
    }
}
