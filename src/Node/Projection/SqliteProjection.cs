using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Projection;

public sealed record BlockRow(
    ulong Height, string Hash, string Parent, DateTimeOffset Time, string View, string Proposer, int TransactionCount, int AcceptedCount,
    string TransactionRoot, string StateRoot);

public sealed record TransactionRow(string Digest, ulong Height, int Index, string Kind, string Id, string Producer, string Result);

public sealed record AlertRow(
    string Digest, string Id, string Type, string Source, int Severity, int ConfidenceBasisPoints, DateTimeOffset Time, string ModelVersion,
    string Producer, string Organisation, ulong Height, int Index, string Payload);

/// <summary>
/// The queryable copy of the chain: an SQLite file fed from the block store at its own pace, idempotent by height. It never holds up
/// consensus and can be deleted at any time; it is rebuilt from the blocks.
/// </summary>
public sealed class SqliteProjection : IDisposable
{
    private const int BlocksPerTransaction = 200;
    private readonly string _path;
    private readonly BlockReader _blocks;
    private readonly EpochSchedule _epochs;
    private readonly ProducerRegistry _producers;
    private readonly ILogger _logger;
    private readonly SqliteConnection _writer;
    private readonly SemaphoreSlim _signal = new(0);
    private long _height;

    public SqliteProjection(string path, BlockReader blocks, EpochSchedule epochs, ProducerRegistry producers, ILogger logger)
    {
        _path = path;
        _blocks = blocks;
        _epochs = epochs;
        _producers = producers;
        _logger = logger;
        _writer = Open();
        LocalStore.Execute(_writer, """
            CREATE TABLE IF NOT EXISTS blocks (height INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, parent TEXT NOT NULL, time_ms INTEGER NOT NULL,
                view TEXT NOT NULL, proposer TEXT NOT NULL, tx_count INTEGER NOT NULL, accepted_count INTEGER NOT NULL, tx_root TEXT NOT NULL,
                state_root TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS transactions (height INTEGER NOT NULL, position INTEGER NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
                id TEXT NOT NULL, producer TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (height, position));
            CREATE INDEX IF NOT EXISTS transactions_by_digest ON transactions (digest);
            CREATE INDEX IF NOT EXISTS transactions_by_id ON transactions (id);
            CREATE TABLE IF NOT EXISTS alerts (digest TEXT PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, source TEXT NOT NULL, severity INTEGER NOT NULL,
                confidence_bp INTEGER NOT NULL, time_s INTEGER NOT NULL, model_version TEXT NOT NULL, producer TEXT NOT NULL, organisation TEXT NOT NULL,
                height INTEGER NOT NULL, position INTEGER NOT NULL, payload TEXT NOT NULL);
            CREATE INDEX IF NOT EXISTS alerts_by_id ON alerts (id);
            CREATE UNIQUE INDEX IF NOT EXISTS alerts_by_place ON alerts (height, position);
            CREATE TABLE IF NOT EXISTS evidence (digest TEXT PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, time_s INTEGER NOT NULL, producer TEXT NOT NULL,
                refs TEXT NOT NULL, custody_count INTEGER NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS policies (digest TEXT PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, rule TEXT NOT NULL, time_s INTEGER NOT NULL,
                producer TEXT NOT NULL, params BLOB NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS orders (digest TEXT PRIMARY KEY, number INTEGER NOT NULL, change TEXT NOT NULL, kind TEXT NOT NULL,
                height INTEGER NOT NULL, position INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS misbehaviour (digest TEXT PRIMARY KEY, validator TEXT NOT NULL, kind TEXT NOT NULL, view TEXT NOT NULL,
                slot_height INTEGER NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, height INTEGER NOT NULL);
            INSERT INTO cursor (name, height) VALUES ('blocks', 0) ON CONFLICT DO NOTHING;
            """);
        using var command = _writer.CreateCommand();
        command.CommandText = "SELECT height FROM cursor WHERE name = 'blocks'";
        _height = (long)command.ExecuteScalar()!;
        TransparencyLog = new LogCopy(_writer, Open);
    }

    public LogCopy TransparencyLog { get; }

    /// <summary>The last block the copy holds.</summary>
    public Height Height => new((ulong)Interlocked.Read(ref _height));

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = _path, Pooling = false }.ToString());
        connection.Open();
        // A copy may lose its last rows in a power cut: it reads them again from the blocks.
        LocalStore.Execute(connection, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;");
        return connection;
    }

    /// <summary>There may be new blocks.</summary>
    public void Wake()
    {
        if (_signal.CurrentCount == 0) _signal.Release();
    }

    public Task RunAsync(CancellationToken stop) => Task.Run(async () =>
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                if (CopyBlocks() > 0) continue;
                await _signal.WaitAsync(TimeSpan.FromSeconds(1), stop).ConfigureAwait(false);
            }
            catch (SqliteException problem)
            {
                TransparencyLog.Reload();
                Log.ProjectionRetry(_logger, problem.Message);
                await Task.Delay(TimeSpan.FromSeconds(1), stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }, CancellationToken.None);

    private int CopyBlocks()
    {
        var copied = 0;
        using var transaction = _writer.BeginTransaction();
        var height = _height;
        foreach (var block in _blocks.Read(new Height((ulong)height + 1)))
        {
            var next = (long)block.Stored.Block.Block.Height.Value;
            if (next != height + 1) TransparencyLog.MarkGap(transaction);
            Write(block, transaction);
            height = next;
            if (++copied == BlocksPerTransaction) break;
        }

        LocalStore.Execute(_writer, "UPDATE cursor SET height = $h WHERE name = 'blocks'", transaction, ("$h", height));
        TransparencyLog.KeepCheckpoint(transaction);
        transaction.Commit();
        Interlocked.Exchange(ref _height, height);
        return copied;
    }

    private void Write(StoredBlockWithResults block, SqliteTransaction transaction)
    {
        var header = block.Stored.Block.Block.Header;
        var height = (long)header.Height.Value;
        var accepted = 0;
        foreach (var result in block.Results)
            if (result == RejectionReason.None)
                accepted++;
        Execute("INSERT INTO blocks VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING", transaction,
            height, block.Stored.Block.Block.Digest.ToString(), header.Parent.ToString(), header.Time.Milliseconds, header.View.ToString(),
            _epochs.Name(header.Proposer), block.Results.Length, accepted, header.TransactionRoot.ToString(), block.StateRoot.ToString());
        var transactions = new List<AlertEnvelope>(block.Results.Length);
        for (var i = 0; i < block.Results.Length; i++)
        {
            var decoded = EnvelopeDecoder.TryDecodeBody(block.Stored.Block.Bodies[i], out var envelope, out _);
            Invariant.Holds(decoded, "a stored body decodes");
            Execute("INSERT INTO transactions VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING", transaction,
                height, i, envelope!.Digest.ToString(), envelope.Kind.Name(), envelope.Id, envelope.Producer.ToString(), block.Results[i].Code());
            if (block.Results[i] == RejectionReason.None) WriteContent(envelope, height, i, transaction);
            transactions.Add(envelope);
        }

        TransparencyLog.Append(block, transactions, transaction);
    }

    private void WriteContent(AlertEnvelope envelope, long height, int position, SqliteTransaction transaction)
    {
        _producers.TryFind(envelope.Producer, out var producer);
        var name = producer?.Name ?? envelope.Producer.ToString();
        switch (envelope.Content)
        {
            case AlertContent.Anomaly a:
                Execute("INSERT INTO alerts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), envelope.Id, a.Type, a.Source, (int)a.Severity, (int)a.ConfidenceBasisPoints, envelope.TimestampSeconds,
                    a.ModelVersion, name, producer?.Organisation ?? "", height, position,
                    System.Text.Encoding.UTF8.GetString(a.Payload.Span));
                break;
            case AlertContent.Evidence e:
                Execute("INSERT INTO evidence VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), envelope.Id, e.EvidenceType, envelope.TimestampSeconds, name, string.Join(' ', e.Refs), e.Custody.Length,
                    height, position);
                break;
            case AlertContent.Policy p:
                Execute("INSERT INTO policies VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), envelope.Id, p.Action, p.Rule, envelope.TimestampSeconds, name, p.Params.ToArray(), height, position);
                break;
            case AlertContent.Misbehaviour m:
                Execute("INSERT INTO misbehaviour VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), _epochs.Name(m.Proof.Offender), m.Proof.Kind.ToString(), m.Proof.First.View.ToString(),
                    (long)m.Proof.First.Height.Value, height, position);
                break;
            case AlertContent.Order o:
                Execute("INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), (long)o.Content.Number, o.Content.Digest().ToString(), o.Content.Change.GetType().Name, height, position);
                break;
            case AlertContent.Ready or AlertContent.Decided:
                break; // steps; what came of them the events tell
            default:
                throw Invariant.Unreachable(envelope.Content);
        }
    }

    private void Execute(string sql, SqliteTransaction transaction, params ReadOnlySpan<object> values)
    {
        using var command = _writer.CreateCommand();
        command.Transaction = transaction;
#pragma warning disable CA2100 // every caller passes a constant
        command.CommandText = sql;
#pragma warning restore CA2100
        for (var i = 0; i < values.Length; i++) command.Parameters.AddWithValue("$" + (i + 1).ToString(CultureInfo.InvariantCulture), values[i]);
        command.ExecuteNonQuery();
    }

    // ---- Queries ----------------------------------------------------------------------------------------------

    public BlockRow? Block(ulong height) => First("WHERE height = $1", BlockOf, BlockColumns, (long)Math.Min(height, long.MaxValue));

    public BlockRow? Block(string hash) => First("WHERE hash = $1", BlockOf, BlockColumns, hash);

    public BlockRow? LatestBlock() => First("ORDER BY height DESC LIMIT 1", BlockOf, BlockColumns);

    /// <summary>Newest first, below <paramref name="before"/>.</summary>
    public List<BlockRow> Blocks(ulong before, int limit) =>
        Query(BlockColumns + " WHERE height < $1 ORDER BY height DESC LIMIT $2", BlockOf, (long)Math.Min(before, long.MaxValue), limit);

    public List<TransactionRow> Transactions(ulong height) =>
        Query(TransactionColumns + " WHERE height = $1 ORDER BY position", TransactionOf, (long)Math.Min(height, long.MaxValue));

    /// <summary>By digest, or by the producer's id; of several the first accepted.</summary>
    public TransactionRow? Transaction(string digestOrId) =>
        First("WHERE digest = $1 OR id = $1 ORDER BY result <> 'accepted', height, position LIMIT 1", TransactionOf, TransactionColumns, digestOrId);

    /// <summary>Newest first, below the place (height, index).</summary>
    public List<AlertRow> Alerts(ulong beforeHeight, int beforeIndex, int limit) =>
        Query(AlertColumns + " WHERE height < $1 OR (height = $1 AND position < $2) ORDER BY height DESC, position DESC LIMIT $3", AlertOf,
            (long)Math.Min(beforeHeight, long.MaxValue), beforeIndex, limit);

    /// <summary>By transaction digest, or by the producer's id; of several with one id the first committed.</summary>
    public AlertRow? Alert(string digestOrId) =>
        First("WHERE digest = $1 OR id = $1 ORDER BY height, position LIMIT 1", AlertOf, AlertColumns, digestOrId);

    /// <summary>Every transaction of the given results, for accounting.</summary>
    /// <summary>Results of what producers published, in order.</summary>
    public List<(string Digest, string Result)> AllResults() =>
        Query("SELECT digest, result FROM transactions WHERE kind <> 'misbehaviour' ORDER BY height, position", r => (r.GetString(0), r.GetString(1)));

    public long AlertCount() => Query("SELECT count(*) FROM alerts", r => r.GetInt64(0))[0];

    private const string BlockColumns = "SELECT height, hash, parent, time_ms, view, proposer, tx_count, accepted_count, tx_root, state_root FROM blocks";

    private const string AlertColumns =
        "SELECT digest, id, type, source, severity, confidence_bp, time_s, model_version, producer, organisation, height, position, payload FROM alerts";

    private const string TransactionColumns = "SELECT digest, height, position, kind, id, producer, result FROM transactions";

    private static TransactionRow TransactionOf(SqliteDataReader r) =>
        new(r.GetString(0), (ulong)r.GetInt64(1), r.GetInt32(2), r.GetString(3), r.GetString(4), r.GetString(5), r.GetString(6));

    private static BlockRow BlockOf(SqliteDataReader r) => new(
        (ulong)r.GetInt64(0), r.GetString(1), r.GetString(2), DateTimeOffset.FromUnixTimeMilliseconds(r.GetInt64(3)), r.GetString(4), r.GetString(5),
        r.GetInt32(6), r.GetInt32(7), r.GetString(8), r.GetString(9));

    private static AlertRow AlertOf(SqliteDataReader r) => new(
        r.GetString(0), r.GetString(1), r.GetString(2), r.GetString(3), r.GetInt32(4), r.GetInt32(5), DateTimeOffset.FromUnixTimeSeconds(r.GetInt64(6)),
        r.GetString(7), r.GetString(8), r.GetString(9), (ulong)r.GetInt64(10), r.GetInt32(11), r.GetString(12));

    private T? First<T>(string where, Func<SqliteDataReader, T> map, string columns, params object[] values) where T : class
    {
        var rows = Query(columns + " " + where, map, values);
        return rows.Count == 0 ? null : rows[0];
    }

    /// <summary>Each query reads on a connection of its own, beside the writer.</summary>
    private List<T> Query<T>(string sql, Func<SqliteDataReader, T> map, params object[] values)
    {
        using var connection = Open();
        using var command = connection.CreateCommand();
#pragma warning disable CA2100 // every caller passes a constant
        command.CommandText = sql;
#pragma warning restore CA2100
        for (var i = 0; i < values.Length; i++) command.Parameters.AddWithValue("$" + (i + 1).ToString(CultureInfo.InvariantCulture), values[i]);
        using var reader = command.ExecuteReader();
        var rows = new List<T>();
        while (reader.Read()) rows.Add(map(reader));
        return rows;
    }

    public void Dispose()
    {
        _writer.Dispose();
        _signal.Dispose();
    }
}
