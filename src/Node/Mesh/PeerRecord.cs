using System;
using System.Buffers;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>Where a validator says it can be reached, signed by its consensus key, so that anybody may pass it on.</summary>
/// <param name="Sequence">Of two records the higher counts: milliseconds of the Unix clock when it was made, or one more than one that others still have.</param>
/// <param name="Expires">After this it says nothing; at most <see cref="Lifetime"/> ahead.</param>
public sealed record PeerRecord(PublicKey Key, ulong Sequence, Timestamp Expires, ImmutableArray<string> Addresses, Signature Signature)
{
    public const int AddressesMax = 4;
    public static readonly TimeSpan Lifetime = TimeSpan.FromHours(24);

    private const int BytesMin = 32 + 8 + 8 + 4 + 64;

    public static PeerRecord Sign(ISigner signer, Digest chainId, ulong sequence, Timestamp expires, ImmutableArray<string> addresses)
    {
        var unsigned = new PeerRecord(signer.PublicKey, sequence, expires, addresses, default);
        return unsigned with { Signature = signer.Sign(unsigned.Statement(chainId)) };
    }

    public bool IsGenuine(Digest chainId, ISignatureVerifier verifier) => verifier.Verify(Key, Statement(chainId), Signature);

    /// <summary>Of two with one sequence every node takes the same, or they would spread for ever.</summary>
    public bool Supersedes(PeerRecord other) => Sequence != other.Sequence ? Sequence > other.Sequence : Signature.R.CompareTo(other.Signature.R) > 0;

    /// <summary><c>"peer-record.v1\0" ‖ chain id ‖ "\0" ‖ the fields before the signature</c></summary>
    private byte[] Statement(Digest chainId)
    {
        var buffer = new ArrayBufferWriter<byte>();
        var writer = new CanonicalWriter(buffer);
        writer.Raw("peer-record.v1\0"u8);
        writer.Digest(chainId);
        writer.UInt8(0);
        WriteFields(writer);
        return buffer.WrittenSpan.ToArray();
    }

    private void WriteFields(CanonicalWriter writer)
    {
        writer.Key(Key);
        writer.UInt64(Sequence);
        writer.Time(Expires);
        writer.Count(Addresses.Length);
        foreach (var address in Addresses) writer.Text(address);
    }

    internal void Write(CanonicalWriter writer)
    {
        WriteFields(writer);
        writer.Signature(Signature);
    }

    /// <summary>Addresses that are none fail here.</summary>
    internal static PeerRecord Read(ref CanonicalReader reader)
    {
        var (key, sequence, expires) = (reader.Key(), reader.UInt64(), reader.Time());
        var addresses = ImmutableArray.CreateBuilder<string>();
        for (var left = reader.Count(AddressesMax, 4); left > 0 && reader.Error == DecodeError.None; left--)
        {
            var address = reader.Text(PeerAddress.LengthMax);
            if (!PeerAddress.TryParse(address, out _, out _)) reader.Fail(DecodeError.NotCanonical);
            addresses.Add(address);
        }

        return new PeerRecord(key, sequence, expires, addresses.ToImmutable(), reader.Signature());
    }

    internal static ImmutableArray<PeerRecord> ReadAll(ref CanonicalReader reader, int max)
    {
        var records = ImmutableArray.CreateBuilder<PeerRecord>();
        for (var left = reader.Count(max, BytesMin); left > 0 && reader.Error == DecodeError.None; left--) records.Add(Read(ref reader));
        return records.ToImmutable();
    }
}
