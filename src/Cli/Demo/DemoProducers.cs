using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using CyberMesh.Protos.Ai;
using Google.Protobuf;

namespace CyberMesh.Cli.Demo;

/// <summary>What must become of a published message.</summary>
/// <param name="Code">Null for a valid alert; the rejection code of a broken one.</param>
/// <param name="Rival">The other message with the same nonce: exactly one of the two is accepted.</param>
internal sealed record Published(Digest Digest, string? Code, Digest? Rival, long PublishedAtMs)
{
    /// <summary>Where Kafka has put it; null until it says so.</summary>
    public TopicPartitionOffset? Place { get; set; }

    /// <summary>How often it was published.</summary>
    public int Copies { get; set; } = 1;

    public override string ToString() => $"{Digest} ({Place?.ToString() ?? "not acknowledged by Kafka"})";
}

/// <summary>
/// Sample producers: they sign the lines of an EVE file in turn, at a fixed rate, and now and then one of them sends something broken. Everything
/// published is remembered with what must become of it.
/// </summary>
internal sealed class DemoProducers : IDisposable
{
    private const string Topic = "ai.anomalies.v1";
    private const int BrokenEvery = 20;
    private readonly AlertSigner[] _sensors;
    private readonly AlertSigner _stranger;
    private readonly Ed25519Signer[] _keys;
    private readonly Detection[] _detections;
    private readonly IProducer<byte[]?, byte[]?> _kafka;
    private long _failed;

    public DemoProducers(string brokers, string eveFile)
    {
        _keys = [.. Enumerable.Range(0, 3).Select(_ => new Ed25519Signer(RandomNumberGenerator.GetBytes(32)))];
        _sensors = [new AlertSigner(_keys[0], SigningProfile.V1, TimeProvider.System), new AlertSigner(_keys[1], SigningProfile.V2, TimeProvider.System)];
        _stranger = new AlertSigner(_keys[2], SigningProfile.V1, TimeProvider.System);
        _detections = Read(eveFile);
        _kafka = KafkaClients.Producer(KafkaConnection.Plain(brokers), "cybermesh-demo", _ => { });
    }

    public ConcurrentDictionary<Digest, Published> Log { get; } = new();

    /// <summary>Valid and broken together, counting every copy.</summary>
    public long Count { get; private set; }

    /// <summary>Records that must be dead-lettered, copies included, by code.</summary>
    public ConcurrentDictionary<string, int> ExpectedDeadLetters { get; } = new();

    public long Failed => Interlocked.Read(ref _failed);

    public IEnumerable<Producer> Trusted() =>
    [
        new(_keys[0].PublicKey, "sensor-a", "alpha", AlertKinds.All, SigningProfiles.V1, 1000, default, null, false),
        new(_keys[1].PublicKey, "sensor-b", "beta", AlertKinds.All, SigningProfiles.V2, 1000, default, null, false),
    ];

    private static Detection[] Read(string file)
    {
        if (!File.Exists(file)) throw new UserError($"{file} does not exist", "give a file of Suricata EVE lines with --eve");
        var detections = File.ReadLines(file).Select(line => Formats.Eve(line, out _)).OfType<Detection>().Take(10_000).ToArray();
        return detections.Length > 0 ? detections : throw new UserError($"{file} has no EVE alert", "give a file whose lines are Suricata events with event_type alert");
    }

    public async Task RunAsync(int rate, CancellationToken stop)
    {
        var clock = Stopwatch.StartNew();
        for (var number = 0L; !stop.IsCancellationRequested; number++)
        {
            var dueMs = number * 1000 / rate - clock.ElapsedMilliseconds;
            if (dueMs > 0) await Task.Delay(TimeSpan.FromMilliseconds(dueMs), stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (stop.IsCancellationRequested) return;
            var alert = _sensors[number % _sensors.Length].Anomaly(_detections[number % _detections.Length]);
            if (number % BrokenEvery == BrokenEvery - 1) PublishBroken((int)(number / BrokenEvery), alert, _sensors[number % _sensors.Length]);
            else Publish(alert, null);
        }
    }

    public void Flush() => _kafka.Flush(TimeSpan.FromSeconds(30));

    private void PublishBroken(int which, AnomalyEvent alert, AlertSigner signer)
    {
        switch (which % 9)
        {
            case 0:
                alert.Signature = Flipped(alert.Signature);
                Publish(alert, "bad_signature");
                break;
            case 1:
                alert.ContentHash = Flipped(alert.ContentHash);
                Publish(signer.Sign(alert), "content_hash_mismatch");
                break;
            case 2:
                alert.Ts -= 3600;
                Publish(signer.Sign(alert), "stale_timestamp");
                break;
            case 3:
                Publish(_stranger.Sign(alert), "unknown_producer");
                break;
            case 4:
                Publish(alert.ToByteArray()[..^70], null, "malformed");
                break;
            case 5:
                alert.Severity = 11;
                Publish(signer.Sign(alert), "field_out_of_range");
                break;
            case 6:
                alert.Severity = alert.Severity % 10 + 1;
                Publish(signer.Sign(alert), "payload_mismatch");
                break;
            case 7:
                // The same bytes twice: one is accepted, the copy is a replay.
                Publish(alert, null);
                Publish(alert, null, copy: true);
                break;
            default:
                // Another message under the same nonce: either may come first, one is refused.
                var rival = alert.Clone();
                rival.Id = Guid.NewGuid().ToString();
                rival.Ts = alert.Ts - 1;
                signer.Sign(rival);
                PublishRivals(alert.ToByteArray(), rival.ToByteArray());
                break;
        }
    }

    private static ByteString Flipped(ByteString bytes)
    {
        var flipped = bytes.ToByteArray();
        flipped[7] ^= 1;
        return ByteString.CopyFrom(flipped);
    }

    private void Publish(AnomalyEvent alert, string? code, bool copy = false)
    {
        var record = alert.ToByteArray();
        Publish(record, null, code, copy);
    }

    private void PublishRivals(byte[] first, byte[] second)
    {
        Publish(first, DigestOf(second), null);
        Publish(second, DigestOf(first), null);
        Expect("replayed_nonce");
    }

    private void Publish(byte[] record, Digest? rival, string? code, bool copy = false)
    {
        var digest = DigestOf(record);
        Count++;
        var published = new Published(digest, code, rival, Environment.TickCount64);
        if (copy)
        {
            Expect("replayed_nonce");
            Log[digest].Copies++;
        }
        else Log[digest] = published;

        if (code is not null) Expect(code);
        _kafka.Produce(Topic, new Message<byte[]?, byte[]?> { Value = record }, report =>
        {
            if (report.Error.IsError) Interlocked.Increment(ref _failed);
            else published.Place = report.TopicPartitionOffset;
        });
    }

    private void Expect(string code) => ExpectedDeadLetters.AddOrUpdate(code, 1, (_, count) => count + 1);

    /// <summary>
    /// A producer that hears nothing sends again, and a record whose acknowledgement was lost with the connection then stands in Kafka twice (the embedded
    /// broker does not know sequence numbers). Such copies are expected among the dead letters from now on.
    /// </summary>
    /// <param name="records">Everything in the topic.</param>
    /// <returns>How many copies nobody meant to publish.</returns>
    public int ExpectCopies(IEnumerable<ConsumeResult<byte[]?, byte[]?>> records)
    {
        var found = new Dictionary<Digest, int>();
        foreach (var record in records)
            if (record.Message.Value is { } value)
                found[DigestOf(value)] = found.GetValueOrDefault(DigestOf(value)) + 1;
        var more = 0;
        foreach (var (digest, published) in Log)
            for (; published.Copies < found.GetValueOrDefault(digest); published.Copies++, more++)
                Expect(published.Code ?? "replayed_nonce");
        Count += more;
        return more;
    }

    /// <summary>As validators name it: the transaction digest, or the hash of bytes that are no message.</summary>
    internal static Digest DigestOf(byte[] record) =>
        EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _) ? envelope.Digest : Digest.Sha256(record);

    public void Dispose()
    {
        _kafka.Dispose();
        foreach (var key in _keys) key.Dispose();
    }
}
