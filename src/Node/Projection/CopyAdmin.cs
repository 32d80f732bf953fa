using System;
using System.Collections.Generic;
using System.Data.Common;
using System.Linq;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Projection;

/// <param name="Height">Last block of the copy.</param>
/// <param name="Missing">Steps of the schema that have not been taken.</param>
public sealed record CopyStatus(string Database, Height Height, IReadOnlyList<string> Steps, IReadOnlyList<string> Missing, IReadOnlyList<(string Node, long Waiting, DateTimeOffset Seen)> Outboxes);

/// <summary>What operators do with the copy's tables, beside validators that use them.</summary>
public sealed class CopyAdmin(Database database, string holder)
{
    /// <summary>Those of <see cref="Schema"/> that tell about the copying.</summary>
    private static readonly string[] Bookkeeping = ["cursor", "chain", "log_checkpoint", "outbox"];

    /// <summary>Brings the tables to this program's version.</summary>
    /// <exception cref="SchemaException">They cannot be brought there.</exception>
    public void Migrate()
    {
        using var connection = database.Open();
        Migrator(connection).Run();
    }

    private Migrator Migrator(DbConnection connection) => new(database, connection, Schema.Migrations, $"{holder} {Guid.NewGuid():N}");

    public CopyStatus Status()
    {
        using var connection = database.Open();
        var migrator = Migrator(connection);
        List<AppliedMigration> applied;
        try
        {
            applied = migrator.Applied();
        }
        catch (DbException problem) when (problem.SqlState is null or "42P01")
        {
            applied = []; // nobody has been here
        }

        var missing = Schema.Migrations.Where(m => applied.All(a => a.Version != m.Version)).Select(m => $"{m.Version} {m.Name}").ToArray();
        var steps = applied.Select(a => $"{a.Version} {a.Name} ({DateTimeOffset.FromUnixTimeMilliseconds(a.AppliedMs):yyyy-MM-dd HH:mm:ss} UTC)").ToArray();
        if (missing.Length > 0) return new CopyStatus(database.Name, default, steps, missing, []);
        var height = (long)(database.Scalar(connection, null, "SELECT height FROM cursor WHERE name = 'blocks'") ?? 0L);
        var outboxes = database.Query(connection, null, r => (r.GetString(0), r.GetInt64(1), DateTimeOffset.FromUnixTimeMilliseconds(r.GetInt64(2))), "SELECT node, waiting, seen_ms FROM outbox ORDER BY node");
        return new CopyStatus(database.Name, new Height((ulong)height), steps, missing, outboxes);
    }

    /// <summary>Drops the tables and makes them anew, empty: who copies next begins with the first block. A validator that runs notices and goes on.</summary>
    public void Drop()
    {
        using var connection = database.Open();
        Migrator(connection).Rebuild([.. Tables.All.Select(t => t.Name), .. Bookkeeping]);
    }
}
