using System;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace CyberMesh.Cli.Bench;

/// <summary>Waits to the microsecond: at 500 a second <c>Thread.Sleep(1)</c>, which takes a tenth more than a millisecond, would be half a millisecond late on average, and say so of what is measured.</summary>
internal static class Pause
{
    /// <summary>So that a stop is noticed.</summary>
    private const long MicrosecondsMax = 100_000;

    /// <summary>Until then, or for a tenth of a second.</summary>
    /// <param name="timestamp">As of <see cref="Stopwatch"/>.</param>
    public static void Until(long timestamp)
    {
        var left = (timestamp - Stopwatch.GetTimestamp()) * 1_000_000 / Stopwatch.Frequency;
        if (left > 0) _ = Sleep((uint)Math.Min(left, MicrosecondsMax));
    }

    [DllImport("libc", EntryPoint = "usleep")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Sleep(uint microseconds);
}
