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

    /// <summary>Less is written by the thread that sends it: to wake another one would cost more.</summary>
    private const int OwnThreadBytesMax = 16 * 1024;

    private readonly SendQueue _queue = new(limits);
    private readonly CancellationTokenSource _closed = new();
    private readonly ArrayBufferWriter<byte> _buffer = new(OwnThreadBytesMax);
    private readonly TaskCompletionSource _written = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _isWriting;
    private bool _wasWritten;
    private string? _reason;

    public ValidatorIndex Peer { get; } = peer;

    /// <summary>So far, of those its peer sent.</summary>
    public int FramesRefused { get; set; }

    /// <summary>False when too much waits already. Sent with the next <see cref="Flush"/>. Never blocks.</summary>
    public bool TryQueue(MessageClass of, byte[] frame) => _queue.TryEnqueue(of, frame);

    /// <summary>At once. False when too much waits already. Never blocks.</summary>
    public bool TrySend(MessageClass of, byte[] frame)
    {
        var queued = TryQueue(of, frame);
        Flush();
        return queued;
    }

    /// <summary>Sends what is queued. Never blocks.</summary>
    public void Flush()
    {
        if (_queue.IsEmpty || Interlocked.CompareExchange(ref _isWriting, 1, 0) != 0) return;
        _ = _queue.Bytes <= OwnThreadBytesMax ? WriteQueuedAsync() : Task.Run(WriteQueuedAsync);
    }

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
        var (reading, keeping) = (ReadAsync(receive, either.Token), KeepAliveAsync(either.Token));
        var first = await Task.WhenAny(reading, keeping, _written.Task).ConfigureAwait(false);
        _queue.Complete();
        await _closed.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(reading, keeping).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
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

    private async Task KeepAliveAsync(CancellationToken stop)
    {
        while (true)
        {
            _wasWritten = false;
            await Task.Delay(limits.KeepAlivePeriod, stop).ConfigureAwait(false);
            if (!_wasWritten) TrySend(MessageClass.Consensus, Frames.KeepAlive);
        }
    }

    /// <summary>Everything that waits, for whoever has set <see cref="_isWriting"/>. A failure is the end of the connection, and of writing.</summary>
    private async Task WriteQueuedAsync()
    {
        try
        {
            do
            {
                while (_queue.TryDequeue(out var frame))
                {
                    _buffer.ResetWrittenCount();
                    Frames.Write(_buffer, frame);
                    while (_buffer.WrittenCount < WriteBatchBytes && _queue.TryDequeue(out frame)) Frames.Write(_buffer, frame);
                    await WriteAsync(_buffer.WrittenMemory).ConfigureAwait(false);
                }

                Interlocked.Exchange(ref _isWriting, 0);
            }
            while (!_queue.IsEmpty && Interlocked.CompareExchange(ref _isWriting, 1, 0) == 0);
        }
        catch (Exception problem)
        {
            _written.TrySetException(problem);
            // Nobody may wait for it when the connection has ended for another reason.
            _ = _written.Task.Exception;
        }
    }

    private async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        _wasWritten = true;
        var writing = stream.WriteAsync(bytes, _closed.Token);
        if (writing.IsCompletedSuccessfully) return;
        try
        {
            await writing.AsTask().WaitAsync(limits.WriteTimeout).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new TimeoutException($"it took nothing for {limits.WriteTimeout.TotalSeconds:0.#} s");
        }
    }
}
