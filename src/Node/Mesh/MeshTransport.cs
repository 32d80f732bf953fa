using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Hosting;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// Mutual TLS 1.3 between the validators of genesis. Every validator dials every other and sends only on the connections it dialled, so
/// there is nothing to agree on about connections. Each receive loop verifies what its peer says before the replica sees it.
/// </summary>
public sealed class MeshTransport : IPeerTransport, IAsyncDisposable
{
    private const int HandshakesMax = 64;
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(5);

    private readonly Genesis _genesis;
    private readonly ValidatorIndex _me;
    private readonly ISignatureVerifier _verifier;
    private readonly X509Certificate2 _certificate;
    private readonly TcpListener _listener;
    private readonly ImmutableArray<PeerLink> _links;
    private readonly ILogger _logger;
    private readonly SemaphoreSlim _handshakes = new(HandshakesMax);
    private readonly ConcurrentDictionary<ValidatorIndex, CancellationTokenSource> _inbound = new();
    private long _refused;

    public MeshTransport(
        Genesis genesis, ValidatorIndex me, ISigner consensus, ISignatureVerifier verifier, IPEndPoint listen, IEnumerable<string> peers,
        TimeProvider time, ILogger logger)
    {
        _genesis = genesis;
        _me = me;
        _verifier = verifier;
        _logger = logger;
        _certificate = MeshCertificate.Create(consensus, genesis.Chain.ChainId, time);
        _links = [.. peers.Select(address => new PeerLink(address, DialHandshakeAsync, LogLink))];
        _listener = new TcpListener(listen);
        // A restarted validator must get its port back while old connections linger.
        _listener.Server.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        try
        {
            _listener.Start();
        }
        catch (SocketException problem)
        {
            throw new UserError($"cannot listen on {listen} for other validators: {problem.Message}", "choose another P2P_LISTEN_PORT or stop what uses it");
        }
    }

    public IPEndPoint ListenEndPoint => (IPEndPoint)_listener.LocalEndpoint;

    /// <summary>Validators this one can send to at the moment.</summary>
    public ImmutableArray<ValidatorIndex> Connected => [.. _links.Where(l => l.Peer is not null).Select(l => l.Peer!.Value).Distinct()];

    public int ConnectedCount => Connected.Length;

    /// <summary>Connections and frames that were not a validator's.</summary>
    public long Refused => Interlocked.Read(ref _refused);

    public long Dropped => _links.Sum(l => l.Dropped);

    public void Send(Outgoing message)
    {
        var frame = MessageCodec.Encode(message.Message);
        foreach (var link in _links)
            if (link.Peer is { } peer && (message.To is null || message.To == peer))
                link.Send(frame);
    }

    /// <summary>Accepts and dials until stopped.</summary>
    public async Task RunAsync(Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        var links = _links.Select(link => link.RunAsync(stop)).ToArray();
        try
        {
            while (!stop.IsCancellationRequested)
            {
                await _handshakes.WaitAsync(stop).ConfigureAwait(false);
                var client = await _listener.AcceptTcpClientAsync(stop).ConfigureAwait(false);
                _ = ServeAsync(client, deliver, stop);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }

        await Task.WhenAll(links).ConfigureAwait(false);
    }

    private async Task ServeAsync(TcpClient client, Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        using var ownedClient = client;
        var inHandshake = true;
        try
        {
            client.NoDelay = true;
            ValidatorIndex? peer = null;
            var stream = new SslStream(client.GetStream());
            await using var ownedStream = stream.ConfigureAwait(false);
            using (var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop))
            {
                deadline.CancelAfter(HandshakeTimeout);
                await stream.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
                {
                    ServerCertificate = _certificate,
                    ClientCertificateRequired = true,
                    EnabledSslProtocols = SslProtocols.Tls13,
                    AllowTlsResume = false,
                    AllowRenegotiation = false,
                    RemoteCertificateValidationCallback = (_, certificate, _, _) => Identify(certificate, out peer),
                }, deadline.Token).ConfigureAwait(false);
            }

            _handshakes.Release();
            inHandshake = false;
            if (peer is { } from && from != _me) await ReceiveAsync(stream, from, deliver, stop).ConfigureAwait(false);
        }
        catch (Exception problem) when (problem is IOException or SocketException or AuthenticationException or OperationCanceledException
                                            or InvalidDataException or ObjectDisposedException)
        {
            if (!stop.IsCancellationRequested && problem is AuthenticationException or InvalidDataException)
            {
                Interlocked.Increment(ref _refused);
                Telemetry.Log.PeerRefused(_logger, problem.Message);
            }
        }
        finally
        {
            if (inHandshake) _handshakes.Release();
        }
    }

    private async Task ReceiveAsync(SslStream stream, ValidatorIndex from, Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        using var mine = CancellationTokenSource.CreateLinkedTokenSource(stop);
        // One receive loop per validator: a new connection of the same validator replaces the old one.
        _inbound.AddOrUpdate(from, mine, (_, old) =>
        {
            old.Cancel();
            return mine;
        });
        try
        {
            var authenticator = new PeerAuthenticator(_genesis.Chain, _genesis.Block.Digest, _verifier);
            while (await Frames.ReadAsync(stream, mine.Token).ConfigureAwait(false) is { } frame)
            {
                if (authenticator.TryVerify(frame, out var verified, out var problem))
                {
                    await deliver(new PeerInput(from, verified), mine.Token).ConfigureAwait(false);
                    continue;
                }

                Interlocked.Increment(ref _refused);
                Telemetry.Log.MessageRefused(_logger, _genesis.Chain.Validators[from].Name, problem ?? "");
            }
        }
        finally
        {
            _inbound.TryRemove(new KeyValuePair<ValidatorIndex, CancellationTokenSource>(from, mine));
        }
    }

    private async Task<(SslStream, ValidatorIndex)> DialHandshakeAsync(TcpClient client, CancellationToken stop)
    {
        ValidatorIndex? peer = null;
        var stream = new SslStream(client.GetStream());
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(HandshakeTimeout);
        await stream.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
        {
            TargetHost = "cybermesh",
            ClientCertificates = [_certificate],
            EnabledSslProtocols = SslProtocols.Tls13,
            AllowTlsResume = false,
            AllowRenegotiation = false,
            RemoteCertificateValidationCallback = (_, certificate, _, _) => Identify(certificate, out peer),
        }, deadline.Token).ConfigureAwait(false);
        if (peer is not { } index || index == _me) throw new AuthenticationException("the address is this validator's own");
        return (stream, index);
    }

    private bool Identify(X509Certificate? certificate, out ValidatorIndex? peer)
    {
        peer = MeshCertificate.TryIdentify(certificate, _genesis.Chain, _verifier, out var index) ? index : null;
        return peer is not null;
    }

    private void LogLink(PeerLink link, string what) =>
        Telemetry.Log.PeerLink(_logger, link.Peer is { } peer ? _genesis.Chain.Validators[peer].Name : "?", link.Address, what);

    public ValueTask DisposeAsync()
    {
        _listener.Dispose();
        _certificate.Dispose();
        _handshakes.Dispose();
        return ValueTask.CompletedTask;
    }
}
