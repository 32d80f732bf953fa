using System;
using System.Collections.Immutable;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>RFC 6962 Merkle tree hash over digests: 0x00 before a leaf, 0x01 before a node.</summary>
public static class MerkleTree
{
    public static Digest Root(ReadOnlySpan<Digest> leaves)
    {
        if (leaves.IsEmpty) return Digest.Sha256([]);
        if (leaves.Length == 1) return Leaf(leaves[0]);
        var split = Split(leaves.Length);
        return Node(Root(leaves[..split]), Root(leaves[split..]));
    }

    /// <summary>The siblings from a leaf up to the root.</summary>
    public static ImmutableArray<Digest> Path(int index, ReadOnlySpan<Digest> leaves)
    {
        var path = ImmutableArray.CreateBuilder<Digest>();
        while (leaves.Length > 1)
        {
            var split = Split(leaves.Length);
            var left = index < split;
            path.Add(Root(left ? leaves[split..] : leaves[..split]));
            leaves = left ? leaves[..split] : leaves[split..];
            if (!left) index -= split;
        }

        path.Reverse();
        return path.ToImmutable();
    }

    private static int Split(int count)
    {
        var split = 1;
        while (split * 2 < count) split *= 2;
        return split;
    }

    public static Digest Leaf(Digest value)
    {
        Span<byte> bytes = stackalloc byte[1 + Digest.Size];
        bytes[0] = DigestDomain.MerkleLeaf;
        value.CopyTo(bytes[1..]);
        return Digest.Sha256(bytes);
    }

    public static Digest Node(Digest left, Digest right) => Pair(DigestDomain.MerkleNode, left, right);

    /// <summary>SHA-256 over a domain byte and two digests.</summary>
    internal static Digest Pair(byte domain, Digest left, Digest right)
    {
        Span<byte> bytes = stackalloc byte[1 + 2 * Digest.Size];
        bytes[0] = domain;
        left.CopyTo(bytes[1..]);
        right.CopyTo(bytes[(1 + Digest.Size)..]);
        return Digest.Sha256(bytes);
    }
}
