using System;
using System.Buffers;
using System.Net.Security;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// The sending half towards one peer address: dials, says what is queued, dials again. Messages queued while there is no connection are
/// dropped: on reconnection the protocol asks for what is missing, and old votes are of no use.
/// </summary>
/// <param name="isReached">Another address leads to this validator at the moment. Of two connections the other side keeps the younger, so they would
/// end one another for ever.</param>
internal sealed class PeerLink(
    string address, Func<TcpClient, CancellationToken, Task<(SslStream, ValidatorIndex)>> handshake, Func<PeerLink, ValidatorIndex, bool> isReached, Action<PeerLink, string> log)
{
    public const string ConnectedText = "connected";

    /// <summary>Full frames a slow peer may have waiting; beyond this new ones are dropped and counted.</summary>
    private const int QueueMax = 4096;

    private const long QueueBytesMax = 64 << 20;
    private const int WriteBatchBytes = 64 * 1024;
    private static readonly TimeSpan BackOffMin = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan BackOffMax = TimeSpan.FromSeconds(1);

    /// <summary>Who answered at this address the last time.</summary>
    private ValidatorIndex? _known;

    private volatile int _peer = -1;
    private volatile Channel<byte[]>? _queue;
    private long _queuedBytes;

    public string Address { get; } = address;

    /// <summary>Who answered at this address; null while there is no connection. It changes under whoever reads it: read it once.</summary>
    public ValidatorIndex? Peer
    {
        get => _peer is var peer and >= 0 ? new ValidatorIndex((ushort)peer) : null;
        private set => _peer = value is { } peer ? peer.Value : -1;
    }

    public long Dropped { get; private set; }

    public void Send(byte[] frame)
    {
        if (_queue is not { } queue) return;
        if (Interlocked.Read(ref _queuedBytes) + frame.Length <= QueueBytesMax && queue.Writer.TryWrite(frame)) Interlocked.Add(ref _queuedBytes, frame.Length);
        else Dropped++;
    }

    public async Task RunAsync(CancellationToken stop)
    {
        var backOff = BackOffMin;
        while (!stop.IsCancellationRequested)
        {
            if (_known is { } known && isReached(this, known))
            {
                await Task.Delay(BackOffMax, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                continue;
            }

            try
            {
                if (!await ConnectAndSendAsync(stop).ConfigureAwait(false)) return;
                backOff = BackOffMin;
            }
            catch (Exception problem) when (problem is SocketException or System.IO.IOException or System.Security.Authentication.AuthenticationException
                                                or OperationCanceledException or ObjectDisposedException or FormatException)
            {
                if (Peer is not null) log(this, problem.Message);
            }
            finally
            {
                _queue = null;
                Peer = null;
            }

            // Jitter keeps restarting validators from dialling in step.
            var delay = backOff + TimeSpan.FromMilliseconds(Random.Shared.Next(50));
            backOff = backOff * 2 > BackOffMax ? BackOffMax : backOff * 2;
            await Task.Delay(delay, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>False when the address turned out to be this validator's own.</summary>
    private async Task<bool> ConnectAndSendAsync(CancellationToken stop)
    {
        using var client = new TcpClient { NoDelay = true };
        var separator = Address.LastIndexOf(':');
        await client.ConnectAsync(Address[..separator], int.Parse(Address[(separator + 1)..], System.Globalization.CultureInfo.InvariantCulture), stop).ConfigureAwait(false);
        var (stream, peer) = await handshake(client, stop).ConfigureAwait(false);
        await using var ownedStream = stream.ConfigureAwait(false);
        var queue = Channel.CreateBounded<byte[]>(QueueMax);
        Interlocked.Exchange(ref _queuedBytes, 0);
        (Peer, _known) = (peer, peer);
        _queue = queue;
        log(this, ConnectedText);
        using var closed = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var watch = WatchAsync(stream, closed);
        try
        {
            await PumpAsync(stream, queue, closed.Token).ConfigureAwait(false);
        }
        finally
        {
            await closed.CancelAsync().ConfigureAwait(false);
            await watch.ConfigureAwait(false);
        }

        return true;
    }

    /// <summary>The peer never sends on this connection, so any read ends it: that is how a closed connection is noticed while idle.</summary>
    private static async Task WatchAsync(SslStream stream, CancellationTokenSource closed)
    {
        try
        {
            await stream.ReadAsync(new byte[1], closed.Token).ConfigureAwait(false);
        }
        catch (Exception problem) when (problem is System.IO.IOException or OperationCanceledException or ObjectDisposedException)
        {
            // closed either way
        }

        await closed.CancelAsync().ConfigureAwait(false);
    }

    private async Task PumpAsync(SslStream stream, Channel<byte[]> queue, CancellationToken stop)
    {
        var buffer = new ArrayBufferWriter<byte>(WriteBatchBytes);
        while (await queue.Reader.WaitToReadAsync(stop).ConfigureAwait(false))
        {
            buffer.ResetWrittenCount();
            while (buffer.WrittenCount < WriteBatchBytes && queue.Reader.TryRead(out var frame))
            {
                Interlocked.Add(ref _queuedBytes, -frame.Length);
                Frames.Write(buffer, frame);
            }

            await stream.WriteAsync(buffer.WrittenMemory, stop).ConfigureAwait(false);
        }
    }
}
