using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// What the state holds under one key, or that it holds nothing: the way from the root of the state tree to the key's place. The tree is a binary
/// trie over the bits of the key's digest in which a subtree with one entry is that entry's leaf.
/// </summary>
/// <param name="Siblings">The other side of each branch on the way, the root's first; zero where it is empty.</param>
/// <param name="Leaf">What stands at the end of the way: digests of a key and of its value, or nothing.</param>
public sealed record StateProof(ImmutableArray<Digest> Siblings, (Digest Key, Digest Value)? Leaf)
{
    private const int DepthMax = 8 * Digest.Size;

    public static Digest KeyDigest(ReadOnlySpan<byte> key) => Digest.Sha256(DigestDomain.StateKey, key);

    public static Digest ValueDigest(ReadOnlySpan<byte> value) => Digest.Sha256(DigestDomain.StateValue, value);

    /// <summary>The state with this root holds this value under the key.</summary>
    public bool ShowsPresence(Digest root, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        var digest = KeyDigest(key);
        return Leaf is { } leaf && leaf.Key == digest && leaf.Value == ValueDigest(value) && RootOf(digest) == root;
    }

    /// <summary>The state with this root holds nothing under the key: its place is empty, or another key's leaf stands there.</summary>
    public bool ShowsAbsence(Digest root, ReadOnlySpan<byte> key)
    {
        var digest = KeyDigest(key);
        if (Leaf is { } leaf && (leaf.Key == digest || !SharesWay(leaf.Key, digest))) return false;
        return RootOf(digest) == root;
    }

    private bool SharesWay(Digest a, Digest b)
    {
        for (var depth = 0; depth < Siblings.Length && depth < DepthMax; depth++)
            if (a.Value.Bit(depth) != b.Value.Bit(depth))
                return false;
        return true;
    }

    private Digest? RootOf(Digest key)
    {
        if (Siblings.Length > DepthMax) return null;
        var node = Leaf is { } leaf ? MerkleTree.Pair(DigestDomain.StateLeaf, leaf.Key, leaf.Value) : default;
        for (var depth = Siblings.Length - 1; depth >= 0; depth--)
            node = key.Value.Bit(depth)
                ? MerkleTree.Pair(DigestDomain.StateNode, Siblings[depth], node)
                : MerkleTree.Pair(DigestDomain.StateNode, node, Siblings[depth]);
        return node;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.Count(Siblings.Length);
        foreach (var sibling in Siblings) writer.Digest(sibling);
        writer.UInt8(Leaf is null ? (byte)0 : (byte)1);
        if (Leaf is not { } leaf) return;
        writer.Digest(leaf.Key);
        writer.Digest(leaf.Value);
    }

    internal static StateProof Read(ref CanonicalReader reader)
    {
        var siblings = ImmutableArray.CreateBuilder<Digest>();
        for (var left = reader.Count(DepthMax, Digest.Size); left > 0; left--) siblings.Add(reader.Digest());
        var flag = reader.UInt8();
        if (flag > 1) reader.Fail(DecodeError.NotCanonical);
        return new StateProof(siblings.ToImmutable(), flag == 1 ? (reader.Digest(), reader.Digest()) : null);
    }
}
