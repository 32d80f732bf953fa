using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Projection;

/// <summary>
/// The queryable copy of the chain: an SQLite file fed from the block store at its own pace, idempotent by height. It never holds up
/// consensus and can be deleted at any time; it is rebuilt from the blocks, and so is one of an earlier version.
/// </summary>
public sealed partial class SqliteProjection : IDisposable
{
    private const int BlocksPerTransaction = 200;

    /// <summary>Of the tables below.</summary>
    private const long Version = 2;

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
        DropEarlierVersion();
        _writer = Open();
        LocalStore.Execute(_writer, $"""
            PRAGMA user_version = {Version};
            CREATE TABLE IF NOT EXISTS blocks (height INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, parent TEXT NOT NULL, time_ms INTEGER NOT NULL,
                view TEXT NOT NULL, proposer TEXT NOT NULL, tx_count INTEGER NOT NULL, accepted_count INTEGER NOT NULL, tx_root TEXT NOT NULL,
                state_root TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS transactions (height INTEGER NOT NULL, position INTEGER NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
                id TEXT NOT NULL, producer TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (height, position));
            CREATE INDEX IF NOT EXISTS transactions_by_digest ON transactions (digest);
            CREATE INDEX IF NOT EXISTS transactions_by_id ON transactions (id);
            CREATE TABLE IF NOT EXISTS alerts (digest TEXT PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, source TEXT NOT NULL, severity INTEGER NOT NULL,
                confidence_bp INTEGER NOT NULL, time_s INTEGER NOT NULL, model_version TEXT NOT NULL, producer TEXT NOT NULL, organisation TEXT NOT NULL,
                height INTEGER NOT NULL, position INTEGER NOT NULL, payload TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'reported', decided_by TEXT NOT NULL DEFAULT '');
            CREATE INDEX IF NOT EXISTS alerts_by_id ON alerts (id);
            CREATE INDEX IF NOT EXISTS alerts_by_status ON alerts (status, height, position);
            CREATE TABLE IF NOT EXISTS alert_changes (digest TEXT NOT NULL, height INTEGER NOT NULL, event INTEGER NOT NULL, status TEXT NOT NULL,
                decided_by TEXT NOT NULL, PRIMARY KEY (height, event));
            CREATE INDEX IF NOT EXISTS alert_changes_by_digest ON alert_changes (digest, height, event);
            CREATE UNIQUE INDEX IF NOT EXISTS alerts_by_place ON alerts (height, position);
            CREATE TABLE IF NOT EXISTS evidence (digest TEXT PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, time_s INTEGER NOT NULL, producer TEXT NOT NULL,
                custody_count INTEGER NOT NULL, custody_verified INTEGER NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL);
            CREATE INDEX IF NOT EXISTS evidence_by_id ON evidence (id);
            CREATE TABLE IF NOT EXISTS evidence_links (evidence TEXT NOT NULL, reference TEXT NOT NULL, alert TEXT, height INTEGER NOT NULL,
                event INTEGER NOT NULL, PRIMARY KEY (height, event));
            CREATE INDEX IF NOT EXISTS evidence_links_by_alert ON evidence_links (alert);
            CREATE INDEX IF NOT EXISTS evidence_links_by_evidence ON evidence_links (evidence);
            CREATE TABLE IF NOT EXISTS policies (digest TEXT PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, rule TEXT NOT NULL, time_s INTEGER NOT NULL,
                producer TEXT NOT NULL, params TEXT NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL, status TEXT NOT NULL DEFAULT 'proposed',
                until_ms INTEGER NOT NULL DEFAULT 0, decided_by TEXT NOT NULL DEFAULT '');
            CREATE INDEX IF NOT EXISTS policies_by_id ON policies (id);
            CREATE UNIQUE INDEX IF NOT EXISTS policies_by_place ON policies (height, position);
            CREATE TABLE IF NOT EXISTS policy_changes (digest TEXT NOT NULL, height INTEGER NOT NULL, event INTEGER NOT NULL, status TEXT NOT NULL,
                until_ms INTEGER NOT NULL, decided_by TEXT NOT NULL, PRIMARY KEY (height, event));
            CREATE INDEX IF NOT EXISTS policy_changes_by_digest ON policy_changes (digest, height, event);
            CREATE TABLE IF NOT EXISTS reputation_changes (producer TEXT NOT NULL, height INTEGER NOT NULL, event INTEGER NOT NULL, cause TEXT NOT NULL,
                before INTEGER NOT NULL, after INTEGER NOT NULL, message TEXT NOT NULL, message_id TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (height, event));
            CREATE INDEX IF NOT EXISTS reputation_changes_by_producer ON reputation_changes (producer, height, event);
            CREATE TABLE IF NOT EXISTS reputations (producer TEXT PRIMARY KEY, reputation INTEGER NOT NULL);
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

    private void DropEarlierVersion()
    {
        if (!System.IO.File.Exists(_path)) return;
        using (var connection = Open())
        {
            using var command = connection.CreateCommand();
            command.CommandText = "PRAGMA user_version";
            if ((long)command.ExecuteScalar()! == Version) return;
        }

        foreach (var suffix in (ReadOnlySpan<string>)["", "-wal", "-shm"]) System.IO.File.Delete(_path + suffix);
    }

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

        for (var i = 0; i < block.Events.Length; i++) WriteEvent(block.Events[i], height, i, transaction);
        TransparencyLog.Append(block, transactions, transaction);
    }

    /// <summary>What follows from the block besides its transactions: the ledger has told it, nothing is computed again here.</summary>
    private void WriteEvent(LedgerEvent change, long height, int number, SqliteTransaction transaction)
    {
        switch (change)
        {
            case LedgerEvent.AlertChanged e:
                Execute("UPDATE alerts SET status = $1, decided_by = $2 WHERE digest = $3", transaction, NameOf(e.Status), e.By, e.Alert.ToString());
                Execute("INSERT INTO alert_changes VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", transaction, e.Alert.ToString(), height, number, NameOf(e.Status), e.By);
                break;
            case LedgerEvent.ReputationChanged e:
                Execute("INSERT INTO reputation_changes VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING", transaction,
                    e.Producer, height, number, NameOf(e.Cause), e.Before, e.After, e.Message.ToString(), e.MessageId, e.Note);
                Execute("INSERT INTO reputations VALUES ($1, $2) ON CONFLICT (producer) DO UPDATE SET reputation = excluded.reputation", transaction, e.Producer, e.After);
                break;
            case LedgerEvent.EvidenceLinked e:
                Execute("INSERT INTO evidence_links VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", transaction,
                    e.Evidence.ToString(), e.Reference.ToString(), e.Alert is { } alert ? alert.ToString() : DBNull.Value, height, number);
                break;
            case LedgerEvent.PolicyChanged e:
                Execute("UPDATE policies SET status = $1, until_ms = $2, decided_by = $3 WHERE digest = $4", transaction,
                    NameOf(e.Status), e.Until.Milliseconds, e.By, e.Policy.ToString());
                Execute("INSERT INTO policy_changes VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING", transaction,
                    e.Policy.ToString(), height, number, NameOf(e.Status), e.Until.Milliseconds, e.By);
                break;
            default:
                throw Invariant.Unreachable(change);
        }
    }

    /// <summary>FalsePositive is false_positive.</summary>
    private static string NameOf<T>(T value) where T : struct, Enum => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString());

    private void WriteContent(AlertEnvelope envelope, long height, int position, SqliteTransaction transaction)
    {
        _producers.TryFind(envelope.Producer, out var producer);
        var name = producer?.Name ?? envelope.Producer.ToString();
        switch (envelope.Content)
        {
            case AlertContent.Anomaly a:
                Execute(
                    "INSERT INTO alerts (digest, id, type, source, severity, confidence_bp, time_s, model_version, producer, organisation, height, position, payload) "
                    + "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), envelope.Id, a.Type, a.Source, (int)a.Severity, (int)a.ConfidenceBasisPoints, envelope.TimestampSeconds,
                    a.ModelVersion, name, producer?.Organisation ?? "", height, position,
                    System.Text.Encoding.UTF8.GetString(a.Payload.Span));
                break;
            case AlertContent.Evidence e:
                Execute("INSERT INTO evidence VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), envelope.Id, e.EvidenceType, envelope.TimestampSeconds, name, e.Custody.Length,
                    envelope.CustodyVerified, height, position);
                break;
            case AlertContent.Policy p:
                Execute(
                    "INSERT INTO policies (digest, id, action, rule, time_s, producer, params, height, position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
                    + "ON CONFLICT DO NOTHING", transaction,
                    envelope.Digest.ToString(), envelope.Id, p.Action, p.Rule, envelope.TimestampSeconds, name, System.Text.Encoding.UTF8.GetString(p.Params.Span), height, position);
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

    public void Dispose()
    {
        _writer.Dispose();
        _signal.Dispose();
    }
}
