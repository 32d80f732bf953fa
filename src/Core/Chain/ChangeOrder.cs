using System;
using System.Buffers;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>What an order changes: one validator, the parameters, the rules, one producer, or whether policies are accepted.</summary>
public abstract record Change
{
    private Change() { }

    public sealed record AddValidator(Validator Validator) : Change;

    public sealed record RemoveValidator(string Name) : Change;

    /// <summary>New keys (and address) for the validator of this name.</summary>
    public sealed record RotateKeys(Validator Validator) : Change;

    public sealed record SetParameters(ChainParameters Parameters) : Change;

    /// <summary>A new producer, analyst or approver, or new terms for a key that is known.</summary>
    public sealed record PutProducer(Producer Producer) : Change;

    /// <summary>A new key for the producer of this name; the present one stays good for some more blocks.</summary>
    public sealed record RotateProducer(string Name, PublicKey Key, uint OverlapBlocks) : Change;

    /// <summary>No message of this name is accepted any more, under any of its keys.</summary>
    public sealed record RevokeProducer(string Name) : Change;

    /// <summary>The switch over all policies: halted, every one in force ends and none is accepted.</summary>
    public sealed record HaltPolicies(bool Halted) : Change;

    /// <summary>New rules for blocks and their execution; the next version, since each program has to know how to get there.</summary>
    public sealed record Upgrade(uint Version) : Change;

    /// <summary>It is in force at once: no set, key or timer of the consensus hangs on it. The others wait for the end of a term.</summary>
    public bool IsImmediate => this is PutProducer or RotateProducer or RevokeProducer or HaltPolicies;

    internal void Write(CanonicalWriter writer)
    {
        switch (this)
        {
            case AddValidator c:
                writer.UInt8(1);
                c.Validator.Write(writer);
                break;
            case RemoveValidator c:
                writer.UInt8(2);
                writer.Text(c.Name);
                break;
            case RotateKeys c:
                writer.UInt8(3);
                c.Validator.Write(writer);
                break;
            case SetParameters c:
                writer.UInt8(4);
                c.Parameters.Write(writer);
                break;
            case PutProducer c:
                writer.UInt8(5);
                c.Producer.Write(writer);
                break;
            case RotateProducer c:
                writer.UInt8(6);
                writer.Text(c.Name);
                writer.Key(c.Key);
                writer.UInt32(c.OverlapBlocks);
                break;
            case RevokeProducer c:
                writer.UInt8(7);
                writer.Text(c.Name);
                break;
            case HaltPolicies c:
                writer.UInt8(8);
                writer.UInt8(c.Halted ? (byte)1 : (byte)0);
                break;
            case Upgrade c:
                writer.UInt8(9);
                writer.UInt32(c.Version);
                break;
            default:
                throw Invariant.Unreachable(this);
        }
    }

    internal static Change? Read(ref CanonicalReader reader)
    {
        switch (reader.UInt8())
        {
            case 1:
                return new AddValidator(Validator.Read(ref reader));
            case 2:
                return new RemoveValidator(reader.Text(Limits.NameBytesMax));
            case 3:
                return new RotateKeys(Validator.Read(ref reader));
            case 4:
                return new SetParameters(ChainParameters.Read(ref reader));
            case 5:
                return new PutProducer(Producer.Read(ref reader));
            case 6:
                return new RotateProducer(reader.Text(Limits.NameBytesMax), reader.Key(), reader.UInt32());
            case 7:
                return new RevokeProducer(reader.Text(Limits.NameBytesMax));
            case 8:
                var halted = reader.UInt8();
                if (halted > 1) reader.Fail(DecodeError.NotCanonical);
                return new HaltPolicies(halted == 1);
            case 9:
                return new Upgrade(reader.UInt32());
            default:
                reader.Fail(DecodeError.UnknownTag);
                return null;
        }
    }
}

/// <param name="Operator">Position among the operators of genesis.</param>
public readonly record struct OperatorSignature(ushort Operator, Signature Signature);

/// <summary>
/// A change signed by operators (rule S1). Its number is one above that of the last order carried out, so an order takes effect at
/// most once and never after a later one.
/// </summary>
/// <param name="Signatures">Strictly ascending by operator.</param>
public sealed record ChangeOrder(Digest ChainId, ulong Number, Change Change, ImmutableArray<OperatorSignature> Signatures)
{
    private static ReadOnlySpan<byte> Label => "cybermesh/change/v1\0"u8;

    /// <summary>Identity of the change whoever signed it.</summary>
    public Digest Digest()
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        WriteContent(new CanonicalWriter(buffer));
        return Primitives.Digest.Sha256(DigestDomain.Change, buffer.WrittenSpan);
    }

    /// <summary>The order with this operator's signature.</summary>
    public ChangeOrder SignedBy(ushort number, ISigner signer)
    {
        var signature = new OperatorSignature(number, signer.Sign(Message()));
        return this with { Signatures = Signatures.RemoveAll(s => s.Operator == number).Add(signature).Sort((x, y) => x.Operator.CompareTo(y.Operator)) };
    }

    /// <summary>Enough signatures, each genuine.</summary>
    public bool Verify(Operators operators, ISignatureVerifier verifier)
    {
        if (operators.Keys.IsEmpty || Signatures.Length < operators.Threshold) return false;
        var message = Message();
        var previous = -1;
        foreach (var (number, signature) in Signatures)
        {
            if (number <= previous || number >= operators.Keys.Length || !verifier.Verify(operators.Keys[number], message, signature)) return false;
            previous = number;
        }

        return true;
    }

    private byte[] Message() => [.. Label, .. Digest().ToArray()];

    private void WriteContent(CanonicalWriter writer)
    {
        writer.Digest(ChainId);
        writer.UInt64(Number);
        Change.Write(writer);
    }

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        var writer = new CanonicalWriter(buffer);
        WriteContent(writer);
        writer.Count(Signatures.Length);
        foreach (var (number, signature) in Signatures)
        {
            writer.UInt16(number);
            writer.Signature(signature);
        }

        return buffer.WrittenSpan.ToArray();
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out ChangeOrder? order)
    {
        order = null;
        var reader = new CanonicalReader(bytes);
        var chain = reader.Digest();
        var number = reader.UInt64();
        var change = Change.Read(ref reader);
        var signatures = ImmutableArray.CreateBuilder<OperatorSignature>();
        for (var left = reader.Count(Limits.OperatorsMax, 66); left > 0; left--) signatures.Add(new OperatorSignature(reader.UInt16(), reader.Signature()));
        if (!reader.Finish(out _) || change is null) return false;
        order = new ChangeOrder(chain, number, change, signatures.ToImmutable());
        return true;
    }
}

/// <summary>A new key says that whoever holds it is up to date and takes part from the border on (rule S2). It also proves that the key is held.</summary>
public sealed record Readiness(Digest Order, PublicKey Key, Signature Signature)
{
    private static ReadOnlySpan<byte> Label => "cybermesh/ready/v1\0"u8;

    public static Readiness Sign(Digest order, ISigner signer) => new(order, signer.PublicKey, signer.Sign(Message(order)));

    public bool Verify(ISignatureVerifier verifier) => verifier.Verify(Key, Message(Order), Signature);

    private static byte[] Message(Digest order) => [.. Label, .. order.ToArray()];

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(128);
        var writer = new CanonicalWriter(buffer);
        writer.Digest(Order);
        writer.Key(Key);
        writer.Signature(Signature);
        return buffer.WrittenSpan.ToArray();
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out Readiness? readiness)
    {
        var reader = new CanonicalReader(bytes);
        readiness = new Readiness(reader.Digest(), reader.Key(), reader.Signature());
        if (reader.Finish(out _)) return true;
        readiness = null;
        return false;
    }
}
