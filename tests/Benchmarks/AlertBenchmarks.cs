using BenchmarkDotNet.Attributes;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Benchmarks;

/// <summary>A message of a producer, with a payload of 512 bytes: read, and its signature checked.</summary>
[MemoryDiagnoser]
public class AlertBenchmarks
{
    private const int Batch = 64;
    private readonly Ed25519Verifier _library = new();
    private readonly bool[] _verdicts = new bool[Batch];
    private readonly SignatureCheck[] _checks = new SignatureCheck[Batch];
    private Network _network = null!;
    private byte[][] _records = [];

    [GlobalSetup]
    public void Begin()
    {
        _network = new Network();
        _records = _network.Records(Batch);
        for (var i = 0; i < Batch; i++)
        {
            EnvelopeDecoder.TryDecode(AlertKind.Anomaly, _records[i], out var envelope, out _);
            _checks[i] = new SignatureCheck(envelope!.Producer, SigningBytes.V1(envelope.Kind, envelope.TimestampSeconds, envelope.Producer, envelope.Nonce, envelope.ContentHash), envelope.Signature);
        }

        // The keys have tables from then on.
        for (var i = 0; i < 1000; i++) Known64();
    }

    [GlobalCleanup]
    public void End() => _network.Dispose();

    [Benchmark]
    public bool Decode() => EnvelopeDecoder.TryDecode(AlertKind.Anomaly, _records[0], out _, out _);

    [Benchmark(Baseline = true)]
    public bool Libsodium() => _library.Verify(_checks[0].Key, _checks[0].Message.Span, _checks[0].Signature);

    [Benchmark]
    public bool Known() => _network.Verifier.Verify(_checks[0].Key, _checks[0].Message.Span, _checks[0].Signature);

    [Benchmark(OperationsPerInvoke = Batch)]
    public void Known64() => _network.Verifier.Verify(_checks, _verdicts);
}
