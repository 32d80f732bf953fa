using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Data.Common;
using System.Linq;
using System.Text;
using System.Threading;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Projection;

/// <summary>
/// The transparency log in the queryable copy: its entries, made of the rows of transactions, the hashes that tiles and proofs are made of, and the newest cosigned checkpoint.
/// What it serves is convincing by itself: a wrong copy gives proofs that nobody accepts.
/// </summary>
public sealed class LogCopy
{
    /// <summary>Hashes in a full tile (C2SP tlog-tiles), and entries in a full bundle.</summary>
    public const int TileWidth = 256;

    private const int TileHeight = 8;

    /// <summary>Others can write to the database: what is wrong there is no broken invariant of this program.</summary>
    private const string Damaged = "rows of the log are missing or wrong in the database; 'cybermesh db verify' tells which";

    private static readonly Dictionary<string, AlertKind> Kinds = Enum.GetValues<AlertKind>().ToDictionary(k => k.Name(), StringComparer.Ordinal);
    private static readonly Dictionary<string, RejectionReason> Results = Enum.GetValues<RejectionReason>().ToDictionary(r => r.Code(), StringComparer.Ordinal);
    private readonly Database _database;
    private readonly Digest _chainId;
    private ulong _size;

    /// <summary>Leaf hashes of the entries that do not fill a tile yet; null until they are read.</summary>
    private List<Digest>? _tile;

    private long _complete;
    private SignedNote? _offered; // the newest one, on its way to the file
    private volatile SignedNote? _newest;

    internal LogCopy(Database database, Digest chainId) => (_database, _chainId) = (database, chainId);

    /// <summary>Entries that are copied.</summary>
    public ulong Size => System.Threading.Volatile.Read(ref _size);

    /// <summary>Goes on with what the database holds.</summary>
    internal void Load(DbConnection connection)
    {
        _size = _database.Scalar(connection, null, "SELECT l.first_position + b.tx_count FROM log_blocks l JOIN blocks b ON b.height = l.height ORDER BY l.height DESC LIMIT 1") is long size ? (ulong)size : 0;
        _tile = null;
        // A validator that took over a snapshot has not seen what is below it.
        Interlocked.Exchange(ref _complete, _database.Scalar(connection, null, "SELECT height FROM cursor WHERE name = 'log_gap'") is null ? 1 : 0);
        if (_database.Scalar(connection, null, "SELECT note FROM log_checkpoint WHERE id = 1") is string note && SignedNote.TryParse(Encoding.UTF8.GetBytes(note), out var stored))
            _newest = stored;
    }

    /// <summary>False on a validator that has begun with a snapshot: it lacks the entries below.</summary>
    public bool IsComplete => Interlocked.Read(ref _complete) == 1;

    /// <summary>Served once the copy holds all of its entries.</summary>
    public void Offer(SignedNote checkpoint) => Interlocked.Exchange(ref _offered, checkpoint);

    internal bool HasOffer => Offered is not null;

    /// <summary>The offer, once its entries are here.</summary>
    private (SignedNote Note, LogCheckpoint Checkpoint)? Offered =>
        _offered is { } note && LogCheckpoint.TryParse(note.Text, out var checkpoint) && checkpoint.Size <= _size ? (note, checkpoint) : null;

    /// <summary>There was a hole before this block: what follows it has no place here.</summary>
    internal void MarkGap(RowBatch batch)
    {
        _database.Execute(batch.Connection, batch.Transaction, "INSERT INTO cursor (name, height) VALUES ('log_gap', 1) ON CONFLICT DO NOTHING");
        Interlocked.Exchange(ref _complete, 0);
    }

    internal void Append(StoredBlockWithResults block, IReadOnlyList<AlertEnvelope> transactions, RowBatch batch)
    {
        if (!IsComplete || transactions.Count == 0) return;
        var header = block.Stored.Block.Block.Header;
        // Before this block's own rows are sent.
        _tile ??= [.. Hashes(batch.Connection, batch.Transaction, 0, _size / TileWidth * TileWidth, (int)(_size % TileWidth))];
        batch.Insert(Tables.LogBlocks, (long)header.Height.Value, (long)_size);
        for (var i = 0; i < transactions.Count; i++)
        {
            _tile.Add(new LogEntry(header.ChainId, header.Height, (uint)i, header.Time, transactions[i].Kind, block.Results[i], transactions[i].Digest).LeafHash());
            _size++;
            if (_tile.Count < TileWidth) continue;
            batch.Insert(Tables.LogNodes, (long)TileHeight, (long)(_size / TileWidth) - 1, Combine([.. _tile]).ToArray());
            _tile.Clear();
            for (var level = 2 * TileHeight; _size % (1UL << level) == 0; level += TileHeight)
            {
                var index = (_size >> level) - 1;
                batch.Flush();
                batch.Insert(Tables.LogNodes, (long)level, (long)index, Combine(Hashes(batch.Connection, batch.Transaction, level - TileHeight, index << TileHeight, TileWidth)).ToArray());
            }
        }
    }

    /// <summary>Two validators who share a copy may offer different ones: the larger stays.</summary>
    internal void KeepCheckpoint(RowBatch batch)
    {
        if (Offered is not { } offered) return;
        if (_newest is null || !LogCheckpoint.TryParse(_newest.Text, out var newest) || newest.Size <= offered.Checkpoint.Size)
        {
            _database.Execute(batch.Connection, batch.Transaction,
                "INSERT INTO log_checkpoint (id, note) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET note = excluded.note", offered.Note.ToString());
            _newest = offered.Note;
        }

        Interlocked.CompareExchange(ref _offered, null, offered.Note);
    }

    /// <summary>The newest checkpoint whose entries are all here; null before the first.</summary>
    public SignedNote? Checkpoint => IsComplete ? _newest : null;

    // ---- Queries ----------------------------------------------------------------------------------------------

    /// <summary>That the transaction at this place is in the log; null while no checkpoint covers it.</summary>
    public LogProof? Prove(ulong height, int index)
    {
        if (Checkpoint is not { } note || !LogCheckpoint.TryParse(note.Text, out var checkpoint)) return null;
        using var connection = _database.Open();
        if (_database.Scalar(connection, null, "SELECT first_position FROM log_blocks WHERE height = $1", (long)Math.Min(height, long.MaxValue)) is not long first) return null;
        var position = (ulong)first + (ulong)index;
        if (position >= checkpoint.Size || Entries(connection, null, position, 1) is not [var entry]) return null;
        return new LogProof([.. entry], position, MerkleProof.Inclusion(position, checkpoint.Size, (level, at) => Node(connection, level, at)), note);
    }

    /// <summary>Some hashes of a level of tiles, in order; null when the checkpoint does not cover them all.</summary>
    public byte[]? Tile(int level, ulong tile, int width)
    {
        if (Covered(level, tile, width) is null) return null;
        using var connection = _database.Open();
        var bytes = new byte[width * Digest.Size];
        var hashes = Hashes(connection, null, level * TileHeight, tile * TileWidth, width);
        for (var i = 0; i < width; i++) hashes[i].CopyTo(bytes.AsSpan(i * Digest.Size));
        return bytes;
    }

    /// <summary>A bundle of entries, each after its length in two bytes.</summary>
    public byte[]? Bundle(ulong tile, int width)
    {
        if (Covered(0, tile, width) is null) return null;
        using var connection = _database.Open();
        var bytes = new byte[width * (2 + LogEntry.Size)];
        var at = 0;
        foreach (var entry in Entries(connection, null, tile * TileWidth, width))
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

    private List<byte[]> Entries(DbConnection connection, DbTransaction? transaction, ulong from, int count)
    {
        static string Rows(string table, string kind, string result) =>
            $"SELECT l.first_position + t.position AS place, l.height, t.position, b.time_ms, {kind}, {result}, t.digest FROM log_blocks l JOIN blocks b ON b.height = l.height "
            + $"JOIN {table} t ON t.height = l.height WHERE l.first_position >= (SELECT max(first_position) FROM log_blocks WHERE first_position <= $1) AND l.first_position < $2 "
            + "AND l.first_position + t.position >= $1 AND l.first_position + t.position < $2";
        return count == 0 ? [] : _database.Query(
            connection, transaction, EntryOf, $"{Rows("alerts", "'anomaly'", "'accepted'")} UNION ALL {Rows("other_transactions", "t.kind", "t.result")} ORDER BY place", (long)from, (long)from + count);
    }

    private byte[] EntryOf(DbDataReader row)
    {
        if (!Kinds.TryGetValue(row.GetString(4), out var kind) || !Results.TryGetValue(row.GetString(5), out var result) || !Digest.TryParse(row.GetString(6), out var digest))
            throw new SchemaException(Damaged);
        return new LogEntry(_chainId, new Height((ulong)row.GetInt64(1)), (uint)row.GetInt64(2), new Timestamp(row.GetInt64(3)), kind, result, digest).Encode();
    }

    /// <summary>Roots of complete subtrees with 2^level leaves each; the level is a multiple of <see cref="TileHeight"/>.</summary>
    private Digest[] Hashes(DbConnection connection, DbTransaction? transaction, int level, ulong from, int count)
    {
        var hashes = level == 0
            ? Entries(connection, transaction, from, count).ConvertAll(entry => LogEntry.LeafHash(entry))
            : _database.Query(
                connection, transaction, r => Digest.From((byte[])r[0]), "SELECT hash FROM log_nodes WHERE level = $1 AND position >= $2 AND position < $3 ORDER BY position",
                (long)level, (long)from, (long)from + count);
        if (hashes.Count != count) throw new SchemaException(Damaged);
        return [.. hashes];
    }

    private Digest Node(DbConnection connection, int level, ulong index)
    {
        var stored = level / TileHeight * TileHeight;
        return Combine(Hashes(connection, null, stored, index << (level - stored), 1 << (level - stored)));
    }

    private static Digest Combine(Digest[] hashes)
    {
        for (var count = hashes.Length; count > 1; count /= 2)
            for (var i = 0; i < count / 2; i++)
                hashes[i] = MerkleTree.Node(hashes[2 * i], hashes[(2 * i) + 1]);
        return hashes[0];
    }
}
