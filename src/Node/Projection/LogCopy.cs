using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Text;
using System.Threading;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Storage;
using Microsoft.Data.Sqlite;

namespace CyberMesh.Node.Projection;

/// <summary>
/// The transparency log in the queryable copy: its entries, the hashes that tiles and proofs are made of, and the newest cosigned checkpoint.
/// What it serves is convincing by itself: a wrong copy gives proofs that nobody accepts.
/// </summary>
public sealed class LogCopy
{
    /// <summary>Hashes in a full tile (C2SP tlog-tiles), and entries in a full bundle.</summary>
    public const int TileWidth = 256;

    private const int TileHeight = 8;
    private readonly Func<SqliteConnection> _open;
    private readonly SqliteConnection _writer;
    private ulong _size;
    private long _complete;
    private SignedNote? _offered; // the newest one, on its way to the file
    private volatile SignedNote? _newest;

    /// <param name="writer">Of the projection; only its writer's thread uses it.</param>
    /// <param name="open">A connection for one reader.</param>
    public LogCopy(SqliteConnection writer, Func<SqliteConnection> open)
    {
        _writer = writer;
        _open = open;
        LocalStore.Execute(writer, """
            CREATE TABLE IF NOT EXISTS log_entries (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
            CREATE TABLE IF NOT EXISTS log_blocks (height INTEGER PRIMARY KEY, first INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS log_nodes (level INTEGER NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, position)) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS log_checkpoint (id INTEGER PRIMARY KEY, note TEXT NOT NULL);
            """);
        _size = (ulong)Scalar("SELECT count(*) FROM log_entries");
        // A validator that took over a snapshot has not seen what is below it.
        _complete = Scalar("SELECT count(*) FROM cursor WHERE name = 'log_gap'") == 0 ? 1 : 0;
        using var command = writer.CreateCommand();
        command.CommandText = "SELECT note FROM log_checkpoint";
        if (command.ExecuteScalar() is string note && SignedNote.TryParse(Encoding.UTF8.GetBytes(note), out var stored)) _newest = stored;
    }

    /// <summary>False on a validator that has begun with a snapshot: it lacks the entries below.</summary>
    public bool IsComplete => Interlocked.Read(ref _complete) == 1;

    private long Scalar(string sql)
    {
        using var command = _writer.CreateCommand();
#pragma warning disable CA2100 // every caller passes a constant
        command.CommandText = sql;
#pragma warning restore CA2100
        return (long)command.ExecuteScalar()!;
    }

    /// <summary>Served once the copy holds all of its entries.</summary>
    public void Offer(SignedNote checkpoint) => Interlocked.Exchange(ref _offered, checkpoint);

    /// <summary>There was a hole before this block: what follows it has no place here.</summary>
    internal void MarkGap(SqliteTransaction transaction)
    {
        LocalStore.Execute(_writer, "INSERT INTO cursor (name, height) VALUES ('log_gap', 1) ON CONFLICT DO NOTHING", transaction);
        Interlocked.Exchange(ref _complete, 0);
    }

    internal void Append(StoredBlockWithResults block, IReadOnlyList<AlertEnvelope> transactions, SqliteTransaction transaction)
    {
        if (!IsComplete || transactions.Count == 0) return;
        var header = block.Stored.Block.Block.Header;
        LocalStore.Execute(_writer, "INSERT INTO log_blocks VALUES ($h, $f)", transaction, ("$h", (long)header.Height.Value), ("$f", (long)_size));
        for (var i = 0; i < transactions.Count; i++)
        {
            var entry = new LogEntry(header.ChainId, header.Height, (uint)i, header.Time, transactions[i].Kind, block.Results[i], transactions[i].Digest).Encode();
            LocalStore.Execute(_writer, "INSERT INTO log_entries VALUES ($p, $e)", transaction, ("$p", (long)_size), ("$e", entry));
            _size++;
            for (var level = TileHeight; _size % (1UL << level) == 0; level += TileHeight)
            {
                var index = (_size >> level) - 1;
                LocalStore.Execute(_writer, "INSERT INTO log_nodes VALUES ($l, $p, $h)", transaction,
                    ("$l", level), ("$p", (long)index), ("$h", Combine(Hashes(_writer, level - TileHeight, index << TileHeight, TileWidth)).ToArray()));
            }
        }
    }

    /// <summary>The transaction was rolled back: what is in the file counts.</summary>
    internal void Reload() => _size = (ulong)Scalar("SELECT count(*) FROM log_entries");

    internal void KeepCheckpoint(SqliteTransaction transaction)
    {
        if (_offered is not { } note || !LogCheckpoint.TryParse(note.Text, out var checkpoint) || checkpoint.Size > _size) return;
        LocalStore.Execute(_writer, "INSERT INTO log_checkpoint VALUES (1, $n) ON CONFLICT (id) DO UPDATE SET note = excluded.note", transaction, ("$n", note.ToString()));
        _newest = note;
        Interlocked.CompareExchange(ref _offered, null, note);
    }

    /// <summary>The newest checkpoint whose entries are all here; null before the first.</summary>
    public SignedNote? Checkpoint => IsComplete ? _newest : null;

    // ---- Queries ----------------------------------------------------------------------------------------------

    /// <summary>That the transaction at this place is in the log; null while no checkpoint covers it.</summary>
    public LogProof? Prove(ulong height, int index)
    {
        if (Checkpoint is not { } note || !LogCheckpoint.TryParse(note.Text, out var checkpoint)) return null;
        using var connection = _open();
        using var command = connection.CreateCommand();
        command.CommandText = "SELECT first FROM log_blocks WHERE height = $h";
        command.Parameters.AddWithValue("$h", (long)Math.Min(height, long.MaxValue));
        if (command.ExecuteScalar() is not long first) return null;
        var position = (ulong)first + (ulong)index;
        if (position >= checkpoint.Size || Entries(connection, position, 1) is not [var entry]) return null;
        return new LogProof([.. entry], position, MerkleProof.Inclusion(position, checkpoint.Size, (level, at) => Node(connection, level, at)), note);
    }

    /// <summary>Some hashes of a level of tiles, in order; null when the checkpoint does not cover them all.</summary>
    public byte[]? Tile(int level, ulong tile, int width)
    {
        if (Covered(level, tile, width) is null) return null;
        using var connection = _open();
        var bytes = new byte[width * Digest.Size];
        var hashes = Hashes(connection, level * TileHeight, tile * TileWidth, width);
        for (var i = 0; i < width; i++) hashes[i].CopyTo(bytes.AsSpan(i * Digest.Size));
        return bytes;
    }

    /// <summary>A bundle of entries, each after its length in two bytes.</summary>
    public byte[]? Bundle(ulong tile, int width)
    {
        if (Covered(0, tile, width) is null) return null;
        using var connection = _open();
        var bytes = new byte[width * (2 + LogEntry.Size)];
        var at = 0;
        foreach (var entry in Entries(connection, tile * TileWidth, width))
        {
            BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(at), (ushort)entry.Length);
            entry.CopyTo(bytes.AsSpan(at + 2));
            at += 2 + entry.Length;
        }

        return bytes;
    }

    private LogCheckpoint? Covered(int level, ulong tile, int width)
    {
        if (Checkpoint is not { } note || !LogCheckpoint.TryParse(note.Text, out var checkpoint)) return null;
        var hashes = checkpoint.Size >> (level * TileHeight);
        return tile <= hashes / TileWidth && (tile * TileWidth) + (ulong)width <= hashes ? checkpoint : null;
    }

    private static List<byte[]> Entries(SqliteConnection connection, ulong from, int count)
    {
        using var command = connection.CreateCommand();
        command.CommandText = "SELECT entry FROM log_entries WHERE position >= $f AND position < $t ORDER BY position";
        command.Parameters.AddWithValue("$f", (long)from);
        command.Parameters.AddWithValue("$t", (long)from + count);
        using var reader = command.ExecuteReader();
        var entries = new List<byte[]>(count);
        while (reader.Read()) entries.Add((byte[])reader[0]);
        return entries;
    }

    /// <summary>Roots of complete subtrees with 2^level leaves each; the level is a multiple of <see cref="TileHeight"/>.</summary>
    private static Digest[] Hashes(SqliteConnection connection, int level, ulong from, int count)
    {
        var hashes = new List<Digest>(count);
        if (level == 0)
        {
            foreach (var entry in Entries(connection, from, count)) hashes.Add(LogEntry.LeafHash(entry));
        }
        else
        {
            using var command = connection.CreateCommand();
            command.CommandText = "SELECT hash FROM log_nodes WHERE level = $l AND position >= $f AND position < $t ORDER BY position";
            command.Parameters.AddWithValue("$l", level);
            command.Parameters.AddWithValue("$f", (long)from);
            command.Parameters.AddWithValue("$t", (long)from + count);
            using var reader = command.ExecuteReader();
            while (reader.Read()) hashes.Add(Digest.From((byte[])reader[0]));
        }

        Invariant.Holds(hashes.Count == count, "the copy of the log has no holes");
        return [.. hashes];
    }

    private static Digest Node(SqliteConnection connection, int level, ulong index)
    {
        var stored = level / TileHeight * TileHeight;
        return Combine(Hashes(connection, stored, index << (level - stored), 1 << (level - stored)));
    }

    private static Digest Combine(Digest[] hashes)
    {
        for (var count = hashes.Length; count > 1; count /= 2)
            for (var i = 0; i < count / 2; i++)
                hashes[i] = MerkleTree.Node(hashes[2 * i], hashes[(2 * i) + 1]);
        return hashes[0];
    }
}
