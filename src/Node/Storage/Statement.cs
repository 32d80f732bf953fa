using System;
using System.Text;
using CyberMesh.Core.Primitives;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace CyberMesh.Node.Storage;

/// <summary>
/// A statement that runs again and again: SQLite reads its text once, and takes bytes from where they are. What
/// <see cref="SqliteCommand"/> would make of each run (boxes, binders, a copy of every blob) is most of its cost.
/// </summary>
internal sealed class Statement(SqliteConnection connection, string sql) : IDisposable
{
    private const int ShortText = 384;

    private sqlite3_stmt? _prepared;
    private int _next;

    /// <summary>The next parameter, in the order of the text.</summary>
    public Statement Bind(long value)
    {
        Check(raw.sqlite3_bind_int64(Prepared, ++_next, value));
        return this;
    }

    public Statement Bind(ReadOnlySpan<byte> value)
    {
        Check(raw.sqlite3_bind_blob(Prepared, ++_next, value));
        return this;
    }

    public Statement Bind(string value)
    {
        // The library would make an array of each. Of no bytes it would make NULL.
        Span<byte> utf8 = stackalloc byte[ShortText];
        if (value.Length is > 0 and <= ShortText / 3) return BindText(utf8[..Encoding.UTF8.GetBytes(value, utf8)]);
        Check(raw.sqlite3_bind_text(Prepared, ++_next, value));
        return this;
    }

    /// <param name="utf8">Text without a zero byte.</param>
    public Statement BindText(ReadOnlySpan<byte> utf8)
    {
        Check(raw.sqlite3_bind_text(Prepared, ++_next, utf8));
        return this;
    }

    public Statement BindNull()
    {
        Check(raw.sqlite3_bind_null(Prepared, ++_next));
        return this;
    }

    /// <summary>Within the transaction that is open, if one is.</summary>
    /// <returns>How many rows it changed.</returns>
    /// <exception cref="SqliteException">As of any other command.</exception>
    public int Run()
    {
        Invariant.Holds(!Read(), "a statement that is run gives no rows");
        return raw.sqlite3_changes(connection.Handle);
    }

    /// <summary>The next row; false after the last one, and then it may run again, as after a failure.</summary>
    /// <exception cref="SqliteException">As of any other command.</exception>
    public bool Read()
    {
        _next = 0;
        var result = raw.sqlite3_step(Prepared);
        if (result == raw.SQLITE_ROW) return true;
        raw.sqlite3_reset(Prepared);
        if (result != raw.SQLITE_DONE) Check(result);
        return false;
    }

    /// <summary>A column of the row that was read.</summary>
    public long Number(int column) => raw.sqlite3_column_int64(Prepared, column);

    /// <summary>A column of the row that was read, valid until the next one is.</summary>
    public ReadOnlySpan<byte> Bytes(int column) => raw.sqlite3_column_blob(Prepared, column);

    /// <summary>Not before it is used: its tables may be made later.</summary>
    private sqlite3_stmt Prepared
    {
        get
        {
            if (_prepared is not null) return _prepared;
            Check(raw.sqlite3_prepare_v2(connection.Handle, sql, out _prepared));
            return _prepared;
        }
    }

    private void Check(int result)
    {
        if (result != raw.SQLITE_OK) _next = 0;
        SqliteException.ThrowExceptionForRC(result, connection.Handle);
    }

    public void Dispose() => _prepared?.Dispose();
}
