using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Uncommitted blocks whose bodies this validator holds durably, from the current and from earlier views: a later NEW-VIEW may
/// bring any certified one back. Bounded; the block of the lowest view goes first.
/// </summary>
public sealed class HeldBlocks(int blocksMax)
{
    private readonly SortedDictionary<(View, Height, Digest), Block> _byRank = [];
    private readonly Dictionary<Digest, Block> _byDigest = [];

    public int Count => _byRank.Count;

    public bool TryFind(Digest digest, [NotNullWhen(true)] out Block? block) => _byDigest.TryGetValue(digest, out block);

    public IEnumerable<Block> All => _byRank.Values;

    /// <param name="inUse">Blocks of the current view's chain: never evicted.</param>
    public void Add(Block block, Func<Block, bool> inUse)
    {
        if (!_byDigest.TryAdd(block.Digest, block)) return;
        _byRank.Add(Key(block), block);
        if (_byRank.Count <= blocksMax) return;
        foreach (var candidate in _byRank.Values)
        {
            if (candidate.Digest == block.Digest || inUse(candidate)) continue;
            Remove(candidate);
            return;
        }
    }

    public void DropUpTo(Height height)
    {
        var drop = new List<Block>();
        foreach (var block in _byRank.Values)
            if (block.Height <= height)
                drop.Add(block);
        foreach (var block in drop) Remove(block);
    }

    /// <summary>
    /// The blocks above <paramref name="ancestor"/> up to the block with this digest, lowest first; null when one is missing or
    /// the path does not lead to the ancestor.
    /// </summary>
    public List<Block>? Path(Block ancestor, Digest to)
    {
        var path = new List<Block>();
        for (var digest = to; digest != ancestor.Digest;)
        {
            if (!_byDigest.TryGetValue(digest, out var block) || block.Height <= ancestor.Height) return null;
            path.Add(block);
            digest = block.Header.Parent;
        }

        path.Reverse();
        return path;
    }

    /// <summary>Headers of the held blocks from this one down to just above a height, lowest first.</summary>
    public ImmutableArray<BlockHeader> HeadersDownTo(Digest from, Height floor)
    {
        var headers = ImmutableArray.CreateBuilder<BlockHeader>();
        for (var digest = from; _byDigest.TryGetValue(digest, out var block) && block.Height > floor; digest = block.Header.Parent)
            headers.Insert(0, block.Header);
        return headers.ToImmutable();
    }

    /// <summary>The first block on the way down from <paramref name="from"/> that is not held and stands above <paramref name="floor"/>.</summary>
    public Digest? FirstMissing(Digest from, Height height, Height floor)
    {
        var digest = from;
        while (height > floor)
        {
            if (!_byDigest.TryGetValue(digest, out var block)) return digest;
            digest = block.Header.Parent;
            height = height.Minus(1);
        }

        return null;
    }

    private void Remove(Block block)
    {
        _byDigest.Remove(block.Digest);
        _byRank.Remove(Key(block));
    }

    private static (View, Height, Digest) Key(Block block) => (block.Header.View, block.Height, block.Digest);
}
