using System;
using System.Collections.Generic;
using System.Data;
using System.Data.Common;
using System.Linq;

namespace CyberMesh.Node.Projection;

/// <summary>
/// Where the queryable copy lives. All SQL is written in what SQLite, PostgreSQL and CockroachDB have in common (checked by a test); what differs
/// between them stands in the classes below and nowhere else.
/// </summary>
public abstract class Database : IDisposable
{
    /// <summary>For people; without secrets.</summary>
    public abstract string Name { get; }

    /// <summary>An expression: the database's own clock in milliseconds since 1970. Those who share a database share its clock.</summary>
    internal abstract string Now { get; }

    /// <summary>About so many transactions of the chain are copied in one of the database: few enough for a server on which others wait for its locks.</summary>
    internal virtual int CopiedAtOnce => 4_000;

    /// <summary>A connection for one user at a time, who disposes of it.</summary>
    /// <exception cref="DbException">It cannot be reached, or refuses.</exception>
    public abstract DbConnection Open();

    /// <summary>A transaction that sees one moment, whoever writes meanwhile.</summary>
    internal abstract DbTransaction BeginSnapshot(DbConnection connection);

    /// <summary>Makes the place for the tables, where there is such a thing.</summary>
    internal virtual void CreateSchema(DbConnection connection) { }

    /// <summary>A statement of the schema with what it leaves to the database (<see cref="Schema.InKeyOrder"/>).</summary>
    internal virtual string Native(string statement) => statement;

    /// <summary>The transaction lost against another one, and the same one may succeed now.</summary>
    internal abstract bool IsConflict(DbException problem);

    /// <summary>It is no database any more; <see cref="Discard"/> makes room for a new copy.</summary>
    internal virtual bool IsDamaged(DbException problem) => false;

    internal virtual void Discard() { }

    private protected abstract string ParameterName(int number);

    /// <param name="values">Of $1, $2, …: text (also as <see cref="Utf8Text"/>), whole numbers (64 bits), truth values, bytes, or DBNull.</param>
    /// <exception cref="DbException">The connection was lost before; the driver's own answer to that is an <see cref="InvalidOperationException"/>, as if the program were wrong.</exception>
    internal DbCommand Command(DbConnection connection, DbTransaction? transaction, string sql, params ReadOnlySpan<object> values)
    {
        if (connection.State != ConnectionState.Open) throw new ConnectionLostException();
        var command = connection.CreateCommand();
        command.Transaction = transaction;
#pragma warning disable CA2100 // constants, and statements put together from constant names
        command.CommandText = sql;
#pragma warning restore CA2100
        for (var i = 0; i < values.Length; i++)
        {
            var parameter = command.CreateParameter();
            parameter.ParameterName = ParameterName(i + 1);
            parameter.Value = values[i] switch { string text => Storable(text), Utf8Text text => text.ToString(), var value => value };
            command.Parameters.Add(parameter);
        }

        return command;
    }

    /// <summary>PostgreSQL has no text with U+0000 in it, and producers choose their texts: it becomes the picture of itself.</summary>
    internal static string Storable(string text) => text.Contains('\0', StringComparison.Ordinal) ? text.Replace('\0', '\u2400') : text;

    /// <returns>How many rows it changed.</returns>
    internal int Execute(DbConnection connection, DbTransaction? transaction, string sql, params ReadOnlySpan<object> values)
    {
        using var command = Command(connection, transaction, sql, values);
        return command.ExecuteNonQuery();
    }

    /// <summary>Statements have one of these numbers of rows, so that there are few different ones to prepare.</summary>
    private static readonly int[] Sizes = [256, 64, 16, 4, 1];

    /// <summary>Many rows. A server is asked per statement, so a statement takes as many as it can.</summary>
    /// <param name="statement">The one for so many rows; its parameters stand in the order of the values.</param>
    internal virtual void Write(DbConnection connection, DbTransaction transaction, Func<int, string> statement, IReadOnlyList<object[]> rows)
    {
        for (var sent = 0; sent < rows.Count;)
        {
            var size = Sizes.First(s => s <= rows.Count - sent);
            Execute(connection, transaction, statement(size), rows.Skip(sent).Take(size).SelectMany(r => r).ToArray());
            sent += size;
        }
    }

    /// <summary>The first column of the first row; null when there is no row.</summary>
    internal object? Scalar(DbConnection connection, DbTransaction? transaction, string sql, params ReadOnlySpan<object> values)
    {
        using var command = Command(connection, transaction, sql, values);
        return command.ExecuteScalar();
    }

    internal List<T> Query<T>(DbConnection connection, DbTransaction? transaction, Func<DbDataReader, T> map, string sql, params ReadOnlySpan<object> values)
    {
        using var command = Command(connection, transaction, sql, values);
        using var reader = command.ExecuteReader();
        var rows = new List<T>();
        while (reader.Read()) rows.Add(map(reader));
        return rows;
    }

    /// <summary>On a connection of its own.</summary>
    internal List<T> Query<T>(Func<DbDataReader, T> map, string sql, params ReadOnlySpan<object> values)
    {
        using var connection = Open();
        return Query(connection, null, map, sql, values);
    }

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected virtual void Dispose(bool disposing) { }

    private sealed class ConnectionLostException() : DbException("the connection to it was lost");
}
