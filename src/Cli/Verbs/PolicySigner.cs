using System;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Protos.Ai;
using Google.Protobuf;

namespace CyberMesh.Cli.Verbs;

/// <summary>A policy from a file of params, signed under profile v1 as existing producers do: the params repeat what the message says.</summary>
internal static class PolicySigner
{
    public static (string Id, byte[] Record) Sign(FileInfo file, ISigner signer, TimeProvider time)
    {
        var parameters = Read(file);
        parameters["policy_id"] ??= Guid.NewGuid().ToString();
        var json = Encoding.UTF8.GetBytes(parameters.ToJsonString());
        if (!PolicyParams.TryRead(json, out var read, out var problem)) throw new UserError($"{file}: {problem}", "correct the file; docs/wire-format.md says what stands in it");
        var message = new PolicyEvent
        {
            Id = read.PolicyId,
            Action = read.Action,
            Rule = read.RuleType,
            Params = ByteString.CopyFrom(json),
            Ts = time.GetUtcNow().ToUnixTimeSeconds(),
            ContentHash = ByteString.CopyFrom(SHA256.HashData(json)),
            ProducerId = ByteString.CopyFrom(signer.PublicKey.ToArray()),
            Nonce = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(16)),
            Alg = "Ed25519",
        };
        message.Pubkey = message.ProducerId;
        var nonce = new Nonce(System.Buffers.Binary.BinaryPrimitives.ReadUInt128BigEndian(message.Nonce.Span));
        var signed = SigningBytes.V1(AlertKind.Policy, message.Ts, signer.PublicKey, nonce, Digest.From(message.ContentHash.Span));
        message.Signature = ByteString.CopyFrom(signer.Sign(signed).ToArray());
        return (read.PolicyId, message.ToByteArray());
    }

    private static JsonObject Read(FileInfo file)
    {
        try
        {
            return JsonNode.Parse(File.ReadAllBytes(file.FullName)) as JsonObject ?? throw new JsonException("no JSON object");
        }
        catch (Exception problem) when (problem is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{file} cannot be read: {problem.Message}", "write an object such as {\"action\":\"drop\",\"rule_type\":\"block\",\"target\":{\"ips\":[\"203.0.113.7\"]},\"guardrails\":{\"ttl_seconds\":600}}");
        }
    }
}
