using System;
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

/// <summary>Builds and signs anomaly records as a producer does: profile v1, or v2 which covers every field.</summary>
public sealed class AlertSigner(ISigner key, SigningProfile profile, TimeProvider time)
{
    public PublicKey PublicKey => key.PublicKey;

    public AnomalyEvent Anomaly(Detection detection)
    {
        var payload = Encoding.UTF8.GetBytes(detection.Payload);
        return Sign(new AnomalyEvent
        {
            Id = Guid.NewGuid().ToString(),
            Type = detection.Type,
            Source = detection.Source,
            Severity = detection.Severity,
            Confidence = detection.Confidence,
            Ts = time.GetUtcNow().ToUnixTimeSeconds(),
            ContentHash = ByteString.CopyFrom(SHA256.HashData(payload)),
            Payload = ByteString.CopyFrom(payload),
            ModelVersion = detection.ModelVersion,
            Nonce = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(16)),
        });
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
