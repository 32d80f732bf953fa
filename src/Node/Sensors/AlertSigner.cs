using System;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Protos.Ai;
using Google.Protobuf;
using NonceValue = CyberMesh.Core.Alerts.Nonce;

namespace CyberMesh.Node.Sensors;

/// <summary>What a sensor saw, before it is signed. <paramref name="Payload"/> is a JSON object that repeats severity and confidence.</summary>
public sealed record Detection(string Type, string Source, uint Severity, double Confidence, string ModelVersion, string Payload);

/// <summary>Builds and signs records as a producer does: anomalies under profile v1, or v2 which covers every field.</summary>
public sealed class AlertSigner(ISigner key, SigningProfile profile, TimeProvider time)
{
    public PublicKey PublicKey => key.PublicKey;

    public AnomalyEvent Anomaly(Detection detection) =>
        Anomaly(detection, time.GetUtcNow().ToUnixTimeSeconds(), RandomNumberGenerator.GetBytes(16), Guid.NewGuid());

    /// <summary>The same message whenever it is made of the same things: for a line of a log that may have been published before.</summary>
    /// <param name="place">Where the line stands; no two lines of this producer have one place.</param>
    public AnomalyEvent Anomaly(Detection detection, long seconds, string place)
    {
        // Time and content too: another log may begin like this one, and its messages must not look like replays of these.
        var what = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"cybermesh/line/v1\n{key.PublicKey}\n{seconds}\n{place}\n{detection.Payload}"));
        var hash = SHA256.HashData(what);
        // The id has the form of a random UUID (RFC 9562, version 4), which is what consumers of the control topics list.
        (hash[22], hash[24]) = ((byte)(hash[22] & 0x0f | 0x40), (byte)(hash[24] & 0x3f | 0x80));
        return Anomaly(detection, seconds, hash[..16], new Guid(hash.AsSpan(16), bigEndian: true));
    }

    private AnomalyEvent Anomaly(Detection detection, long seconds, byte[] nonce, Guid id)
    {
        var payload = Encoding.UTF8.GetBytes(detection.Payload);
        return Sign(new AnomalyEvent
        {
            Id = id.ToString(),
            Type = detection.Type,
            Source = detection.Source,
            Severity = detection.Severity,
            Confidence = detection.Confidence,
            Ts = seconds,
            ContentHash = ByteString.CopyFrom(SHA256.HashData(payload)),
            Payload = ByteString.CopyFrom(payload),
            ModelVersion = detection.ModelVersion,
            Nonce = ByteString.CopyFrom(nonce),
        });
    }

    /// <summary>Evidence that refers to nothing, under profile v2.</summary>
    public EvidenceEvent Evidence(string type, byte[] content)
    {
        var message = new EvidenceEvent
        {
            Id = Guid.NewGuid().ToString(),
            EvidenceType = type,
            ProofBlob = ByteString.CopyFrom(content),
            Ts = time.GetUtcNow().ToUnixTimeSeconds(),
            ContentHash = ByteString.CopyFrom(SHA256.HashData(content)),
            Nonce = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(16)),
            ProducerId = ByteString.CopyFrom(key.PublicKey.ToArray()),
            Pubkey = ByteString.CopyFrom(key.PublicKey.ToArray()),
            Alg = "Ed25519",
        };
        message.Signature = ByteString.CopyFrom(key.Sign(SigningBytes.V2(AlertKind.Evidence, message.ToByteArray(), [])).ToArray());
        return message;
    }

    /// <summary>Signs the message as it is, over whatever its fields say.</summary>
    public AnomalyEvent Sign(AnomalyEvent message)
    {
        message.ProducerId = ByteString.CopyFrom(key.PublicKey.ToArray());
        message.Pubkey = message.ProducerId;
        message.Alg = "Ed25519";
        message.Signature = ByteString.Empty;
        var bytes = profile == SigningProfile.V2
            ? SigningBytes.V2(AlertKind.Anomaly, message.ToByteArray(), [])
            : SigningBytes.V1(
                AlertKind.Anomaly, message.Ts, key.PublicKey,
                new NonceValue(System.Buffers.Binary.BinaryPrimitives.ReadUInt128BigEndian(message.Nonce.Span)), Digest.From(message.ContentHash.Span));
        message.Signature = ByteString.CopyFrom(key.Sign(bytes).ToArray());
        return message;
    }
}
