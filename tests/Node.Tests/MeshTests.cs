using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Mesh;
using Microsoft.Extensions.Logging.Abstractions;
using CyberMesh.Node.Ingest;
using Xunit;
using PublicKey = CyberMesh.Core.Primitives.PublicKey;

namespace CyberMesh.Node.Tests;

/// <summary>Nodes of the mesh without a replica: what each gets is kept.</summary>
internal sealed class TestMesh : IAsyncDisposable
{
    /// <summary>The deadlines of the product are for attackers; a test that is not about them must not meet them on a busy machine.</summary>
    public static readonly MeshLimits Patient = new() { HandshakeTimeout = TimeSpan.FromSeconds(60), SilenceMax = TimeSpan.FromSeconds(120), WriteTimeout = TimeSpan.FromSeconds(120) };

    private readonly TemporaryDirectory _directory = new();
    private readonly List<TestMeshNode> _nodes = [];
    private readonly string[] _homes;

    public TestMesh(int validators)
    {
        // Ports of the settings are not used: each node takes one of its own.
        _homes = [.. Testnet.Generate(_directory.Path, [.. Enumerable.Range(1, validators)], [.. Enumerable.Range(1, validators)], [], "127.0.0.1:1", TimeProvider.System)];
        Genesis = GenesisFile.Load(Path.Combine(_homes[0], "genesis.json"));
        // Addresses of genesis are of no use here.
        Epochs = new EpochSchedule(Genesis.Chain with { Validators = new ValidatorSet(Genesis.Chain.Validators.Members.Select(m => m with { Address = "" })) });
    }

    public Genesis Genesis { get; }

    public EpochSchedule Epochs { get; }

    public TestMeshNode this[int number] => _nodes[number];

    public IReadOnlyList<TestMeshNode> Nodes => _nodes;

    public string Home(int number) => _homes[number];

    /// <param name="peers">First addresses.</param>
    public TestMeshNode Start(int number, IEnumerable<string> peers, MeshLimits? limits = null, string? home = null, IReadOnlyList<PublicKey>? observers = null)
    {
        var node = new TestMeshNode(this, home ?? _homes[number], [.. peers], limits ?? Patient, observers ?? []);
        _nodes.Add(node);
        return node;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var node in _nodes) await node.DisposeAsync();
        _directory.Dispose();
    }
}

internal sealed class TestMeshNode : IAsyncDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _run;
    private bool _disposed;

    public TestMeshNode(TestMesh mesh, string home, string[] peers, MeshLimits limits, IReadOnlyList<PublicKey> observers)
    {
        Keys = new Keyring(home);
        var port = Testnet.FreePorts(1)[0];
        Address = $"127.0.0.1:{port}";
        Transport = new MeshTransport(
            mesh.Genesis, mesh.Epochs, Keys, new Ed25519Verifier(), new MeshOptions(new IPEndPoint(IPAddress.Loopback, port), peers, [Address], observers, Path.Combine(home, "peers"), limits), TimeProvider.System, NullLogger.Instance);
        _run = Transport.RunAsync((input, _) =>
        {
            Received.Enqueue(input);
            return ValueTask.CompletedTask;
        }, _stop.Token);
    }

    public Keyring Keys { get; }

    public MeshTransport Transport { get; }

    public string Address { get; }

    public IPEndPoint EndPoint => Transport.ListenEndPoint;

    public PublicKey Key => Keys.Active.Consensus.PublicKey;

    public ConcurrentQueue<PeerInput> Received { get; } = new();

    public async ValueTask DisposeAsync()
    {
        if (_disposed) return;
        _disposed = true;
        await _stop.CancelAsync();
        await _run;
        await Transport.DisposeAsync();
        Keys.Dispose();
        _stop.Dispose();
    }
}

/// <summary>Somebody who speaks to a node by hand, with any certificate.</summary>
internal sealed class RawPeer : IDisposable
{
    private readonly TcpClient _client = new() { NoDelay = true };

    public SslStream Stream { get; private set; } = null!;

    public static async Task<RawPeer> ConnectAsync(IPEndPoint to, X509Certificate2? certificate, SslProtocols protocols = SslProtocols.Tls13, bool small = false, string? speaks = "cybermesh/1")
    {
        var peer = new RawPeer();
        if (small) peer._client.ReceiveBufferSize = 4096;
        await peer._client.ConnectAsync(to);
        peer.Stream = new SslStream(peer._client.GetStream());
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        await peer.Stream.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
        {
            TargetHost = "x",
            ApplicationProtocols = speaks is null ? [] : [new SslApplicationProtocol(speaks)],
            ClientCertificates = certificate is null ? [] : [certificate],
            EnabledSslProtocols = protocols,
            RemoteCertificateValidationCallback = RawPeer.Anybody,
        }, deadline.Token);
        return peer;
    }

    /// <summary>An attacker does not mind whom it speaks to.</summary>
    public static bool Anybody(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors) => errors >= SslPolicyErrors.None;

    /// <summary>True when the other side has ended the connection, after whatever it still sent.</summary>
    public async Task<bool> EndsAsync()
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        var buffer = new byte[1 << 16];
        try
        {
            while (await Stream.ReadAsync(buffer, deadline.Token) > 0)
            {
                // keep-alives and records
            }

            return true;
        }
        catch (IOException)
        {
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    public void Dispose()
    {
        Stream?.Dispose();
        _client.Dispose();
    }
}

public sealed class MeshTests
{
    private static readonly Ed25519Verifier Verifier = new();
    private readonly Ed25519Signer _one = new(Enumerable.Repeat((byte)1, 32).ToArray());
    private readonly Ed25519Signer _stranger = new(Enumerable.Repeat((byte)9, 32).ToArray());
    private readonly ChainContext _chain;

    public MeshTests()
    {
        var validator = new Validator("v1", _one.PublicKey, default, default, default);
        _chain = new ChainContext(Digest.Sha256([1]), 0, new ValidatorSet([validator]), new ChainParameters());
    }

    private ValidatorIndex? PlaceOf(PublicKey key) => _chain.Validators.TryFind(key, out var index) ? index : null;

    private bool Identifies(X509Certificate2 certificate) => MeshCertificate.TryIdentify(certificate, _chain.ChainId, PlaceOf, Verifier, TimeProvider.System, out _);

    [Fact]
    public void Only_a_certificate_bound_by_a_validator_of_this_chain_identifies()
    {
        Assert.True(Identifies(MeshCertificate.Create(_one, _chain.ChainId, TimeProvider.System)));
        Assert.False(Identifies(MeshCertificate.Create(_stranger, _chain.ChainId, TimeProvider.System)));
        Assert.False(Identifies(MeshCertificate.Create(_one, Digest.Sha256([2]), TimeProvider.System)));
        using var plain = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=x", plain, HashAlgorithmName.SHA256);
        Assert.False(Identifies(request.CreateSelfSigned(DateTimeOffset.UtcNow, DateTimeOffset.UtcNow.AddDays(1))));
        // The binding of a real validator on another TLS key.
        var stolen = MeshCertificate.Create(_one, _chain.ChainId, TimeProvider.System).Extensions.Single(e => e.Oid!.Value == MeshCertificate.BindingOid);
        request.CertificateExtensions.Add(new X509Extension(MeshCertificate.BindingOid, stolen.RawData, false));
        Assert.False(Identifies(request.CreateSelfSigned(DateTimeOffset.UtcNow, DateTimeOffset.UtcNow.AddDays(1))));
        Assert.False(MeshCertificate.TryIdentify(null, _chain.ChainId, PlaceOf, Verifier, TimeProvider.System, out _));
    }

    /// <summary>Found by the chaos run: the settings named proxies, genesis the ports behind them.</summary>
    [Fact]
    public async Task A_validator_with_two_addresses_is_connected_once_and_stays_so()
    {
        using var directory = new TemporaryDirectory();
        using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
        var (meshPorts, apiPorts) = (Testnet.FreePorts(4), Testnet.FreePorts(4));
        var homes = Testnet.Generate(directory.Path, meshPorts, apiPorts, [], broker.BootstrapServers, TimeProvider.System);
        var genesis = GenesisFile.Load(Path.Combine(homes[0], "genesis.json"));
        var nodes = new List<ValidatorNode>();
        for (var i = 0; i < 4; i++)
        {
            Testnet.WriteConfig(homes[i], i + 1, $"127.0.0.1:{meshPorts[i]}", meshPorts.Where((_, j) => j != i).Select(port => $"localhost:{port}"), $"127.0.0.1:{apiPorts[i]}", broker.BootstrapServers);
            nodes.Add(new ValidatorNode(new ValidatorOptions(homes[i], genesis, Settings.Load(Path.Combine(homes[i], "config.json"), new Dictionary<string, string>()), TimeProvider.System, NullLogger.Instance)));
            await nodes[i].StartAsync();
        }

        await Eventually.HoldsAsync(() => nodes.All(n => n.ConnectedPeers.Length == 3), "all are connected");
        // A hundred looks in a row find the same count; a pair that cuts and makes its connection for ever never lets that happen.
        var (made, same) = (0, 0);
        await Eventually.HoldsAsync(
            () =>
            {
                var now = nodes.Sum(Made);
                same = now == made ? same + 1 : 0;
                made = now;
                return same == 100;
            },
            "connections last");
        Assert.All(nodes, n => Assert.Equal(3, n.ConnectedPeers.Length));
        foreach (var node in nodes) await node.DisposeAsync();

        static int Made(ValidatorNode node) =>
            int.Parse(node.Metrics.Render().Split('\n').Single(l => l.StartsWith("cybermesh_peer_connections_total ", StringComparison.Ordinal)).Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task Frames_beyond_the_limit_or_cut_off_are_refused()
    {
        await Assert.ThrowsAsync<InvalidDataException>(() => ReadAsync(0xff, 0xff, 0xff, 0xff));
        await Assert.ThrowsAsync<EndOfStreamException>(() => ReadAsync(0, 0, 0, 5, 1));
        await Assert.ThrowsAsync<EndOfStreamException>(() => ReadAsync(0, 0));
        Assert.Null(await ReadAsync());
        Assert.Empty((await ReadAsync(0, 0, 0, 0))!);
        Assert.Equal<byte[]>([7, 8], (await ReadAsync(0, 0, 0, 2, 7, 8))!);

        static async Task<byte[]?> ReadAsync(params byte[] bytes)
        {
            using var reader = new FrameReader(new MemoryStream(bytes), Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan, default);
            return await reader.ReadAsync();
        }
    }

    /// <summary>T1 and T2 of the catalogue of attacks: whoever presents one of these is refused, by the side that accepts and by the side that dials.</summary>
    public static TheoryData<string> BadCertificates => new(
        "not bound to a key", "of a stranger", "of another chain", "of a validator, bound to another TLS key", "expired", "not valid yet", "for servers only", "without a use", "RSA", "P-384");

    private static X509Certificate2? Bad(string kind, TestMesh mesh)
    {
        using var keys = new Keyring(mesh.Home(1));
        var (consensus, chain) = (keys.Active.Consensus, mesh.Genesis.Chain.ChainId);
        using var stranger = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        var now = DateTimeOffset.UtcNow;
        using var p256 = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var p384 = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var rsa = RSA.Create(2048);
        return kind switch
        {
            "none" => null,
            "of a stranger" => MeshCertificate.Create(stranger, chain, TimeProvider.System),
            "of another chain" => MeshCertificate.Create(consensus, Digest.Sha256([1]), TimeProvider.System),
            "expired" => MeshCertificate.Create(consensus, chain, new ShiftedTime(now - MeshCertificate.Lifetime - TimeSpan.FromHours(1))),
            "not valid yet" => MeshCertificate.Create(consensus, chain, new ShiftedTime(now.AddDays(3))),
            "not bound to a key" => Make(new CertificateRequest("CN=x", p256, HashAlgorithmName.SHA256), null),
            "of a validator, bound to another TLS key" => Make(new CertificateRequest("CN=x", p256, HashAlgorithmName.SHA256), Binding(MeshCertificate.Create(consensus, chain, TimeProvider.System))),
            "for servers only" => Make(new CertificateRequest("CN=x", p256, HashAlgorithmName.SHA256), Bind(p256.ExportSubjectPublicKeyInfo()), "1.3.6.1.5.5.7.3.1"),
            "without a use" => Make(new CertificateRequest("CN=x", p256, HashAlgorithmName.SHA256), Bind(p256.ExportSubjectPublicKeyInfo()), []),
            "RSA" => Make(new CertificateRequest("CN=x", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1), Bind(rsa.ExportSubjectPublicKeyInfo())),
            "P-384" => Make(new CertificateRequest("CN=x", p384, HashAlgorithmName.SHA256), Bind(p384.ExportSubjectPublicKeyInfo())),
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        };

        byte[] Binding(X509Certificate2 of) => of.Extensions.Single(e => e.Oid!.Value == MeshCertificate.BindingOid).RawData;

        byte[] Bind(byte[] subject)
        {
            byte[] message = [.. "tls-id.v1\0"u8, .. chain.Value.ToArray(), 0, .. subject];
            var signature = new byte[64];
            consensus.Sign(message).CopyTo(signature);
            return [.. consensus.PublicKey.Value.ToArray(), .. signature];
        }

        X509Certificate2 Make(CertificateRequest request, byte[]? binding, params string[]? uses)
        {
            if (binding is not null) request.CertificateExtensions.Add(new X509Extension(MeshCertificate.BindingOid, binding, false));
            var oids = new OidCollection();
            foreach (var use in uses is null or [] && kind is not "without a use" ? ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"] : uses ?? []) oids.Add(new Oid(use));
            if (oids.Count > 0) request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(oids, false));
            return request.CreateSelfSigned(now.AddDays(-1), now.AddDays(1));
        }
    }

    [Theory]
    [InlineData("none")]
    [MemberData(nameof(BadCertificates))]
    public async Task T1_T2_a_bad_certificate_is_refused_by_the_side_that_accepts(string kind)
    {
        await using var mesh = new TestMesh(4);
        var node = mesh.Start(0, []);
        var heard = 0;
        try
        {
            using var peer = await RawPeer.ConnectAsync(node.EndPoint, Bad(kind, mesh));
            // In TLS 1.3 the client's handshake is over before the server has seen its certificate.
            heard = await peer.EndsAsync() ? 0 : 1;
        }
        catch (Exception problem) when (problem is AuthenticationException or IOException)
        {
            // refused at once
        }

        Assert.Equal(0, heard);
        await Eventually.HoldsAsync(() => node.Transport.Refused == 1, "the refusal is counted");
        Assert.Empty(node.Transport.Connected);
    }

    [Theory]
    [MemberData(nameof(BadCertificates))]
    public async Task T1_T2_a_bad_certificate_is_refused_by_the_side_that_dials(string kind)
    {
        await using var mesh = new TestMesh(4);
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var node = mesh.Start(0, [listener.LocalEndpoint.ToString()!]);
        using var certificate = Bad(kind, mesh)!;
        using var client = await listener.AcceptTcpClientAsync(TestContext.Current.CancellationToken);
        await using var stream = new SslStream(client.GetStream());
        var problem = await Record.ExceptionAsync(async () =>
        {
            await stream.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
            {
                ServerCertificate = certificate,
                ApplicationProtocols = [new SslApplicationProtocol("cybermesh/1")],
                ClientCertificateRequired = true,
                EnabledSslProtocols = SslProtocols.Tls13,
                RemoteCertificateValidationCallback = RawPeer.Anybody,
            });
            if (await stream.ReadAsync(new byte[1]) == 0) throw new IOException("closed");
        });
        Assert.True(problem is AuthenticationException or IOException, problem?.ToString() ?? "it was spoken to");
        await Eventually.HoldsAsync(() => node.Transport.Refused > 0, "the refusal is counted");
        Assert.Empty(node.Transport.Connected);
    }

    [Theory]
    [InlineData("cybermesh/2")]
    [InlineData("h2")]
    [InlineData(null)]
    public async Task T3_another_protocol_inside_is_refused(string? speaks)
    {
        await using var mesh = new TestMesh(4);
        var node = mesh.Start(0, []);
        using var keys = new Keyring(mesh.Home(1));
        using var certificate = MeshCertificate.Create(keys.Active.Consensus, mesh.Genesis.Chain.ChainId, TimeProvider.System);
        var problem = await Record.ExceptionAsync(async () =>
        {
            using var peer = await RawPeer.ConnectAsync(node.EndPoint, certificate, speaks: speaks);
            Assert.True(await peer.EndsAsync());
        });
        Assert.True(problem is null or AuthenticationException or IOException, problem?.ToString());
        await Eventually.HoldsAsync(() => node.Transport.Refused > 0, "the refusal is counted");
        Assert.Empty(node.Transport.Connected);
    }

    [Fact]
    public async Task T3_older_versions_of_TLS_are_refused()
    {
        await using var mesh = new TestMesh(4);
        var node = mesh.Start(0, []);
        using var keys = new Keyring(mesh.Home(1));
        using var certificate = MeshCertificate.Create(keys.Active.Consensus, mesh.Genesis.Chain.ChainId, TimeProvider.System);
#pragma warning disable CA5398 // that it is not negotiable is what this is about
        await Assert.ThrowsAnyAsync<Exception>(() => RawPeer.ConnectAsync(node.EndPoint, certificate, SslProtocols.Tls12));
        using var peer = await RawPeer.ConnectAsync(node.EndPoint, certificate);
#pragma warning restore CA5398
        Assert.Equal(SslProtocols.Tls13, peer.Stream.SslProtocol);
        await Eventually.HoldsAsync(() => node.Transport.Connected.Length == 1, "the good one is let in");
        // No tickets, so there is no session of one identity for another to take up: the same client again shows its certificate again.
        using var stranger = Bad("of a stranger", mesh);
        await Assert.ThrowsAnyAsync<Exception>(async () =>
        {
            using var second = await RawPeer.ConnectAsync(node.EndPoint, stranger);
            if (await second.EndsAsync()) throw new IOException("closed");
        });
        Assert.Single(node.Transport.Connected);
    }

    private static async Task<RawPeer> ConnectAsValidatorAsync(TestMesh mesh, int number, TestMeshNode to, bool small = false)
    {
        using var keys = new Keyring(mesh.Home(number));
        return await RawPeer.ConnectAsync(to.EndPoint, MeshCertificate.Create(keys.Active.Consensus, mesh.Genesis.Chain.ChainId, TimeProvider.System), small: small);
    }

    /// <summary>Each with a deadline of its own, T4 and T6: silence, bytes that trickle, lengths beyond the limit.</summary>
    [Theory]
    [InlineData("silence")]
    [InlineData("a frame that never ends")]
    [InlineData("a giant length")]
    public async Task T4_T6_a_validator_that_sends_so_loses_its_connection(string what)
    {
        await using var mesh = new TestMesh(4);
        var node = mesh.Start(0, [], TestMesh.Patient with { KeepAlivePeriod = TimeSpan.FromMilliseconds(200), SilenceMax = TimeSpan.FromSeconds(2), FrameTimeout = TimeSpan.FromSeconds(2) });
        using var peer = await ConnectAsValidatorAsync(mesh, 1, node);
        // Nothing is said to who is not let in.
        Assert.Equal(1, await peer.Stream.ReadAsync(new byte[1], TestContext.Current.CancellationToken));
        using var enough = new CancellationTokenSource();
        var trickle = Task.CompletedTask;
        switch (what)
        {
            case "a giant length":
                await peer.Stream.WriteAsync(new byte[] { 0x7f, 0xff, 0xff, 0xff });
                break;
            case "a frame that never ends":
                await peer.Stream.WriteAsync(new byte[] { 0, 0x10, 0, 0 });
                trickle = Task.Run(async () =>
                {
                    while (!enough.IsCancellationRequested)
                    {
                        await peer.Stream.WriteAsync(new byte[1]);
                        await Task.Delay(20);
                    }
                }, TestContext.Current.CancellationToken);
                break;
        }

        Assert.True(await peer.EndsAsync());
        await Eventually.HoldsAsync(() => node.Transport.Connected.Length == 0, "it is let go");
        await enough.CancelAsync();
        await Record.ExceptionAsync(() => trickle);
    }

    [Fact]
    public async Task Keep_alives_keep_a_connection_on_which_nothing_is_said()
    {
        await using var mesh = new TestMesh(4);
        var limits = TestMesh.Patient with { SilenceMax = TimeSpan.FromSeconds(6), KeepAlivePeriod = TimeSpan.FromMilliseconds(200) };
        var one = mesh.Start(0, [], limits);
        var two = mesh.Start(1, [one.Address], limits);
        await Eventually.HoldsAsync(() => mesh.Nodes.All(n => n.Transport.Connected.Length == 1), "they connect");
        await Eventually.HoldsAsync(() => one.Transport.Connections == 1 && two.Transport.Connections == 1, "each has dialled the other");
        await Task.Delay(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        Assert.All(mesh.Nodes, n => Assert.Equal(1, n.Transport.Connections));
    }

    [Fact]
    public async Task T6_a_validator_that_sends_garbage_is_let_go_and_kept_out_for_a_while()
    {
        await using var mesh = new TestMesh(4);
        var node = mesh.Start(0, [], TestMesh.Patient with { FramesNotGenuine = 10, Exclusion = TimeSpan.FromSeconds(8) });
        using var peer = await ConnectAsValidatorAsync(mesh, 1, node);
        var garbage = Enumerable.Range(0, 11).SelectMany(i => new byte[] { 0, 0, 0, 2, 200, (byte)i }).ToArray();
        await peer.Stream.WriteAsync(garbage, TestContext.Current.CancellationToken);
        Assert.True(await peer.EndsAsync());
        Assert.Equal(11, node.Transport.Refused);
        using (var again = await ConnectAsValidatorAsync(mesh, 1, node)) Assert.True(await again.EndsAsync());
        await Task.Delay(TimeSpan.FromSeconds(9), TestContext.Current.CancellationToken);
        using var later = await ConnectAsValidatorAsync(mesh, 1, node);
        await Eventually.HoldsAsync(() => node.Transport.Connected.Length == 1, "it is let in again");
    }

    [Fact]
    public async Task A_peer_that_reads_nothing_costs_its_budget_and_is_let_go()
    {
        await using var mesh = new TestMesh(4);
        var node = mesh.Start(0, [], TestMesh.Patient with { WriteTimeout = TimeSpan.FromSeconds(3), QueuedSyncBytes = 4 << 20 });
        using var peer = await ConnectAsValidatorAsync(mesh, 1, node, small: true);
        await Eventually.HoldsAsync(() => node.Transport.Connected.Length == 1, "it is let in");
        var chunk = new PeerMessage.Chunk(new Height(1), 0, new byte[1 << 20]);
        for (var i = 0; i < 100; i++) node.Transport.Send(new Outgoing(null, chunk));
        Assert.InRange(node.Transport.Dropped, 80, 100);
        await Eventually.HoldsAsync(() => node.Transport.Connected.Length == 0, "it is let go");
    }

    [Fact]
    public void Votes_overtake_blocks_and_each_class_has_a_budget_of_its_own()
    {
        var queue = new SendQueue(new MeshLimits { QueuedConsensusBytes = 10, QueuedTransactionBytes = 10, QueuedSyncBytes = 10 });
        Assert.True(queue.TryEnqueue(MessageClass.Sync, new byte[50])); // alone, a frame may be larger than the budget
        Assert.False(queue.TryEnqueue(MessageClass.Sync, new byte[1]));
        Assert.True(queue.TryEnqueue(MessageClass.Transactions, [1]));
        Assert.True(queue.TryEnqueue(MessageClass.Transactions, [2]));
        Assert.True(queue.TryEnqueue(MessageClass.Consensus, [3]));
        var order = new List<int>();
        while (queue.TryDequeue(out var frame)) order.Add(frame[0]);
        Assert.Equal([3, 1, 0, 2], order);
        Assert.True(queue.TryEnqueue(MessageClass.Sync, new byte[10]));
        queue.Complete();
        Assert.False(queue.TryEnqueue(MessageClass.Consensus, [4]));
    }

    [Fact]
    public void A_peer_that_floods_the_loop_delays_itself_alone()
    {
        var queues = new PeerQueues();
        var loud = Enumerable.Range(0, PeerQueues.PerPeerMax).Select(_ => queues.WriteAsync(new PeerInput(new ValidatorIndex(1), default), default)).ToList();
        Assert.All(loud, w => Assert.True(w.IsCompleted));
        var blocked = queues.WriteAsync(new PeerInput(new ValidatorIndex(1), default), default).AsTask();
        Assert.False(blocked.IsCompleted);
        Assert.True(queues.WriteAsync(new PeerInput(new ValidatorIndex(2), default), default).IsCompleted);
        Assert.True(queues.TryRead(out var first) && queues.TryRead(out var second) && first.From != second.From);
        var rest = 0;
        while (queues.TryRead(out _)) rest++;
        Assert.InRange(rest, PeerQueues.PerPeerMax - 1, PeerQueues.PerPeerMax);
        Assert.True(queues.IsEmpty);
    }

    [Fact]
    public void Handshakes_push_out_the_oldest_of_whoever_has_most_and_never_those_from_addresses_of_validators()
    {
        using var room = new HandshakeRoom(new MeshLimits { Handshakes = 4, HandshakesPerAddress = 3, HandshakesPerSecond = 100 });
        var validator = IPAddress.Parse("10.0.0.1");
        room.Remember(new ValidatorIndex(1), validator);
        var genuine = room.Enter(validator)!;
        var lone = room.Enter(IPAddress.Parse("10.0.0.2"))!;
        var flood = Enumerable.Range(0, 50).Select(i => room.Enter(IPAddress.Parse("2001:db8::" + i))!).ToArray();
        Assert.False(genuine.PushedOut.IsCancellationRequested);
        Assert.False(lone.PushedOut.IsCancellationRequested);
        Assert.True(SpinWait.SpinUntil(() => flood.Count(h => !h.PushedOut.IsCancellationRequested) == 3, TimeSpan.FromSeconds(30)));
        Assert.Equal(5, room.Count);
        // Beyond the rate nobody is let in, except where the room is another's.
        for (var i = 0; i < 100; i++) room.Enter(IPAddress.Parse("10.1.0." + i))?.Dispose();
        Assert.Null(room.Enter(IPAddress.Parse("10.2.0.1")));
        Assert.NotNull(room.Enter(validator));
        genuine.Dispose();
        lone.Dispose();
        foreach (var handshake in flood) handshake.Dispose();
        Assert.Equal(1, room.Count);
    }
}
