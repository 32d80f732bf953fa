using System;
using System.Buffers.Binary;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Storage;
using CyberMesh.Protos.Control;
using Google.Protobuf;

namespace CyberMesh.Node.Feedback;

/// <summary>The record on <c>control.commits.v1</c>: wire-compatible with existing consumers (docs/wire-format.md, "Control messages").</summary>
public static class CommitRecord
{
    private const int AnomalyIdsMax = 10_000;

    public static Message<byte[]?, byte[]?> Create(
        StoredBlockWithResults block, CertifiedHeader? proof, ISigner control, string signingDomain, DateTimeOffset now)
    {
        var header = block.Stored.Block.Block.Header;
        var message = new CommitEvent
        {
            Height = (long)header.Height.Value,
            BlockHash = ByteString.CopyFrom(block.Stored.Block.Block.Digest.ToArray()),
            StateRoot = ByteString.CopyFrom(block.StateRoot.ToArray()),
            TxCount = header.TransactionCount,
            Timestamp = now.ToUnixTimeSeconds(),
            ProducerId = ByteString.CopyFrom(control.PublicKey.ToArray()),
        };
        Count(block, message);
        message.Signature = ControlRecord.Sign(control, signingDomain, message);
        message.Pubkey = message.ProducerId;
        message.Alg = "Ed25519";

        var key = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(key, header.Height.Value);
        var headers = ControlRecord.Headers("commit", new ControlRecord.Place(header.Height, 0, proof), block.Stored.Block.Block.Digest);
        return new Message<byte[]?, byte[]?> { Key = key, Value = message.ToByteArray(), Headers = headers };
    }

    private static void Count(StoredBlockWithResults block, CommitEvent message)
    {
        for (var i = 0; i < block.Results.Length; i++)
        {
            if (block.Results[i] != RejectionReason.None) continue;
            var body = block.Stored.Block.Bodies[i];
            switch ((AlertKind)body.Span[0])
            {
                case AlertKind.Anomaly:
                    message.AnomalyCount++;
                    var id = EnvelopeDecoder.IdOfCommitted(body);
                    if (IsUuidV4(id) && message.AnomalyIds.Count < AnomalyIdsMax) message.AnomalyIds.Add(id);
                    break;
                case AlertKind.Evidence:
                    message.EvidenceCount++;
                    break;
                case AlertKind.Policy:
                    message.PolicyCount++;
                    break;
            }
        }
    }

    /// <summary>Existing consumers accept only UUID version 4 in the list of ids.</summary>
    internal static bool IsUuidV4(string id) =>
        id.Length == 36 && id[14] == '4' && (id[19] is '8' or '9' or 'a' or 'b' or 'A' or 'B') && Guid.TryParseExact(id, "D", out _);
}
