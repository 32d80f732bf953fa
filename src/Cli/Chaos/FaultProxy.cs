using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;

namespace CyberMesh.Cli.Chaos;

/// <summary>Stands between a client and a server on this machine and spoils their TCP connections; what it does can be changed while it runs.</summary>
internal sealed class FaultProxy : IAsyncDisposable
{
    private readonly IPEndPoint _server;
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<Socket, Socket> _pairs = new();
    private readonly Task _accepting;

    public FaultProxy(IPEndPoint server)
    {
        _server = server;
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public IPEndPoint EndPoint => (IPEndPoint)_listener.LocalEndpoint;

    /// <summary>New connections are closed at once.</summary>
    public bool Refuses { get; set; }

    /// <summary>Connections stay open and nothing passes, as with a cable that was pulled.</summary>
    public bool Stalls { get; set; }

    /// <summary>Every piece waits so long, in either direction.</summary>
    public TimeSpan Delay { get; set; }

    /// <summary>Up to so long on top of it, differently each time.</summary>
    public TimeSpan Jitter { get; set; }

    /// <summary>Bytes that pass in a second, a few at a time; 0 for no limit.</summary>
    public int TricklePerSecond { get; set; }

    /// <summary>What happens to some of the pieces.</summary>
    public PieceFaults Pieces { get; set; } = PieceFaults.None;

    /// <summary>Sees what a client sends before it passes; after false it still passes, no answer comes back, and the connection is cut.</summary>
    public Func<ReadOnlyMemory<byte>, bool>? OnClientData { get; set; }

    /// <summary>Resets all connections there are.</summary>
    public void Cut()
    {
        foreach (var (client, server) in _pairs)
        {
            Reset(client);
            Reset(server);
        }
    }

    private static void Reset(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception problem) when (problem is SocketException or ObjectDisposedException)
        {
            // it is gone already
        }

        socket.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            Socket client;
            try
            {
                client = await _listener.AcceptSocketAsync(_stop.Token).ConfigureAwait(false);
            }
            catch (Exception problem) when (problem is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                return;
            }

            if (Refuses) Reset(client);
            else _ = ServeAsync(client);
        }
    }

    private async Task ServeAsync(Socket client)
    {
        var server = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        client.NoDelay = true;
        _pairs[client] = server;
        try
        {
            await server.ConnectAsync(_server, _stop.Token).ConfigureAwait(false);
            var toServer = new Way();
            var toClient = new Way();
            var ways = new[] { PassAsync(client, server, toServer, toClient), PassAsync(server, client, toClient, null) };
            // Either side may end what it says and go on listening, as TCP allows.
            if (await (await Task.WhenAny(ways).ConfigureAwait(false)).ConfigureAwait(false)) await Task.WhenAll(ways).ConfigureAwait(false);
        }
        catch (Exception problem) when (problem is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // either end has gone, or we stop
        }
        finally
        {
            _pairs.TryRemove(client, out _);
            Reset(client);
            Reset(server);
        }
    }

    private async Task SendAsync(Socket to, ReadOnlyMemory<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var some = bytes.Length;
            if (TricklePerSecond is var rate and > 0)
            {
                some = Math.Clamp(rate / 20, 1, bytes.Length);
                await Task.Delay(TimeSpan.FromSeconds((double)some / rate), _stop.Token).ConfigureAwait(false);
            }

            bytes = bytes[await to.SendAsync(bytes[..some], _stop.Token).ConfigureAwait(false)..];
        }
    }

    /// <summary>One direction of a connection.</summary>
    internal sealed class Way
    {
        public volatile bool IsClosed;

        /// <summary>Comes after its successor.</summary>
        public byte[]? HeldBack { get; set; }
    }

    /// <param name="answers">The other direction, when this one is the client's.</param>
    /// <returns>True when the sender has ended this direction; false when the connection is to be cut.</returns>
    private async Task<bool> PassAsync(Socket from, Socket to, Way way, Way? answers)
    {
        var buffer = new byte[1 << 16];
        while (true)
        {
            var count = await from.ReceiveAsync(buffer, _stop.Token).ConfigureAwait(false);
            if (count == 0)
            {
                if (way.HeldBack is { } last) await SendAsync(to, last).ConfigureAwait(false);
                to.Shutdown(SocketShutdown.Send);
                return true;
            }

            while (Stalls) await Task.Delay(20, _stop.Token).ConfigureAwait(false);
            if (Delay + Jitter > TimeSpan.Zero) await Task.Delay(Delay + (Jitter * Random.Shared.NextDouble()), _stop.Token).ConfigureAwait(false);
            if (way.IsClosed) continue;
            var cuts = answers is not null && OnClientData is { } look && !look(buffer.AsMemory(0, count));
            if (cuts) answers!.IsClosed = true;
            foreach (var piece in Pieces.Spoil(buffer.AsMemory(0, count), way)) await SendAsync(to, piece).ConfigureAwait(false);
            if (!cuts) continue;
            // The server has it and carries it out; its answer never comes.
            await Task.Delay(200, _stop.Token).ConfigureAwait(false);
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        _listener.Stop();
        Cut();
        await _accepting.ConfigureAwait(false);
        _stop.Dispose();
    }
}

/// <summary>What a bad path does to pieces of a stream, each with a probability. TLS notices all of it and ends the connection; what runs without TLS has to notice by itself.</summary>
internal sealed record PieceFaults(double Lost = 0, double Corrupted = 0, double Doubled = 0, double Swapped = 0)
{
    public static readonly PieceFaults None = new();

    /// <summary>What passes instead of a piece, in order.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> Spoil(ReadOnlyMemory<byte> piece, FaultProxy.Way way)
    {
        var earlier = way.HeldBack;
        way.HeldBack = null;
        List<ReadOnlyMemory<byte>> passing = [piece];
        if (Happens(Lost))
        {
            passing.Clear();
        }
        else if (Happens(Corrupted))
        {
            var copy = piece.ToArray();
            copy[Random.Shared.Next(copy.Length)] ^= (byte)(1 << Random.Shared.Next(8));
            passing = [copy];
        }
        else if (Happens(Doubled))
        {
            passing.Add(piece);
        }
        else if (earlier is null && Happens(Swapped))
        {
            way.HeldBack = piece.ToArray();
            passing.Clear();
        }

        if (earlier is not null) passing.Add(earlier);
        return passing;
    }

    private static bool Happens(double probability) => probability > 0 && Random.Shared.NextDouble() < probability;
}
