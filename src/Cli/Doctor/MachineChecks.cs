using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace CyberMesh.Cli.Doctor;

/// <summary>Clock, disk, memory and limits.</summary>
internal static partial class MachineChecks
{
    private const int TimexBytes = 512; // struct timex has 208 on 64-bit Linux
    private const int ClockUnsynchronized = 5; // TIME_ERROR
    private const int SyncsMeasured = 50;
    private const int FilesMin = 4096;
    private const long Gibibyte = 1L << 30;

    /// <summary>With no modes set it only reads.</summary>
    [DllImport("libc", EntryPoint = "adjtimex")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int ReadClock(byte[] timex);

    public static IEnumerable<Finding> Clock()
    {
        int state;
        try
        {
            state = ReadClock(new byte[TimexBytes]);
        }
        catch (Exception problem) when (problem is DllNotFoundException or EntryPointNotFoundException)
        {
            yield break;
        }

        if (state == ClockUnsynchronized)
            yield return Finding.Warning("clock", "nothing keeps this machine's clock right", "run chrony or systemd-timesyncd (in a container the host's clock counts); a leader whose clock is off by seconds is voted down");
        else if (state >= 0) yield return Finding.Ok("clock", "the clock is synchronized");
    }

    public static IEnumerable<Finding> Disk(Patient patient)
    {
        var directory = Directory.Exists(patient.In("data")) ? patient.In("data") : patient.Home;
        var drive = new DriveInfo(directory);
        if (drive.DriveFormat is "tmpfs" or "ramfs" or "overlay" or "overlayfs")
            yield return Finding.Warning("disk", $"{directory} lies on {drive.DriveFormat}, which is gone with the machine or container", "put the home directory on a volume of its own: votes must outlive a restart");
        var free = drive.AvailableFreeSpace;
        var room = $"{(double)free / Gibibyte:0.0} GiB are free";
        if (free < Gibibyte) yield return Finding.Error("disk", room, "make room, or set RETENTION_BODIES: a full disk makes the validator wait, votes and all");
        else if (free < 10 * Gibibyte) yield return Finding.Warning("disk", room, "plan for 10 GiB; RETENTION_BODIES bounds what messages take");
        else yield return Finding.Ok("disk", room);
        foreach (var finding in Syncs(directory)) yield return finding;
    }

    /// <summary>Every vote waits for one.</summary>
    private static IEnumerable<Finding> Syncs(string directory)
    {
        var path = Path.Combine(directory, $".doctor-{Environment.ProcessId}");
        var took = new List<double>();
        string? problem = null;
        try
        {
            using var file = new FileStream(path, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, BufferSize = 0, Options = FileOptions.DeleteOnClose });
            var page = new byte[4096];
            for (var i = 0; i < SyncsMeasured; i++)
            {
                var started = Stopwatch.GetTimestamp();
                file.Write(page);
                file.Flush(flushToDisk: true);
                took.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
            }
        }
        catch (Exception failed) when (failed is IOException or UnauthorizedAccessException)
        {
            problem = failed.Message;
        }

        if (problem is not null)
        {
            yield return Finding.Error("disk", $"{directory} cannot be written: {problem}", "check its owner, and whether it is mounted read-only");
            yield break;
        }

        took.Sort();
        var (median, worst) = (took[SyncsMeasured / 2], took[^1]);
        var said = string.Create(CultureInfo.InvariantCulture, $"a write reaches the disk in {median:0.0} ms (median of {SyncsMeasured}, at most {worst:0.0})");
        if (median > 20) yield return Finding.Warning("disk", said, "a disk that is nearer, or not shared with others: each block waits for two of them at each validator");
        else if (median < 0.01) yield return Finding.Warning("disk", said, "too fast to be true for a disk that keeps what it says; check that it is no memory and no cache without a battery");
        else yield return Finding.Ok("disk", said);
    }

    public static IEnumerable<Finding> Limits(Patient patient)
    {
        var files = OpenFilesMax();
        if (files is { } max)
            yield return max < FilesMin
                ? Finding.Warning("limits", $"{max} files may be open", $"raise it to {FilesMin} (ulimit -n, LimitNOFILE=): each connection is one")
                : Finding.Ok("limits", $"{max} files may be open");
        var memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        var said = $"{(double)memory / Gibibyte:0.0} GiB of memory";
        if (memory < Gibibyte) yield return Finding.Warning("limits", said, "give it 1 GiB");
        else yield return Finding.Ok("limits", said);
        var tables = (patient.Settings?.SignatureTables ?? 0) * (long)(Gibibyte / 2048);
        if (tables > memory / 4) yield return Finding.Warning("limits", $"SIGNATURE_TABLES may take {tables >> 20} MiB, more than a quarter of the memory", "lower it; each takes half a MiB");
        if (Environment.ProcessorCount < 2) yield return Finding.Warning("limits", "one processor", "give it two: signatures are checked beside consensus");
        else yield return Finding.Ok("limits", $"{Environment.ProcessorCount} processors");
    }

    private static long? OpenFilesMax()
    {
        if (!File.Exists("/proc/self/limits")) return null;
        var line = File.ReadLines("/proc/self/limits").FirstOrDefault(l => l.StartsWith("Max open files", StringComparison.Ordinal));
        if (line is null) return null;
        var words = Words().Split(line["Max open files".Length..].Trim());
        return long.TryParse(words[0], NumberStyles.None, CultureInfo.InvariantCulture, out var soft) ? soft : long.MaxValue;
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Words();
}
