using System;
using System.Collections.Generic;
using System.Data.Common;
using System.Globalization;
using System.IO;
using System.Threading;
using CyberMesh.Node.Storage;
using Microsoft.Data.Sqlite;

namespace CyberMesh.Node.Projection;

/// <summary>The default: one file, no server.</summary>
public sealed class SqliteDatabase : Database
{
    /// <summary>A file of another form is written anew from the blocks.</summary>
    private const long FileVersion = 7;

    private readonly string _path;

    /// <summary>
    /// One connection for as long as there is somebody: with the last one SQLite takes the log of writes away, and what it needs to open the file again it could not make on a full disk.
    /// </summary>
    private SqliteConnection? _kept;

    private readonly Lock _keeping = new();

    public SqliteDatabase(string path)
    {
        _path = path;
        if (!File.Exists(path)) return;
        using var connection = Open();
        if ((long)Scalar(connection, null, "PRAGMA user_version")! is not (0 or FileVersion)) Discard();
    }

    public override string Name => "SQLite";

    internal override string Now => "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

    /// <summary>Nobody else writes, and identifiers and digests are random: each touches pages of its own, which are written once in a transaction.</summary>
    internal override int CopiedAtOnce => 32_000;

    public override DbConnection Open()
    {
        lock (_keeping) _kept ??= Connect();
        return Connect();
    }

    private SqliteConnection Connect()
    {
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = _path, Pooling = false }.ToString());
        try
        {
            connection.Open();
            // A copy may lose its last rows in a power cut: it reads them again from the blocks.
            Execute(connection, null, "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000; PRAGMA cache_size=-65536; PRAGMA wal_autocheckpoint=8192; PRAGMA temp_store=MEMORY;");
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>Row by row: there is nobody to be asked, and SQLite looks for each parameter among all of its statement.</summary>
    internal override void Write(DbConnection connection, DbTransaction transaction, Func<int, string> statement, IReadOnlyList<object[]> rows)
    {
        // By number: one that begins with a dollar sign is numbered by where it stands.
        using var prepared = new Statement((SqliteConnection)connection, statement(1).Replace('$', '?'));
        foreach (var row in rows)
        {
            foreach (var value in row)
            {
                _ = value switch
                {
                    string text => prepared.Bind(Storable(text)),
                    Utf8Text text => prepared.BindText(text.Bytes.Span),
                    long number => prepared.Bind(number),
                    bool truth => prepared.Bind(truth ? 1 : 0),
                    byte[] bytes => prepared.Bind(bytes),
                    DBNull => prepared.BindNull(),
                    _ => throw new ArgumentException($"a value of {value.GetType()}", nameof(rows)),
                };
            }

            prepared.Run();
        }
    }

    internal override DbTransaction BeginSnapshot(DbConnection connection) => ((SqliteConnection)connection).BeginTransaction(deferred: true);

    internal override void CreateSchema(DbConnection connection) => Execute(connection, null, "PRAGMA user_version = " + FileVersion.ToString(CultureInfo.InvariantCulture));

    internal override string Native(string statement) => statement.Replace(Schema.InKeyOrder, "WITHOUT ROWID", StringComparison.Ordinal);

    internal override bool IsConflict(DbException problem) => problem is SqliteException { SqliteErrorCode: 5 or 6 }; // SQLITE_BUSY, SQLITE_LOCKED

    internal override bool IsDamaged(DbException problem) => problem is SqliteException { SqliteErrorCode: 11 or 26 }; // SQLITE_CORRUPT, SQLITE_NOTADB

    internal override void Discard()
    {
        Release();
        foreach (var suffix in (ReadOnlySpan<string>)["", "-wal", "-shm"]) File.Delete(_path + suffix);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) Release();
    }

    private void Release()
    {
        lock (_keeping)
        {
            _kept?.Dispose();
            _kept = null;
        }
    }

    private protected override string ParameterName(int number) => "$" + number.ToString(CultureInfo.InvariantCulture);
}
