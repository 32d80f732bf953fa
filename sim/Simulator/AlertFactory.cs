using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Simulator;

/// <summary>Builds signed records of every kind, as a producer, an analyst or an approver would; fields in the order of the protobuf definition.</summary>
public sealed class AlertFactory(ISigner signer, SigningProfile profile = SigningProfile.V1)
{
    private ulong _nonce;

    public ISigner Signer => signer;

    public Nonce NextNonce() => new(++_nonce);

    public byte[] Anomaly(long timestampSeconds, int severity = 5) =>
        Anomaly(timestampSeconds, new Nonce(++_nonce), $"alert-{_nonce}", severity);

    /// <param name="more">Further members of the payload, each with a comma in front.</param>
    public byte[] Anomaly(long timestampSeconds, Nonce nonce, string id, int severity, string type = "scan", string source = "10.0.0.1", string more = "")
    {
        var payload = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $$"""{"severity":{{severity}},"confidence":0.75,"n":"{{id}}"{{more}}}"""));
        var confidence = new byte[8];
        BinaryPrimitives.WriteDoubleLittleEndian(confidence, 0.75);
        return Sign(AlertKind.Anomaly, timestampSeconds, nonce, payload, 12, (record, hash) =>
        {
            Bytes(record, 1, Encoding.UTF8.GetBytes(id));
            Bytes(record, 2, Encoding.UTF8.GetBytes(type));
            Bytes(record, 3, Encoding.UTF8.GetBytes(source));
            Number(record, 4, (ulong)severity);
            Varint(record, 5 << 3 | 1);
            record.Write(confidence);
            Number(record, 6, (ulong)timestampSeconds);
            Bytes(record, 7, hash);
            Bytes(record, 8, payload);
            Bytes(record, 9, "sim"u8);
        });
    }

    public byte[] Evidence(long timestampSeconds, Nonce nonce, string id, IEnumerable<Digest> references, params IEnumerable<CustodyEntry> custody)
    {
        var blob = Encoding.UTF8.GetBytes("proof of " + id);
        return Sign(AlertKind.Evidence, timestampSeconds, nonce, blob, 10, (record, hash) =>
        {
            Bytes(record, 1, Encoding.UTF8.GetBytes(id));
            Bytes(record, 2, "pcap"u8);
            foreach (var reference in references) Bytes(record, 3, reference.ToArray());
            Bytes(record, 4, blob);
            foreach (var entry in custody)
            {
                using var step = new MemoryStream();
                Bytes(step, 1, entry.RefHash.ToArray());
                Bytes(step, 2, entry.Actor.ToArray());
                Number(step, 3, (ulong)entry.TimestampSeconds);
                Bytes(step, 4, entry.Signature.ToArray());
                Bytes(record, 5, step.ToArray());
            }

            Number(record, 6, (ulong)timestampSeconds);
            Bytes(record, 7, hash);
        });
    }

    /// <summary>A policy that drops traffic of one network, in the form existing producers use.</summary>
    /// <param name="more">Further members of the params, each with a comma in front.</param>
    public byte[] Block(long timestampSeconds, Nonce nonce, string id, string network, int ttlSeconds, string more = "") =>
        Policy(timestampSeconds, nonce, id, "drop", "block", string.Create(
            CultureInfo.InvariantCulture,
            $$"""{"action":"drop","guardrails":{"requires_ack":true,"ttl_seconds":{{ttlSeconds}}},"policy_id":"{{id}}","rule_type":"block","target":{"ips":["{{network}}"]}{{more}}}"""));

    public byte[] Policy(long timestampSeconds, Nonce nonce, string id, string action, string rule, string json) =>
        Sign(AlertKind.Policy, timestampSeconds, nonce, Encoding.UTF8.GetBytes(json), 9, (record, hash) =>
        {
            Bytes(record, 1, Encoding.UTF8.GetBytes(id));
            Bytes(record, 2, Encoding.UTF8.GetBytes(action));
            Bytes(record, 3, Encoding.UTF8.GetBytes(rule));
            Bytes(record, 4, Encoding.UTF8.GetBytes(json));
            Number(record, 5, (ulong)timestampSeconds);
            Bytes(record, 6, hash);
        });

    public Decision Decide(Digest chainId, Digest subject, Ruling ruling, long timestampSeconds, string note = "") =>
        Decision.Sign(chainId, subject, ruling, timestampSeconds, NextNonce(), note, signer);

    /// <summary>Appends who signs, the nonce and the signature: the last five fields of every kind.</summary>
    private byte[] Sign(AlertKind kind, long timestampSeconds, Nonce nonce, byte[] content, int signatureField, Action<MemoryStream, byte[]> write)
    {
        var hash = SHA256.HashData(content);
        using var record = new MemoryStream();
        write(record, hash);
        var nonceBytes = new byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(nonceBytes, nonce.Value);
        Bytes(record, signatureField - 2, signer.PublicKey.ToArray());
        Bytes(record, signatureField - 1, nonceBytes);
        using var after = new MemoryStream();
        Bytes(after, signatureField + 1, signer.PublicKey.ToArray());
        Bytes(after, signatureField + 2, "Ed25519"u8);
        var signed = profile == SigningProfile.V1
            ? SigningBytes.V1(kind, timestampSeconds, signer.PublicKey, nonce, Digest.From(hash))
            : SigningBytes.V2(kind, record.ToArray(), after.ToArray());
        Bytes(record, signatureField, signer.Sign(signed).ToArray());
        record.Write(after.ToArray());
        return record.ToArray();
    }

    private static void Bytes(Stream to, int field, ReadOnlySpan<byte> value)
    {
        Varint(to, (ulong)field << 3 | 2);
        Varint(to, (ulong)value.Length);
        to.Write(value);
    }

    private static void Number(Stream to, int field, ulong value)
    {
        Varint(to, (ulong)field << 3);
        Varint(to, value);
    }

    private static void Varint(Stream to, ulong value)
    {
        for (; value >= 0x80; value >>= 7) to.WriteByte((byte)(value & 0x7f | 0x80));
        to.WriteByte((byte)value);
    }
}
