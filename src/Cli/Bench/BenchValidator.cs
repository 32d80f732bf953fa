using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Demo;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Mesh;
using CyberMesh.Node.Storage;
using CyberMesh.Simulator;
using Microsoft.Extensions.Logging.Abstractions;

namespace CyberMesh.Cli.Bench;

/// <summary>A validator without its way in and out: replica, loop, store with real syncs, mesh with real TLS, and a verification of every message of its own.</summary>
internal sealed class BenchValidator : IAsyncDisposable
{
    /// <summary>As many as <c>KafkaIngest</c> checks at a time.</summary>
    private const int BatchMax = 64;

    private readonly Keyring _keys;
    private readonly LocalStore _store;
    private readonly MeshTransport _mesh;
    private readonly IPeerTransport _transport;
    private readonly ReplicaLoop _loop;
    private readonly EnvelopeAuthenticator _authenticator;
    private readonly CancellationTokenSource _stop = new();
    private readonly SemaphoreSlim _room;
    private readonly BlockReader _reader;
    private Task _running = Task.CompletedTask;
    private long _decided;

    /// <param name="home">As <c>testnet</c> writes it.</param>
    /// <param name="outstanding">Messages submitted and not decided.</param>
    /// <param name="lies">How it lies to the others.</param>
    /// <param name="onStored">Told what was committed here, on the writer's thread.</param>
    public BenchValidator(string home, int outstanding, Strategy lies, Action<BenchValidator, IReadOnlyList<CommittedBlock>> onStored)
    {
        _room = new SemaphoreSlim(4 * outstanding);
        var settings = Settings.Load(Path.Combine(home, "config.json"), new Dictionary<string, string>
        {
            // What is fed, and what comes from others beside it while this validator is behind.
            ["MEMPOOL_MAX_TXS"] = (8 * outstanding).ToString(System.Globalization.CultureInfo.InvariantCulture),
            ["MEMPOOL_MAX_BYTES"] = (256 << 20).ToString(System.Globalization.CultureInfo.InvariantCulture),
            ["MEMPOOL_RATE_PER_SECOND"] = "1000000",
        });
        var genesis = GenesisFile.Load(Path.Combine(home, "genesis.json"));
        _keys = new Keyring(home);
        var verifier = new RememberingVerifier(new KnownKeyVerifier(new Ed25519Verifier()));
        _authenticator = new EnvelopeAuthenticator(verifier);
        _store = LocalStore.Open(Path.Combine(home, "data"), genesis.Chain.ChainId, Path.Combine(home, "votes.mark"));
        var snapshots = new SnapshotStore(Path.Combine(home, "data", "snapshots"));
        _reader = _store.OpenReader();
        var replica = Recovery.Run(genesis, _keys, settings, verifier, snapshots, _reader, _store.ReadLog().Records);
        _mesh = new MeshTransport(
            genesis, replica.Epochs, _keys, verifier, new MeshOptions(settings.MeshListen, settings.Peers, settings.Advertise, [], null, new MeshLimits()), TimeProvider.System, NullLogger.Instance);
        genesis.Chain.Validators.TryFind(_keys.Active.Consensus.PublicKey, out var me);
        _transport = lies == Strategy.None ? _mesh : new FaultTransport(_mesh, me, genesis.Chain.Validators.Count, new PartitionSwitch(), new Liar(genesis.Chain, genesis.Block.Digest, me, _keys.Active.Consensus, lies));
        _loop = new ReplicaLoop(
            replica, _store, snapshots, _transport, TimeProvider.System, run =>
            {
                var count = 0;
                foreach (var block in run) count += block.Receipts.Length;
                Interlocked.Add(ref _decided, count);
                if (count > 0) _room.Release(count);
                onStored(this, run);
            },
            _ => { }, _ => _room.Release(), _ => { }, ServeBlocks, _ => { }, _ => { }, _ => { }, _ => { }, null);
    }

    /// <summary>Transactions committed here so far.</summary>
    public long Decided => Interlocked.Read(ref _decided);

    public int Connected => _mesh.ConnectedCount;

    public ReplicaStatus Status => _loop.Status;

    /// <summary>Past its replica, as somebody does who has its key.</summary>
    public void Send(Outgoing message) => _mesh.Send(message);

    /// <summary>Of validator and stores; ends with an exception when one fails.</summary>
    public Task Completion => _running;

    private void ServeBlocks(BlockRequest request)
    {
        if (_reader.Serve(request.FirstHeight, request.LastHeight) is { } answer) _transport.Send(new Outgoing(request.From, answer));
    }

    public void Start()
    {
        var parts = new[] { _mesh.RunAsync(_loop.ReceiveAsync, _stop.Token), Task.Run(() => _loop.RunAsync(_stop.Token)) };
        // Where one of them fails, the other one would go on for ever.
        _running = Task.WhenAny(parts).ContinueWith(first => first.Result.IsFaulted ? first.Result : Task.WhenAll(parts), TaskScheduler.Default).Unwrap();
    }

    /// <summary>Decodes, verifies and submits all, in order, on a thread of its own, as one that reads them from Kafka.</summary>
    /// <param name="due">How many may be taken by now.</param>
    /// <param name="pause">Waits until one more may be, or for a while; told how many were taken.</param>
    public Task FeedAsync(byte[][] records, Func<int> due, Action<int> pause, CancellationToken stop) => Task.Factory.StartNew(() =>
    {
        var (envelopes, profiles, likely) = (new List<AlertEnvelope>(BatchMax), new List<SigningProfiles>(BatchMax), new List<SigningProfile>(BatchMax));
        for (var next = 0; next < records.Length && !stop.IsCancellationRequested;)
        {
            var end = Math.Min(Math.Min(due(), records.Length), next + BatchMax);
            if (end <= next)
            {
                pause(next);
                continue;
            }

            (envelopes, profiles, likely) = ([], [], []);
            for (; next < end; next++)
            {
                Invariant.Holds(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, records[next], out var envelope, out _), "the load decodes");
                envelopes.Add(envelope!);
                profiles.Add(SigningProfiles.V1 | SigningProfiles.V2);
                likely.Add(SigningProfile.V1);
            }

            var verified = new Verified<AlertEnvelope>?[envelopes.Count];
            _authenticator.TryAuthenticate(envelopes.ToArray(), profiles.ToArray(), likely.ToArray(), verified);
            foreach (var one in verified) Submit(one!.Value, stop);
        }
    }, stop, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private void Submit(Verified<AlertEnvelope> alert, CancellationToken stop)
    {
        _room.Wait(stop);
        var submitting = _loop.SubmitAsync(new Submission(alert, admission =>
        {
            // Others' copies may have come first; what is committed already was not counted here.
            if (admission.Kind is AdmissionKind.Rejected or AdmissionKind.Full or AdmissionKind.OverQuota) throw new InvalidOperationException($"a message of the load was not admitted: {admission}");
        }), stop);
        if (!submitting.IsCompletedSuccessfully) submitting.AsTask().GetAwaiter().GetResult();
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _mesh.DisposeAsync();
        _reader.Dispose();
        _store.Dispose();
        _keys.Dispose();
        _stop.Dispose();
        _room.Dispose();
    }
}
