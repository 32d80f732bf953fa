using System;
using System.Collections.Generic;
using System.Data.Common;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Node.Projection;

/// <summary>
/// Compares the copy with what the blocks say, row by row: the same blocks are copied into a file beside it, by the same code, and every row of either
/// must be in the other. Whoever can write to the database can change rows; nobody can do so unseen.
/// </summary>
public sealed class CopyCheck(Database database, BlockReader blocks, ProjectionSource source, TimeProvider time, Action<string> found)
{
    /// <summary>Rows that tell a producer's, a validator's or the log's whole past: without the first blocks they cannot be told.</summary>
    private static readonly HashSet<Table> OfWholePast = [Tables.Producers, Tables.Reputations, Tables.Validators, .. Tables.OfLog];

    public long Rows { get; private set; }

    public long Differences { get; private set; }

    /// <summary>The heights that were compared.</summary>
    public (Height First, Height Last) Range { get; private set; }

    /// <exception cref="DbException">The database failed.</exception>
    /// <exception cref="UserError">The copy is ahead of these blocks.</exception>
    public void Run()
    {
        var directory = Directory.CreateTempSubdirectory("cybermesh-check-");
        try
        {
            var file = Path.Combine(directory.FullName, "expected.db");
            using var connection = database.Open();
            // Making the rows takes long, so most are made before the moment at which the copy is looked at.
            MakeExpected(file, CopiedTo(connection, null));
            using var moment = database.BeginSnapshot(connection);
            var height = CopiedTo(connection, moment);
            MakeExpected(file, height);
            Range = (blocks.FirstHeight() ?? default, height);
            using var expected = new SqliteDatabase(file);
            using var right = expected.Open();
            foreach (var table in Tables.All)
                if (Range.First.Value <= 1 || !OfWholePast.Contains(table))
                    Compare(table, connection, moment, expected, right);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    private Height CopiedTo(DbConnection connection, DbTransaction? moment) => new((ulong)(long)(database.Scalar(connection, moment, "SELECT height FROM cursor WHERE name = 'blocks'") ?? 0L));

    private void MakeExpected(string file, Height height)
    {
        // Who shares a copy may be a block behind the one who writes it.
        for (var waited = 0; blocks.LastHeight() < height && waited < 100; waited++) Thread.Sleep(100);
        if (blocks.LastHeight() < height) throw new UserError($"the copy holds blocks up to {height}, this validator only up to {blocks.LastHeight()}", "let it catch up first");
        using var copy = new Projection(new SqliteDatabase(file), blocks, source, new CircuitBreaker("check", time), time, NullLogger.Instance) { Until = height };
        while (copy.Copy())
        {
            // as much as fits into a transaction each
        }
    }

    private void Compare(Table table, DbConnection actual, DbTransaction moment, Database expected, DbConnection right)
    {
        var heightColumn = table.Columns.IndexOf("height");
        var byKey = $"{table.Select} WHERE {table.WhereKey}";
        long matched = 0;
        using (var command = database.Command(actual, moment, table.Select))
        using (var reader = command.ExecuteReader())
            while (reader.Read())
            {
                var row = Values(reader);
                // What stood in blocks that are not here any more cannot be told.
                if (heightColumn >= 0 && (long)row[heightColumn] < (long)Range.First.Value) continue;
                Rows++;
                var rows = expected.Query(right, null, Values, byKey, row[..table.KeyLength]);
                if (rows.Count == 0)
                {
                    Report(table, row, "does not follow from the chain");
                    continue;
                }

                matched++;
                for (var i = table.KeyLength; i < row.Length; i++)
                    if (!IsSame(row[i], rows[0][i]) && !(rows[0][i] is DBNull && IsPlaceBelow(table, i, row)))
                        Report(table, row, $"{table.Columns[i]} is {Show(row[i])}, the chain says {Show(rows[0][i])}");
            }

        if ((long)expected.Scalar(right, null, $"SELECT count(*) FROM {table.Name}")! == matched) return;
        foreach (var row in expected.Query(right, null, Values, table.Select))
            if (database.Query(actual, moment, Values, byKey, row[..table.KeyLength]).Count == 0)
                Report(table, row, "is missing");
    }

    /// <summary>An alert was reported in a block that is not here any more, so from what is here nobody can tell its place.</summary>
    private bool IsPlaceBelow(Table table, int column, object[] row) =>
        table == Tables.AlertChanges && table.Columns[column] is "alert_height" or "alert_position" && row[table.Columns.IndexOf("alert_height")] is long height && height < (long)Range.First.Value;

    private void Report(Table table, object[] row, string what)
    {
        Differences++;
        found($"{table.Name} {string.Join(", ", table.Columns.Take(table.KeyLength).Select((k, i) => $"{k} {Show(row[i])}"))}: {what}");
    }

    /// <summary>Truth values are numbers in SQLite.</summary>
    private static object[] Values(DbDataReader reader)
    {
        var values = new object[reader.FieldCount];
        reader.GetValues(values);
        for (var i = 0; i < values.Length; i++)
            if (values[i] is bool truth)
                values[i] = truth ? 1L : 0L;
        return values;
    }

    private static bool IsSame(object a, object b) => a is byte[] x && b is byte[] y ? x.AsSpan().SequenceEqual(y) : a.Equals(b);

    private static string Show(object value) => value switch
    {
        DBNull => "empty",
        byte[] bytes => Convert.ToHexStringLower(bytes),
        string text => text.Length <= 80 ? $"'{text}'" : $"'{text[..80]}…'",
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };
}
