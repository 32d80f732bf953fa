using System;
using System.CommandLine;
using System.Text.Json;

namespace CyberMesh.Cli.Bench;

/// <summary>Measures parts of the product on this machine. Numbers hold for this run only; compare the ratios.</summary>
internal static class BenchVerb
{
    public static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>What <c>all</c> runs, one after the other.</summary>
    private static readonly string[][] Everything =
    [
        ["verify"], ["mempool"], ["ledger"], ["ingest"], ["mesh"], ["projection"], ["consensus", "--rate", "500"], ["consensus", "--saturate"], ["pipeline", "--saturate"], ["api", "--alerts", "100000"],
    ];

    public static Command Create()
    {
        var bench = new Command("bench", "Measure parts of the product on this machine.")
        {
            VerifyBench.Create(), LedgerBench.Create(), MempoolBench.Create(), IngestBench.Create(), MeshBench.Create(), ProjectionBench.Create(), ConsensusBench.Create(), FaultsBench.Create(), PipelineBench.Create(), ApiBench.Create(), ApiClients.Create(),
        };
        var all = new Command("all", "All of them, one after the other, with what they measure by default; about six minutes.");
        all.SetAction(async (_, stop) =>
        {
            foreach (var arguments in Everything)
            {
                Console.WriteLine($"== bench {string.Join(' ', arguments)}");
                var code = await bench.Parse(arguments).InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false }, stop);
                if (code != ExitCode.Ok) return code;
            }

            return ExitCode.Ok;
        });
        bench.Add(all);
        return bench;
    }
}
