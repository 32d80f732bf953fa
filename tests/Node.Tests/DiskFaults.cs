using System;
using System.Diagnostics;
using System.IO;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Faults/disk-faults.c as a library for LD_PRELOAD: syncs and writes of a process fail while DISK_FAULTS says so.</summary>
internal static class DiskFaults
{
    public static string Build(string directory)
    {
        var library = Path.Combine(directory, "disk-faults.so");
        using var compiler = Process.Start("clang", ["-shared", "-fPIC", "-o", library, Path.Combine(AppContext.BaseDirectory, "Faults", "disk-faults.c"), "-ldl"]);
        compiler.WaitForExit();
        Assert.Equal(0, compiler.ExitCode);
        return library;
    }
}
