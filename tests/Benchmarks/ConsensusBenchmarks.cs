using System;
using BenchmarkDotNet.Attributes;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Benchmarks;

/// <summary>Blocks agreed on and executed by four validators, all on this thread; disks and wires left out.</summary>
[MemoryDiagnoser, InvocationCount(Blocks)]
public class ConsensusBenchmarks
{
    private const int Blocks = 32;
    private Network _network = null!;
    private Verified<AlertEnvelope>[] _alerts = [];
    private int _next;

    [Params(1, 300)]
    public int AlertsInABlock { get; set; }

    [GlobalSetup]
    public void Begin() => _network = new Network();

    [GlobalCleanup]
    public void End() => _network.Dispose();

    [IterationSetup]
    public void Sign() => (_alerts, _next) = (_network.Alerts(Blocks * AlertsInABlock), 0);

    [Benchmark]
    public void Block()
    {
        _network.Commit(_alerts.AsSpan(_next, AlertsInABlock));
        _next += AlertsInABlock;
    }
}

/// <summary>A vote on its way out, in, and into the tally.</summary>
[MemoryDiagnoser]
public class VoteBenchmarks
{
    private readonly Network _network = new();
    private readonly Digest _block = Digest.Sha256("block"u8);
    private MessageSigner _signer = null!;
    private PeerAuthenticator _authenticator = null!;
    private Pbft _pbft = null!;
    private Outbox _outbox = null!;
    private PeerMessage.Signed _vote = null!;
    private byte[] _encoded = [];

    [GlobalSetup]
    public void Begin()
    {
        (_signer, _authenticator, _outbox) = (_network.Messages(2), _network.NewAuthenticator(), new Outbox());
        _pbft = _network.NewPbft(0);
        _vote = _signer.Prepare(_pbft.View, new Height(1), _block);
        _encoded = MessageCodec.Encode(_vote);
        // Its key has a table from then on, as that of every validator.
        for (var i = 0; i < 1000; i++) Verify();
    }

    [GlobalCleanup]
    public void End() => _network.Dispose();

    [Benchmark]
    public object Sign() => _signer.Prepare(_pbft.View, new Height(1), _block);

    [Benchmark]
    public byte[] Encode() => MessageCodec.Encode(_vote);

    [Benchmark]
    public bool Decode() => MessageCodec.TryDecode(_encoded, out _, out _);

    [Benchmark]
    public bool Verify() => _authenticator.TryVerify(_encoded, out _, out _);

    /// <summary>One that is there already, as most are that arrive after a quorum.</summary>
    [Benchmark]
    public void Count()
    {
        _pbft.Receive(_vote, _network.Genesis.Time, _outbox);
        _outbox.Messages.Clear();
        _outbox.Notices.Clear();
    }
}
