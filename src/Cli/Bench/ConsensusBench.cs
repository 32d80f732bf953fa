using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;

namespace CyberMesh.Cli.Bench;

/// <summary>Alerts in, certified and stored blocks out, on every validator; Kafka, the copy and the API are left out.</summary>
internal static class ConsensusBench
{
    private const int Outstanding = 3000;
    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(5);

    /// <param name="PerSecond">Alerts committed, by the validator that committed fewest.</param>
    /// <param name="VerificationBound">Alerts per second if every validator did nothing but check each signature once.</param>
    /// <param name="Floor">Two syncs and three hops, in milliseconds.</param>
    private sealed record Report(
        BenchMachine Machine, int Validators, int Size, int Rate, double Seconds, long Alerts, double PerSecond, double AlertsPerBlock, Quantiles Latency, double CpuMicrosecondsPerAlert, long BytesPerAlert, double PausesPart,
        Floors Floors, double VerificationBound, double OfTheBound, double Floor, double P50OfTheFloor, double P99OfP50, string Settings);

    public static Command Create()
    {
        var validators = new Option<int>("--validators") { Description = "So many, all in this process.", DefaultValueFactory = _ => 4 };
        var size = new Option<int>("--size") { Description = "Bytes of each alert's payload.", DefaultValueFactory = _ => 512 };
        var rate = new Option<int>("--rate") { Description = "Alerts per second, whatever becomes of them (open loop).", DefaultValueFactory = _ => 500 };
        var saturate = new Option<bool>("--saturate") { Description = "As many as are committed instead of a rate." };
        var duration = Duration.Option("For so long, after the warm-up.", 30);
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("consensus", "Alerts committed by validators with real TLS, real syncs and a verification of each alert by each validator.") { validators, size, rate, saturate, duration, json };
        command.SetAction(async (parsed, stop) =>
        {
            var report = await MeasureAsync(parsed.GetValue(validators), parsed.GetValue(size), parsed.GetValue(saturate) ? 0 : parsed.GetValue(rate), parsed.GetValue(duration).Length, stop);
            if (parsed.GetValue(json)) Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
            else
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                    {report.Machine}
                    {report.Settings}
                    {report.Validators} validators, payloads of {report.Size} bytes, {(report.Rate == 0 ? "saturated" : $"{report.Rate} alerts/s")}, {report.Seconds:F1} s
                    committed                      {report.PerSecond:F0} alerts/s, {report.AlertsPerBlock:F1} in a block
                    commit latency                 {report.Latency}
                    processor, allocation          {report.CpuMicrosecondsPerAlert:F0} us and {report.BytesPerAlert} bytes per alert, all validators and the load; the collector paused {100 * report.PausesPart:F1} % of the time
                    verification bound             {report.VerificationBound:F0} alerts/s at {report.Floors.VerifyMicroseconds:F1} us each; {100 * report.OfTheBound:F0} % reached
                    latency floor                  {report.Floor:F2} ms (2 syncs of {report.Floors.FsyncMs:F2} ms, 3 hops of {report.Floors.HopMs:F3} ms); p50 is {report.P50OfTheFloor:F1} times that, p99 {report.P99OfP50:F1} times p50
                    """));
            return ExitCode.Ok;
        });
        return command;
    }

    private static async Task<Report> MeasureAsync(int count, int size, int rate, TimeSpan duration, CancellationToken stop)
    {
        if (count is < 1 or > 32) throw new UserError($"--validators is {count}", "choose 1 to 32");
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        var validators = new List<BenchValidator>();
        try
        {
            using var load = new BenchLoad();
            var homes = Testnet.Generate(directory.FullName, Testnet.FreePorts(count), Testnet.FreePorts(count), load.Trusted, "127.0.0.1:1", TimeProvider.System);
            var floors = await Floors.MeasureAsync(directory.FullName);
            var records = load.Sign((int)((rate == 0 ? 25_000 : rate) * (duration + WarmUp + TimeSpan.FromSeconds(1)).TotalSeconds), size);
            var places = new Dictionary<Digest, int>(records.Length);
            for (var i = 0; i < records.Length; i++)
                if (EnvelopeDecoder.TryDecode(AlertKind.Anomaly, records[i], out var envelope, out _))
                    places[envelope.Digest] = i;
            var (latency, counts, blocks) = (new Latency(), false, 0L);
            // When each alert was due, or, saturated, when it was taken first.
            var dueAt = new long[records.Length];
            foreach (var home in homes)
                validators.Add(new BenchValidator(home, Outstanding, (validator, run) =>
                {
                    var now = Stopwatch.GetTimestamp();
                    if (!Volatile.Read(ref counts)) return;
                    if (validator == validators[0]) Interlocked.Add(ref blocks, run.Count);
                    foreach (var block in run)
                        foreach (var receipt in block.Receipts)
                            if (places.TryGetValue(receipt.Transaction, out var place) && Volatile.Read(ref dueAt[place]) is > 0 and var due)
                                latency.Record(Stopwatch.GetElapsedTime(due, now));
                }));
            foreach (var validator in validators) validator.Start();
            while (validators.Any(v => v.Connected < count - 1)) await Task.Delay(10, stop);
            GC.Collect();
            using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var begun = Stopwatch.GetTimestamp();
            var released = 0;
            if (rate > 0)
                for (var i = 0; i < dueAt.Length; i++) dueAt[i] = begun + (long)((double)i * Stopwatch.Frequency / rate);
            int Due()
            {
                if (rate > 0) return Math.Min(records.Length, (int)(Stopwatch.GetElapsedTime(begun).TotalSeconds * rate) + 1);
                // Nobody is more than the outstanding ahead of what is committed.
                var upTo = Math.Min(records.Length, (int)validators.Max(v => v.Decided) + Outstanding);
                var from = Volatile.Read(ref released);
                if (upTo > from && Interlocked.CompareExchange(ref released, upTo, from) == from)
                    for (var i = from; i < upTo; i++) Volatile.Write(ref dueAt[i], Stopwatch.GetTimestamp());
                return upTo;
            }

            void UntilDue(int next)
            {
                if (rate > 0) Pause.Until(dueAt[next]);
                else Thread.Sleep(1);
            }

            var feeds = validators.Select(v => v.FeedAsync(records, Due, UntilDue, end.Token)).ToArray();
            await Task.Delay(WarmUp, stop);
            var (decided, usage, clock) = (validators.Select(v => v.Decided).ToArray(), new Usage(), Stopwatch.StartNew());
            Volatile.Write(ref counts, true);
            await Task.WhenAny([Task.Delay(duration, stop), .. validators.Select(v => v.Completion)]);
            var elapsed = clock.Elapsed;
            Volatile.Write(ref counts, false);
            var committed = validators.Select((v, i) => v.Decided - decided[i]).Min();
            foreach (var failed in validators.Where(v => v.Completion.IsCompleted)) await failed.Completion;
            var (cpu, bytes) = usage.Per(committed);
            await end.CancelAsync();
            await Task.WhenAll(feeds).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (committed == 0) throw new UserError($"nothing was committed in {duration.TotalSeconds} s", "see whether the disk or the processor is busy with something else");
            var perSecond = committed / elapsed.TotalSeconds;
            var bound = Environment.ProcessorCount / (count * floors.VerifyMicroseconds / 1e6);
            var floor = 2 * floors.FsyncMs + 3 * floors.HopMs;
            var quantiles = latency.Quantiles;
            return new Report(
                BenchMachine.Here(), count, size, rate, elapsed.TotalSeconds, committed, perSecond, (double)committed / Math.Max(1, blocks), quantiles, cpu, bytes, usage.PausesPart(elapsed),
                floors, bound, perSecond / bound, floor, quantiles.P50Ms / floor, quantiles.P99Ms / quantiles.P50Ms, $"at most {Outstanding} alerts outstanding per validator, {new ChainParameters().BlockTransactionsMax} in a block, window {new ChainParameters().Window}");
        }
        finally
        {
            foreach (var validator in validators) await validator.DisposeAsync();
            directory.Delete(recursive: true);
        }
    }
}
