using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using Xunit;

namespace CyberMesh.Architecture.Tests;

/// <summary>The four nets that keep Core pure (ARCHITECTURE.md), each with a planted violation that shows it bites.</summary>
public sealed class PurityTests
{
    private static string BuildCoreWith(string source)
    {
        var directory = Directory.CreateTempSubdirectory("cybermesh-planted-");
        try
        {
            var file = Path.Combine(directory.FullName, "Planted.cs");
            File.WriteAllText(file, source);
            var start = new ProcessStartInfo("dotnet")
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                ArgumentList =
                {
                    "build", Path.Combine(Repository.Root, "src/Core/CyberMesh.Core.csproj"), "--nologo", $"-p:PlantedSource={file}",
                    // Outputs of its own: the real build must not be touched, and must not be waited for.
                    $"-p:BaseIntermediateOutputPath={directory.FullName}/obj/", $"-p:OutDir={directory.FullName}/out/", "-p:NuGetLockFilePath=" + Path.Combine(directory.FullName, "lock.json"),
                    "-nodeReuse:false",
                },
            };
            using var build = Process.Start(start)!;
            var errors = build.StandardError.ReadToEndAsync();
            var output = build.StandardOutput.ReadToEnd();
            build.WaitForExit();
            return output + errors.Result;
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    [Fact]
    public void Net_1_sockets_threads_console_and_linq_do_not_compile_in_core()
    {
        var output = BuildCoreWith("""
            namespace CyberMesh.Core;
            internal static class Planted
            {
                internal static object Socket() => typeof(System.Net.Sockets.Socket);
                internal static object Channel() => typeof(System.Threading.Channels.Channel);
                internal static void Console() => System.Console.WriteLine();
                internal static object Linq() => System.Linq.Enumerable.Range(0, 3);
            }
            """);
        Assert.Contains("'Sockets' does not exist in the namespace 'System.Net'", output, StringComparison.Ordinal);
        Assert.Contains("'Channels' does not exist in the namespace 'System.Threading'", output, StringComparison.Ordinal);
        Assert.Contains("'Console' does not exist in the namespace 'System'", output, StringComparison.Ordinal);
        Assert.Contains("'Enumerable' does not exist in the namespace 'System.Linq'", output, StringComparison.Ordinal);
    }

    [Fact]
    public void Net_2_clock_randomness_files_and_environment_are_banned_in_core()
    {
        var output = BuildCoreWith("""
            namespace CyberMesh.Core;
            internal static class Planted
            {
                internal static long Clock() => System.DateTime.UtcNow.Ticks;
                internal static int Chance() => new System.Random().Next();
                internal static string File() => System.IO.File.ReadAllText("x");
                internal static string? Surroundings() => System.Environment.GetEnvironmentVariable("x");
                internal static int Seeded() => "x".GetHashCode();
                internal static System.Guid Fresh() => System.Guid.NewGuid();
            }
            """);
        foreach (var banned in new[] { "DateTime", "Random", "System.IO", "Environment", "GetHashCode", "NewGuid" })
            Assert.Contains(output.Split('\n'), line => line.Contains("RS0030", StringComparison.Ordinal) && line.Contains(banned, StringComparison.Ordinal));
    }

    [Fact]
    public void Net_3_core_has_no_async_no_unordered_iteration_and_no_floating_point() =>
        Assert.Empty(PurityScanner.Violations(typeof(Core.Primitives.Digest).Assembly.Location));

    [Fact]
    public void Net_3_finds_each_planted_violation()
    {
        var found = PurityScanner.Violations(typeof(PurityTests).Assembly.Location, "CyberMesh.Architecture.Tests.Planted.");
        foreach (var (method, what) in new[]
                 {
                     (".Async:", "async"), ("OverDictionary", "Dictionary`2.GetEnumerator"), ("OverKeys", "Dictionary`2.get_Keys"),
                     ("OverSet", "HashSet`1.GetEnumerator"), ("InSignature", "signature"), ("InExpression", "r8"),
                 })
            Assert.Contains(found, f => f.Contains(method, StringComparison.Ordinal) && f.Contains(what, StringComparison.Ordinal));
    }

    [Fact]
    public void Net_4_a_run_replays_to_the_same_digest_in_other_processes_cultures_and_hash_seeds()
    {
        var traces = new[] { "C", "tr_TR.UTF-8" }.Select(culture => Trace(culture, "simulate", "--seed", "7")).ToArray();
        Assert.Matches("^trace [0-9a-f]{64}$", traces[0]);
        Assert.Equal(traces[0], traces[1]);
        // The planted violation of this net: one thing that differs (here the seed) changes the digest.
        Assert.NotEqual(traces[0], Trace("C", "simulate", "--seed", "8"));
    }

    private static string Trace(string culture, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, Environment = { ["LC_ALL"] = culture } };
        start.ArgumentList.Add(Path.Combine(Repository.Root, "src/Cli/bin", Repository.Configuration, "net10.0/cybermesh.dll"));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        return output.Split('\n').Single(line => line.StartsWith("trace ", StringComparison.Ordinal));
    }
}
