using System.Numerics;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>Where a key stands in the space of lookups: SHA-256 of it, so that nobody chooses its neighbours for less than the work of finding such a key.</summary>
public static class NodeId
{
    public const int Bits = 256;

    public static Digest Of(PublicKey key) => Digest.Sha256("peer-id.v1\0"u8, key.Value.ToArray());

    /// <summary>Kademlia's metric: the exclusive or, read as a number.</summary>
    public static Bytes32 Distance(Digest one, Digest other)
    {
        var (x, y) = (one.Value, other.Value);
        return new Bytes32(x.A ^ y.A, x.B ^ y.B, x.C ^ y.C, x.D ^ y.D);
    }

    /// <summary>Leading bits that two ids have in common.</summary>
    public static int SharedBits(Digest one, Digest other)
    {
        var distance = Distance(one, other);
        if (distance.A != 0) return BitOperations.LeadingZeroCount(distance.A);
        if (distance.B != 0) return 64 + BitOperations.LeadingZeroCount(distance.B);
        return distance.C != 0 ? 128 + BitOperations.LeadingZeroCount(distance.C) : 192 + BitOperations.LeadingZeroCount(distance.D);
    }
}
