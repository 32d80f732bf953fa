using System;
using System.IO;
using System.Linq;
using System.Reflection;
using CyberMesh.Node.Crypto.KnownKeys;

namespace CyberMesh.Cli.Bench;

/// <summary>Where and with what a number was measured.</summary>
internal sealed record BenchMachine(string Processor, int Cores, string Instructions, string Runtime, string Commit)
{
    public static BenchMachine Here()
    {
        const string information = "/proc/cpuinfo";
        var model = File.Exists(information) ? File.ReadLines(information).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() : null;
        var version = typeof(BenchMachine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";
        return new BenchMachine(model ?? "unknown processor", Environment.ProcessorCount, KnownKeyVerifier.Widths.First(), Environment.Version.ToString(), version);
    }

    public override string ToString() => $"{Cores} cores of {Processor} ({Instructions}), .NET {Runtime}, cybermesh {Commit}";
}
