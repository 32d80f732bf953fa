using System;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;

namespace CyberMesh.Cli.Verbs;

/// <summary>What a validator has on its disk.</summary>
internal static class DataVerbs
{
    public static Command Create()
    {
        var home = new HomeOptions();
        var command = new Command("data", "What a validator has on its disk.")
        {
            Verb("inspect", "What is there: blocks, snapshots, vote log, and how much room they take.", home, Inspect),
            Verb("verify", "Check every block against genesis: chain, bodies, roots, certificates; and the vote log when the validator is stopped. Exit code 5 when anything does not hold.", home, Verify),
            Compact(home),
            Export(home),
        };
        home.AddTo(command);
        return command;
    }

    private static Command Verb(string name, string description, HomeOptions home, Func<ValidatorHome, int> run)
    {
        var command = new Command(name, description);
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            using var validator = home.Open(parsed);
            return run(validator);
        }, stop));
        return command;
    }

    private static int Inspect(ValidatorHome home)
    {
        var last = home.Blocks.LastHeight();
        var (waiting, _) = home.Blocks.OutboxState();
        Console.WriteLine($"chain      {home.Genesis.Chain.ChainId}");
        Console.WriteLine($"blocks     {Count(home)} up to {last}; with their messages from {home.Blocks.FirstHeight()?.ToString() ?? "none"} on; {Size(home.In("data", "blocks.db"))}");
        Console.WriteLine($"snapshots  {(home.Snapshots.Newest() is { } newest ? $"newest after block {newest.Certificate.Checkpoint.Height}" : "none yet")}; {Size(home.In("data", "snapshots"))}");
        Console.WriteLine($"votes      {(LocalStore.CheckLog(home.Data, home.In("votes.mark")) is var (rows, problem) ? problem ?? $"{rows} rows" : "in use by a running validator")}; {Size(home.In("data", "votes.db"))}");
        Console.WriteLine($"outbox     {waiting} blocks to publish");
        Console.WriteLine($"copy       {(home.Settings.Database is null ? $"SQLite; {Size(home.In("data", "projection.db"))}" : "on a server ('cybermesh db status')")}");
        Console.WriteLine($"retention  {(home.Settings.RetentionBodies is { } keep ? $"messages of blocks older than {keep.TotalHours:0.#} h expire" : "everything is kept (RETENTION_BODIES)")}");
        return ExitCode.Ok;
    }

    private static string Count(ValidatorHome home) => home.Blocks.Count().ToString(CultureInfo.InvariantCulture);

    private static string Size(string path)
    {
        var files = Directory.Exists(path) ? Directory.GetFiles(path, "*", SearchOption.AllDirectories) : new[] { path, path + "-wal" }.Where(File.Exists).ToArray();
        return string.Create(CultureInfo.InvariantCulture, $"{files.Sum(f => new FileInfo(f).Length) / 1048576.0:0.0} MiB");
    }

    private static int Verify(ValidatorHome home)
    {
        var check = new StoreCheck(home.Genesis, home.Replica.Epochs, new Ed25519Verifier(), problem => Console.WriteLine("failed: " + problem));
        check.CheckModes(home.Path);
        check.CheckBlocks(home.Blocks);
        check.CheckSnapshots(home.Snapshots);
        var log = LocalStore.CheckLog(home.Data, home.In("votes.mark"));
        if (log is { Problem: { } problem }) Console.WriteLine($"failed: the vote log (votes.db): {problem}");
        Console.WriteLine(log is null ? "not checked: the vote log is in use by a running validator" : $"the vote log has {log.Value.Rows} rows");
        var failed = check.Problems + (log is { Problem: not null } ? 1 : 0);
        Console.WriteLine($"{(failed == 0 ? "ok" : "failed")}: {check.Blocks} blocks ({check.PrunedBlocks} without messages), {check.Certificates} certificates, {failed} problems");
        return failed == 0 ? ExitCode.Ok : ExitCode.VerificationFailed;
    }

    private static Command Compact(HomeOptions home)
    {
        var command = new Command("compact", "Give back to the disk what expired messages have left. The validator must be stopped.");
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            using var validator = home.Open(parsed);
            var before = Size(validator.In("data", "blocks.db"));
            using (var store = LocalStore.Open(validator.Data, validator.Genesis.Chain.ChainId, validator.In("votes.mark"))) store.Compact();
            Console.WriteLine($"blocks     {before} before, {Size(validator.In("data", "blocks.db"))} now");
            return ExitCode.Ok;
        }, stop));
        return command;
    }

    private static Command Export(HomeOptions home)
    {
        var from = new Option<ulong>("--from") { Description = "First height.", DefaultValueFactory = _ => 1 };
        var to = new Option<ulong>("--to") { Description = "Last height.", DefaultValueFactory = _ => ulong.MaxValue };
        var output = new Option<FileInfo?>("--out") { Description = "Where it goes; without it to the output." };
        var command = new Command("export", "Blocks as NDJSON, one per line: header and certificate as they were signed, and each message as it was published.") { from, to, output };
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            using var validator = home.Open(parsed);
            using var writer = parsed.GetValue(output) is { } file ? new StreamWriter(file.FullName) : null;
            var count = Write(validator.Blocks, parsed.GetValue(from), parsed.GetValue(to), writer ?? Console.Out, stop);
            Console.Error.WriteLine($"{count} blocks");
            return ExitCode.Ok;
        }, stop));
        return command;
    }

    private static long Write(BlockReader blocks, ulong from, ulong to, TextWriter output, CancellationToken stop)
    {
        long count = 0;
        foreach (var stored in blocks.Read(new Height(Math.Max(1, from))))
        {
            stop.ThrowIfCancellationRequested();
            var block = stored.Stored.Block.Block;
            if (block.Height.Value > to) break;
            var transactions = new JsonArray();
            for (var i = 0; i < block.Transactions.Length; i++)
            {
                var transaction = new JsonObject { ["digest"] = block.Transactions[i].ToString(), ["result"] = stored.Results[i].Code() };
                if (!stored.Stored.IsPruned)
                {
                    var body = stored.Stored.Block.Bodies[i];
                    transaction["kind"] = ((AlertKind)body.Span[0]).Name();
                    transaction["message"] = Convert.ToBase64String(body.Span[1..]);
                }

                transactions.Add((JsonNode)transaction);
            }

            output.WriteLine(new JsonObject
            {
                ["height"] = block.Height.Value,
                ["hash"] = block.Digest.ToString(),
                ["time_ms"] = block.Header.Time.Milliseconds,
                ["state_root"] = stored.StateRoot.ToString(),
                ["certified_header"] = blocks.Certify(block.Height) is { } certified ? Convert.ToBase64String(certified.Encode()) : null,
                ["transactions"] = transactions,
            }.ToJsonString());
            count++;
        }

        return count;
    }
}
