using System.CommandLine;
using System.Text.Json;

namespace CyberMesh.Cli.Bench;

/// <summary>Measures parts of the product on this machine. Numbers hold for this run only; compare the ratios.</summary>
internal static class BenchVerb
{
    public static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static Command Create() => new("bench", "Measure parts of the product on this machine.") { VerifyBench.Create(), LedgerBench.Create(), MempoolBench.Create(), IngestBench.Create(), ConsensusBench.Create(), PipelineBench.Create(), ApiBench.Create(), ApiClients.Create() };
}
