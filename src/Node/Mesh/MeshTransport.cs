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
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// Mutual TLS 1.3 between the validators of the set and those about to join it. Every validator dials every other and sends only on the connections it dialled, so
/// there is nothing to agree on about connections. Each receive loop verifies what its peer says before the replica sees it.
/// </summary>
public sealed class MeshTransport : IPeerTransport, IAsyncDisposable
{
    private const int HandshakesMax = 64;
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(5);

    /// <summary>How soon a change of the set is followed.</summary>
    private static readonly TimeSpan ReconcilePeriod = TimeSpan.FromMilliseconds(500);

    private readonly Genesis _genesis;
    private readonly EpochSchedule _epochs;
    private readonly Keyring _keys;
    private readonly ISignatureVerifier _verifier;
    private readonly TimeProvider _time;
    private readonly TcpListener _listener;
    private readonly string[] _configured;
    private readonly List<X509Certificate2> _certificates = []; // the last is in use; earlier ones may still serve a handshake
    private volatile X509Certificate2 _certificate;
    private Core.Primitives.PublicKey _certified;
    private ImmutableArray<PeerLink> _links = [];
    private readonly ILogger _logger;
    private readonly SemaphoreSlim _handshakes = new(HandshakesMax);
    private readonly ConcurrentDictionary<ValidatorIndex, CancellationTokenSource> _inbound = new();
    private long _refused;
    private long _connections;

    public MeshTransport(
        Genesis genesis, EpochSchedule epochs, Keyring keys, ISignatureVerifier verifier, IPEndPoint listen, IEnumerable<string> peers,
        TimeProvider time, ILogger logger)
    {
        _genesis = genesis;
        _epochs = epochs;
        _keys = keys;
        _verifier = verifier;
        _time = time;
        _logger = logger;
        _configured = [.. peers];
        _certificate = Certify();
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
    public ImmutableArray<ValidatorIndex> Connected => [.. _links.Select(l => l.Peer).OfType<ValidatorIndex>().Distinct()];

    public int ConnectedCount => Connected.Length;

    /// <summary>Connections and frames that were not a validator's.</summary>
    public long Refused => Interlocked.Read(ref _refused);

    /// <summary>Connections to other validators made so far; many mean that they do not last.</summary>
    public long Connections => Interlocked.Read(ref _connections);

    public long Dropped => _links.Sum(l => l.Dropped);

    public void Send(Outgoing message)
    {
        var frame = MessageCodec.Encode(message.Message);
        var links = _links;
        foreach (var link in links)
            if (link.Peer is { } peer && (message.To is null || message.To == peer))
                link.Send(frame);
    }

    /// <summary>Accepts and dials until stopped.</summary>
    public async Task RunAsync(Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        var reconcile = ReconcileAsync(stop);
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

        await reconcile.ConfigureAwait(false);
    }

    private X509Certificate2 Certify()
    {
        var consensus = _keys.Active.Consensus;
        var certificate = MeshCertificate.Create(consensus, _genesis.Chain.ChainId, _time);
        (_certified, _certificate) = (consensus.PublicKey, certificate);
        _certificates.Add(certificate);
        return certificate;
    }

    /// <summary>Follows the set: dials the addresses of its members, lets go of those that have left, and presents the key in use.</summary>
    private async Task ReconcileAsync(CancellationToken stop)
    {
        var dials = new Dictionary<string, (PeerLink Link, CancellationTokenSource Stop, Task Run)>(StringComparer.Ordinal);
        while (!stop.IsCancellationRequested)
        {
            _keys.TryPromote(_epochs.Current.Validators);
            if (_keys.Active.Consensus.PublicKey != _certified) Certify();
            var wanted = Addresses();
            foreach (var address in wanted)
            {
                if (dials.ContainsKey(address)) continue;
                var link = new PeerLink(address, DialHandshakeAsync, (asking, peer) => _links.Any(l => l != asking && l.Peer == peer), LogLink);
                var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
                dials[address] = (link, end, link.RunAsync(end.Token));
            }

            foreach (var (address, dial) in dials.ToArray())
            {
                if (wanted.Contains(address)) continue;
                await dial.Stop.CancelAsync().ConfigureAwait(false);
                await dial.Run.ConfigureAwait(false);
                dial.Stop.Dispose();
                dials.Remove(address);
            }

            _links = [.. dials.Values.Select(d => d.Link)];
            foreach (var (peer, connection) in _inbound)
                if (!Belongs(peer))
                    await connection.CancelAsync().ConfigureAwait(false);
            await Task.Delay(ReconcilePeriod, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        foreach (var dial in dials.Values)
        {
            await dial.Run.ConfigureAwait(false);
            dial.Stop.Dispose();
        }
    }

    /// <summary>Those of the settings, and those that orders of the operators gave; not the own one.</summary>
    private HashSet<string> Addresses()
    {
        var addresses = new HashSet<string>(_configured, StringComparer.Ordinal);
        foreach (var set in (ReadOnlySpan<ValidatorSet>)[_epochs.Current.Validators, _epochs.Latest.Validators])
            foreach (var member in set.Members)
                Add(member);
        if (_epochs.Open is { } candidate) Add(candidate.Validator);
        return addresses;

        void Add(Validator validator)
        {
            if (validator.Address.Length > 0 && _keys.Find(validator.ConsensusKey) is null) addresses.Add(validator.Address);
        }
    }

    private bool Belongs(ValidatorIndex peer) =>
        _epochs.Current.Validators.Contains(peer) || _epochs.Latest.Validators.Contains(peer) || _epochs.Open?.Index == peer;

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
            if (peer is { } from) await ReceiveAsync(stream, from, deliver, stop).ConfigureAwait(false);
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
            var authenticator = new PeerAuthenticator(_epochs, _genesis.Block.Digest, _genesis.Operators, _verifier);
            while (await Frames.ReadAsync(stream, mine.Token).ConfigureAwait(false) is { } frame)
            {
                if (authenticator.TryVerify(frame, out var verified, out var problem))
                {
                    await deliver(new PeerInput(from, verified), mine.Token).ConfigureAwait(false);
                    continue;
                }

                Interlocked.Increment(ref _refused);
                Telemetry.Log.MessageRefused(_logger, _epochs.Name(from), problem ?? "");
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
        if (peer is not { } index) throw new AuthenticationException("the address is this validator's own");
        return (stream, index);
    }

    private bool Identify(X509Certificate? certificate, out ValidatorIndex? peer)
    {
        peer = MeshCertificate.TryIdentify(certificate, _genesis.Chain.ChainId, _epochs, _verifier, out var index) && !IsMe(index) ? index : null;
        return peer is not null;
    }

    private bool IsMe(ValidatorIndex index) =>
        (_epochs.Current.Validators.Contains(index) && _keys.Find(_epochs.Current.Validators[index].ConsensusKey) is not null)
        || (_epochs.Open is { } candidate && candidate.Index == index && _keys.Find(candidate.Validator.ConsensusKey) is not null);

    private void LogLink(PeerLink link, string what)
    {
        if (what == PeerLink.ConnectedText) Interlocked.Increment(ref _connections);
        Telemetry.Log.PeerLink(_logger, link.Peer is { } peer ? _epochs.Name(peer) : "?", link.Address, what);
    }

    public ValueTask DisposeAsync()
    {
        _listener.Dispose();
        foreach (var certificate in _certificates) certificate.Dispose();
        _handshakes.Dispose();
        return ValueTask.CompletedTask;
    }
}
