using System;
using System.Text;
using System.Text.Json;
using Confluent.Kafka;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Protos.Control;
using Google.Protobuf;

namespace CyberMesh.Node.Feedback;

/// <summary>The record on <c>control.reputation.v1</c>: how far the reputation of a producer moved, and because of which message.</summary>
internal static class ReputationRecord
{
    private const int ScoreMax = 100;

    public static Message<byte[]?, byte[]?> Create(LedgerEvent.ReputationChanged change, ControlRecord.Place place, ISigner control, string signingDomain, DateTimeOffset now)
    {
        var message = new ReputationEvent
        {
            AiMessageId = change.MessageId,
            AiProducerId = ByteString.CopyFrom(change.Key.ToArray()),
            MessageType = change.Cause == ReputationCause.Breach ? "" : "anomaly",
            Score = Math.Clamp(change.After - change.Before, -ScoreMax, ScoreMax),
            Reason = JsonNamingPolicy.SnakeCaseLower.ConvertName(change.Cause.ToString()),
            Confirmed = change.Cause == ReputationCause.Confirmed,
            FalsePositive = change.Cause == ReputationCause.FalsePositive,
            AnalystNotes = change.Note,
            IncidentSeverity = change.Severity,
            Timestamp = now.ToUnixTimeSeconds(),
            BlockHeight = (long)place.Height.Value,
            ProducerId = ByteString.CopyFrom(control.PublicKey.ToArray()),
        };
        message.Signature = ControlRecord.Sign(control, signingDomain, message);
        message.Pubkey = message.ProducerId;
        message.Alg = "Ed25519";
        return new Message<byte[]?, byte[]?>
        {
            Key = Encoding.UTF8.GetBytes(change.Producer),
            Value = message.ToByteArray(),
            Headers = ControlRecord.Headers("reputation", place, change.Message),
        };
    }
}
