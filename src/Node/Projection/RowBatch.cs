using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Data.Common;
using System.Text;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Projection;

/// <summary>Text that is valid UTF-8 and has no zero byte, as it stands in a message.</summary>
internal sealed record Utf8Text(ReadOnlyMemory<byte> Bytes)
{
    public override string ToString() => Encoding.UTF8.GetString(Bytes.Span);
}

/// <summary>The rows of one transaction, sent in as few statements as possible: a server is asked per statement, not per row.</summary>
internal sealed class RowBatch(Database database, DbConnection connection, DbTransaction transaction)
{
    private const int BytesMax = 2 << 20;

    private readonly Dictionary<Table, List<object[]>> _inserts = [];

    /// <summary>By key: of several values the last counts, and a statement may name a row once.</summary>
    private readonly Dictionary<Table, Dictionary<object, object[]>> _puts = [];

    private readonly Dictionary<(Table Table, ImmutableArray<string> Changed), Dictionary<object, object[]>> _updates = [];
    private readonly Dictionary<Func<int, string>, List<object[]>> _later = [];
    private long _bytes;

    public DbConnection Connection => connection;

    public DbTransaction Transaction => transaction;

    public void Insert(Table table, params object[] values)
    {
        if (!_inserts.TryGetValue(table, out var rows)) _inserts[table] = rows = [];
        rows.Add(values);
        Count(values);
    }

    public void Put(Table table, params object[] values)
    {
        if (!_puts.TryGetValue(table, out var rows)) _puts[table] = rows = [];
        rows[KeyOf(table, values)] = values;
        Count(values);
    }

    /// <param name="changed">The same array each time: it names the statement.</param>
    public void Update(Table table, ImmutableArray<string> changed, params object[] values)
    {
        if (!_updates.TryGetValue((table, changed), out var rows)) _updates[(table, changed)] = rows = [];
        rows[KeyOf(table, values)] = values;
        Count(values);
    }

    /// <summary>After the new rows of all tables.</summary>
    /// <param name="statement">The same one each time, for so many rows.</param>
    public void Later(Func<int, string> statement, params object[] values)
    {
        if (!_later.TryGetValue(statement, out var rows)) _later[statement] = rows = [];
        rows.Add(values);
        Count(values);
    }

    private static object KeyOf(Table table, object[] values)
    {
        Invariant.Holds(table.KeyLength == 1, "what is put or updated has a key of one column");
        return values[0];
    }

    private void Count(object[] values)
    {
        foreach (var value in values) _bytes += value switch { string text => text.Length, Utf8Text text => text.Bytes.Length, byte[] bytes => bytes.Length, _ => 8 };
        if (_bytes > BytesMax) Flush();
    }

    /// <summary>What was added so far is in the database, for this transaction: new rows first, then what changed in them.</summary>
    public void Flush()
    {
        foreach (var (table, rows) in _inserts) Send(rows, table.Insert);
        foreach (var (table, rows) in _puts) Send([.. rows.Values], table.Put);
        foreach (var (update, rows) in _updates) Send([.. rows.Values], count => update.Table.Update(count, update.Changed));
        foreach (var (statement, rows) in _later) Send(rows, statement);
        _inserts.Clear();
        _puts.Clear();
        _updates.Clear();
        _later.Clear();
        _bytes = 0;
    }

    private void Send(List<object[]> rows, Func<int, string> statement) => database.Write(connection, transaction, statement, rows);
}
