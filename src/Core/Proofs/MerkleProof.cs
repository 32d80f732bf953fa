using System;
using System.Collections.Immutable;
using System.Numerics;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// The root over the leaves from <paramref name="index"/> · 2^<paramref name="level"/> on, 2^<paramref name="level"/> of them; level 0 is a leaf hash.
/// </summary>
public delegate Digest LogNode(int level, ulong index);

/// <summary>Inclusion and consistency proofs of an RFC 6962 tree. Paths are made as in its section 2.1 and checked as in RFC 9162, sections 2.1.3.2 and 2.1.4.2.</summary>
public static class MerkleProof
{
    /// <summary>No path of a tree with a 64-bit size is longer.</summary>
    public const int PathMax = 64;

    public static Digest Root(ulong size, LogNode nodes) => size == 0 ? Digest.Sha256([]) : RangeRoot(0, size, nodes);

    /// <summary>The siblings from the leaf up to the root of the tree with the first <paramref name="size"/> leaves.</summary>
    public static ImmutableArray<Digest> Inclusion(ulong index, ulong size, LogNode nodes)
    {
        Invariant.Holds(index < size, "the leaf is in the tree");
        var path = ImmutableArray.CreateBuilder<Digest>();
        AddPath(index, 0, size, nodes, path);
        return path.ToImmutable();
    }

    private static void AddPath(ulong index, ulong low, ulong high, LogNode nodes, ImmutableArray<Digest>.Builder path)
    {
        if (high - low == 1) return;
        var middle = low + Split(high - low);
        if (index < middle)
        {
            AddPath(index, low, middle, nodes, path);
            path.Add(RangeRoot(middle, high, nodes));
        }
        else
        {
            AddPath(index, middle, high, nodes, path);
            path.Add(RangeRoot(low, middle, nodes));
        }
    }

    /// <summary>Shows that the tree of the first <paramref name="older"/> leaves is a prefix of the tree of the first <paramref name="newer"/>. Empty when nothing is to be shown.</summary>
    public static ImmutableArray<Digest> Consistency(ulong older, ulong newer, LogNode nodes)
    {
        Invariant.Holds(older <= newer, "a tree grows");
        var path = ImmutableArray.CreateBuilder<Digest>();
        if (older > 0 && older < newer) AddConsistency(older, 0, newer, wholeIsKnown: true, nodes, path);
        return path.ToImmutable();
    }

    private static void AddConsistency(ulong older, ulong low, ulong high, bool wholeIsKnown, LogNode nodes, ImmutableArray<Digest>.Builder path)
    {
        if (older == high)
        {
            if (!wholeIsKnown) path.Add(RangeRoot(low, high, nodes));
            return;
        }

        var middle = low + Split(high - low);
        if (older <= middle)
        {
            AddConsistency(older, low, middle, wholeIsKnown, nodes, path);
            path.Add(RangeRoot(middle, high, nodes));
        }
        else
        {
            AddConsistency(older, middle, high, wholeIsKnown: false, nodes, path);
            path.Add(RangeRoot(low, middle, nodes));
        }
    }

    private static Digest RangeRoot(ulong low, ulong high, LogNode nodes)
    {
        var count = high - low;
        // Every range that is asked for begins at a multiple of its largest power of two.
        if (BitOperations.IsPow2(count)) return nodes(BitOperations.Log2(count), low >> BitOperations.Log2(count));
        var middle = low + Split(count);
        return MerkleTree.Node(RangeRoot(low, middle, nodes), RangeRoot(middle, high, nodes));
    }

    /// <summary>The largest power of two below a count of two or more.</summary>
    private static ulong Split(ulong count) => 1UL << BitOperations.Log2(count - 1);

    /// <summary>The root that a leaf and its path lead to; null when the path has the wrong length.</summary>
    public static Digest? RootOf(ulong index, ulong size, Digest leaf, ReadOnlySpan<Digest> path)
    {
        if (index >= size) return null;
        var (at, last) = (index, size - 1);
        var root = leaf;
        foreach (var sibling in path)
        {
            if (last == 0) return null;
            if ((at & 1) == 1 || at == last)
            {
                root = MerkleTree.Node(sibling, root);
                while ((at & 1) == 0 && at != 0) (at, last) = (at >> 1, last >> 1);
            }
            else
            {
                root = MerkleTree.Node(root, sibling);
            }

            (at, last) = (at >> 1, last >> 1);
        }

        return last == 0 ? root : null;
    }

    public static bool IsConsistent(ulong older, ulong newer, Digest olderRoot, Digest newerRoot, ReadOnlySpan<Digest> path)
    {
        if (older > newer) return false;
        if (older == newer) return path.IsEmpty && olderRoot == newerRoot;
        if (older == 0) return path.IsEmpty;
        var (at, last) = (older - 1, newer - 1);
        while ((at & 1) == 1) (at, last) = (at >> 1, last >> 1);
        // A tree whose size is a power of two is a node of the other: its root is known and not in the path.
        if (at != 0 && path.IsEmpty) return false;
        var seed = at == 0 ? olderRoot : path[0];
        var (oldRoot, newRoot) = (seed, seed);
        foreach (var node in at == 0 ? path : path[1..])
        {
            if (last == 0) return false;
            if ((at & 1) == 1 || at == last)
            {
                oldRoot = MerkleTree.Node(node, oldRoot);
                newRoot = MerkleTree.Node(node, newRoot);
                while ((at & 1) == 0 && at != 0) (at, last) = (at >> 1, last >> 1);
            }
            else
            {
                newRoot = MerkleTree.Node(newRoot, node);
            }

            (at, last) = (at >> 1, last >> 1);
        }

        return last == 0 && oldRoot == olderRoot && newRoot == newerRoot;
    }
}
