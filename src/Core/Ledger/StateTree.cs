using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Core.Ledger;

/// <summary>
/// Authenticated map from key digest to value digest: a binary trie over the bits of the key in which a subtree with one
/// entry is that entry's leaf. The shape depends on the keys alone, not on the order of changes, so equal state gives an
/// equal root. A change rehashes only its path, lazily, at the next <see cref="Root"/>.
/// </summary>
public sealed class StateTree
{
    private abstract class Node
    {
        public abstract Digest Hash();
    }

    private sealed class Leaf(Digest key, Digest value) : Node
    {
        private readonly Digest _hash = MerkleTree.Pair(DigestDomain.StateLeaf, key, value);

        public Digest Key { get; } = key;
        public Digest Value { get; } = value;

        public override Digest Hash() => _hash;
    }

    private sealed class Branch(Node? left, Node? right) : Node
    {
        private Digest? _hash;

        public Node? Left { get; } = left;
        public Node? Right { get; } = right;

        public override Digest Hash() =>
            _hash ??= MerkleTree.Pair(DigestDomain.StateNode, Left?.Hash() ?? default, Right?.Hash() ?? default);
    }

    private Node? _root;

    public int Count { get; private set; }

    /// <summary>The zero digest for the empty map.</summary>
    public Digest Root() => _root?.Hash() ?? default;

    public void Set(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        var leaf = new Leaf(StateProof.KeyDigest(key), StateProof.ValueDigest(value));
        _root = Insert(_root, leaf, 0);
    }

    public void Remove(ReadOnlySpan<byte> key) => _root = Delete(_root, StateProof.KeyDigest(key), 0);

    /// <summary>The tree as it is now, whatever happens to this one. Costs nothing: nodes never change.</summary>
    public StateTree Copy() => new() { _root = _root, Count = Count };

    public void Clear() => (_root, Count) = (null, 0);

    /// <summary>What the tree holds under a key, or that it holds nothing, to be checked against <see cref="Root"/>.</summary>
    public StateProof Prove(ReadOnlySpan<byte> key)
    {
        var digest = StateProof.KeyDigest(key);
        var siblings = ImmutableArray.CreateBuilder<Digest>();
        var node = _root;
        while (node is Branch branch)
        {
            var right = digest.Value.Bit(siblings.Count);
            siblings.Add((right ? branch.Left : branch.Right)?.Hash() ?? default);
            node = right ? branch.Right : branch.Left;
        }

        return new StateProof(siblings.ToImmutable(), node is Leaf leaf ? (leaf.Key, leaf.Value) : null);
    }

    /// <summary>All entries as digests, in the order of the keys' digests.</summary>
    internal void Write(SnapshotWriter output)
    {
        output.Items.Count(Count);
        Write(output, _root);
    }

    private static void Write(SnapshotWriter output, Node? node)
    {
        switch (node)
        {
            case Leaf leaf:
                output.Items.Digest(leaf.Key);
                output.Items.Digest(leaf.Value);
                output.EndItem();
                break;
            case Branch branch:
                Write(output, branch.Left);
                Write(output, branch.Right);
                break;
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var left = reader.Count(int.MaxValue, 2 * Digest.Size); left > 0; left--) _root = Insert(_root, new Leaf(reader.Digest(), reader.Digest()), 0);
    }

    private Node Insert(Node? node, Leaf leaf, int depth)
    {
        switch (node)
        {
            case null:
                Count++;
                return leaf;
            case Leaf present when present.Key == leaf.Key:
                return leaf;
            case Leaf present:
                Count++;
                return Split(present, leaf, depth);
            case Branch branch when leaf.Key.Value.Bit(depth):
                return new Branch(branch.Left, Insert(branch.Right, leaf, depth + 1));
            case Branch branch:
                return new Branch(Insert(branch.Left, leaf, depth + 1), branch.Right);
            default:
                throw Invariant.Unreachable(node);
        }
    }

    private static Branch Split(Leaf a, Leaf b, int depth)
    {
        var bitA = a.Key.Value.Bit(depth);
        if (bitA != b.Key.Value.Bit(depth)) return bitA ? new Branch(b, a) : new Branch(a, b);
        var below = Split(a, b, depth + 1);
        return bitA ? new Branch(null, below) : new Branch(below, null);
    }

    private Node? Delete(Node? node, Digest key, int depth)
    {
        switch (node)
        {
            case null:
                return null;
            case Leaf leaf:
                if (leaf.Key != key) return leaf;
                Count--;
                return null;
            case Branch branch:
                var right = key.Value.Bit(depth);
                var child = right ? branch.Right : branch.Left;
                var changed = Delete(child, key, depth + 1);
                if (ReferenceEquals(child, changed)) return branch;
                return right ? Join(branch.Left, changed) : Join(changed, branch.Right);
            default:
                throw Invariant.Unreachable(node);
        }
    }

    /// <summary>A branch over two children, or the lone leaf that is left: the shape an insertion would have made.</summary>
    private static Node? Join(Node? left, Node? right) => (left, right) switch
    {
        (null, null) => null,
        (Leaf leaf, null) => leaf,
        (null, Leaf leaf) => leaf,
        _ => new Branch(left, right),
    };
}
