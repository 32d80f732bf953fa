using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using Microsoft.Data.Sqlite;

namespace CyberMesh.Node.Storage;

/// <summary>The consensus log as it was found: either its records, or why they cannot be trusted.</summary>
public sealed record StoredLog(IReadOnlyList<DurableRecord> Records, string? Loss);

/// <summary>Where a Kafka record stood.</summary>
public readonly record struct SourcePosition(string Topic, int Partition, long Offset);

/// <summary>A block as read back, with the result of each of its transactions.</summary>
public sealed record StoredBlockWithResults(StoredBlock Stored, Digest StateRoot, ImmutableArray<RejectionReason> Results, ImmutableArray<LedgerEvent> Events);

/// <summary>
/// The truth of one validator: the consensus log (<c>votes.db</c>) apart from the blocks (<c>blocks.db</c>), both SQLite. The log is synced at every
/// commit: what is appended to it is durable on return. Blocks are durable after <see cref="SyncBlocks"/>; until then the log has them, with the votes for them. On a full disk it waits for space, and what depends on it waits with it; any
/// other error is final (a failed fsync cannot be retried) and the host stops. One thread writes the log, one the blocks; readers use their own connections.
/// </summary>
public sealed class LocalStore : IDisposable
{
    private const int StoreVersion = 4;
    private readonly FileStream _lock;
    private readonly SqliteConnection _votes;
    private readonly SqliteConnection _blocks;
    private readonly string _blocksPath;
    private readonly string _markPath;
    private readonly DiskSpace _space;
    private readonly ArrayBufferWriter<byte> _record = new(64 * 1024);
    private readonly ArrayBufferWriter<byte> _block = new(64 * 1024);
    private readonly Statement _insertRecord;
    private readonly Statement _insertBlock;
    private readonly Statement _insertOutbox;
    private readonly WriteTransactions _voteTransactions;
    private readonly WriteTransactions _blockTransactions;
    private readonly DigestIndex _results;
    private bool _marked;
    private long _lastLsn;
    private byte[] _lastHash = new byte[32];

    private LocalStore(FileStream fileLock, SqliteConnection votes, SqliteConnection blocks, string blocksPath, string markPath, DiskSpace space)
    {
        _space = space;
        _markPath = markPath;
        _lock = fileLock;
        _votes = votes;
        _blocks = blocks;
        _blocksPath = blocksPath;
        _insertRecord = new Statement(votes, "INSERT INTO log (lsn, hash, payload) VALUES (?, ?, ?)");
        _insertBlock = new Statement(blocks, "INSERT INTO blocks (height, digest, certified, payload, state_root, results, events) VALUES (?, ?, ?, ?, ?, ?, ?)");
        _insertOutbox = new Statement(blocks, "INSERT INTO outbox (height, delay_ms, due_ms) VALUES (?, ?, ?)");
        _voteTransactions = new WriteTransactions(votes);
        _blockTransactions = new WriteTransactions(blocks);
        _results = new DigestIndex(blocks, BlockReader.Results);
    }

    /// <param name="markPath">A small file beside the key, outside the directory: how far the log was written, so that a lost or restored directory is noticed.</param>
    /// <param name="prepare">Runs once nobody else can use the directory, before anything in it is opened.</param>
    /// <param name="space">Where writes wait while the disk is full; without it they wait for ever.</param>
    /// <exception cref="UserError">Another process uses it, it belongs to another chain or version, or it is damaged.</exception>
    public static LocalStore Open(string directory, Digest chainId, string markPath, Action? prepare = null, DiskSpace? space = null)
    {
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        const UnixFileMode others = UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;
        if ((File.GetUnixFileMode(directory) & others) != 0)
            throw new UserError($"{directory} is open to other users of this machine", $"chmod 700 {directory}; then ask who may have been there: whoever can change votes.db can make this validator vote twice");
        FileStream fileLock;
        try
        {
            fileLock = new FileStream(Path.Combine(directory, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException)
        {
            throw new UserError($"another process uses {directory}", "stop it first; two validators with one identity would vote twice");
        }

        try
        {
            prepare?.Invoke();
            var blocksPath = Path.Combine(directory, "blocks.db");
            var votes = ConnectVotes(Path.Combine(directory, "votes.db"));
            var blocks = Connect(blocksPath, "PRAGMA page_size=8192;", "NORMAL");
            var store = new LocalStore(fileLock, votes, blocks, blocksPath, markPath, space ?? new DiskSpace(default));
            store.Prepare(chainId);
            return store;
        }
        catch (UserError)
        {
            fileLock.Dispose();
            throw;
        }
        catch (SqliteException problem)
        {
            fileLock.Dispose();
            throw new UserError($"the store in {directory} cannot be opened: {problem.Message}", "check the disk; do not delete votes.db, it is what keeps this validator from voting twice");
        }
    }

    /// <summary>A file that is no database any more is put aside: the log counts as lost, and the mark tells.</summary>
    private static SqliteConnection ConnectVotes(string path)
    {
        try
        {
            return Connect(path, "PRAGMA page_size=16384; PRAGMA locking_mode=EXCLUSIVE;");
        }
        catch (SqliteException problem) when (problem.SqliteErrorCode is 11 or 26) // SQLITE_CORRUPT, SQLITE_NOTADB
        {
            File.Move(path, path + ".damaged", overwrite: true);
            File.Delete(path + "-wal");
            File.Delete(path + "-shm");
            return Connect(path, "PRAGMA page_size=16384; PRAGMA locking_mode=EXCLUSIVE;");
        }
    }

    private static SqliteConnection Connect(string path, string extra, string synchronous = "FULL")
    {
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Pooling = false }.ToString());
        try
        {
            connection.Open();
            Execute(connection, extra + $"PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA busy_timeout=5000;");
            // SQLite looks at the file only when it must; this makes it look now.
            Execute(connection, "SELECT count(*) FROM sqlite_master");
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    private void Prepare(Digest chainId)
    {
        Execute(_votes, """
            CREATE TABLE IF NOT EXISTS log (lsn INTEGER PRIMARY KEY, hash BLOB NOT NULL, payload BLOB NOT NULL);
            """);
        Execute(_blocks, """
            CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
            CREATE TABLE IF NOT EXISTS blocks (height INTEGER PRIMARY KEY, digest BLOB NOT NULL, certified INTEGER NOT NULL,
                payload BLOB NOT NULL, state_root BLOB NOT NULL, results BLOB NOT NULL, events BLOB NOT NULL, pruned INTEGER NOT NULL DEFAULT 0);
            CREATE INDEX IF NOT EXISTS blocks_by_digest ON blocks (digest);
            CREATE TABLE IF NOT EXISTS source_topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
            CREATE TABLE IF NOT EXISTS outbox (height INTEGER PRIMARY KEY, delay_ms INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL DEFAULT 0);
            """);
        _results.CreateTables();
        using (var sources = new DigestIndex(_blocks, BlockReader.Sources)) sources.CreateTables();
        CheckMeta("chain", chainId.ToArray(), "belongs to another chain", "use the directory of this chain, or an empty one");
        if (ReadMeta("version") is { } version && BitConverter.ToInt32(version) == 2)
        {
            // Version 3 notes others' blocks in the outbox too, and which blocks have lost their bodies.
            using var transaction = _blocks.BeginTransaction();
            Execute(_blocks, "ALTER TABLE outbox ADD COLUMN delay_ms INTEGER NOT NULL DEFAULT 0; ALTER TABLE outbox ADD COLUMN due_ms INTEGER NOT NULL DEFAULT 0; "
                + "ALTER TABLE blocks ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0", transaction);
            WriteMeta("version", BitConverter.GetBytes(3), transaction);
            transaction.Commit();
        }

        // Version 4 finds transactions in another way; what older versions noted stays where it is, and is looked for there too.
        if (ReadMeta("version") is { } before && BitConverter.ToInt32(before) == 3) WriteMeta("version", BitConverter.GetBytes(StoreVersion), null);

        CheckMeta("version", BitConverter.GetBytes(StoreVersion), "was written by another version of the store format", "use the version of cybermesh that wrote it");
        Execute(_blocks, "CREATE INDEX IF NOT EXISTS blocks_with_bodies ON blocks (height) WHERE pruned = 0");
    }

    private void CheckMeta(string name, byte[] expected, string what, string fix)
    {
        var stored = ReadMeta(name);
        if (stored is null) WriteMeta(name, expected, null);
        else if (!stored.AsSpan().SequenceEqual(expected)) throw new UserError($"the store {what}", fix);
    }

    // ---- Consensus log ----------------------------------------------------------------------------------------

    /// <summary>
    /// The records in the order they were written. Rows are numbered and hash-chained, and the last row is noted in the other file and
    /// beside the key, because SQLite silently cuts its own log at damage in the middle. A log that is not what was written is put aside
    /// and starts over: this validator may have voted and must not vote again before nothing it forgot can matter (rule A1).
    /// </summary>
    public StoredLog ReadLog()
    {
        var mark = Math.Max(ReadMeta("log_mark") is { } noted ? BinaryPrimitives.ReadInt64BigEndian(noted) : 0, ReadMark());
        var records = new List<DurableRecord>();
        var loss = ReadRows(_votes, records, ref _lastLsn, ref _lastHash);
        if (loss is null && mark > _lastLsn) loss = $"it ends at row {_lastLsn}, but row {mark} was written once";
        if (loss is null) return new StoredLog(records, null);

        Execute(_votes, "DROP TABLE IF EXISTS damaged; ALTER TABLE log RENAME TO damaged; CREATE TABLE log (lsn INTEGER PRIMARY KEY, hash BLOB NOT NULL, payload BLOB NOT NULL);");
        _lastLsn = Math.Max(mark, _lastLsn);
        return new StoredLog([], "the consensus log (votes.db) is not what this validator wrote: " + loss);
    }

    /// <summary>Looks at the log of a validator that does not run, and changes nothing.</summary>
    /// <returns>How many rows there are, and what is wrong with them; null when the validator runs.</returns>
    public static (int Rows, string? Problem)? CheckLog(string directory, string markPath)
    {
        try
        {
            using var fileLock = new FileStream(Path.Combine(directory, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            using var votes = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = Path.Combine(directory, "votes.db"), Mode = SqliteOpenMode.ReadOnly, Pooling = false }.ToString());
            votes.Open();
            var (records, lsn, hash) = (new List<DurableRecord>(), 0L, new byte[32]);
            var problem = ReadRows(votes, records, ref lsn, ref hash);
            var mark = File.Exists(markPath) && long.TryParse(File.ReadAllText(markPath), NumberStyles.None, CultureInfo.InvariantCulture, out var noted) ? noted : 0;
            return (records.Count, problem ?? (mark > lsn ? $"it ends at row {lsn}, but row {mark} was written once" : null));
        }
        catch (IOException)
        {
            return null;
        }
        catch (SqliteException problem)
        {
            return (0, problem.Message);
        }
    }

    /// <summary>Gives back to the disk what pruned and replaced rows have left; nobody else may use the directory.</summary>
    public void Compact()
    {
        Execute(_blocks, "PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        Execute(_votes, "VACUUM");
    }

    private static string? ReadRows(SqliteConnection votes, List<DurableRecord> records, ref long lastLsn, ref byte[] lastHash)
    {
        try
        {
            using var command = votes.CreateCommand();
            command.CommandText = "SELECT lsn, hash, payload FROM log ORDER BY lsn";
            using var reader = command.ExecuteReader();
            for (var first = true; reader.Read(); first = false)
            {
                var lsn = reader.GetInt64(0);
                var hash = (byte[])reader[1];
                var payload = (byte[])reader[2];
                var expected = first ? hash : ChainHash(lastHash, payload);
                if ((!first && lsn != lastLsn + 1) || !hash.AsSpan().SequenceEqual(expected) || !DurableRecordCodec.TryDecode(payload, out var record, out _))
                    return $"row {lsn} is damaged or does not follow row {lastLsn}";
                records.Add(record);
                (lastLsn, lastHash) = (lsn, hash);
            }

            return null;
        }
        catch (SqliteException problem) when (problem.SqliteErrorCode is 11 or 26)
        {
            return problem.Message;
        }
    }

    private long ReadMark() =>
        File.Exists(_markPath) && long.TryParse(File.ReadAllText(_markPath), NumberStyles.None, CultureInfo.InvariantCulture, out var mark) ? mark : 0;

    private void WriteMark()
    {
        Durable.Replace(_markPath, Encoding.UTF8.GetBytes(_lastLsn.ToString(CultureInfo.InvariantCulture)));
    }

    /// <summary>Appends a batch in one transaction with one sync.</summary>
    public void AppendLog(IReadOnlyList<DurableRecord> records)
    {
        var startsOver = _space.Await(() => TryAppendLog(records));
        // Rarely, because it costs; at once, because a validator that voted once must be known to have voted.
        if (startsOver || !_marked) _space.Await(WriteMark);
        _marked = true;
    }

    private bool TryAppendLog(IReadOnlyList<DurableRecord> records)
    {
        var (last, lastHash) = (_lastLsn, _lastHash);
        using var transaction = _voteTransactions.Begin();
        var startsOver = false;
        foreach (var record in records)
        {
            startsOver |= record is DurableRecord.Reset;
            if (record is DurableRecord.Reset) Execute(_votes, "DELETE FROM log");
            _record.ResetWrittenCount();
            DurableRecordCodec.Encode(record, _record);
            lastHash = ChainHash(lastHash, _record.WrittenSpan);
            _insertRecord.Bind(++last).Bind(lastHash).Bind(_record.WrittenSpan).Run();
        }

        transaction.Commit();
        _lastHash = lastHash;
        Volatile.Write(ref _lastLsn, last);
        return startsOver;
    }

    private static byte[] ChainHash(byte[] previous, ReadOnlySpan<byte> payload) => Digest.Sha256(previous.AsSpan(), payload).ToArray();

    // ---- Blocks -----------------------------------------------------------------------------------------------

    /// <summary>
    /// Stores a run of blocks and, in the same transaction, notes which of them this validator publishes, or will when others do not. A crash of this
    /// process takes none of it; one of the machine may, up to the last <see cref="SyncBlocks"/>.
    /// </summary>
    /// <param name="publishAfter">Zero for a block that is this validator's to publish, how long to wait for the others' records, or null.</param>
    public void AppendBlocks(IReadOnlyList<CommittedBlock> run, DateTimeOffset now, Func<BlockHeader, TimeSpan?> publishAfter) => _space.Await(() => TryAppendBlocks(run, now, publishAfter));

    private void TryAppendBlocks(IReadOnlyList<CommittedBlock> run, DateTimeOffset now, Func<BlockHeader, TimeSpan?> publishAfter)
    {
        using var transaction = _blockTransactions.Begin();
        Span<byte> digest = stackalloc byte[Digest.Size];
        foreach (var committed in run)
        {
            var results = new byte[2 * committed.Receipts.Length];
            var found = new DigestIndex.Entry[committed.Receipts.Length];
            for (var i = 0; i < committed.Receipts.Length; i++)
            {
                BinaryPrimitives.WriteUInt16BigEndian(results.AsSpan(2 * i), (ushort)committed.Receipts[i].Result);
                found[i] = new DigestIndex.Entry(committed.Receipts[i].Transaction, (long)committed.Receipts[i].Result, (long)committed.Block.Height.Value);
            }

            _results.Append(found);

            _block.ResetWrittenCount();
            StoredBlock.Of(committed).Encode(_block);
            committed.Block.Digest.CopyTo(digest);
            _insertBlock.Bind((long)committed.Block.Height.Value).Bind(digest).Bind(committed.Certificate is null ? 0 : 1).Bind(_block.WrittenSpan);
            committed.StateRoot.CopyTo(digest);
            _insertBlock.Bind(digest).Bind(results).Bind(LedgerEvent.Encode(committed.Events)).Run();
            if (publishAfter(committed.Block.Header) is { } delay)
                _insertOutbox.Bind((long)committed.Block.Height.Value).Bind((long)delay.TotalMilliseconds).Bind((now + delay).ToUnixTimeMilliseconds()).Run();
        }

        transaction.Commit();
    }

    /// <summary>All blocks appended so far are durable on return. Only then may the log forget them.</summary>
    public void SyncBlocks() => _space.Await(() =>
    {
        Execute(_blocks, "PRAGMA synchronous=FULL");
        // A commit syncs all that stands before it in the journal.
        using var transaction = _blocks.BeginTransaction();
        var mark = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(mark, Volatile.Read(ref _lastLsn));
        WriteMeta("log_mark", mark, transaction);
        transaction.Commit();
        Execute(_blocks, "PRAGMA synchronous=NORMAL");
    });

    private byte[]? ReadMeta(string name)
    {
        using var command = _blocks.CreateCommand();
        command.CommandText = "SELECT value FROM meta WHERE name = $n";
        command.Parameters.AddWithValue("$n", name);
        return command.ExecuteScalar() as byte[];
    }

    private void WriteMeta(string name, byte[] value, SqliteTransaction? transaction) =>
        Execute(_blocks, "INSERT INTO meta (name, value) VALUES ($n, $v) ON CONFLICT (name) DO UPDATE SET value = excluded.value", transaction, ("$n", name), ("$v", value));

    /// <summary>A connection for one reader; safe beside the writer.</summary>
    public BlockReader OpenReader() => new(Connect(_blocksPath, "", "NORMAL"), _space);

    /// <summary>For whoever looks from outside, also while a validator runs.</summary>
    /// <exception cref="UserError">There is no block store.</exception>
    public static BlockReader OpenReader(string directory)
    {
        var path = Path.Combine(directory, "blocks.db");
        if (!File.Exists(path)) throw new UserError($"{path} does not exist", "name the home directory of a validator that has run");
        return new BlockReader(Connect(path, "", "NORMAL"), new DiskSpace(default));
    }

    /// <summary>For other files on the same disk.</summary>
    public void WhenThereIsSpace(Action write) => _space.Await(write);

    internal static void Execute(SqliteConnection connection, string sql, SqliteTransaction? transaction = null, params ReadOnlySpan<(string Name, object Value)> parameters)
    {
        using var command = connection.CreateCommand();
        command.Transaction = transaction;
#pragma warning disable CA2100 // every caller passes a constant
        command.CommandText = sql;
#pragma warning restore CA2100
        foreach (var (name, value) in parameters) command.Parameters.AddWithValue(name, value);
        command.ExecuteNonQuery();
    }

    public void Dispose()
    {
        _insertRecord.Dispose();
        _insertBlock.Dispose();
        _insertOutbox.Dispose();
        _results.Dispose();
        _voteTransactions.Dispose();
        _blockTransactions.Dispose();
        _votes.Dispose();
        _blocks.Dispose();
        _lock.Dispose();
    }
}

/// <summary>
/// Reads blocks, transaction results and the outbox; also notes source positions and published heights. Those are small and not synced: what a power
/// failure takes of them is noted again, or published once more. Not thread-safe.
/// </summary>
public sealed class BlockReader(SqliteConnection connection, DiskSpace space) : IDisposable
{
    /// <summary>Names of the indexes: the result of each transaction, and the Kafka record that counts as its original.</summary>
    internal const string Results = "results";
    internal const string Sources = "origins";

    private readonly DigestIndex _results = new(connection, Results);
    private readonly DigestIndex _sources = new(connection, Sources);
    private bool? _isOfVersion3;

    public Height LastHeight()
    {
        using var command = Command("SELECT coalesce(max(height), 0) FROM blocks");
        return new Height((ulong)(long)command.ExecuteScalar()!);
    }

    public long Count()
    {
        using var command = Command("SELECT count(*) FROM blocks");
        return (long)command.ExecuteScalar()!;
    }

    /// <summary>The lowest block that has its bodies; null when there is none.</summary>
    public Height? FirstHeight()
    {
        using var command = Command("SELECT min(height) FROM blocks WHERE pruned = 0");
        return command.ExecuteScalar() is long height ? new Height((ulong)height) : null;
    }

    /// <summary>The first block missing above a height and below the last one stored; null when there is none.</summary>
    public Height? FirstGap(Height above)
    {
        using var command = Command(
            "SELECT min(h.height) FROM (SELECT $a + 1 AS height UNION SELECT height + 1 FROM blocks WHERE height > $a) h "
            + "WHERE h.height <= (SELECT coalesce(max(height), 0) FROM blocks) AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.height = h.height)",
            ("$a", (long)above.Value));
        return command.ExecuteScalar() is long gap ? new Height((ulong)gap) : null;
    }

    /// <summary>Blocks from a height on, in order; decoded one by one.</summary>
    /// <param name="room">Gives so many bytes for a block, which holds them: the largest part of what a busy validator reads. Without it each has its own.</param>
    public IEnumerable<StoredBlockWithResults> Read(Height from, Func<int, Memory<byte>>? room = null)
    {
        using var blocks = new Statement(connection, "SELECT payload, state_root, results, events FROM blocks WHERE height >= ? ORDER BY height");
        blocks.Bind((long)Math.Min(from.Value, long.MaxValue));
        // All of it is written to at once.
        room ??= length => GC.AllocateUninitializedArray<byte>(length);
        while (blocks.Read()) yield return Block(blocks, room);
    }

    private static StoredBlockWithResults Block(Statement row, Func<int, Memory<byte>> room)
    {
        var payload = room(row.Bytes(0).Length);
        row.Bytes(0).CopyTo(payload.Span);
        var stored = row.Bytes(2);
        var results = ImmutableArray.CreateBuilder<RejectionReason>(stored.Length / 2);
        for (; !stored.IsEmpty; stored = stored[2..]) results.Add(RejectionReasons.FromNumber(BinaryPrimitives.ReadUInt16BigEndian(stored)));
        return new StoredBlockWithResults(StoredBlock.Decode(payload), Digest.From(row.Bytes(1)), results.MoveToImmutable(), LedgerEvent.Decode(row.Bytes(3)));
    }

    /// <summary>An answer to a catch-up request: consecutive blocks ending at a certified one; null when there is nothing to give.</summary>
    public PeerMessage.Blocks? Serve(Height from, Height last)
    {
        var items = ImmutableArray.CreateBuilder<BlockWithBodies>();
        var certifiedCount = 0;
        QuorumCertificate? certificate = null;
        long bytes = 0;
        var expected = from;
        foreach (var block in Read(from))
        {
            // Below a snapshot of the others there can be a hole, and bodies expire.
            if (block.Stored.IsPruned || block.Stored.Block.Block.Height > last || block.Stored.Block.Block.Height != expected) break;
            expected = expected.Next;
            items.Add(block.Stored.Block);
            bytes += block.Stored.Block.Block.Header.BodyBytes;
            if (block.Stored.Certificate is { } found) (certificate, certifiedCount) = (found, items.Count);
            if (certificate is not null && (bytes >= Limits.AnswerBytesTarget || items.Count >= Limits.BlocksPerAnswerMax - 64)) break;
            if (items.Count == Limits.BlocksPerAnswerMax) break;
        }

        return certificate is null ? null : new PeerMessage.Blocks(items.ToImmutable()[..certifiedCount], certificate);
    }

    /// <summary>
    /// Takes the bodies out of the lowest blocks that are older than a time and below a height. What waits to be published keeps its own. Not synced: after a
    /// power failure it is done again.
    /// </summary>
    /// <returns>How many blocks it was, at most <paramref name="max"/>.</returns>
    public int Prune(Height below, Timestamp before, int max) => space.Await(() =>
    {
        using var transaction = connection.BeginTransaction();
        var pruned = new List<StoredBlock>();
        using (var select = Command(
                   "SELECT payload FROM blocks WHERE pruned = 0 AND height < $b AND height < (SELECT coalesce(min(height), $b) FROM outbox) ORDER BY height LIMIT $m",
                   ("$b", (long)Math.Min(below.Value, long.MaxValue)), ("$m", max)))
        {
            select.Transaction = transaction;
            using var reader = select.ExecuteReader();
            while (reader.Read())
            {
                var block = StoredBlock.Decode((byte[])reader[0]);
                if (block.Block.Block.Header.Time >= before) break;
                pruned.Add(block.Pruned());
            }
        }

        foreach (var block in pruned)
            LocalStore.Execute(connection, "UPDATE blocks SET payload = $p, pruned = 1 WHERE height = $h", transaction, ("$p", block.Encode()), ("$h", (long)block.Block.Block.Height.Value));
        transaction.Commit();
        return pruned.Count;
    });

    /// <summary>The header of a block with a commit certificate of it or of a descendant; null when it is not here, or none follows.</summary>
    public CertifiedHeader? Certify(Height height) => Certify(height, Read(height));

    /// <param name="blocks">From this height on.</param>
    public static CertifiedHeader? Certify(Height height, IEnumerable<StoredBlockWithResults> blocks)
    {
        var headers = ImmutableArray.CreateBuilder<BlockHeader>();
        foreach (var stored in blocks)
        {
            var block = stored.Stored.Block.Block;
            if (headers.Count == CertifiedHeader.HeadersMax || block.Height.Value != height.Value + (ulong)headers.Count) return null;
            headers.Add(block.Header);
            if (stored.Stored.Certificate is { } own) return new CertifiedHeader(headers.ToImmutable(), own);
            // A later block may carry one that is nearer.
            if (block.Seal is { } seal && seal.Height >= height) return new CertifiedHeader(headers.ToImmutable()[..(int)(seal.Height.Value - height.Value + 1)], seal);
        }

        return null;
    }

    /// <summary>The last block that has its own certificate.</summary>
    public CertifiedHeader? LastCertified()
    {
        var last = LastHeight().Value;
        for (var height = last; height > 0 && last - height < CertifiedHeader.HeadersMax; height--)
            foreach (var stored in Read(new Height(height)))
            {
                if (stored.Stored.Certificate is { } own) return new CertifiedHeader([stored.Stored.Block.Block.Header], own);
                break;
            }

        return null;
    }

    /// <summary>How the transaction was decided, if it is in a block. Accepted wins when a block repeats it.</summary>
    public RejectionReason? FindResult(Digest transaction)
    {
        long? least = null;
        foreach (var entry in _results.Find(transaction)) least = least < entry.First ? least : entry.First;
        if (IsOfVersion3(null))
        {
            using var command = Command("SELECT min(result) FROM transactions WHERE digest = $d", ("$d", transaction.ToArray()));
            if (command.ExecuteScalar() is long result) least = least < result ? least : result;
        }

        return least is { } found ? RejectionReasons.FromNumber((ushort)found) : null;
    }

    /// <summary>It was begun by a version that kept both in tables of their own.</summary>
    private bool IsOfVersion3(SqliteTransaction? within)
    {
        if (_isOfVersion3 is { } known) return known;
        using var command = Command("SELECT count(*) FROM sqlite_master WHERE name = 'transactions'");
        command.Transaction = within;
        _isOfVersion3 = (long)command.ExecuteScalar()! > 0;
        return _isOfVersion3.Value;
    }

    /// <summary>
    /// Which of these Kafka records this validator counts as the original of its transaction: the first one noted. All in one transaction, in this order.
    /// </summary>
    /// <param name="notes">With JustDecided, its block was stored since this process began, and nothing has been noted for it before.</param>
    public bool[] NoteSources(IReadOnlyList<(Digest Transaction, SourcePosition Position, bool JustDecided)> notes) => space.Await(() =>
    {
        using var transaction = connection.BeginTransaction();
        var noted = new Dictionary<Digest, SourcePosition>();
        var topics = new Dictionary<string, long>(StringComparer.Ordinal);
        var entries = new List<DigestIndex.Entry>();
        var original = new bool[notes.Count];
        for (var i = 0; i < original.Length; i++)
        {
            var (digest, position, justDecided) = notes[i];
            if (!noted.TryGetValue(digest, out var first))
            {
                if (!justDecided && SourceOf(digest, transaction) is { } before) first = before;
                else
                {
                    first = position;
                    entries.Add(new DigestIndex.Entry(digest, TopicNumber(position.Topic) << 32 | (uint)position.Partition, position.Offset));
                }

                noted[digest] = first;
            }

            original[i] = first == position;
        }

        _sources.Append(entries);
        transaction.Commit();
        return original;

        long TopicNumber(string topic)
        {
            if (topics.TryGetValue(topic, out var known)) return known;
            LocalStore.Execute(connection, "INSERT INTO source_topics (name) VALUES ($n) ON CONFLICT (name) DO NOTHING", transaction, ("$n", topic));
            using var select = Command("SELECT id FROM source_topics WHERE name = $n", ("$n", topic));
            select.Transaction = transaction;
            return topics[topic] = (long)select.ExecuteScalar()!;
        }
    });

    /// <summary>Which Kafka record counts as the original of a transaction here; null when none was noted.</summary>
    public SourcePosition? SourceOf(Digest transaction, SqliteTransaction? within = null)
    {
        foreach (var entry in _sources.Find(transaction))
        {
            using var topic = Command("SELECT name FROM source_topics WHERE id = $i", ("$i", entry.First >> 32));
            topic.Transaction = within;
            return new SourcePosition((string)topic.ExecuteScalar()!, (int)(entry.First & uint.MaxValue), entry.Second);
        }

        if (!IsOfVersion3(within)) return null;
        using var command = Command("SELECT topic, partition, record_offset FROM sources WHERE digest = $d", ("$d", transaction.ToArray()));
        command.Transaction = within;
        using var reader = command.ExecuteReader();
        return reader.Read() ? new SourcePosition(reader.GetString(0), reader.GetInt32(1), reader.GetInt64(2)) : null;
    }

    /// <summary>What is to be published now, lowest height first; those of others when their time was over and Kafka has worked for as long.</summary>
    public List<(Height Height, bool IsOwn)> Outbox(DateTimeOffset now, DateTimeOffset troubled, int max)
    {
        using var command = Command(
            "SELECT height, delay_ms FROM outbox WHERE delay_ms = 0 OR (due_ms <= $n AND $t + delay_ms <= $n) ORDER BY height LIMIT $m",
            ("$n", now.ToUnixTimeMilliseconds()), ("$t", troubled.ToUnixTimeMilliseconds()), ("$m", max));
        using var reader = command.ExecuteReader();
        var heights = new List<(Height, bool)>();
        while (reader.Read()) heights.Add((new Height((ulong)reader.GetInt64(0)), reader.GetInt64(1) == 0));
        return heights;
    }

    /// <summary>How many heights this validator has to publish, and the lowest of them.</summary>
    public (long Waiting, Height? Oldest) OutboxState()
    {
        using var command = Command("SELECT count(*), min(height) FROM outbox WHERE delay_ms = 0");
        using var reader = command.ExecuteReader();
        reader.Read();
        return (reader.GetInt64(0), reader.IsDBNull(1) ? null : new Height((ulong)reader.GetInt64(1)));
    }

    public void Published(Height height) => space.Await(() => LocalStore.Execute(connection, "DELETE FROM outbox WHERE height = $h", null, ("$h", (long)height.Value)));

    private SqliteCommand Command(string sql, params ReadOnlySpan<(string Name, object Value)> parameters)
    {
        var command = connection.CreateCommand();
#pragma warning disable CA2100 // every caller passes a constant
        command.CommandText = sql;
#pragma warning restore CA2100
        foreach (var (name, value) in parameters) command.Parameters.AddWithValue(name, value);
        return command;
    }

    public void Dispose()
    {
        _results.Dispose();
        _sources.Dispose();
        connection.Dispose();
    }
}
