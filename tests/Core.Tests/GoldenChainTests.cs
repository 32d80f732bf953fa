using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>
/// A recorded chain of 10,000 blocks with everything the state machine knows: the state root and the log root after every 500th must be those
/// checked in, in any process, culture and hash seed. A difference here forks a running network.
/// </summary>
public sealed class GoldenChainTests
{
    private const int Blocks = 10_000;
    private const int NotedEvery = 500;
    private const string Golden = "chain-roots.txt";

    [Fact]
    public void Ten_thousand_blocks_give_the_roots_that_are_checked_in()
    {
        var lines = Run().ToArray();
        if (Environment.GetEnvironmentVariable("CYBERMESH_WRITE_GOLDEN") is { Length: > 0 } target) File.WriteAllLines(Path.Combine(target, Golden), lines);
        Assert.Equal(File.ReadAllLines(Path.Combine(AppContext.BaseDirectory, "Golden", Golden)), lines);
    }

    private static IEnumerable<string> Run()
    {
        var signatures = new StubSignatures();
        var workload = new Workload(signatures);
        PublicKey Key(string role) => signatures.NewSigner(role).PublicKey;
        var genesis = new Genesis(
            "golden chain", Timestamp.FromSeconds(1_790_000_000), [new Validator("v1", Key("consensus"), Key("control"), Key("cosigner"), Key("log"))],
            workload.Producers, Workload.Shortened(Samples.Parameters));
        var ledger = genesis.NewLedger();
        var transactions = new List<AlertEnvelope>();
        for (var i = 1; i <= Blocks; i++)
        {
            // 100 ms apart; now and then nothing happens for longer than an alert stays open.
            var time = ledger.Time.PlusMs(i % 1000 == 0 ? 20_000 : 100);
            transactions.Clear();
            for (var count = i % 4; count > 0; count--) transactions.Add(workload.Next(genesis.Chain.ChainId, time.Milliseconds / 1000).Value);
            var header = genesis.Block.Header with { Height = ledger.Height.Next, Time = time, TransactionCount = (uint)transactions.Count };
            ledger.Apply(new Block(header, null, []), [.. transactions]);
            if (i % NotedEvery == 0) yield return $"{i} {ledger.StateRoot()} {ledger.Log.Size} {ledger.Log.Root()} {ledger.OpenAlerts}";
        }
    }
}
