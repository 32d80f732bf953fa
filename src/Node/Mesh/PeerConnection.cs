using System;
using System.Buffers;
using System.IO;
using System.Net.Security;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// One connection to a peer that has shown who it is, whoever of the two made it. Frames go both ways; a peer that is silent, or takes nothing,
/// for too long loses it.
/// </summary>
internal sealed class PeerConnection(SslStream stream, ValidatorIndex peer, MeshLimits limits)
{
    private const int WriteBatchBytes = 64 * 1024;

    private readonly SendQueue _queue = new(limits);
    private readonly CancellationTokenSource _closed = new();
    private string? _reason;

    public ValidatorIndex Peer { get; } = peer;

    /// <summary>So far, of those its peer sent.</summary>
    public int FramesRefused { get; set; }

    /// <summary>False when too much waits already. Never blocks.</summary>
    public bool TrySend(MessageClass of, byte[] frame) => _queue.TryEnqueue(of, frame);

    public void Close(string reason)
    {
        _reason ??= reason;
        _closed.Cancel();
    }

    /// <summary>Until either side ends it. Returns why.</summary>
    /// <param name="receive">Called for each frame, one after the other; while it waits, the peer waits.</param>
    /// <exception cref="InvalidDataException">The peer sends what is no frame.</exception>
    public async Task<string> RunAsync(Func<PeerConnection, byte[], CancellationToken, ValueTask> receive, CancellationToken stop)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, _closed.Token);
        var (reading, writing) = (ReadAsync(receive, either.Token), WriteAsync(either.Token));
        var first = await Task.WhenAny(reading, writing).ConfigureAwait(false);
        _queue.Complete();
        await _closed.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(reading, writing).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        try
        {
            await first.ConfigureAwait(false);
            return _reason ?? "closed by the peer";
        }
        catch (OperationCanceledException)
        {
            return _reason ?? "closed";
        }
        catch (Exception problem) when (problem is IOException or TimeoutException or ObjectDisposedException)
        {
            return problem.Message;
        }
    }

    private async Task ReadAsync(Func<PeerConnection, byte[], CancellationToken, ValueTask> receive, CancellationToken stop)
    {
        using var reader = new FrameReader(stream, limits.SilenceMax, limits.FrameTimeout, stop);
        while (await reader.ReadAsync().ConfigureAwait(false) is { } frame)
            if (frame.Length > 0)
                await receive(this, frame, stop).ConfigureAwait(false);
    }

    private async Task WriteAsync(CancellationToken stop)
    {
        var buffer = new ArrayBufferWriter<byte>(WriteBatchBytes);
        while (true)
        {
            ReadOnlyMemory<byte> next = Frames.KeepAlive;
            if (await _queue.WaitAsync(limits.KeepAlivePeriod, stop).ConfigureAwait(false))
            {
                buffer.ResetWrittenCount();
                while (buffer.WrittenCount < WriteBatchBytes && _queue.TryDequeue(out var frame)) Frames.Write(buffer, frame);
                next = buffer.WrittenMemory;
            }

            if (next.Length > 0) await WriteAsync(next, stop).ConfigureAwait(false);
        }
    }

    private async Task WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken stop)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(limits.WriteTimeout);
        try
        {
            await stream.WriteAsync(bytes, deadline.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new TimeoutException($"it took nothing for {limits.WriteTimeout.TotalSeconds:0.#} s");
        }
    }
}
