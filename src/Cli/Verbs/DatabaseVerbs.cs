using System;
using System.CommandLine;
using System.Data.Common;
using System.Globalization;
using System.Threading.Tasks;
using CyberMesh.Node;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Projection;
using CyberMesh.Node.Storage;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Cli.Verbs;

/// <summary>The queryable copy of the chain: what it holds, whether it is right, and how it is made anew. A validator may run meanwhile.</summary>
internal static class DatabaseVerbs
{
    public static Command Create()
    {
        var home = new HomeOptions();
        var yes = new Option<bool>("--yes") { Description = "Drop the tables without asking." };
        var command = new Command("db", "The queryable copy of the chain: an SQLite file, or a database server (DB_DSN).")
        {
            Verb("migrate", "Bring the tables to the version of this program.", home, Migrate),
            Verb("status", "Where the copy is, of which version, and how far it has come.", home, Status),
            Verb("verify", "Compare every row with the chain and name those that differ. Exit code 5 when there are any.", home, Verify),
            Rebuild(home, yes),
        };
        home.AddTo(command);
        return command;
    }

    private static Command Verb(string name, string description, HomeOptions home, Func<Opened, int> run)
    {
        var command = new Command(name, description);
        command.SetAction((parsed, stop) => Task.Run(() => Run(home.Open(parsed), run), stop));
        return command;
    }

    private static Command Rebuild(HomeOptions home, Option<bool> yes)
    {
        var command = new Command("rebuild", "Drop the tables and copy the chain anew.") { yes };
        command.SetAction((parsed, stop) => Task.Run(() => Run(home.Open(parsed), opened =>
        {
            if (opened.Blocks.FirstHeight() is { Value: > 1 } first)
                throw new UserError($"the blocks below {first} are not here any more, so their rows could not be made again", "rebuild from a validator that holds all blocks, or keep the copy");
            if (!parsed.GetValue(yes)) throw new UserError($"this drops all tables in {opened.Database.Name}", "say --yes");
            opened.Admin.Drop();
            using var copy = new Projection(opened.Database, opened.Blocks, opened.Source(), new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance);
            while (copy.Copy())
            {
                // as much as fits into a transaction each
            }

            Console.WriteLine($"{opened.Database.Name}: copied up to block {copy.Height}");
            return ExitCode.Ok;
        }), stop));
        return command;
    }

    private static int Run(ValidatorHome home, Func<Opened, int> run)
    {
        using var opened = new Opened(home);
        try
        {
            return run(opened);
        }
        catch (DbException problem)
        {
            throw new ConnectionError($"{opened.Database.Name}: {problem.Message}");
        }
        catch (SchemaException problem)
        {
            throw new UserError($"{opened.Database.Name}: {problem.Message}", "see docs/cli.md, \"The database\"");
        }
    }

    private static int Migrate(Opened opened)
    {
        var before = opened.Admin.Status();
        opened.Admin.Migrate();
        foreach (var step in before.Missing) Console.WriteLine($"done: {step}");
        Console.WriteLine($"{opened.Database.Name} has the tables of this version");
        return ExitCode.Ok;
    }

    private static int Status(Opened opened)
    {
        var status = opened.Admin.Status();
        Console.WriteLine($"database   {status.Database}");
        foreach (var step in status.Steps) Console.WriteLine($"schema     {step}");
        foreach (var step in status.Missing) Console.WriteLine($"schema     {step}: missing ('cybermesh db migrate', or the validator's next start)");
        var last = opened.Blocks.LastHeight().Value;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"copied     up to block {status.Height}; this validator's last block is {last}"));
        foreach (var (node, waiting, seen) in status.Outboxes)
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"outbox     {node}: {waiting} blocks to publish, as of {seen:yyyy-MM-dd HH:mm:ss} UTC"));
        return ExitCode.Ok;
    }

    private static int Verify(Opened opened)
    {
        if (opened.Admin.Status().Missing.Count > 0) throw new UserError($"{opened.Database.Name} has no tables of this version", "run 'cybermesh db migrate', or start the validator");
        var check = new CopyCheck(opened.Database, opened.Blocks, opened.Source(), TimeProvider.System, Console.WriteLine);
        check.Run();
        var range = $"blocks {check.Range.First} to {check.Range.Last}";
        Console.WriteLine(check.Differences == 0
            ? $"ok: {check.Rows} rows are what {range} say"
            : $"failed: {check.Differences} differences in {check.Rows} rows from {range}; 'cybermesh db rebuild' makes the copy anew");
        return check.Differences == 0 ? ExitCode.Ok : ExitCode.VerificationFailed;
    }

    /// <summary>What a command needs of a validator's home.</summary>
    private sealed class Opened : IDisposable
    {
        private readonly ValidatorHome _home;

        public Opened(ValidatorHome home)
        {
            _home = home;
            Database = home.Settings.OpenDatabase(home.Path);
            Admin = new CopyAdmin(Database, $"db command at node {home.Settings.NodeId}");
        }

        public BlockReader Blocks => _home.Blocks;

        public Database Database { get; }

        public CopyAdmin Admin { get; }

        public ProjectionSource Source() => _home.ProjectionSource;

        public void Dispose()
        {
            Database.Dispose();
            _home.Dispose();
        }
    }
}
