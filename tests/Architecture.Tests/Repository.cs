using System;
using System.IO;

namespace CyberMesh.Architecture.Tests;

internal static class Repository
{
    public static string Root { get; } = Find();

    public static string Configuration { get; } = AppContext.BaseDirectory.Contains("/Release/", StringComparison.Ordinal) ? "Release" : "Debug";

    private static string Find()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "CyberMesh.slnx"))) directory = directory.Parent;
        return directory?.FullName ?? throw new InvalidOperationException("the tests run inside the repository");
    }
}
