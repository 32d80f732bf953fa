using System.Collections.Generic;
using System.Numerics;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// As much of an RFC 6962 tree as it takes to append to it: the roots of its complete subtrees, the largest first, one for each bit of the size.
/// Appending costs about two hashes.
/// </summary>
public sealed class LogTree
{
    private readonly List<Digest> _subtrees = [];

    public ulong Size { get; private set; }

    public Digest Root()
    {
        if (_subtrees.Count == 0) return Digest.Sha256([]);
        var root = _subtrees[^1];
        for (var i = _subtrees.Count - 2; i >= 0; i--) root = MerkleTree.Node(_subtrees[i], root);
        return root;
    }

    public void Append(Digest leaf)
    {
        var node = leaf;
        for (var size = Size; (size & 1) == 1; size >>= 1)
        {
            node = MerkleTree.Node(_subtrees[^1], node);
            _subtrees.RemoveAt(_subtrees.Count - 1);
        }

        _subtrees.Add(node);
        Size++;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt64(Size);
        foreach (var subtree in _subtrees) writer.Digest(subtree);
    }

    internal void Read(ref CanonicalReader reader)
    {
        _subtrees.Clear();
        Size = reader.UInt64();
        for (var left = BitOperations.PopCount(Size); left > 0; left--) _subtrees.Add(reader.Digest());
    }
}
