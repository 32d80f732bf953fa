using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Core.Alerts;
using CyberMesh.Node.Api;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Api.Webhooks;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using CyberMesh.Node.Mesh;
using CyberMesh.Node.Projection;
using CyberMesh.Node.Sensors;
using CyberMesh.Node.Storage;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Hosting;

/// <summary>What a validator needs from outside: its home directory, its settings and the world's time.</summary>
/// <param name="OnCommitted">Told about every stored run of blocks, on the writer's thread.</param>
/// <param name="WrapTransport">The demo puts faults between replica and mesh here.</param>
public sealed record ValidatorOptions(
    string Home, Genesis Genesis, Settings Settings, TimeProvider Time, ILogger Logger,
    Func<IPeerTransport, ValidatorIndex, ISigner, IPeerTransport>? WrapTransport = null, Action<IReadOnlyList<CommittedBlock>>? OnCommitted = null);

/// <summary>One validator, or an observer, which is one without a vote and without Kafka: builds its parts in start order, runs them, and stops when any of them fails.</summary>
public sealed class ValidatorNode : IAsyncDisposable
{
    private const int RequestsMax = 64;
    private const int SnapshotsOfBlocksKept = 6;

    private const int TermsOfBlocksKept = 64;

    private readonly ValidatorOptions _options;
    private readonly Keyring _keys;
    private readonly EpochSchedule _epochs;
    private readonly LocalStore _store;
    private readonly MeshTransport _mesh;
    private readonly ReplicaLoop _loop;
    private readonly KafkaSide? _kafka;
    private readonly AlertTraces? _traces;
    private readonly Projection.Projection _projection;
    private readonly ApiServer _api;
    private readonly AuditLog _audit;
    private readonly Ed25519Signer? _anchorKey;
    private readonly AuditAnchor? _auditAnchor;
    private readonly WebhookSender _webhookSender;
    private readonly ImmutableArray<WebhookDelivery> _webhooks;
    private readonly Ed25519Signer? _auditSigner;
    private readonly IPeerTransport _transport;
    private readonly List<BlockReader> _readers = [];
    private readonly Metrics _metrics = new();
    private readonly NoticeLog _notices;
    private readonly DiskSpace _space;
    private readonly CircuitBreaker _databaseCircuit;
    private readonly KnownKeyVerifier? _knownKeys;
    private readonly SnapshotStore _snapshots;
    private readonly Retention _retention;
    private readonly Channel<BlockRequest> _blockRequests = Requests<BlockRequest>();
    private readonly Channel<SnapshotRequest> _snapshotRequests = Requests<SnapshotRequest>();
    private readonly CancellationTokenSource _stop = new();
    private Task _run = Task.CompletedTask;
    private bool _disposed;

    /// <exception cref="UserError">Anything wrong with home, identity, genesis, ports or the store.</exception>
    public ValidatorNode(ValidatorOptions options)
    {
        _options = options;
        _space = new DiskSpace(_stop.Token);
        _databaseCircuit = new CircuitBreaker("database", options.Time);
        if (File.Exists(ForkProofPath))
            throw new UserError($"this chain has forked; the proof is {ForkProofPath}", "verify it with 'cybermesh evidence verify' and agree with the other operators how to go on; this validator does not");
        var genesis = options.Genesis;
        var settings = options.Settings;
        _keys = settings.OpenKeys(options.Home);
        ISignatureVerifier verifier = new Ed25519Verifier();
        VerdictTable.Check(verifier);
        if (settings.SignatureTables > 0) verifier = _knownKeys = new KnownKeyVerifier(verifier, settings.SignatureTables);
        verifier = new RememberingVerifier(verifier);

        _store = LocalStore.Open(Path.Combine(options.Home, "data"), genesis.Chain.ChainId, Path.Combine(options.Home, "votes.mark"),
            () => DivergenceAccount.StartOver(options.Home, options.Time.GetUtcNow()), _space);
        _snapshots = new SnapshotStore(Path.Combine(options.Home, "data", "snapshots"));
        try
        {
            var log = _store.ReadLog();
            if (log.Loss is not null && Quorum.Faulty(genesis.Chain.Validators.Count) == 0)
                throw new UserError(log.Loss, "with fewer than four validators no vote may be lost: restore the disk, or replace this validator");
            using var recovering = _store.OpenReader();
            var replica = Recovery.Run(genesis, _keys, settings, verifier, _snapshots, recovering, log.Records);
            _epochs = replica.Epochs;
            settings.Expectation.Check(_epochs.Current.Validators, _epochs.Current.Parameters);
            _keys.TryPromote(_epochs.Current.Validators);
            if (settings.IsObserver && _epochs.TryIdentify(_keys.Active.Consensus.PublicKey, out _))
                throw new UserError("NODE_ROLE is observer, and this identity is a validator's", "remove NODE_ROLE, or give the observer an identity of its own ('cybermesh observer prepare')");
            var views = new ViewHistory(options.Time);
            _notices = new NoticeLog(_epochs, _metrics, views, options.Logger);
            var mesh = new MeshOptions(settings.MeshListen, settings.Peers, settings.Advertise, settings.Observers, Path.Combine(options.Home, "data", "peers"), new MeshLimits());
            _mesh = new MeshTransport(genesis, _epochs, _keys, verifier, mesh, options.Time, options.Logger);
            _transport = options.WrapTransport?.Invoke(_mesh, replica.Me, _keys.Active.Consensus) ?? _mesh;
            _loop = new ReplicaLoop(replica, _store, _snapshots, _transport, options.Time, OnStored, _notices.Write, refusal => _kafka?.Ingest.Refused(refusal), evicted => _kafka?.Ingest.Evicted(evicted), request => _blockRequests.Writer.TryWrite(request),
                request => _snapshotRequests.Writer.TryWrite(request), KeepForkProof, KeepDivergence, KeepLogCheckpoint, log.Loss);
            _projection = new Projection.Projection(settings.OpenDatabase(options.Home), Reader(), new ProjectionSource(genesis, _epochs, replica.Producers, $"node {settings.NodeId}"), _databaseCircuit, options.Time, options.Logger);
            // A server may be away, and nothing waits for it; the file is there before anybody asks for a page.
            if (settings.Database is null) _projection.TryCopy();
            if (!settings.IsObserver) _kafka = new KafkaSide(options, _epochs, replica.Producers, _keys, verifier, _loop, Reader, () => Name, ProveStateAsync, _traces = new AlertTraces(settings.Traces, genesis.Name, $"node {settings.NodeId}"), _metrics);
            _retention = new Retention(_store.OpenReader, _snapshots, settings.RetentionBodies, NeedsBodiesFrom, options.Time, _metrics.BlocksPruned);
            AddGauges();
            _webhookSender = new WebhookSender(options.Time);
            _webhooks = [.. settings.Webhooks.Select(hook => new WebhookDelivery(hook, _projection, _webhookSender, Path.Combine(options.Home, "data", "webhooks"), options.Time, options.Logger))];
            foreach (var hook in _webhooks)
            {
                _metrics.CounterOf("cybermesh_webhook_messages_total", "Messages that a webhook has taken since the start.", () => hook.Delivered, $"hook=\"{hook.Name}\"");
                _metrics.Gauge("cybermesh_webhook_failing", "1 while a webhook does not take messages.", () => hook.IsFailing ? 1 : 0, $"hook=\"{hook.Name}\"");
            }

            _auditSigner = settings.AuditKey is { } seed ? new Ed25519Signer(seed) : null;
            _audit = new AuditLog(Path.Combine(options.Home, "data", "audit"), genesis.Chain.ChainId, () => _auditSigner ?? _keys.Active.Control, options.Time);
            var intake = new TransactionIntake(
                new EnvelopeAuthenticator(verifier, _epochs, genesis.Operators), replica.Producers, () => _loop.Status.Height, _loop.SubmitAsync, options.Time, (long)settings.TimestampSkew.TotalMilliseconds);
            if (settings.AuditAnchorKeyFile.Length > 0)
            {
                _anchorKey = ProducerKey.Load(settings.AuditAnchorKeyFile);
                _auditAnchor = new AuditAnchor(
                    _audit, genesis.Chain.ChainId, new AlertSigner(_anchorKey, SigningProfile.V2, options.Time), intake.OfferAsync, transaction => _projection.Transaction(transaction.ToString()) is { Result: "accepted" },
                    settings.AuditAnchorPeriod, options.Time, options.Logger);
            }

            _api = new ApiServer(
                new ApiSources(genesis, _epochs, replica.Producers, () => Name, () => _loop.Status, () => _mesh.Connected, () => Circuits, () => _space.IsFull, _projection, ReadBlock, ProveTransaction, ProveStateAsync, CertifiedHeaderOf, views, options.Time, _metrics, _audit, settings.Api.AllowsWrites ? intake : null), settings.Api, options.Logger);
        }
        catch
        {
            _stop.Cancel();
            foreach (var reader in _readers) reader.Dispose();
            _store.Dispose();
            throw;
        }
    }

    /// <summary>Its place in the set; none while it follows the chain without a vote.</summary>
    public ValidatorIndex Index => _loop.Status.Me;

    public string Name => Index == ValidatorIndex.None ? $"node {_options.Settings.NodeId}" : _epochs.Name(Index);

    public ReplicaStatus Status => _loop.Status;

    public Metrics Metrics => _metrics;

    public Projection.Projection Projection => _projection;

    public IPEndPoint MeshEndPoint => _mesh.ListenEndPoint;

    public Uri ApiAddress => _api.Address;

    internal ApiServer Api => _api;

    public ImmutableArray<ValidatorIndex> ConnectedPeers => _mesh.Connected;

    /// <summary>Ends when the node has stopped: normally after <see cref="StopAsync"/>, with an exception when a part failed.</summary>
    public Task Completion => _run;

    /// <summary>What does not fit is asked for again.</summary>
    private static Channel<T> Requests<T>() => Channel.CreateBounded<T>(new BoundedChannelOptions(RequestsMax) { FullMode = BoundedChannelFullMode.DropWrite });

    private ImmutableArray<CircuitBreaker> Circuits => [.. _kafka?.Circuits ?? [], _databaseCircuit];

    private BlockReader Reader()
    {
        var reader = _store.OpenReader();
        _readers.Add(reader);
        return reader;
    }

    private BlockWithBodies? ReadBlock(Height height)
    {
        using var reader = _store.OpenReader();
        foreach (var block in reader.Read(height)) return block.Stored.Block.Block.Height == height ? block.Stored.Block : null;
        return null;
    }

    private CertifiedHeader? CertifiedHeaderOf(Height height)
    {
        using var reader = _store.OpenReader();
        return reader.Certify(height);
    }

    private BlockProof? ProveTransaction(Height height, int index)
    {
        using var reader = _store.OpenReader();
        if (reader.Certify(height) is not { } certified) return null;
        var transactions = reader.Read(height).First().Stored.Block.Block.Transactions;
        return new BlockProof(certified, new BlockClaim.Contains((uint)index, transactions[index], MerkleTree.Path(index, transactions.AsSpan())));
    }

    /// <summary>Of the newest state that a certified header names.</summary>
    private async Task<BlockProof?> ProveStateAsync(StateKey key, CancellationToken stop)
    {
        using var reader = _store.OpenReader();
        return reader.LastCertified() is { } certified && await _loop.ProveAsync(key, certified.Header.RootHeight, stop).ConfigureAwait(false) is { } claim
            ? new BlockProof(certified, claim)
            : null;
    }

    private void AddGauges()
    {
        _metrics.Gauge("cybermesh_height", "Last committed block.", () => _loop.Status.Height.Value);
        _metrics.Gauge("cybermesh_view_attempt", "Attempt of the current view.", () => _loop.Status.View.Attempt);
        _metrics.Gauge("cybermesh_mempool_transactions", "Transactions waiting.", () => _loop.Status.PoolCount);
        _metrics.Gauge("cybermesh_mempool_bytes", "Bytes waiting.", () => _loop.Status.PoolBytes);
        _metrics.Gauge("cybermesh_peers_connected", "Validators this one can send to.", () => _mesh.Connected.Length);
        _metrics.Gauge("cybermesh_observers_connected", "Nodes without a vote that are connected.", () => _mesh.ConnectedObservers);
        _metrics.Gauge("cybermesh_peer_handshakes", "Connections whose peer has not shown yet who it is.", () => _mesh.Handshakes);
        _metrics.Gauge("cybermesh_peer_records", "Validators whose signed addresses are known.", () => _mesh.Book.All.Length);
        _metrics.CounterOf("cybermesh_peer_connections_total", "Connections to other validators made since the start; when it grows they do not last.", () => _mesh.Connections);
        _metrics.CounterOf("cybermesh_peer_messages_refused_total", "Connections and messages that were not genuine, or too many.", () => _mesh.Refused);
        _metrics.CounterOf("cybermesh_peer_messages_dropped_total", "Messages dropped because a peer was too slow.", () => _mesh.Dropped);
        foreach (var circuit in Circuits)
            _metrics.Gauge("cybermesh_circuit_state", "Use of a dependency: 0 works, 1 is about to be tried again, 2 is left alone after failures.", () => (int)circuit.Status.State, $"dependency=\"{circuit.Name}\"");
        _metrics.Gauge("cybermesh_disk_full", "1 while writes wait for space on the disk.", () => _space.IsFull ? 1 : 0);
        _metrics.Gauge("cybermesh_signature_table_bytes", "Memory of the tables with which signatures of known keys are checked.", () => _knownKeys?.TableBytes ?? 0);
        _metrics.CounterOf("cybermesh_signatures_accepted_by_tables_total", "Signatures that the tables have accepted since the start.", () => _knownKeys?.Accepted ?? 0);
        _metrics.CounterOf("cybermesh_signatures_unconfirmed_by_tables_total", "Signatures that libsodium accepted and the tables did not; anything but 0 is worth a report.", () => _knownKeys?.Unconfirmed ?? 0);
        _metrics.Gauge("cybermesh_may_vote", "1 while this validator may vote; 0 in quarantine, and for a node without a vote.", () => _loop.Status.MayVote ? 1 : 0);
        _metrics.Gauge("cybermesh_catching_up", "1 while this validator is behind the others and takes over their blocks.", () => _loop.Status.CatchingUp ? 1 : 0);
        _metrics.Gauge("cybermesh_quorum_size", "Validators that make a quorum, this one among them.", () => _loop.Status.Epoch.Validators.Quorum);
        _metrics.Gauge("cybermesh_block_time_seconds", "Time of the last block, since 1970.", () => _loop.Status.BlockTime.Milliseconds / 1000.0);
        if (_options.Settings.Api.Certificate is { } certificate)
            _metrics.Gauge("cybermesh_api_certificate_expiry_seconds", "When the certificate of the HTTP API expires, since 1970.", () => new DateTimeOffset(certificate.NotAfter.ToUniversalTime()).ToUnixTimeSeconds());
        _metrics.Gauge("cybermesh_key_age_seconds", "Since the identity in use was written; rotate it before it is 90 days old.", () => KeyAge().TotalSeconds);
        ProcessMetrics.AddTo(_metrics);
        _metrics.Gauge("cybermesh_projection_height", "Last block of the queryable copy.", () => _projection.Height.Value);
    }

    /// <summary>Zero when a signer has the keys: it is not known here.</summary>
    private TimeSpan KeyAge()
    {
        var path = Path.Combine(_options.Home, Identity.FileName);
        return File.Exists(path) ? _options.Time.GetUtcNow() - File.GetLastWriteTimeUtc(path) : TimeSpan.Zero;
    }

    private void OnStored(IReadOnlyList<CommittedBlock> run)
    {
        foreach (var committed in run)
        {
            var rejected = committed.Receipts.Count(r => !r.Accepted);
            _metrics.BlocksCommitted.Increment();
            _metrics.TransactionsRejected.Add(rejected);
            _metrics.TransactionsAccepted.Add(committed.Receipts.Length - rejected);
            var header = committed.Block.Header;
            Log.BlockCommitted(
                _options.Logger, header.Height.Value, committed.Receipts.Length, rejected, header.View.ToString(),
                _epochs.Name(header.Proposer), committed.Block.Digest.ToString());
        }

        _options.OnCommitted?.Invoke(run);
        _kafka?.OnStored(run);
        _projection.Wake();
    }

    public async Task StartAsync()
    {
        Log.Starting(_options.Logger, Name, _options.Genesis.Chain.ChainId.ToString(), _loop.Status.Height.Value);
        foreach (var name in _options.Settings.Unused) Log.UnusedSetting(_options.Logger, name);
        if (_options.Settings.IsObserver) Log.IsObserver(_options.Logger, _keys.Active.Consensus.PublicKey.ToString());
        else if (Index == ValidatorIndex.None) Log.NotAMember(_options.Logger);
        await _api.StartAsync().ConfigureAwait(false);
        var stop = _stop.Token;
        Task[] parts =
        [
            _mesh.RunAsync(_loop.ReceiveAsync, stop), Task.Run(() => _loop.RunAsync(stop)),
            _projection.RunAsync(stop), ServeBlocksAsync(stop), ServeSnapshotsAsync(stop), _retention.RunAsync(stop), .. _kafka?.Run(stop) ?? [], .. _webhooks.Select(hook => hook.RunAsync(stop)), .. _auditAnchor is { } anchor ? [anchor.RunAsync(stop)] : Array.Empty<Task>(),
        ];
        _run = SuperviseAsync(parts);
        Log.Listening(_options.Logger, Name, _api.Address.ToString(), _mesh.ListenEndPoint.ToString());
    }

    /// <summary>A part that fails stops the whole node: a validator that half works is worse than one that is down.</summary>
    private async Task SuperviseAsync(Task[] parts)
    {
        var first = await Task.WhenAny(parts).ConfigureAwait(false);
        if (first.Exception is { } problem && !_stop.IsCancellationRequested) Log.Fatal(_options.Logger, problem.GetBaseException().Message);
        await _stop.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(parts).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await first.ConfigureAwait(false);
    }

    private async Task ServeBlocksAsync(CancellationToken stop)
    {
        using var reader = _store.OpenReader();
        try
        {
            await foreach (var request in _blockRequests.Reader.ReadAllAsync(stop).ConfigureAwait(false))
                if (reader.Serve(request.FirstHeight, request.LastHeight) is { } answer)
                    _transport.Send(new Outgoing(request.From, answer));
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }
    }

    private async Task ServeSnapshotsAsync(CancellationToken stop)
    {
        try
        {
            await foreach (var request in _snapshotRequests.Reader.ReadAllAsync(stop).ConfigureAwait(false))
                if (_snapshots.Serve(request) is { } answer)
                    _transport.Send(new Outgoing(request.From, answer));
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }
    }

    /// <summary>Whoever is further behind takes over a snapshot; what is not in the copy yet cannot be made again without bodies.</summary>
    private Height NeedsBodiesFrom()
    {
        var parameters = _epochs.Current.Parameters;
        var terms = Math.Max(2 * parameters.SnapshotTerms, Math.Min(SnapshotsOfBlocksKept * parameters.SnapshotTerms, TermsOfBlocksKept));
        var recent = (ulong)terms * (ulong)parameters.TermBlocks;
        var height = _loop.Status.Height.Value;
        return new Height(Math.Min(height > recent ? height - recent : 0, _projection.Height.Value));
    }

    private string ForkProofPath => Path.Combine(_options.Home, "fork.proof");

    private void KeepForkProof(ForkProof proof)
    {
        Durable.Write(ForkProofPath, proof.Encode());
        Log.Forked(_options.Logger, proof.Height.Value, ForkProofPath);
    }

    private void KeepDivergence(Divergence divergence)
    {
        var path = DivergenceAccount.Keep(_options.Home, divergence, _options.Time.GetUtcNow());
        Log.Diverged(_options.Logger, divergence.Height.Value, path);
        throw new DivergedException(path);
    }

    private void KeepLogCheckpoint(SignedNote checkpoint)
    {
        _projection.TransparencyLog.Offer(checkpoint);
        _projection.Wake();
    }

    /// <summary>A planned stop: a leader hands over first.</summary>
    public async Task StopAsync()
    {
        if (!_stop.IsCancellationRequested)
        {
            _loop.HandOver();
            await Task.Delay(100).ConfigureAwait(false);
        }

        await KillAsync().ConfigureAwait(false);
        Log.Stopping(_options.Logger, Name, _loop.Status.Height.Value);
    }

    /// <summary>Stops without a word to anybody, as a crash would; what was not durable is gone.</summary>
    public async Task KillAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _run.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    public async ValueTask DisposeAsync()
    {
        if (_disposed) return;
        _disposed = true;
        await KillAsync().ConfigureAwait(false);
        await _api.DisposeAsync().ConfigureAwait(false);
        _audit.Dispose();
        _webhookSender.Dispose();
        _auditSigner?.Dispose();
        _anchorKey?.Dispose();
        await _mesh.DisposeAsync().ConfigureAwait(false);
        _kafka?.Dispose();
        _traces?.Dispose();
        _projection.Dispose();
        foreach (var reader in _readers) reader.Dispose();
        _store.Dispose();
        _keys.Dispose();
        _stop.Dispose();
    }
}
