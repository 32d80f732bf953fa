using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Simulator;

namespace CyberMesh.Cli.Bench;

/// <summary>One part of the time; height and alerts in the state are those at its end.</summary>
internal sealed record ConsensusPart(double Seconds, ulong Height, long Alerts, double PerSecond, double CpuMicrosecondsPerAlert);

/// <param name="PerSecond">Alerts committed, by the honest validator that committed fewest.</param>
/// <param name="Latency">From when an alert was due until it was stored, at each honest validator.</param>
/// <param name="ViewChanges">Leaders that were replaced in their terms, meanwhile.</param>
/// <param name="VerificationBound">Alerts per second if every validator did nothing but check each signature once.</param>
/// <param name="Floor">Two syncs and three hops, in milliseconds.</param>
internal sealed record ConsensusReport(
    BenchMachine Machine, NetworkLoad Load, double Seconds, long Alerts, double PerSecond, double AlertsPerBlock, Quantiles Latency, long ViewChanges, double CpuMicrosecondsPerAlert, long BytesPerAlert, double PausesPart,
    Floors Floors, double VerificationBound, double OfTheBound, double Floor, double P50OfTheFloor, double P99OfP50, ConsensusPart[] Parts, string Settings);

/// <summary>A network of validators in this process under load, sound or with a fault.</summary>
internal static class ConsensusRun
{
    private const int Outstanding = 3000;

    /// <summary>Of each of four organisations: the state grows as long as a run lasts.</summary>
    private const int AlertsOpenMax = 1_000_000;

    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(5);

    /// <param name="parts">The time is shown in so many.</param>
    public static async Task<ConsensusReport> MeasureAsync(NetworkLoad asked, int parts, BenchFault fault, CancellationToken stop)
    {
        var (count, size, rate, duration) = asked;
        if (count is < 1 or > 32) throw new UserError($"--validators is {count}", "choose 1 to 32");
        if (parts is < 1 or > 1000) throw new UserError($"--parts is {parts}", "choose 1 to 1000");
        var directory = Directory.CreateTempSubdirectory("cybermesh-bench-");
        var validators = new List<BenchValidator>();
        try
        {
            using var load = new BenchLoad();
            var ports = Testnet.FreePorts(count);
            var homes = Testnet.Generate(directory.FullName, ports, Testnet.FreePorts(count), load.Trusted, "127.0.0.1:1", TimeProvider.System, new ChainParameters { AlertsOpenMax = AlertsOpenMax });
            var floors = await Floors.MeasureAsync(directory.FullName);
            var records = load.Sign((int)((rate == 0 ? 25_000 : rate) * (duration + WarmUp + TimeSpan.FromSeconds(1)).TotalSeconds), size);
            var places = new Dictionary<Digest, int>(records.Length);
            for (var i = 0; i < records.Length; i++)
                if (EnvelopeDecoder.TryDecode(AlertKind.Anomaly, records[i], out var envelope, out _))
                    places[envelope.Digest] = i;
            var (latency, counts, blocks, viewChanges, view) = (new Latency(), false, 0L, 0L, default(View));
            // When each alert was due, or, saturated, when it was taken first.
            var dueAt = new long[records.Length];
            var liars = fault.IsOfValidators ? (count - 1) / 3 : 0;
            for (var i = 0; i < count; i++)
            {
                var isHonest = i < count - liars;
                validators.Add(new BenchValidator(homes[i], Outstanding, isHonest ? Strategy.None : fault.Lies, (validator, run) =>
                {
                    var now = Stopwatch.GetTimestamp();
                    if (validator == validators[0])
                        foreach (var block in run)
                        {
                            if (block.Block.Header.View is { Attempt: > 0 } other && other != view && Volatile.Read(ref counts)) Interlocked.Increment(ref viewChanges);
                            view = block.Block.Header.View;
                        }

                    if (!isHonest || !Volatile.Read(ref counts)) return;
                    if (validator == validators[0]) Interlocked.Add(ref blocks, run.Count);
                    foreach (var block in run)
                        foreach (var receipt in block.Receipts)
                            if (places.TryGetValue(receipt.Transaction, out var place) && Volatile.Read(ref dueAt[place]) is > 0 and var due)
                                latency.Record(Stopwatch.GetElapsedTime(due, now));
                }));
            }

            // What liars say of themselves counts for nothing.
            var honest = validators.Take(count - liars).ToArray();
            foreach (var validator in validators) validator.Start();
            while (honest.Any(v => v.Connected < count - 1)) await Task.Delay(10, stop);
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
                var upTo = Math.Min(records.Length, (int)honest.Max(v => v.Decided) + Outstanding);
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
            var flooding = fault.FloodAsync(validators[^1], ports[..^1], end.Token);
            await Task.Delay(WarmUp, stop);
            long Least(long[] since) => honest.Select((v, i) => v.Decided - since[i]).Min();
            var (decided, usage, clock) = (honest.Select(v => v.Decided).ToArray(), new Usage(), Stopwatch.StartNew());
            Volatile.Write(ref counts, true);
            var measured = new List<ConsensusPart>(parts);
            for (var (i, done, doneAt, used) = (1, decided, 0.0, usage); i <= parts && !stop.IsCancellationRequested; i++)
            {
                var left = duration * i / parts - clock.Elapsed;
                await Task.WhenAny([Task.Delay(left > TimeSpan.Zero ? left : TimeSpan.Zero, stop), .. honest.Select(v => v.Completion)]);
                var (more, at) = (Least(done), clock.Elapsed.TotalSeconds);
                measured.Add(new ConsensusPart(at, honest[0].Status.Height.Value, honest[0].Decided, more / (at - doneAt), used.Per(more).CpuMicroseconds));
                (done, doneAt, used) = ([.. honest.Select(v => v.Decided)], at, new Usage());
            }

            var elapsed = clock.Elapsed;
            Volatile.Write(ref counts, false);
            var committed = Least(decided);
            foreach (var failed in honest.Where(v => v.Completion.IsCompleted)) await failed.Completion;
            var (cpu, bytes) = usage.Per(committed);
            await end.CancelAsync();
            await Task.WhenAll([.. feeds, flooding]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (committed == 0) throw new UserError($"nothing was committed in {duration.TotalSeconds} s", "see whether the disk or the processor is busy with something else");
            var perSecond = committed / elapsed.TotalSeconds;
            var bound = Environment.ProcessorCount / (count * floors.VerifyMicroseconds / 1e6);
            var floor = 2 * floors.FsyncMs + 3 * floors.HopMs;
            var quantiles = latency.Quantiles;
            return new ConsensusReport(
                BenchMachine.Here(), asked, elapsed.TotalSeconds, committed, perSecond, (double)committed / Math.Max(1, blocks), quantiles, Interlocked.Read(ref viewChanges), cpu, bytes, usage.PausesPart(elapsed),
                floors, bound, perSecond / bound, floor, quantiles.P50Ms / floor, quantiles.P99Ms / quantiles.P50Ms, [.. measured], $"at most {Outstanding} alerts outstanding per validator, {new ChainParameters().BlockTransactionsMax} in a block, window {new ChainParameters().Window}");
        }
        finally
        {
            foreach (var validator in validators) await validator.DisposeAsync();
            directory.Delete(recursive: true);
        }
    }
}
