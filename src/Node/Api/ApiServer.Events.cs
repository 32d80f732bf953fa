using System;
using System.Buffers;
using System.Collections.Concurrent;
using System.Globalization;
using System.IO.Pipelines;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using Microsoft.AspNetCore.Http;

namespace CyberMesh.Node.Api;

/// <summary>
/// Committed blocks as they come, as server-sent events (WHATWG HTML, section 9.2): one event for each block with its transactions and what changed, the height its
/// id, so that a client that was cut off goes on where it was. Each block is read and written down once for all who listen.
/// </summary>
public sealed partial class ApiServer
{
    /// <summary>Streams at one time; each holds a connection.</summary>
    internal const int StreamsMax = 2048;

    /// <summary>Written blocks that are remembered: for those who listen all are about the newest.</summary>
    private const int EventsRemembered = 256;

    /// <summary>Blocks that go out together at most.</summary>
    private const int EventsPerWrite = 64;

    /// <summary>A thousand streams are written to three times a second each, or readers would take the cores from consensus.</summary>
    private static readonly TimeSpan PausePerStream = TimeSpan.FromMicroseconds(300);

    private static readonly TimeSpan KeepAlivePeriod = TimeSpan.FromSeconds(15);

    /// <summary>So many streams are written to at one time. A block wakes all listeners at once, and without it consensus would stand behind all of them in the queue of the thread pool.</summary>
    private const int WritersMax = 1;

    private static readonly JsonSerializerOptions EventJson = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
    private static readonly byte[] KeepAlive = ": keep-alive\n\n"u8.ToArray();

    private readonly ConcurrentDictionary<ulong, Lazy<byte[]?>> _events = new();
    private readonly SemaphoreSlim _writers = new(WritersMax);
    private int _streams;

    private async Task EventsAsync(HttpContext context)
    {
        var after = context.Request.Headers["Last-Event-ID"].ToString() is { Length: > 0 } header ? header : context.Request.Query["after"].ToString();
        var next = _sources.Projection.Height.Value + 1;
        if (after.Length > 0)
        {
            if (!TryHeight(after, out var seen) || seen == ulong.MaxValue)
            {
                await Problem(400, "bad_parameter", "Last-Event-ID is the height of the last block you have.", "Leave it out to begin with the next block.").ExecuteAsync(context).ConfigureAwait(false);
                return;
            }

            next = seen + 1;
        }

        if (Interlocked.Increment(ref _streams) > StreamsMax)
        {
            Interlocked.Decrement(ref _streams);
            context.Response.Headers.RetryAfter = "10";
            await Problem(503, "too_many_streams", $"{StreamsMax} streams are open.", "Try again later, or at another validator.").ExecuteAsync(context).ConfigureAwait(false);
            return;
        }

        using var end = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, _stopping.Token);
        try
        {
            context.Response.ContentType = "text/event-stream; charset=utf-8";
            context.Response.Headers.CacheControl = "no-cache";
            context.Response.Headers["X-Accel-Buffering"] = "no"; // proxies that collect answers would hold events back
            await context.Response.Body.FlushAsync(end.Token).ConfigureAwait(false);
            while (!end.IsCancellationRequested)
            {
                var isThere = await _sources.Projection.WaitAsync(new Height(next), KeepAlivePeriod, end.Token).ConfigureAwait(false);
                await _writers.WaitAsync(end.Token).ConfigureAwait(false);
                ValueTask<FlushResult> flushed;
                try
                {
                    flushed = WriteEvents(context.Response.BodyWriter, isThere, ref next, end.Token);
                }
                finally
                {
                    _writers.Release();
                }

                // One that reads slowly waits here, and nobody waits for it.
                await flushed.ConfigureAwait(false);
                // The first block after a pause goes out at once; of many the next ones wait for company, the longer the more listen, and not all listeners in step.
                if (isThere) await Task.Delay(PausePerStream * Volatile.Read(ref _streams) * (0.75 + (Random.Shared.NextDouble() / 2)), end.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (end.IsCancellationRequested)
        {
            // the client has gone, or this validator stops
        }
        finally
        {
            Interlocked.Decrement(ref _streams);
        }
    }

    /// <summary>What there is from the next block on, or a sign of life.</summary>
    private ValueTask<FlushResult> WriteEvents(PipeWriter stream, bool isThere, ref ulong next, CancellationToken stop)
    {
        if (!isThere) stream.Write(KeepAlive);
        for (var blocks = 0; blocks < EventsPerWrite && next <= _sources.Projection.Height.Value; blocks++)
        {
            if (EventOf(next) is { } written)
            {
                stream.Write(written);
                next++;
                continue;
            }

            // Where this validator began with a snapshot there is a hole.
            next = _sources.Projection.FirstHeightFrom(next);
            stream.Write(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"event: missing\nid: {next - 1}\ndata: {{\"up_to\":{next - 1}}}\n\n")));
        }

        return stream.FlushAsync(stop);
    }

    /// <summary>Null where the copy has no such block.</summary>
    private byte[]? EventOf(ulong height)
    {
        if (!_events.TryGetValue(height, out var written))
        {
            written = _events.GetOrAdd(height, new Lazy<byte[]?>(() => WriteEvent(height)));
            if (_events.Count > EventsRemembered)
                foreach (var old in _events.Keys.OrderDescending().Skip(EventsRemembered / 2))
                    _events.TryRemove(old, out _);
        }

        try
        {
            return written.Value;
        }
        catch
        {
            // The database may be back at the next try.
            _events.TryRemove(height, out _);
            throw;
        }
    }

    private byte[]? WriteEvent(ulong height)
    {
        if (_sources.Projection.Block(height) is not { } row) return null;
        var data = JsonSerializer.Serialize(new
        {
            Block = View(row),
            Transactions = _sources.Projection.Transactions(height),
            Alerts = _sources.Projection.AlertsAt(height).Select(a => new { a.Id, a.Digest, a.Type, a.Source, a.Severity, Time = Time(a.Time), a.Producer, a.Organisation }),
            AlertChanges = _sources.Projection.AlertChangesAt(height),
            PolicyChanges = _sources.Projection.PolicyChangesAt(height),
        }, EventJson);
        return Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"event: block\nid: {height}\ndata: {data}\n\n"));
    }
}
