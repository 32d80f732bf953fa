using System;
using System.Collections.Generic;
using System.Data.Common;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Projection;

/// <summary>What the copy is made from, besides the blocks.</summary>
/// <param name="Node">Name of this validator in the database, and of the lease it takes.</param>
public sealed record ProjectionSource(Genesis Genesis, EpochSchedule Epochs, ProducerRegistry Producers, string Node);

/// <summary>
/// The queryable copy of the chain, fed from the block store at its own pace. It never holds up consensus and can be deleted at any time; it is rebuilt
/// from the blocks. The cursor row makes it idempotent: a transaction moves it from the height it continues, or does nothing. So it does not matter
/// whether a commit that was cut off took place, nor how many validators write to one copy: each block is written once, by whoever comes first.
/// </summary>
public sealed partial class Projection : IDisposable
{
    private static readonly TimeSpan PauseMax = TimeSpan.FromSeconds(5);

    /// <summary>What a block counts besides its transactions, against <see cref="AtOnce"/>.</summary>
    private const int BlockCounts = 20;
    private const int ConflictsMax = 10;
    private static readonly TimeSpan Idle = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan StatusInterval = TimeSpan.FromSeconds(10);

    private readonly Database _database;
    private readonly BlockReader _blocks;
    private readonly ProjectionSource _source;
    private readonly CircuitBreaker _circuit;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly SemaphoreSlim _signal = new(0);
    private TaskCompletionSource _advanced = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly string _holder;
    private DbConnection? _connection;
    private BlockRows? _rows;
    private long _height;
    private long _statusAt;

    private byte[]? _room;
    private int _roomTaken;

    /// <summary>The rows of what stands in it.</summary>
    private RowBatch? _batch;

    public Projection(Database database, BlockReader blocks, ProjectionSource source, CircuitBreaker circuit, TimeProvider time, ILogger logger)
    {
        _database = database;
        _blocks = blocks;
        _source = source;
        _circuit = circuit;
        _time = time;
        _logger = logger;
        _holder = $"{source.Node} {Guid.NewGuid():N}";
        TransparencyLog = new LogCopy(database, source.Genesis.Chain.ChainId);
        AtOnce = database.CopiedAtOnce;
    }

    public LogCopy TransparencyLog { get; }

    /// <summary>The last transaction was as large as one may be, so there is more.</summary>
    private bool _isBehind;

    /// <summary>About so many transactions are copied in one of the database.</summary>
    internal int AtOnce { get; init; }

    /// <summary>Of blocks whose rows are not sent yet.</summary>
    internal int RoomBytes { get; init; } = 2 << 20;

    /// <summary>Blocks above are left alone.</summary>
    public Height Until { get; init; } = new(long.MaxValue);

    /// <summary>The last block the copy holds, as far as this validator has seen.</summary>
    public Height Height => new((ulong)Interlocked.Read(ref _height));

    /// <summary>There may be new blocks.</summary>
    public void Wake()
    {
        if (_signal.CurrentCount == 0) _signal.Release();
    }

    private void Advance(long height)
    {
        Interlocked.Exchange(ref _height, height);
        Interlocked.Exchange(ref _advanced, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
    }

    /// <summary>Until the copy holds a block; false when it does not after so long.</summary>
    public async Task<bool> WaitAsync(Height height, TimeSpan timeout, CancellationToken stop)
    {
        var begun = _time.GetTimestamp();
        while (true)
        {
            // First the promise, then the look: what comes in between is not missed.
            var advanced = _advanced.Task;
            if (Height >= height) return true;
            var left = timeout - _time.GetElapsedTime(begun);
            if (left <= TimeSpan.Zero) return false;
            try
            {
                await advanced.WaitAsync(left, _time, stop).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                return false;
            }
        }
    }

    public Task RunAsync(CancellationToken stop) => Task.Run(async () =>
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                var begun = _time.GetTimestamp();
                if (!_circuit.MayTry()) await Task.Delay(Idle / 4, stop).ConfigureAwait(false);
                else if (!TryCopy()) await _signal.WaitAsync(Idle, stop).ConfigureAwait(false);
                else if (!_isBehind) await Task.Delay(PauseAfter(_time.GetElapsedTime(begun)), stop).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }, CancellationToken.None);

    /// <summary>
    /// Every transaction writes the pages of all indexes it touched, so many small ones cost many times what a few large ones do. The copy takes a quarter of
    /// its thread's time while it keeps up that way; a chain with little to copy waits for next to nothing.
    /// </summary>
    private static TimeSpan PauseAfter(TimeSpan copying) => copying * 3 < PauseMax ? copying * 3 : PauseMax;

    /// <summary>As <see cref="Copy()"/>; what fails is told to the circuit breaker.</summary>
    internal bool TryCopy()
    {
        try
        {
            var copied = Copy();
            _circuit.Succeeded();
            return copied;
        }
        catch (Exception problem) when (problem is DbException or SchemaException or TimeoutException or IOException)
        {
            if (problem is DbException damaged && _database.IsDamaged(damaged)) _database.Discard();
            _circuit.Failed($"{_database.Name}: {problem.Message}");
            Log.ProjectionRetry(_logger, problem.Message);
            return false;
        }
    }

    /// <summary>Copies what there is, in transactions of bounded size, connecting first where needed.</summary>
    /// <returns>Whether there may be more at once.</returns>
    /// <exception cref="DbException">The database cannot be reached, or failed; the next call begins with what it holds then.</exception>
    /// <exception cref="SchemaException">It cannot be used as it is.</exception>
    public bool Copy()
    {
        for (var conflicts = 0; ; conflicts++)
        {
            try
            {
                var connection = _connection ??= Connect();
                return Copy(connection);
            }
            catch (Exception problem)
            {
                // Whatever was under way, a commit above all: what the database holds at the next connection counts.
                Disconnect();
                if (problem is not DbException conflict || !_database.IsConflict(conflict) || conflicts == ConflictsMax) throw;
                // The whole transaction again, and not in step with whoever it met.
                Thread.Sleep(Random.Shared.Next(5, 20 << Math.Min(conflicts, 6)));
            }
        }
    }

    private DbConnection Connect()
    {
        var connection = _database.Open();
        try
        {
            new Migrator(_database, connection, Schema.Migrations, _holder).Run();
            var chain = _source.Genesis.Chain.ChainId.ToString();
            _database.Execute(connection, null, "INSERT INTO chain (id, chain_id) VALUES (1, $1) ON CONFLICT DO NOTHING", chain);
            if (_database.Scalar(connection, null, "SELECT chain_id FROM chain WHERE id = 1") is string other && other != chain)
                throw new SchemaException($"it holds the copy of another chain ({other}); choose another DB_SCHEMA, or another file");
            _database.Execute(connection, null, "INSERT INTO cursor (name, height) VALUES ('blocks', 0) ON CONFLICT DO NOTHING");
            if (!TryLoad(connection)) throw new SchemaException("its tables are just being made anew; the next try finds them");
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    private void Disconnect()
    {
        _connection?.Dispose();
        _connection = null;
    }

    /// <summary>Goes on with what the database holds: somebody else may have written, and of what was cut off nobody knows.</summary>
    /// <returns>False when the tables are not those of the beginning any more.</returns>
    private bool TryLoad(DbConnection connection)
    {
        if (_database.Scalar(connection, null, "SELECT height FROM cursor WHERE name = 'blocks'") is not long height) return false;
        Advance(height);
        TransparencyLog.Load(connection);
        _rows = new BlockRows(_database, connection, _source, TransparencyLog);
        return true;
    }

    private bool Copy(DbConnection connection)
    {
        (_batch, _roomTaken) = (null, 0);
        using var blocks = Next().GetEnumerator();
        var hasBlocks = blocks.MoveNext();
        var isStatusDue = _statusAt == 0 || _time.GetElapsedTime(_statusAt) > StatusInterval;
        if (!hasBlocks && !TransparencyLog.HasOffer && !isStatusDue) return false;
        using var transaction = connection.BeginTransaction();
        // Nobody else moves it from here on.
        if (_database.Execute(connection, transaction, "UPDATE cursor SET height = $1 WHERE name = 'blocks' AND height = $1", _height) == 0)
        {
            transaction.Rollback();
            if (!TryLoad(connection)) Disconnect();
            return true;
        }

        var batch = _batch = new RowBatch(_database, connection, transaction);
        var copied = new Height((ulong)_height);
        if (copied.Value == 0) _rows!.Begin(batch);
        for (; hasBlocks; hasBlocks = blocks.MoveNext())
        {
            var height = blocks.Current.Stored.Block.Block.Height;
            if (height != copied.Next) _rows!.Skip(batch, height);
            copied = height;
            _rows!.Write(blocks.Current, batch);
        }

        blocks.Dispose(); // while somebody reads, the store's log of writes cannot begin again
        batch.Flush(); // the producers of genesis, before there is a block
        var advances = (long)copied.Value != _height;
        if (advances)
        {
            _rows!.End(batch, _height, (long)copied.Value);
            _database.Execute(connection, transaction, "UPDATE cursor SET height = $1 WHERE name = 'blocks'", (long)copied.Value);
        }

        TransparencyLog.KeepCheckpoint(batch);
        if (isStatusDue) WriteStatus(batch);
        transaction.Commit();
        Advance((long)copied.Value);
        if (isStatusDue) _statusAt = _time.GetTimestamp();
        return advances;
    }

    /// <summary>Read while they are written, so that a large transaction does not hold all of them.</summary>
    private IEnumerable<StoredBlockWithResults> Next()
    {
        var count = 0;
        _isBehind = false;
        foreach (var block in _blocks.Read(Height.Next, Room))
        {
            if (block.Stored.Block.Block.Height > Until) break;
            // Of a block whose bodies have expired no rows can be made; it is a hole like those below a snapshot.
            if (block.Stored.IsPruned) continue;
            yield return block;
            count += BlockCounts + block.Results.Length;
            _isBehind = count >= AtOnce;
            if (_isBehind) break;
        }
    }

    /// <summary>
    /// For the bytes of the next block. Those of the blocks before are good until their rows are sent: payloads stay there until then, and nothing else does. Used again and again,
    /// they cost the collector nothing.
    /// </summary>
    private Memory<byte> Room(int bytes)
    {
        if (bytes > RoomBytes) return new byte[bytes];
        _room ??= GC.AllocateUninitializedArray<byte>(RoomBytes);
        if (_roomTaken + bytes > RoomBytes)
        {
            _batch?.Flush();
            _roomTaken = 0;
        }

        _roomTaken += bytes;
        return _room.AsMemory(_roomTaken - bytes, bytes);
    }

    /// <summary>What this validator has not published yet: for whoever watches several of them in one database.</summary>
    private void WriteStatus(RowBatch batch)
    {
        var (waiting, oldest) = _blocks.OutboxState();
        _database.Execute(batch.Connection, batch.Transaction,
            $"INSERT INTO outbox (node, waiting, oldest_height, seen_ms) VALUES ($1, $2, $3, {_database.Now}) "
            + "ON CONFLICT (node) DO UPDATE SET waiting = excluded.waiting, oldest_height = excluded.oldest_height, seen_ms = excluded.seen_ms",
            _source.Node, waiting, oldest is { } height ? (long)height.Value : DBNull.Value);
    }

    public void Dispose()
    {
        Disconnect();
        _database.Dispose();
        _signal.Dispose();
    }
}
