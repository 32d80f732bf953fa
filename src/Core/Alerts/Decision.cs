using System;
using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>What a person says: the first three of an alert, the others of a policy.</summary>
public enum Ruling : byte
{
    Confirm = 1,
    Dispute = 2,
    FalsePositive = 3,
    Approve = 4,
    Revoke = 5,
}

public static class Rulings
{
    public static string Name(this Ruling ruling) => ruling switch
    {
        Ruling.Confirm => "confirm",
        Ruling.Dispute => "dispute",
        Ruling.FalsePositive => "false_positive",
        Ruling.Approve => "approve",
        Ruling.Revoke => "revoke",
    };

    public static bool IsOfPolicy(this Ruling ruling) => ruling is Ruling.Approve or Ruling.Revoke;
}

/// <summary>A ruling on a committed transaction, signed over all of it by an analyst or approver of the trust store.</summary>
/// <param name="Subject">Digest of the alert's or the policy's transaction.</param>
/// <param name="Note">For people; up to 512 bytes.</param>
public sealed record Decision(Digest ChainId, Digest Subject, Ruling Ruling, long TimestampSeconds, PublicKey Signer, Nonce Nonce, string Note, Signature Signature)
{
    private static ReadOnlySpan<byte> Label => "cybermesh/decision/v1\0"u8;

    public static Decision Sign(Digest chainId, Digest subject, Ruling ruling, long timestampSeconds, Nonce nonce, string note, ISigner signer)
    {
        var unsigned = new Decision(chainId, subject, ruling, timestampSeconds, signer.PublicKey, nonce, note, default);
        return unsigned with { Signature = signer.Sign(unsigned.Message()) };
    }

    public bool Verify(ISignatureVerifier verifier) => verifier.Verify(Signer, Message(), Signature);

    private byte[] Message()
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        var writer = new CanonicalWriter(buffer);
        writer.Raw(Label);
        WriteContent(writer);
        return buffer.WrittenSpan.ToArray();
    }

    private void WriteContent(CanonicalWriter writer)
    {
        writer.Digest(ChainId);
        writer.Digest(Subject);
        writer.UInt8((byte)Ruling);
        writer.Int64(TimestampSeconds);
        writer.Key(Signer);
        Nonce.Write(writer);
        writer.Text(Note);
    }

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        var writer = new CanonicalWriter(buffer);
        WriteContent(writer);
        writer.Signature(Signature);
        return buffer.WrittenSpan.ToArray();
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out Decision? decision)
    {
        var reader = new CanonicalReader(bytes);
        var (chain, subject, ruling, time, signer) = (reader.Digest(), reader.Digest(), reader.UInt8(), reader.Int64(), reader.Key());
        decision = new Decision(chain, subject, (Ruling)ruling, time, signer, Nonce.Read(ref reader), reader.Text(Limits.NoteBytesMax), reader.Signature());
        if (ruling is < (byte)Ruling.Confirm or > (byte)Ruling.Revoke || time == 0) reader.Fail(DecodeError.OutOfRange);
        if (reader.Finish(out _)) return true;
        decision = null;
        return false;
    }
}
