using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Chaos;

/// <summary>One thing that breaks, when, whom it hits and for how long.</summary>
/// <param name="Target">Number of the validator; of no meaning for what all share.</param>
internal sealed record ChaosEvent(TimeSpan At, string Fault, int Target, TimeSpan Length)
{
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture, $"{At.TotalSeconds,6:0.0}s  {Fault,-18} {(IsOfOne ? "v" + (Target + 1) : "all"),-4} {Length.TotalSeconds:0.0}s");

    private bool IsOfOne => !Fault.StartsWith("broker", StringComparison.Ordinal) && Fault != "database-stop";
}

/// <summary>What a run breaks: everything follows from the seed.</summary>
internal static class ChaosSchedule
{
    /// <summary>Those that take a validator out; one at a time, because more than f are not tolerated.</summary>
    private static readonly string[] OfOne = ["kill", "suspend", "partition", "partition-one-way", "link-slow", "link-trickle", "link-spoiled", "rebalance", "disk-full"];

    private static readonly string[] OfAll = ["broker-down", "broker-slow", "broker-errors", "database-stop"];

    /// <summary>One validator has a disk that can be filled: the last.</summary>
    public static int OwnerOfSmallDisk(int validators) => validators - 1;

    /// <param name="possible">What can be broken here.</param>
    public static List<ChaosEvent> Make(ulong seed, TimeSpan duration, int validators, Func<string, bool> possible)
    {
#pragma warning disable CA5394 // a seed is the point
        var random = new Random(unchecked((int)(seed * 2654435761)));
        var events = new List<ChaosEvent>();
        foreach (var (faults, pauseMin, pauseMax) in new[] { (OfOne, 4.0, 10.0), (OfAll, 6.0, 15.0) })
        {
            var left = new Queue<string>();
            for (var at = 3.0; ;)
            {
                // Each once before any comes again.
                if (left.Count == 0) left = new Queue<string>(faults.Where(possible).OrderBy(_ => random.Next()).ToArray());
                if (left.Count == 0) break;
                var length = 2 + (random.NextDouble() * 8);
                if (at + length > duration.TotalSeconds) break;
                var (fault, target) = (left.Dequeue(), random.Next(validators));
                events.Add(new ChaosEvent(TimeSpan.FromSeconds(at), fault, fault == "disk-full" ? OwnerOfSmallDisk(validators) : target, TimeSpan.FromSeconds(length)));
                at += length + pauseMin + (random.NextDouble() * (pauseMax - pauseMin));
            }
        }
#pragma warning restore CA5394
        return [.. events.OrderBy(e => e.At)];
    }
}

/// <summary>What there is to break: the broker, the links between validators, their processes, their database and one of their disks.</summary>
internal sealed class ChaosFaults(
    EmbeddedBroker broker, ValidatorProcess[] validators, IReadOnlyDictionary<(int From, int To), FaultProxy> links, FaultProxy? database, SmallDisk? disk, string[] groups, string topic)
{
    private const int ErrorsPerFault = 20;

    public async Task InjectAsync(ChaosEvent fault, CancellationToken stop)
    {
        var target = fault.Target;
        switch (fault.Fault)
        {
            case "kill":
                await validators[target].KillAsync();
                await WaitAsync();
                validators[target].Start();
                break;
            case "suspend":
                validators[target].Suspend();
                await WaitAsync();
                validators[target].Resume();
                break;
            case "partition":
                await WhileAsync(LinksOf(target), link => link.Stalls = true, link => link.Stalls = false);
                break;
            case "partition-one-way":
                await WhileAsync([.. links.Where(l => l.Key.From == target).Select(l => l.Value)], link => link.Stalls = true, link => link.Stalls = false);
                break;
            case "link-slow":
                await WhileAsync(
                    LinksOf(target), link => (link.Delay, link.Jitter) = (TimeSpan.FromMilliseconds(50), TimeSpan.FromMilliseconds(200)), link => link.Delay = link.Jitter = TimeSpan.Zero);
                break;
            case "link-trickle":
                await WhileAsync(LinksOf(target), link => link.TricklePerSecond = 2000, link => link.TricklePerSecond = 0);
                break;
            case "link-spoiled":
                await WhileAsync(LinksOf(target), link => link.Pieces = new PieceFaults(0.02, 0.02, 0.02, 0.02), link => link.Pieces = PieceFaults.None);
                break;
            case "rebalance":
                await StealAsync(groups[target], fault.Length, stop);
                break;
            case "disk-full":
                disk!.Fill();
                await WaitAsync();
                disk.Clear();
                break;
            case "broker-down":
                broker.IsDown = true;
                await WaitAsync();
                broker.IsDown = false;
                break;
            case "broker-slow":
                broker.RoundTripTime = TimeSpan.FromMilliseconds(400);
                await WaitAsync();
                broker.RoundTripTime = TimeSpan.Zero;
                break;
            case "broker-errors":
                // Not writes: see EmbeddedBroker.FailWrites.
                broker.FailReads(ErrorCode.KafkaStorageError, ErrorsPerFault);
                broker.FailCommits(ErrorCode.GroupCoordinatorNotAvailable, ErrorsPerFault);
                await WaitAsync();
                break;
            case "database-stop":
                database!.Refuses = true;
                database.Cut();
                await WaitAsync();
                database.Refuses = false;
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(fault), fault.Fault, "unknown fault");
        }

        Task WaitAsync() => Task.Delay(fault.Length, stop).ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);

        async Task WhileAsync(FaultProxy[] hit, Action<FaultProxy> begin, Action<FaultProxy> end)
        {
            foreach (var link in hit) begin(link);
            await WaitAsync();
            foreach (var link in hit) end(link);
        }
    }

    private FaultProxy[] LinksOf(int validator) => [.. links.Where(l => l.Key.From == validator || l.Key.To == validator).Select(l => l.Value)];

    /// <summary>Somebody joins the validator's consumer group, takes partitions from it and reads them, and leaves without having decided anything.</summary>
    private Task StealAsync(string group, TimeSpan length, CancellationToken stop) => Task.Run(() =>
    {
        using var thief = new ConsumerBuilder<byte[]?, byte[]?>(KafkaClients.Consumer(KafkaConnection.Plain(broker.BootstrapServers), group, AutoOffsetReset.Earliest, 1500))
            .SetLogHandler((_, _) => { }).SetErrorHandler((_, _) => { }).Build();
        thief.Subscribe(topic);
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < length && !stop.IsCancellationRequested;) thief.Consume(TimeSpan.FromMilliseconds(100));
        thief.Close();
    }, CancellationToken.None);
}

/// <summary>A file system of its own for one validator's data, small enough to be filled.</summary>
internal sealed class SmallDisk : IDisposable
{
    private const string Size = "768m";
    private readonly string _path;

    private SmallDisk(string path) => _path = path;

    /// <summary>Null where this machine does not let us mount one.</summary>
    public static SmallDisk? TryMount(string path)
    {
        Directory.CreateDirectory(path);
        return Run("mount", "-t", "tmpfs", "-o", $"size={Size},mode=0700", "tmpfs", path) ? new SmallDisk(path) : null;
    }

    private string Filler => Path.Combine(_path, "filler");

    public void Fill()
    {
        using var file = new FileStream(Filler, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
        var zeros = new byte[1 << 20];
        for (var piece = zeros.Length; piece >= 4096;)
        {
            try
            {
                file.Write(zeros, 0, piece);
            }
            catch (IOException)
            {
                piece /= 2;
            }
        }
    }

    public void Clear() => File.Delete(Filler);

    private static bool Run(string program, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true })!;
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false; // no such program
        }
    }

    public void Dispose() => Run("umount", _path);
}
