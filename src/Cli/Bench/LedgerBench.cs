using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Sensors;
using Google.Protobuf;

namespace CyberMesh.Cli.Bench;

/// <summary>What executing a block costs.</summary>
internal static class LedgerBench
{
    private sealed record LedgerReport(
        string Machine, int Cores, int BlockAlerts, int StateAlerts, double EmptyMs, double FullMs, double Ratio, double HashMicroseconds, double HashesPerAlert, double BytesPerAlert, double SnapshotMs, double SnapshotMebibytes);

    public static Command Create()
    {
        var alerts = new Option<int>("--alerts") { Description = "Open alerts in the state.", DefaultValueFactory = _ => 1_000_000 };
        var block = new Option<int>("--block") { Description = "Alerts in a block.", DefaultValueFactory = _ => 1000 };
        var rounds = new Option<int>("--rounds") { Description = "Blocks measured; the median counts.", DefaultValueFactory = _ => 15 };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("ledger", "Execution of a block of alerts, state root included, on an empty and on a full state; signatures and disk left out.") { alerts, block, rounds, json };
        command.SetAction(parsed =>
        {
            var report = MeasureLedger(parsed.GetValue(alerts), parsed.GetValue(block), parsed.GetValue(rounds));
            if (parsed.GetValue(json)) Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
            else Print(report);
            return ExitCode.Ok;
        });
        return command;
    }

    private static void Print(LedgerReport r) => Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
        {r.Machine}, {r.Cores} cores
        block of {r.BlockAlerts} alerts on an empty state      {r.EmptyMs:F1} ms
        the same on a state of {r.StateAlerts} open alerts  {r.FullMs:F1} ms, {r.Ratio:F2} times as much
        SHA-256 of 65 bytes here                      {r.HashMicroseconds:F2} us; a full block costs {r.HashesPerAlert:F0} of them per alert
        allocated per alert                           {r.BytesPerAlert:F0} bytes
        snapshot of the full state                    {r.SnapshotMs:F0} ms, {r.SnapshotMebibytes:F0} MiB
        """));

    private static LedgerReport MeasureLedger(int stateAlerts, int blockAlerts, int rounds)
    {
        var source = new LedgerSource();
        var ledger = source.Genesis.NewLedger();
        // Compiled and settled before anything counts.
        for (var i = 0; i < 30; i++) source.Apply(ledger, blockAlerts);
        var empty = Median(rounds, () =>
        {
            ledger = source.Genesis.NewLedger();
            return source.Apply(ledger, blockAlerts).Milliseconds;
        });
        while (ledger.OpenAlerts < stateAlerts) source.Apply(ledger, Math.Min(blockAlerts, stateAlerts - ledger.OpenAlerts));
        GC.Collect();
        long bytes = 0;
        var full = Median(rounds, () =>
        {
            var (milliseconds, allocated) = source.Apply(ledger, blockAlerts);
            bytes = allocated;
            return milliseconds;
        });
        var hash = HashMicroseconds();
        var head = new SnapshotHead(source.Genesis.Block.Header with { Height = ledger.Height, Time = ledger.Time }, []);
        long size = 0;
        // The first one finds out how much room it needs.
        ledger.TakeSnapshot(head);
        var snapshot = Median(3, () =>
        {
            var clock = Stopwatch.StartNew();
            size = ledger.TakeSnapshot(head).Chunks.Sum(c => (long)c.Length);
            return clock.Elapsed.TotalMilliseconds;
        });
        return new LedgerReport(
            System.Runtime.InteropServices.RuntimeInformation.OSDescription, Environment.ProcessorCount, blockAlerts, stateAlerts, empty, full, full / empty, hash,
            1000 * full / blockAlerts / hash, (double)bytes / blockAlerts, snapshot, size / 1048576.0);
    }

    private static double Median(int rounds, Func<double> measure)
    {
        var samples = Enumerable.Range(0, rounds).Select(_ => measure()).Order().ToArray();
        return samples[rounds / 2];
    }

    private static double HashMicroseconds()
    {
        Span<byte> input = stackalloc byte[65];
        var clock = Stopwatch.StartNew();
        const int count = 200_000;
        for (var i = 0; i < count; i++) Digest.Sha256(input);
        return clock.Elapsed.TotalMicroseconds / count;
    }

    /// <summary>Alerts of ten organisations over many incidents, in blocks a second apart.</summary>
    private sealed class LedgerSource
    {
        private readonly List<AlertSigner> _sensors = [];
        private readonly EnvelopeAuthenticator _authenticator = new(new TrustsAll());
        private readonly ShiftedClock _clock = new();
        private long _count;

        public LedgerSource()
        {
            var producers = new List<Producer>();
            for (var i = 0; i < 10; i++)
            {
                var key = Key("producer " + i);
                _sensors.Add(new AlertSigner(new SignsNothing(key), SigningProfile.V1, _clock));
                producers.Add(new Producer(key, "sensor-" + i, "organisation-" + i, AlertKinds.All, SigningProfiles.V1, 1000, default, null, false));
            }

            Genesis = new Genesis(
                "bench", new Timestamp(_clock.Now.ToUnixTimeMilliseconds()), [new Validator("v1", Key("a"), Key("b"), Key("c"), Key("d"))], producers, new ChainParameters());
        }

        public Genesis Genesis { get; }

        private static PublicKey Key(string role) => PublicKey.From(SHA256.HashData(Encoding.UTF8.GetBytes(role)));

        /// <summary>Executes the next block. Only execution and the state root are timed.</summary>
        public (double Milliseconds, long Allocated) Apply(Core.Ledger.Ledger ledger, int count)
        {
            _clock.Now = DateTimeOffset.FromUnixTimeMilliseconds(ledger.Time.PlusMs(1000).Milliseconds);
            var envelopes = Enumerable.Range(0, count).Select(_ => Next()).ToArray();
            var header = Genesis.Block.Header with { Height = ledger.Height.Next, Time = ledger.Time.PlusMs(1000), TransactionCount = (uint)count };
            var before = GC.GetAllocatedBytesForCurrentThread();
            var clock = Stopwatch.StartNew();
            ledger.Apply(new Block(header, null, []), envelopes);
            ledger.StateRoot();
            return (clock.Elapsed.TotalMilliseconds, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        private AlertEnvelope Next()
        {
            var number = _count++;
            var source = string.Create(CultureInfo.InvariantCulture, $"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}");
            var record = _sensors[(int)(number % _sensors.Count)].Anomaly(new Detection("scan", source, 5, 0.5, "bench", string.Create(CultureInfo.InvariantCulture, $$"""{"severity":5,"confidence":0.5,"n":{{number}}}""")));
            Invariant.Holds(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record.ToByteArray(), out var envelope, out _), "the benchmark makes sound alerts");
            _authenticator.TryAuthenticate(envelope!, SigningProfiles.V1, out _);
            return envelope!;
        }
    }
}
