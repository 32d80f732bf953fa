using System;
using System.Security.Cryptography;
using System.Text;
using Confluent.Kafka;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Protos.Control;
using Google.Protobuf;

namespace CyberMesh.Node.Feedback;

/// <summary>
/// The record on <c>control.policy.v1</c>: a policy comes into force with its own action, and ends with the action "remove". The rule is the JSON its
/// producer signed. The header <c>cm-state</c> proves where the policy stands, so that enforcers need not believe a validator.
/// </summary>
internal static class PolicyRecord
{
    public static Message<byte[]?, byte[]?> Create(
        LedgerEvent.PolicyChanged change, BlockProof standing, ControlRecord.Place place, ISigner control, string signingDomain, DateTimeOffset now)
    {
        var message = new PolicyUpdateEvent
        {
            PolicyId = change.Id,
            Action = change.Status == PolicyStatus.Active ? change.Action : "remove",
            RuleType = change.RuleType,
            RuleData = ByteString.CopyFrom(change.Params.Span),
            RuleHash = ByteString.CopyFrom(SHA256.HashData(change.Params.Span)),
            RequiresAck = change.RequiresAck,
            RollbackPolicyId = change.RollbackOf,
            Timestamp = now.ToUnixTimeSeconds(),
            EffectiveHeight = (long)place.Height.Value,
            ProducerId = ByteString.CopyFrom(control.PublicKey.ToArray()),
        };
        message.Signature = ControlRecord.Sign(control, signingDomain, message);
        message.Pubkey = message.ProducerId;
        message.Alg = "Ed25519";
        var headers = ControlRecord.Headers("policy", place, change.Policy);
        headers.Add("policy_id", Encoding.UTF8.GetBytes(change.Id));
        headers.Add("cm-status", Encoding.UTF8.GetBytes(change.Status.ToString().ToLowerInvariant()));
        headers.Add("cm-state", Encoding.UTF8.GetBytes(standing.ToString()));
        headers.Add("cm-until", Encoding.UTF8.GetBytes(change.Until.ToString()));
        return new Message<byte[]?, byte[]?> { Key = Encoding.UTF8.GetBytes(change.Id), Value = message.ToByteArray(), Headers = headers };
    }
}
