using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Data;
using System.Data.Common;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Threading;

namespace CyberMesh.Node.Projection;

/// <param name="WritableFrom">The oldest version of the program's schema that may still write once this step was taken.</param>
internal sealed record Migration(long Version, string Name, long WritableFrom, ImmutableArray<string> Statements)
{
    public string Checksum { get; } = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join(";\n", Statements))));
}

/// <param name="AppliedMs">By the database's clock.</param>
internal sealed record AppliedMigration(long Version, string Name, string Checksum, long WritableFrom, long AppliedMs);

/// <summary>The database cannot be used as it is, and trying again does not help; the message says what would.</summary>
public sealed class SchemaException(string message) : Exception(message);

/// <summary>
/// Brings the tables to the program's version. Any number of validators may start at once: one at a time holds the lease, a row that expires, so one that
/// dies in the middle holds up the others for no longer than that. One statement at a time, without a transaction around them, as CockroachDB wants it.
/// </summary>
internal sealed class Migrator(Database database, DbConnection connection, ImmutableArray<Migration> migrations, string holder)
{
    private const int LeaseMs = 20_000;
    private const int Attempts = 400;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    /// <exception cref="SchemaException">It was made by a newer program that this one cannot write beside, or by something else.</exception>
    /// <exception cref="DbException">The database failed.</exception>
    public void Run()
    {
        Prepare();
        if (Missing(Applied()).Count == 0) return;
        // Somebody may have been here between the look and the lease.
        WithLease(() => Missing(Applied()).All(Apply));
    }

    /// <summary>Drops the tables, whoever made them, and takes all steps anew. Validators that use them meanwhile wait for the lease and go on with the new ones.</summary>
    public void Rebuild(IReadOnlyList<string> tables)
    {
        Prepare();
        WithLease(() =>
        {
            database.Execute(connection, null, "DELETE FROM schema_migrations");
            return tables.All(table => Execute($"DROP TABLE IF EXISTS {table}")) && migrations.All(Apply);
        });
    }

    private void Prepare() =>
        // Of several who do this at the same moment one can fail, IF NOT EXISTS or not; it finds the table when it looks again.
        Repeat(() =>
        {
            database.CreateSchema(connection);
            database.Execute(connection, null, "CREATE TABLE IF NOT EXISTS schema_lease (id INT8 PRIMARY KEY, holder TEXT NOT NULL, expires_ms INT8 NOT NULL)");
            database.Execute(connection, null,
                "CREATE TABLE IF NOT EXISTS schema_migrations (version INT8 PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, writable_from INT8 NOT NULL, applied_ms INT8 NOT NULL)");
        });

    /// <param name="action">False when the lease was lost in the middle: somebody else has gone on, and it begins again when it has the lease again.</param>
    private void WithLease(Func<bool> action)
    {
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            if (TakeLease())
            {
                try
                {
                    if (action()) return;
                }
                finally
                {
                    // Without a connection it expires by itself, and what broke the connection is what is to be told.
                    if (connection.State == ConnectionState.Open) database.Execute(connection, null, "DELETE FROM schema_lease WHERE holder = $1", holder);
                }
            }

            Thread.Sleep(Pause);
        }

        throw new SchemaException("another process holds the lease on the schema (table schema_lease) and does not finish; look at what runs there");
    }

    public List<AppliedMigration> Applied() => database.Query(
        connection, null, r => new AppliedMigration(r.GetInt64(0), r.GetString(1), r.GetString(2), r.GetInt64(3), r.GetInt64(4)),
        "SELECT version, name, checksum, writable_from, applied_ms FROM schema_migrations ORDER BY version");

    private List<Migration> Missing(List<AppliedMigration> applied)
    {
        foreach (var done in applied)
        {
            if (migrations.FirstOrDefault(m => m.Version == done.Version) is { } known && known.Checksum != done.Checksum)
                throw new SchemaException($"step {done.Version} ({done.Name}) of the schema is not the one this version of cybermesh knows; drop the tables with 'cybermesh db rebuild', or choose another DB_SCHEMA");
            if (done.WritableFrom > migrations[^1].Version)
                throw new SchemaException($"the schema is of version {done.Version}, beside which this version of cybermesh cannot write; upgrade cybermesh");
        }

        return [.. migrations.Where(m => applied.All(a => a.Version != m.Version))];
    }

    /// <summary>Also renews it.</summary>
    private bool TakeLease() => database.Scalar(connection, null,
        $"INSERT INTO schema_lease (id, holder, expires_ms) VALUES (1, $1, {database.Now} + {LeaseMs.ToString(CultureInfo.InvariantCulture)}) "
        + "ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, expires_ms = excluded.expires_ms "
        + $"WHERE schema_lease.expires_ms < {database.Now} OR schema_lease.holder = excluded.holder RETURNING holder", holder) is string taken && taken == holder;

    /// <returns>False when the lease was lost: somebody else has gone on.</returns>
    private bool Apply(Migration migration)
    {
        if (!migration.Statements.All(Execute)) return false;
        database.Execute(connection, null,
            $"INSERT INTO schema_migrations (version, name, checksum, writable_from, applied_ms) VALUES ($1, $2, $3, $4, {database.Now}) ON CONFLICT DO NOTHING",
            migration.Version, migration.Name, migration.Checksum, migration.WritableFrom);
        return true;
    }

    private bool Execute(string statement)
    {
        if (!TakeLease()) return false;
        Repeat(() => database.Execute(connection, null, database.Native(statement))); // whoever copies at this moment has locks on what is dropped
        return true;
    }

    private void Repeat(Action action)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                action();
                return;
            }
            // Unique violation in the catalogue, duplicate type, schema or table; tuple concurrently updated.
            catch (DbException problem) when (attempt < 20 && (problem.SqlState is "23505" or "42710" or "42P06" or "42P07" or "XX000" || database.IsConflict(problem)))
            {
                Thread.Sleep(Pause / 4);
            }
        }
    }
}
