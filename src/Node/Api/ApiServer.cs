using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Projection;
using CyberMesh.Node.Telemetry;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Api;

/// <summary>What the API reads. It never waits for consensus.</summary>
/// <param name="Intake">For transactions that people hand in; null where they are not taken.</param>
public sealed record ApiSources(
    Genesis Genesis, EpochSchedule Epochs, ProducerRegistry Producers, Func<string> Name, Func<ReplicaStatus> Status, Func<ImmutableArray<ValidatorIndex>> Connected, Func<ImmutableArray<CircuitBreaker>> Circuits, Func<bool> DiskIsFull,
    Projection.Projection Projection, Func<Height, BlockWithBodies?> ReadBlock, Func<Height, int, BlockProof?> ProveTransaction,
    Func<StateKey, CancellationToken, Task<BlockProof?>> ProveState, Func<Height, CertifiedHeader?> Certify, ViewHistory ViewHistory, TimeProvider Time, Metrics Metrics, AuditLog Audit, TransactionIntake? Intake);

/// <summary>The read-only HTTP API (docs/api.md). Errors are RFC 9457 problem details with a stable code and a hint.</summary>
public sealed partial class ApiServer : IAsyncDisposable
{
    private const int PageDefault = 50;
    private const int PageMax = 500;
    private readonly ApiSources _sources;
    private readonly WebApplication _app;
    private readonly AccessControl _access;
    private readonly CancellationTokenSource _stopping = new();

    public ApiServer(ApiSources sources, ApiAccess access, ILogger logger)
    {
        _sources = sources;
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(access.Listen, options => ApiTls.Use(options, access));
            if (access.AdminListen is { } admin) kestrel.Listen(admin, options => ApiTls.Use(options, access));
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = StreamsMax + 1000;
            kestrel.Limits.MaxRequestBodySize = 4096;
            kestrel.Limits.MaxRequestLineSize = 8 * 1024;
            kestrel.Limits.MaxRequestHeadersTotalSize = 32 * 1024;
            kestrel.Limits.KeepAliveTimeout = TimeSpan.FromSeconds(30);
            kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
        });
        builder.Services.AddRoutingCore();
        builder.Services.Configure<JsonOptions>(json => json.SerializerOptions.PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower);
        builder.Services.AddSingleton(new ForwardedLogger(logger));
        // The usual one would take SIGTERM for itself, and the validator would not hear of it.
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.Services.AddOpenApi("openapi", DescribeApi);
        _app = builder.Build();
        _access = new AccessControl(access, RefuseAccessAsync);
        _app.Use(HandleErrorsAsync);
        _app.UseRouting();
        _app.Use(_access.InvokeAsync);
        Map();
    }

    private sealed record ForwardedLogger(ILogger Logger);

    /// <summary>Whoever owns the process decides when it ends.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    /// <summary>Where it listens; known after <see cref="StartAsync"/>.</summary>
    public Uri Address => new(_app.Urls.First());

    public async Task StartAsync()
    {
        try
        {
            await _app.StartAsync().ConfigureAwait(false);
        }
        catch (System.IO.IOException problem)
        {
            throw new UserError($"the HTTP API cannot listen: {problem.Message}", "choose another API_LISTEN_ADDR or stop what uses it");
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync().ConfigureAwait(false);
        await _app.DisposeAsync().ConfigureAwait(false);
        _access.Dispose();
        _auditedRefusals.Dispose();
        _stopping.Dispose();
    }

    private static async Task HandleErrorsAsync(HttpContext context, RequestDelegate next)
    {
        try
        {
            await next(context).ConfigureAwait(false);
        }
        catch (Microsoft.AspNetCore.Http.BadHttpRequestException problem)
        {
            await Problem(problem.StatusCode, "bad_request", "The request is not well formed.", "Check the URL and its parameters.").ExecuteAsync(context).ConfigureAwait(false);
        }
        catch (Exception problem) when (problem is System.Data.Common.DbException or SchemaException or InvalidOperationException && !context.Response.HasStarted)
        {
            context.RequestServices.GetRequiredService<ForwardedLogger>().Logger.LogError(new EventId(60), problem, "request failed");
            await Problem(503, "unavailable", "The queryable copy cannot be read at the moment.", "Try again; see /health.").ExecuteAsync(context).ConfigureAwait(false);
        }
    }

    private static IResult Problem(int status, string code, string detail, string hint) => Results.Problem(
        detail, statusCode: status, title: code.Replace('_', ' '), type: "about:blank", extensions: new Dictionary<string, object?> { ["code"] = code, ["hint"] = hint });

    private IResult Health()
    {
        var status = _sources.Status();
        var connected = _sources.Connected();
        var quorum = status.Epoch.Validators.Quorum;
        var circuits = _sources.Circuits();
        var haveQuorum = connected.Length + 1 >= quorum;
        return Results.Ok(new JsonObject
        {
            ["status"] = haveQuorum && !_sources.DiskIsFull() && circuits.All(c => c.Status.State == CircuitState.Closed) ? "ok" : "degraded",
            ["validator"] = _sources.Name(),
            ["height"] = status.Height.Value,
            ["components"] = new JsonObject
            {
                ["consensus"] = new JsonObject
                {
                    ["status"] = haveQuorum ? "ok" : "no_quorum",
                    ["view"] = status.View.ToString(),
                    ["leader"] = NameOf(status.Leader),
                    ["changing_view"] = status.ChangingView,
                    ["catching_up"] = status.CatchingUp,
                    ["may_vote"] = status.MayVote,
                },
                ["peers"] = new JsonObject { ["connected"] = connected.Length, ["needed"] = quorum - 1, ["names"] = new JsonArray([.. connected.Select(i => (JsonNode)NameOf(i))]) },
                ["storage"] = new JsonObject { ["status"] = _sources.DiskIsFull() ? "full" : "ok" },
                ["circuits"] = new JsonArray([.. circuits.Select(Circuit)]),
                ["projection"] = new JsonObject { ["height"] = _sources.Projection.Height.Value, ["behind"] = Behind(status) },
                ["mempool"] = new JsonObject { ["transactions"] = status.PoolCount, ["bytes"] = status.PoolBytes },
            },
        });
    }

    /// <summary>
    /// Whether it does its work and answers from fresh data; why not, otherwise. A lost quorum is not among the reasons: what is committed is served all the same, and no
    /// orchestrator can bring a quorum back by moving this one.
    /// </summary>
    private IResult Ready()
    {
        var status = _sources.Status();
        var reasons = new List<string>();
        if (status.CatchingUp) reasons.Add($"it is catching up with the others, at height {status.Height}");
        if (_sources.DiskIsFull()) reasons.Add("the disk is full, and writes wait");
        reasons.AddRange(_sources.Circuits().Where(c => c.Status.State != CircuitState.Closed).Select(c => $"{c.Name}: {c.Status.Reason}"));
        return Results.Json(new { Status = reasons.Count == 0 ? "ready" : "not_ready", Reasons = reasons }, statusCode: reasons.Count == 0 ? 200 : 503);
    }

    private static JsonNode Circuit(CircuitBreaker circuit)
    {
        var status = circuit.Status;
        var state = status.State switch { CircuitState.Closed => "closed", CircuitState.HalfOpen => "half_open", CircuitState.Open => "open" };
        return new JsonObject { ["dependency"] = circuit.Name, ["state"] = state, ["reason"] = status.Reason, ["since"] = status.Since?.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture) };
    }

    private ulong Behind(ReplicaStatus status)
    {
        var projected = _sources.Projection.Height.Value;
        return status.Height.Value > projected ? status.Height.Value - projected : 0;
    }

    private IResult State()
    {
        var status = _sources.Status();
        return Results.Ok(new
        {
            ChainId = _sources.Genesis.Chain.ChainId.ToString(),
            Height = status.Height.Value,
            BlockHash = status.BlockDigest.ToString(),
            StateRoot = status.StateRoot.ToString(),
            BlockTime = Time(DateTimeOffset.FromUnixTimeMilliseconds(status.BlockTime.Milliseconds)),
        });
    }

    private IResult Validators()
    {
        var status = _sources.Status();
        var set = status.Epoch.Validators;
        var connected = _sources.Connected();
        return Results.Ok(new
        {
            Quorum = set.Quorum,
            Faulty = Core.Chain.Quorum.Faulty(set.Count),
            View = status.View.ToString(),
            Leader = NameOf(status.Leader),
            LeaderOrder = status.LeaderOrder.Select(NameOf),
            Epoch = status.Epoch.Epoch,
            NextOrder = status.NextOrder,
            OpenOrder = status.OpenOrder?.Digest().ToString(),
            Validators = set.Indices.Select(index => new
            {
                Index = index.Value,
                set[index].Name,
                ConsensusKey = set[index].ConsensusKey.ToString(),
                ControlKey = set[index].ControlKey.ToString(),
                status.Leaders[index.Value].Score,
                LeadsLateThroughTerm = status.Leaders[index.Value].RestsThrough == 0 ? (ulong?)null : status.Leaders[index.Value].RestsThrough,
                BarredThroughTerm = status.Leaders[index.Value].BarredThrough == 0 ? (ulong?)null : status.Leaders[index.Value].BarredThrough,
                Connected = index == status.Me || connected.Contains(index),
            }),
        });
    }

    private IResult Blocks(string? before, string? limit)
    {
        if (!TryLimit(limit, out var count)) return BadLimit();
        if (!TryHeight(before ?? long.MaxValue.ToString(CultureInfo.InvariantCulture), out var below))
            return Problem(400, "bad_parameter", "before must be a height.", "Pass the height of the last block you have.");
        var rows = _sources.Projection.Blocks(below, count);
        return Results.Ok(new { Blocks = rows.Select(View), Next = rows.Count == count ? rows[^1].Height.ToString(CultureInfo.InvariantCulture) : null });
    }

    private IResult Block(string reference, HttpContext context) =>
        OfBlock(reference, context, row => Results.Ok(new { Block = View(row), Transactions = _sources.Projection.Transactions(row.Height) }));

    private IResult BlockTransactions(string reference, HttpContext context) =>
        OfBlock(reference, context, row => Results.Ok(new { Transactions = _sources.Projection.Transactions(row.Height) }));

    private IResult OfBlock(string reference, HttpContext context, Func<BlockRow, IResult> answer)
    {
        BlockRow? row;
        if (reference == "latest") row = _sources.Projection.LatestBlock();
        else if (TryHeight(reference, out var height)) row = _sources.Projection.Block(height);
        else if (Digest.TryParse(reference, out var hash)) row = _sources.Projection.Block(hash.ToString());
        else return Problem(400, "bad_parameter", "A block is named by its height, its hash or 'latest'.", "A hash has 64 hex digits.");
        if (row is null) return Problem(404, "block_not_found", "This validator has no such block.", $"Its last block is {_sources.Status().Height}.");
        return IsKnown(context, row.Hash, isForGood: reference != "latest") ? Results.StatusCode(304) : answer(row);
    }

    /// <summary>Who has signed it, or the next block after it that this validator has a certificate of: not for good, as a nearer one may come.</summary>
    private IResult BlockCertificate(string reference, HttpContext context)
    {
        var block = OfBlock(reference, context, row => _sources.Certify(new Height(row.Height)) is { } certified
            ? Results.Ok(new
            {
                Height = row.Height,
                row.Hash,
                CertifiedHeight = certified.Commit.Height.Value,
                CertifiedHash = certified.Commit.Digest.ToString(),
                View = certified.Commit.View.ToString(),
                certified.Commit.Epoch,
                Signatures = certified.Commit.Signatures.Select(s => new { Validator = NameOf(s.Signer), Signature = s.Signature.ToString() }),
            })
            : Problem(503, "not_certified_here", "This validator has the block and no certificate of it.", "Ask another validator."));
        context.Response.Headers.Remove("ETag");
        context.Response.Headers.CacheControl = "no-cache";
        return block;
    }

    /// <summary>Tags the answer; true when the client has it already.</summary>
    /// <param name="isForGood">It never changes, so nobody needs to ask again.</param>
    private static bool IsKnown(HttpContext context, string content, bool isForGood)
    {
        var tag = $"\"{content}\"";
        context.Response.Headers.ETag = tag;
        context.Response.Headers.CacheControl = isForGood ? "private, max-age=31536000, immutable" : "no-cache";
        return context.Request.Headers.IfNoneMatch.ToString().Split(',').Any(known => known.Trim() is var one && (one == tag || one == "*"));
    }

    private IResult Transaction(string id) => Find(id) is { } row ? Results.Ok(row) : TransactionNotFound();

    /// <summary>Where the leader changed within a term: somebody waited for it in vain. Blocks do not say why; what this validator saw does.</summary>
    private IResult Views(string? before, string? limit)
    {
        if (!TryLimit(limit, out var count)) return BadLimit();
        if (!TryHeight(before ?? long.MaxValue.ToString(CultureInfo.InvariantCulture), out var below))
            return Problem(400, "bad_parameter", "before must be a height.", "Pass 'next' as it is.");
        var rows = _sources.Projection.ViewChanges(below, count);
        return Results.Ok(new
        {
            Views = rows,
            Seen = _sources.ViewHistory.Seen.Reverse().Select(s => new { At = Time(s.At), View = s.View.ToString(), s.Reason, s.SuspectedBy }),
            Next = rows.Count == count ? rows[^1].Height.ToString(CultureInfo.InvariantCulture) : null,
        });
    }

    private IResult Misbehaviour(string? cursor, string? limit) => Page(
        "misbehaviour", cursor, limit, null, [], (height, index, count, _) => _sources.Projection.Misbehaviour(height, index, count), row => (row.Height, row.Index), row => row);

    private IResult Orders(string? cursor, string? limit) => Page(
        "orders", cursor, limit, null, [], (height, index, count, _) => _sources.Projection.Orders(height, index, count), row => (row.Height, row.Index), row => row);

    private static object View(BlockRow row) => new
    {
        row.Height,
        row.Hash,
        row.Parent,
        Time = Time(row.Time),
        row.View,
        row.Proposer,
        row.TransactionCount,
        row.AcceptedCount,
        row.TransactionRoot,
        row.StateRoot,
    };

    // ---- The transparency log ---------------------------------------------------------------------------------

    private IResult Proof(string id, HttpContext context)
    {
        if (!_sources.Projection.TransparencyLog.IsComplete) return LogIncomplete();
        if (Find(id) is not { } row) return TransactionNotFound();
        if (_sources.Projection.TransparencyLog.Prove(row.Height, row.Index) is { } proof) return Text(proof.ToString());
        context.Response.Headers.RetryAfter = "1";
        return Problem(503, "not_yet_checkpointed", "It is committed, and no cosigned checkpoint covers it yet.", "Ask again in a second.");
    }

    private IResult BlockProofOf(string id) =>
        Find(id) is not { } row ? TransactionNotFound()
        : _sources.ProveTransaction(new Height(row.Height), row.Index) is { } proof ? Text(proof.ToString())
        : Problem(503, "not_certified_here", "This validator has the block and no certificate of it.", "Ask another validator.");

    private async Task<IResult> StateProofAsync(string key, HttpContext context)
    {
        if (!StateKey.TryParse(key, out var parsed)) return Problem(400, "bad_parameter", "This is no key of the state.", "Use one of: " + StateKey.Forms + ".");
        if (await _sources.ProveState(parsed, context.RequestAborted) is { } proof) return Text(proof.ToString());
        context.Response.Headers.RetryAfter = "1";
        return Problem(503, "not_yet_certified", "What stands there has changed, and no certified header names that state yet.", "Headers name the state some blocks below them: ask again in a second or two.");
    }

    /// <summary>The record as its producer published it, to be held against a proof.</summary>
    private IResult Message(string id)
    {
        if (Find(id) is not { } row || _sources.ReadBlock(new Height(row.Height)) is not { } block) return TransactionNotFound();
        if (block.Bodies.Length <= row.Index)
            return Problem(410, "message_expired", "This validator has let the message go; its digest, its result and their proofs are kept.", "Ask a validator that keeps messages longer (RETENTION_BODIES).");
        // The first byte of a body is the kind.
        return Results.Bytes(block.Bodies[row.Index][1..], "application/octet-stream");
    }

    private TransactionRow? Find(string id) => IsId(id) ? _sources.Projection.Transaction(id) : null;

    private static IResult TransactionNotFound() =>
        Problem(404, "transaction_not_found", "No committed transaction has this id or digest.", "It may still be waiting; see /health for the mempool.");

    private IResult Checkpoint()
    {
        if (!_sources.Projection.TransparencyLog.IsComplete) return LogIncomplete();
        return _sources.Projection.TransparencyLog.Checkpoint is { } note
            ? Text(note.ToString())
            : Problem(404, "no_checkpoint", "The log has no cosigned checkpoint yet.", "The first one comes within about a second of the first committed message.");
    }

    private IResult Tile(string path, HttpContext context)
    {
        if (!_sources.Projection.TransparencyLog.IsComplete) return LogIncomplete();
        if (!TilePath.TryParse(path, out var tile)) return Problem(400, "bad_parameter", "This is no path of a tile.", "Tiles are named as in C2SP tlog-tiles: /tile/<level>/<index>[.p/<width>].");
        var bytes = tile.Level is { } level ? _sources.Projection.TransparencyLog.Tile(level, tile.Index, tile.Width) : _sources.Projection.TransparencyLog.Bundle(tile.Index, tile.Width);
        if (bytes is null) return Problem(404, "tile_not_found", "The checkpoint does not cover this tile.", "See /checkpoint for the size of the log.");
        context.Response.Headers.CacheControl = "public, max-age=31536000, immutable";
        return Results.Bytes(bytes, "application/octet-stream");
    }

    private static IResult Text(string text) => Results.Text(text, "text/plain; charset=utf-8");

    private static IResult LogIncomplete() => Problem(
        503, "log_incomplete", "This validator has begun with a snapshot and lacks the entries below it.", "Ask another validator; proofs are the same from each.");

    private static bool TryHeight(string text, out ulong height) => ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out height);

    private static bool TryLimit(string? text, out int limit)
    {
        limit = PageDefault;
        return text is null || (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out limit) && limit is >= 1 and <= PageMax);
    }

    private static IResult BadLimit() => Problem(400, "bad_parameter", $"limit must be a whole number from 1 to {PageMax}.", "Leave it out for 50.");

    private static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    private string NameOf(ValidatorIndex index) => _sources.Epochs.Name(index);
}
