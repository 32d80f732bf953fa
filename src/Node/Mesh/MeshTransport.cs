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
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using Microsoft.Extensions.Logging;
using PublicKey = CyberMesh.Core.Primitives.PublicKey;

namespace CyberMesh.Node.Mesh;

/// <summary>Where a node of the mesh listens and finds others.</summary>
/// <param name="Peers">First addresses; those of everybody else come from the orders of the operators and from <see cref="PeerRecord"/>s.</param>
/// <param name="Advertise">Where others reach this one.</param>
/// <param name="Observers">Keys of nodes without a vote that may connect, and read everything.</param>
/// <param name="BookPath">Where records of the others are kept.</param>
public sealed record MeshOptions(
    IPEndPoint Listen, IReadOnlyList<string> Peers, IReadOnlyList<string> Advertise, IReadOnlyList<PublicKey> Observers, string? BookPath, MeshLimits Limits);

/// <summary>
/// Mutual TLS 1.3 between the validators of the set, those about to join it, and observers. Every node dials every validator it knows an address of; to one it
/// cannot dial it speaks over the connection that one made. Each receive loop verifies what its peer says before the replica sees it.
/// </summary>
public sealed class MeshTransport : IPeerTransport, IAsyncDisposable
{
    /// <summary>How soon a change of the set, or of an address, is followed.</summary>
    private static readonly TimeSpan ReconcilePeriod = TimeSpan.FromMilliseconds(500);

    /// <summary>Between two lookups of validators that cannot be reached.</summary>
    private static readonly TimeSpan LookupPeriod = TimeSpan.FromSeconds(10);

    /// <summary>How long a lookup waits for a connection to a member it wants to ask.</summary>
    private static readonly TimeSpan ReachTimeout = TimeSpan.FromSeconds(3);

    private readonly Genesis _genesis;
    private readonly EpochSchedule _epochs;
    private readonly Keyring _keys;
    private readonly ISignatureVerifier _verifier;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly MeshOptions _options;
    private readonly TcpListener _listener;
    private readonly HandshakeRoom _room;
    private readonly MeshHandshake _handshake;
    private readonly Discovery _discovery;
    private readonly Dictionary<PublicKey, ValidatorIndex> _observers;
    private readonly List<X509Certificate2> _certificates = []; // the last is in use; earlier ones may still serve a handshake
    private volatile X509Certificate2? _certificate;
    private PublicKey _certified;
    private DateTimeOffset _certifyAgainAt;
    private readonly Lock _lock = new();
    private readonly Dictionary<ValidatorIndex, PeerConnection> _dialled = [];
    private readonly Dictionary<ValidatorIndex, PeerConnection> _accepted = [];
    private readonly ConcurrentDictionary<ValidatorIndex, long> _excludedSince = new();
    private ImmutableArray<PeerConnection> _reached = [];
    private ImmutableArray<PeerLink> _links = [];
    private long _refused;
    private long _connections;
    private long _dropped;

    /// <param name="verifier">One that remembers: votes come again in certificates.</param>
    /// <exception cref="UserError">The port is taken.</exception>
    public MeshTransport(Genesis genesis, EpochSchedule epochs, Keyring keys, ISignatureVerifier verifier, MeshOptions options, TimeProvider time, ILogger logger)
    {
        _genesis = genesis;
        _epochs = epochs;
        _keys = keys;
        _verifier = verifier;
        _options = options;
        _time = time;
        _logger = logger;
        // Places are below this, so the numbers of observers, which only this node knows, are nobody's.
        _observers = options.Observers.Select((key, i) => (key, i)).ToDictionary(o => o.key, o => new ValidatorIndex((ushort)(Limits.PlacesMax + o.i)));
        _room = new HandshakeRoom(options.Limits);
        _handshake = new MeshHandshake(() => _certificate!, Identify);
        var book = new PeerBook(ChainId, NodeId.Of(keys.Active.Consensus.PublicKey), key => epochs.TryIdentify(key, out _), verifier, time, options.BookPath);
        book.Load();
        _discovery = new Discovery(book, () => _keys.Active.Consensus, () => epochs.TryIdentify(_keys.Active.Consensus.PublicKey, out _), [.. options.Advertise], () => _reached, options.Limits, time);
        Certify();
        _listener = new TcpListener(options.Listen);
        // A restarted validator must get its port back while old connections linger.
        _listener.Server.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        try
        {
            _listener.Start();
        }
        catch (SocketException problem)
        {
            throw new UserError($"cannot listen on {options.Listen} for other validators: {problem.Message}", "choose another P2P_LISTEN_PORT or stop what uses it");
        }
    }

    private Digest ChainId => _genesis.Chain.ChainId;

    public IPEndPoint ListenEndPoint => (IPEndPoint)_listener.LocalEndpoint;

    /// <summary>Validators this one can send to at the moment.</summary>
    public ImmutableArray<ValidatorIndex> Connected => [.. _reached.Select(c => c.Peer).Where(p => !IsObserver(p))];

    public int ConnectedCount => Connected.Length;

    public int ConnectedObservers => _reached.Count(c => IsObserver(c.Peer));

    /// <summary>Connections whose peer has not shown yet who it is.</summary>
    public int Handshakes => _room.Count;

    /// <summary>Connections and frames that were not genuine, or one too many.</summary>
    public long Refused => Interlocked.Read(ref _refused);

    /// <summary>Connections to other validators made so far; many mean that they do not last.</summary>
    public long Connections => Interlocked.Read(ref _connections);

    public long Dropped => Interlocked.Read(ref _dropped);

    public PeerBook Book => _discovery.Book;

    public void Send(Outgoing message) => Send([message]);

    public void Send(IReadOnlyList<Outgoing> messages)
    {
        var reached = _reached;
        foreach (var message in messages)
        {
            var frame = MessageCodec.Encode(message.Message);
            var of = MessageCodec.ClassOf(frame);
            foreach (var connection in reached)
                if ((message.To is null || message.To == connection.Peer) && !connection.TryQueue(of, frame))
                    Interlocked.Increment(ref _dropped);
        }

        foreach (var connection in reached) connection.Flush();
    }

    /// <summary>Finds where a member is by asking others; null when nobody says.</summary>
    public async Task<PeerRecord?> LookUpAsync(PublicKey member, CancellationToken stop) => (await _discovery.NewLookup(ReachAsync).FindAsync(member, stop).ConfigureAwait(false)).Found;

    /// <summary>Accepts and dials until stopped.</summary>
    public async Task RunAsync(Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        var (reconcile, lookups) = (ReconcileAsync(deliver, stop), LookForTheUnreachedAsync(stop));
        try
        {
            while (!stop.IsCancellationRequested)
            {
                var client = await _listener.AcceptTcpClientAsync(stop).ConfigureAwait(false);
                _ = ServeAsync(client, deliver, stop);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }

        await Task.WhenAll(reconcile, lookups).ConfigureAwait(false);
    }

    /// <summary>A certificate for the key in use, and a new one in time before it expires.</summary>
    private void Certify()
    {
        var consensus = _keys.Active.Consensus;
        if (consensus.PublicKey == _certified && _time.GetUtcNow() < _certifyAgainAt) return;
        _certifyAgainAt = _time.GetUtcNow() + MeshCertificate.Lifetime / 2;
        (_certified, _certificate) = (consensus.PublicKey, MeshCertificate.Create(consensus, ChainId, _time));
        _certificates.Add(_certificate);
    }

    // ---- Whom to speak to -------------------------------------------------------------------------------------

    /// <summary>Follows the set: dials the addresses of its members, lets go of those that have left, and presents the key in use.</summary>
    private async Task ReconcileAsync(Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        var dials = new Dictionary<string, (PeerLink Link, CancellationTokenSource Stop, Task Run)>(StringComparer.Ordinal);
        while (!stop.IsCancellationRequested)
        {
            _keys.TryPromote(_epochs.Current.Validators);
            Certify();
            _discovery.Tick();
            var wanted = Addresses();
            foreach (var address in wanted)
            {
                if (dials.ContainsKey(address)) continue;
                var link = new PeerLink(address, IsDialled, (dialling, end) => DialAsync(dialling, deliver, end));
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
            foreach (var connection in Accepted())
                if (!Belongs(connection.Peer))
                    connection.Close("it has left the set");
            await Task.Delay(ReconcilePeriod, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        foreach (var dial in dials.Values)
        {
            await dial.Run.ConfigureAwait(false);
            dial.Stop.Dispose();
        }
    }

    /// <summary>Those of the settings, those that orders of the operators gave, and those of the records; not the own ones.</summary>
    private HashSet<string> Addresses()
    {
        var addresses = new HashSet<string>(_options.Peers, StringComparer.Ordinal);
        foreach (var member in Members())
            if (_keys.Find(member.ConsensusKey) is null && PeerAddress.TryParse(member.Address, out _, out _))
                addresses.Add(member.Address);
        foreach (var record in Book.All)
            if (_keys.Find(record.Key) is null)
                addresses.UnionWith(record.Addresses);
        addresses.ExceptWith(_options.Advertise);
        return addresses;
    }

    private IEnumerable<Validator> Members()
    {
        var members = _epochs.Current.Validators.Members.Concat(_epochs.Latest.Validators.Members);
        return _epochs.Open is { } candidate ? members.Append(candidate.Validator) : members;
    }

    /// <summary>Of those without a connection one is looked for, drawn by chance; once connected at all, this node itself, so that its neighbours know it.</summary>
    private async Task LookForTheUnreachedAsync(CancellationToken stop)
    {
        var hasJoined = false;
        while (!stop.IsCancellationRequested)
        {
            await Task.Delay(hasJoined ? LookupPeriod : ReconcilePeriod, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            var connected = Connected;
            if (connected.IsEmpty) continue;
            var missing = Members().Select(m => m.ConsensusKey).Where(key => _keys.Find(key) is null && _epochs.TryIdentify(key, out var index) && !connected.Contains(index)).ToArray();
            try
            {
                if (!hasJoined) await _discovery.NewLookup(ReachAsync).ExploreAsync(NodeId.Of(_certified), stop).ConfigureAwait(false);
                else if (missing.Length > 0) await LookUpAsync(missing[Random.Shared.Next(missing.Length)], stop).ConfigureAwait(false);
                hasJoined = true;
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }

    private async Task<PeerConnection?> ReachAsync(PublicKey member, CancellationToken stop)
    {
        if (!_epochs.TryIdentify(member, out var index)) return null;
        var begun = _time.GetTimestamp();
        while (_time.GetElapsedTime(begun) < ReachTimeout)
        {
            // A record that the lookup found is in the book, so the member is being dialled.
            if (_reached.FirstOrDefault(c => c.Peer == index) is { } connection) return connection;
            await Task.Delay(50, stop).ConfigureAwait(false);
        }

        return null;
    }

    private bool Belongs(ValidatorIndex peer) =>
        IsObserver(peer) || _epochs.Current.Validators.Contains(peer) || _epochs.Latest.Validators.Contains(peer) || _epochs.Open?.Index == peer;

    private static bool IsObserver(ValidatorIndex peer) => peer.Value >= Limits.PlacesMax;

    private ValidatorIndex? Identify(X509Certificate? certificate) =>
        MeshCertificate.TryIdentify(certificate, ChainId, PlaceOf, _verifier, _time, out var peer) && !IsExcluded(peer) ? peer : null;

    /// <summary>Nobody's when it is the own key.</summary>
    private ValidatorIndex? PlaceOf(PublicKey key)
    {
        if (_keys.Find(key) is not null) return null;
        if (_epochs.TryIdentify(key, out var index)) return index;
        return _observers.TryGetValue(key, out var observer) ? observer : null;
    }

    // ---- Connections ------------------------------------------------------------------------------------------

    private async Task ServeAsync(TcpClient client, Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        using var ownedClient = client;
        try
        {
            client.NoDelay = true;
            var remote = ((IPEndPoint)client.Client.RemoteEndPoint!).Address;
            SslStream stream;
            ValidatorIndex peer;
            using (var handshake = _room.Enter(remote))
            {
                if (handshake is null)
                {
                    Interlocked.Increment(ref _refused);
                    return;
                }

                using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop, handshake.PushedOut);
                deadline.CancelAfter(_options.Limits.HandshakeTimeout);
                (stream, peer) = await _handshake.AcceptAsync(client.GetStream(), deadline.Token).ConfigureAwait(false);
            }

            await using var ownedStream = stream.ConfigureAwait(false);
            _room.Remember(peer, remote);
            foreach (var link in _links)
                if (link.Known is null || link.Known == peer)
                    link.Nudge();
            var connection = new PeerConnection(stream, peer, _options.Limits);
            await UseAsync(connection, _accepted, deliver, stop).ConfigureAwait(false);
        }
        catch (Exception problem) when (IsOrdinary(problem))
        {
            Refuse(problem, stop);
        }
    }

    /// <summary>One connection to an address, from dialling to its end.</summary>
    private async Task DialAsync(PeerLink link, Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        if (!PeerAddress.TryParse(link.Address, out var host, out var port)) return;
        using var client = new TcpClient { NoDelay = true };
        try
        {
            SslStream stream;
            ValidatorIndex peer;
            using (var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop))
            {
                deadline.CancelAfter(_options.Limits.HandshakeTimeout);
                await client.ConnectAsync(host, port, deadline.Token).ConfigureAwait(false);
                (stream, peer) = await _handshake.DialAsync(client.GetStream(), deadline.Token).ConfigureAwait(false);
            }

            await using var ownedStream = stream.ConfigureAwait(false);
            link.Known = peer;
            if (IsDialled(peer)) return;
            Interlocked.Increment(ref _connections);
            Telemetry.Log.PeerLink(_logger, NameOf(peer), link.Address, "connected");
            var reason = await UseAsync(new PeerConnection(stream, peer, _options.Limits), _dialled, deliver, stop).ConfigureAwait(false);
            if (!stop.IsCancellationRequested) Telemetry.Log.PeerLink(_logger, NameOf(peer), link.Address, reason);
        }
        catch (Exception problem) when (IsOrdinary(problem))
        {
            Refuse(problem, stop);
        }
    }

    /// <summary>A younger connection of the same kind takes the place of an older one, whose peer may be long gone without our knowing.</summary>
    private async Task<string> UseAsync(PeerConnection connection, Dictionary<ValidatorIndex, PeerConnection> kind, Func<PeerInput, CancellationToken, ValueTask> deliver, CancellationToken stop)
    {
        lock (_lock)
        {
            if (kind.TryGetValue(connection.Peer, out var older)) older.Close("replaced by a younger connection");
            kind[connection.Peer] = connection;
            UpdateReached();
        }

        try
        {
            _discovery.Greet(connection);
            var authenticator = new PeerAuthenticator(_epochs, _genesis.Block.Digest, _genesis.Operators, _verifier);
            using var receiver = new PeerReceiver(authenticator, _discovery, _options.Limits, !IsObserver(connection.Peer), deliver, RefuseFrame);
            return await connection.RunAsync(receiver.ReceiveAsync, stop).ConfigureAwait(false);
        }
        finally
        {
            lock (_lock)
            {
                if (kind.GetValueOrDefault(connection.Peer) == connection) kind.Remove(connection.Peer);
                UpdateReached();
            }
        }
    }

    /// <summary>One for each peer: the one this node made, if there is one.</summary>
    private void UpdateReached() => _reached = [.. _dialled.Values, .. _accepted.Where(a => !_dialled.ContainsKey(a.Key)).Select(a => a.Value)];

    private bool IsDialled(ValidatorIndex peer)
    {
        lock (_lock) return _dialled.ContainsKey(peer);
    }

    private PeerConnection[] Accepted()
    {
        lock (_lock) return [.. _accepted.Values];
    }

    // ---- What is refused --------------------------------------------------------------------------------------

    private static bool IsOrdinary(Exception problem) =>
        problem is IOException or SocketException or AuthenticationException or OperationCanceledException or InvalidDataException or ObjectDisposedException;

    private void Refuse(Exception problem, CancellationToken stop)
    {
        if (stop.IsCancellationRequested || problem is not (AuthenticationException or InvalidDataException)) return;
        Interlocked.Increment(ref _refused);
        Telemetry.Log.PeerRefused(_logger, problem.Message);
    }

    private void RefuseFrame(PeerConnection from, string reason)
    {
        Interlocked.Increment(ref _refused);
        Telemetry.Log.MessageRefused(_logger, NameOf(from.Peer), reason);
        if (++from.FramesRefused <= _options.Limits.FramesNotGenuine) return;
        _excludedSince[from.Peer] = _time.GetTimestamp();
        from.Close("it sends what is not genuine");
    }

    private bool IsExcluded(ValidatorIndex peer) => _excludedSince.TryGetValue(peer, out var since) && _time.GetElapsedTime(since) < _options.Limits.Exclusion;

    private string NameOf(ValidatorIndex peer) => IsObserver(peer) ? $"observer {peer.Value - Limits.PlacesMax + 1}" : _epochs.Name(peer);

    public ValueTask DisposeAsync()
    {
        _listener.Dispose();
        foreach (var certificate in _certificates) certificate.Dispose();
        _room.Dispose();
        return ValueTask.CompletedTask;
    }
}
