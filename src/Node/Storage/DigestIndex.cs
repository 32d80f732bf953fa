using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using CyberMesh.Core.Primitives;
using Microsoft.Data.Sqlite;

namespace CyberMesh.Node.Storage;

/// <summary>
/// Finds by digest what was noted with it, and is written in the order of arrival: digests are random, so in an ordinary index each new one touches
/// another page of the disk, the more the larger it is. Here a batch is a sorted run of its own, and sixteen runs are merged into one, up to a size
/// (a log-structured merge tree: O'Neil, Cheng, Gawlick, O'Neil, 1996). Of two entries with one digest that meet, the one with the lower first number is
/// kept. Not thread-safe.
/// </summary>
/// <param name="name">Of its tables.</param>
internal sealed class DigestIndex(SqliteConnection connection, string name) : IDisposable
{
    private const int Fanout = 16;

    /// <summary>Runs of more entries are left as they are: one merge must not take for ever.</summary>
    private const int MergedMax = 1 << 18;

    private const int EntryBytes = Digest.Size + 2 * sizeof(long);

    /// <summary>As many as SQLite keeps on one page.</summary>
    private const int EntriesPerRow = 19;

    private readonly byte[] _row = new byte[EntriesPerRow * EntryBytes];
    private readonly Statement _insertRun = new(connection, $"INSERT INTO {name}_runs (level, entries) VALUES (?, ?) RETURNING run");
    private readonly Statement _insertRow = new(connection, $"INSERT INTO {name} (run, first, entries) VALUES (?, ?, ?)");
    private readonly Statement _select = new(connection, $"SELECT (SELECT e.entries FROM {name} e WHERE e.run = r.run AND e.first <= ? ORDER BY e.first DESC LIMIT 1) FROM {name}_runs r");
    private readonly Statement _selectRuns = new(connection, $"SELECT run, entries FROM {name}_runs WHERE level = ? AND entries <= ?");
    private readonly Statement _selectRows = new(connection, $"SELECT entries FROM {name} WHERE run = ?");
    private readonly Statement _deleteRows = new(connection, $"DELETE FROM {name} WHERE run = ?");
    private readonly Statement _deleteRun = new(connection, $"DELETE FROM {name}_runs WHERE run = ?");

    public readonly record struct Entry(Digest Key, long First, long Second) : IComparable<Entry>
    {
        public int CompareTo(Entry other) => Key != other.Key ? Key.CompareTo(other.Key) : First.CompareTo(other.First);
    }

    public void CreateTables() => LocalStore.Execute(connection, $"""
        CREATE TABLE IF NOT EXISTS {name}_runs (run INTEGER PRIMARY KEY, level INTEGER NOT NULL, entries INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS {name} (run INTEGER NOT NULL, first BLOB NOT NULL, entries BLOB NOT NULL, PRIMARY KEY (run, first)) WITHOUT ROWID;
        """);

    /// <summary>Adds a batch, within the transaction that is open.</summary>
    public void Append(IReadOnlyCollection<Entry> batch)
    {
        if (batch.Count == 0) return;
        Write([.. batch], 0);
        for (var level = 0; Runs(level) is { Count: >= Fanout } runs; level++)
        {
            var total = 0L;
            foreach (var (_, entries) in runs) total += entries;
            if (total > MergedMax) return;
            var merged = new List<Entry>((int)total);
            foreach (var (run, _) in runs)
            {
                _selectRows.Bind(run);
                while (_selectRows.Read()) Decode(_selectRows.Bytes(0), merged);
                _deleteRows.Bind(run).Run();
                _deleteRun.Bind(run).Run();
            }

            Write(merged, level + 1);
        }
    }

    /// <summary>All that was noted with this digest, in no order.</summary>
    public List<Entry> Find(Digest key)
    {
        Span<byte> wanted = stackalloc byte[Digest.Size];
        key.CopyTo(wanted);
        var found = new List<Entry>(1);
        _select.Bind(wanted);
        while (_select.Read())
            for (var row = _select.Bytes(0); row.Length >= EntryBytes; row = row[EntryBytes..])
                if (row[..Digest.Size].SequenceEqual(wanted))
                    found.Add(Decode(row));
        return found;
    }

    private List<(long Run, long Entries)> Runs(int level)
    {
        var runs = new List<(long, long)>();
        _selectRuns.Bind(level).Bind(MergedMax);
        while (_selectRuns.Read()) runs.Add((_selectRuns.Number(0), _selectRuns.Number(1)));
        return runs;
    }

    private void Write(List<Entry> entries, int level)
    {
        Sort(CollectionsMarshal.AsSpan(entries));
        var (kept, last) = (0, default(Digest?));
        for (var i = 0; i < entries.Count; i++)
        {
            if (entries[i].Key == last) continue;
            last = entries[i].Key;
            entries[kept++] = entries[i];
        }

        _insertRun.Bind(level).Bind(kept).Read();
        var run = _insertRun.Number(0);
        _insertRun.Read();
        for (var from = 0; from < kept; from += EntriesPerRow)
        {
            var filled = 0;
            for (; filled < EntriesPerRow && from + filled < kept; filled++) Encode(entries[from + filled], _row.AsSpan(filled * EntryBytes));
            _insertRow.Bind(run).Bind(_row.AsSpan(0, Digest.Size)).Bind(_row.AsSpan(0, filled * EntryBytes)).Run();
        }
    }

    /// <summary>Nearly always the first 64 bits tell, and numbers are sorted without a call for each two of them.</summary>
    private static void Sort(Span<Entry> entries)
    {
        var heads = new ulong[entries.Length];
        for (var i = 0; i < heads.Length; i++) heads[i] = entries[i].Key.Value.A;
        heads.AsSpan().Sort(entries);
        for (int from = 0, to; from < heads.Length; from = to)
        {
            for (to = from + 1; to < heads.Length && heads[to] == heads[from];) to++;
            entries[from..to].Sort();
        }
    }

    private static void Encode(Entry entry, Span<byte> to)
    {
        entry.Key.CopyTo(to);
        BinaryPrimitives.WriteInt64BigEndian(to[Digest.Size..], entry.First);
        BinaryPrimitives.WriteInt64BigEndian(to[(Digest.Size + sizeof(long))..], entry.Second);
    }

    private static void Decode(ReadOnlySpan<byte> row, List<Entry> into)
    {
        for (; row.Length >= EntryBytes; row = row[EntryBytes..]) into.Add(Decode(row));
    }

    /// <summary>The entry that the bytes begin with.</summary>
    private static Entry Decode(ReadOnlySpan<byte> bytes) =>
        new(Digest.From(bytes[..Digest.Size]), BinaryPrimitives.ReadInt64BigEndian(bytes[Digest.Size..]), BinaryPrimitives.ReadInt64BigEndian(bytes[(Digest.Size + sizeof(long))..]));

    public void Dispose()
    {
        foreach (var statement in (ReadOnlySpan<Statement>)[_insertRun, _insertRow, _select, _selectRuns, _selectRows, _deleteRows, _deleteRun]) statement.Dispose();
    }
}
