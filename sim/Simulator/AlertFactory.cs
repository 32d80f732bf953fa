using System;
using System.Buffers.Binary;
using System.Globalization;
using System.IO;
using System.Security.Cryptography;
using System.Text;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Simulator;

/// <summary>Builds signed anomaly records, as a producer would.</summary>
public sealed class AlertFactory(ISigner signer)
{
    private ulong _nonce;

    public byte[] Anomaly(long timestampSeconds, int severity = 5) =>
        Anomaly(timestampSeconds, new Nonce(++_nonce), $"alert-{_nonce}", severity);

    public byte[] Anomaly(long timestampSeconds, Nonce nonce, string id, int severity)
    {
        var payload = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $$"""{"severity":{{severity}},"confidence":0.75,"n":"{{id}}"}"""));
        var hash = SHA256.HashData(payload);
        var signature = signer.Sign(SigningBytes.V1(AlertKind.Anomaly, timestampSeconds, signer.PublicKey, nonce, Digest.From(hash)));
        var nonceBytes = new byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(nonceBytes, nonce.Value);
        var confidence = new byte[8];
        BinaryPrimitives.WriteDoubleLittleEndian(confidence, 0.75);
        using var record = new MemoryStream();
        Bytes(record, 1, Encoding.UTF8.GetBytes(id));
        Bytes(record, 2, "scan"u8);
        Bytes(record, 3, "10.0.0.1"u8);
        Varint(record, 4 << 3);
        Varint(record, (ulong)severity);
        Varint(record, 5 << 3 | 1);
        record.Write(confidence);
        Varint(record, 6 << 3);
        Varint(record, (ulong)timestampSeconds);
        Bytes(record, 7, hash);
        Bytes(record, 8, payload);
        Bytes(record, 9, "sim"u8);
        Bytes(record, 10, signer.PublicKey.ToArray());
        Bytes(record, 11, nonceBytes);
        Bytes(record, 12, signature.ToArray());
        Bytes(record, 13, signer.PublicKey.ToArray());
        Bytes(record, 14, "Ed25519"u8);
        return record.ToArray();
    }

    private static void Bytes(Stream to, int field, ReadOnlySpan<byte> value)
    {
        Varint(to, (ulong)field << 3 | 2);
        Varint(to, (ulong)value.Length);
        to.Write(value);
    }

    private static void Varint(Stream to, ulong value)
    {
        for (; value >= 0x80; value >>= 7) to.WriteByte((byte)(value & 0x7f | 0x80));
        to.WriteByte((byte)value);
    }
}
