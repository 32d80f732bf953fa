using System;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace CyberMesh.Node.Storage;

/// <summary>
/// Transactions of a connection that writes many small ones. Those of the library read the text of BEGIN and COMMIT anew each time, and want to stand in each command. One at a time.
/// </summary>
internal sealed class WriteTransactions(SqliteConnection connection) : IDisposable
{
    private readonly Statement _begin = new(connection, "BEGIN IMMEDIATE");
    private readonly Statement _commit = new(connection, "COMMIT");
    private readonly Statement _rollback = new(connection, "ROLLBACK");

    /// <summary>Rolled back at the end of its scope when it was not committed.</summary>
    public Scope Begin()
    {
        _begin.Run();
        return new Scope(this);
    }

    private void RollBack()
    {
        // Some failures, a full disk among them, have ended it already.
        if (raw.sqlite3_get_autocommit(connection.Handle) == 0) _rollback.Run();
    }

    public void Dispose()
    {
        _begin.Dispose();
        _commit.Dispose();
        _rollback.Dispose();
    }

    internal readonly ref struct Scope(WriteTransactions owner) : IDisposable
    {
        /// <summary>The last thing in the scope.</summary>
        public void Commit() => owner._commit.Run();

        public void Dispose() => owner.RollBack();
    }
}
