using System;
using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Sensors;
using Google.Protobuf;
using HdrHistogram;

namespace CyberMesh.Cli.Bench;

/// <summary>Signed alerts, made before anything is measured.</summary>
internal sealed class BenchLoad : IDisposable
{
    private const int Producers = 8;
    private readonly Ed25519Signer[] _keys = [.. Enumerable.Range(0, Producers).Select(_ => new Ed25519Signer(RandomNumberGenerator.GetBytes(32)))];

    /// <summary>Of eight organisations' sensors; no quota keeps them from anything.</summary>
    public ImmutableArray<Producer> Trusted =>
        [.. _keys.Select((k, i) => new Producer(k.PublicKey, $"sensor-{i}", $"org-{i % 4}", AlertKinds.All, SigningProfiles.V1 | SigningProfiles.V2, 10_000_000, default, null, false))];

    /// <param name="size">Bytes of the payload of each.</param>
    /// <param name="first">Number of the first.</param>
    public byte[][] Sign(int count, int size, int first = 0)
    {
        var filling = new string('x', Math.Max(0, size - 64));
        var messages = new byte[count][];
        var signers = _keys.Select(k => new AlertSigner(k, SigningProfile.V1, TimeProvider.System)).ToArray();
        Parallel.For(0, count, place =>
        {
            var i = first + place;
            // Sources differ as they do in a network, so that not all alerts speak of one incident.
            var source = string.Create(CultureInfo.InvariantCulture, $"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}");
            var payload = string.Create(CultureInfo.InvariantCulture, $$"""{"severity":5,"confidence":0.5,"n":{{i}},"x":"{{filling}}"}""");
            messages[place] = signers[i % signers.Length].Anomaly(new Detection("scan", source, 5, 0.5, "bench", payload)).ToByteArray();
        });
        return messages;
    }

    public void Dispose()
    {
        foreach (var key in _keys) key.Dispose();
    }
}

/// <summary>Times, in an HdrHistogram: microseconds, up to ten minutes, three digits.</summary>
internal sealed class Latency
{
    private readonly LongConcurrentHistogram _histogram = new(1, 600_000_000, 3);

    public void Record(TimeSpan time) => _histogram.RecordValue(Math.Clamp((long)time.TotalMicroseconds, 1, 600_000_000));

    public void Reset() => _histogram.Reset();

    public Quantiles Quantiles => new(_histogram.TotalCount, Ms(50), Ms(90), Ms(99), _histogram.GetMaxValue() / 1000.0);

    private double Ms(double percentile) => _histogram.GetValueAtPercentile(percentile) / 1000.0;
}

/// <summary>In milliseconds.</summary>
internal sealed record Quantiles(long Count, double P50Ms, double P90Ms, double P99Ms, double MaxMs)
{
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"p50 {P50Ms:F1} ms, p90 {P90Ms:F1} ms, p99 {P99Ms:F1} ms, max {MaxMs:F1} ms");
}

/// <summary>What a process has used up since.</summary>
internal sealed class Usage
{
    private readonly TimeSpan _processor = Process.GetCurrentProcess().TotalProcessorTime;
    private readonly long _allocated = GC.GetTotalAllocatedBytes();
    private readonly TimeSpan _pauses = GC.GetTotalPauseDuration();

    public (double CpuMicroseconds, long Bytes) Per(long count) =>
        ((Process.GetCurrentProcess().TotalProcessorTime - _processor).TotalMicroseconds / Math.Max(1, count), (GC.GetTotalAllocatedBytes() - _allocated) / Math.Max(1, count));

    /// <summary>The collector stood in the way for so much of the time.</summary>
    public double PausesPart(TimeSpan of) => (GC.GetTotalPauseDuration() - _pauses) / of;
}
