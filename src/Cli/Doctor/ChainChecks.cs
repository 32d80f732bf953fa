using System.Collections.Generic;
using System.IO;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;

namespace CyberMesh.Cli.Doctor;

/// <summary>Genesis, what is stored of the chain, and what was noticed earlier.</summary>
internal static class ChainChecks
{
    public static IEnumerable<Finding> Genesis(Patient patient)
    {
        if (patient.Genesis is not { } genesis)
        {
            yield return Finding.Error("genesis", patient.GenesisProblem!.What, patient.GenesisProblem.Fix);
            yield break;
        }

        var (chain, set) = (genesis.Chain, genesis.Chain.Validators);
        yield return Finding.Ok("genesis", $"chain {chain.ChainId}; compare it with what the other parties see ('cybermesh genesis show')");
        var faulty = Quorum.Faulty(set.Count);
        var arithmetic = $"{set.Count} validators tolerate {faulty} that fail or lie; a quorum is {set.Quorum}";
        if (faulty == 0) yield return Finding.Warning("quorum", arithmetic, "run at least four validators, by four parties");
        else if (set.Count != (3 * faulty) + 1) yield return Finding.Warning("quorum", $"{arithmetic}; {(3 * faulty) + 1} would tolerate as many", $"run {(3 * faulty) + 4} to tolerate one more");
        else yield return Finding.Ok("quorum", arithmetic);
        foreach (var (what, fix) in patient.Settings?.Expectation.Disagreements(set, chain.Parameters) ?? []) yield return Finding.Error("quorum", what, fix);
        if (genesis.Time.Milliseconds > patient.Time.GetUtcNow().ToUnixTimeMilliseconds()) yield return Finding.Error("clock", "genesis lies in the future of this machine's clock", "set the clock, and keep it right with chrony or systemd-timesyncd");
    }

    public static IEnumerable<Finding> Store(Patient patient)
    {
        if (Directory.EnumerateFiles(patient.Home, "fork.proof").FirstOrDefault() is { } fork)
            yield return Finding.Error("history", $"{fork} proves that more than a third of the validators lied: the chain has forked", "stop, show it to the other parties ('cybermesh evidence verify'), and follow docs/runbook.md, \"A fork was proven\"");
        if (Directory.EnumerateFiles(patient.Home, "divergence-*.json").Max() is { } divergence)
            yield return Finding.Warning("history", $"{divergence}: this validator once computed another state than the others, and started over", "report it with that file; look at memory and disk of this machine");
        var (data, mark) = (patient.In("data"), patient.In("votes.mark"));
        if (!File.Exists(Path.Combine(data, "blocks.db")))
        {
            if (File.Exists(mark)) yield return Finding.Error("history", "this validator has voted before (votes.mark), and its data directory is gone", "put the newest data directory back, if there is one; else start it: it asks the others and votes again when nothing it forgot can matter");
            else yield return Finding.Ok("history", "nothing yet: it has never run");
            yield break;
        }

        if (LocalStore.CheckLog(data, mark) is { } log)
            yield return log.Problem is { } loss
                ? Finding.Error("history", $"votes are missing: {loss}", "an old backup, or a damaged disk; look for the newest data directory. Started like this it votes again only when nothing it forgot can matter")
                : Finding.Ok("history", $"the vote log is whole ({log.Rows} rows)");
        if (patient.Genesis is not { } genesis) yield break;
        using var blocks = LocalStore.OpenReader(data);
        if (blocks.Read(new Height(1)).FirstOrDefault() is { } first && first.Stored.Block.Block.Header.ChainId != genesis.Chain.ChainId)
            yield return Finding.Error("history", $"the stored blocks are of chain {first.Stored.Block.Block.Header.ChainId}, not of this genesis", "put the right genesis.json here, or move the data directory of the other chain away");
        else yield return Finding.Ok("history", $"blocks up to {blocks.LastHeight()}");
        var last = blocks.Read(blocks.LastHeight()).FirstOrDefault()?.Stored.Block.Block.Header.Time.Milliseconds ?? 0;
        if (last > patient.Time.GetUtcNow().AddMinutes(1).ToUnixTimeMilliseconds()) yield return Finding.Error("clock", "the last block lies in the future of this machine's clock", "set the clock, and keep it right with chrony or systemd-timesyncd");
    }
}
