using System;
using System.Collections.Generic;

namespace CyberMesh.Core.Primitives;

/// <summary>
/// Places for values, numbered from 0. It grows without moving what it holds, which a million values in an array would feel, and gives a place that became free away again.
/// The arrays are small enough for the collector to move, and hold nothing that it has to visit.
/// </summary>
/// <typeparam name="T">Without references.</typeparam>
internal sealed class Slots<T>
    where T : unmanaged
{
    private const int ChunkBits = 10;
    private const int ChunkMask = (1 << ChunkBits) - 1;

    private readonly List<T[]> _chunks = [];
    private readonly Stack<int> _free = new();

    /// <summary>How many there are, the free ones included.</summary>
    public int Length { get; private set; }

    public ref T this[int slot] => ref _chunks[slot >> ChunkBits][slot & ChunkMask];

    public int Take()
    {
        if (_free.TryPop(out var slot)) return slot;
        if (Length >> ChunkBits == _chunks.Count) _chunks.Add(GC.AllocateUninitializedArray<T>(ChunkMask + 1));
        return Length++;
    }

    public void Free(int slot) => _free.Push(slot);
}

/// <summary>
/// Finds slots by a hash of what they hold. Linear hashing (Litwin, 1980): with each slot that is added one chain is divided, so that no addition takes long,
/// where a table that doubles would stop everything for a tenth of a second at a million.
/// </summary>
/// <param name="hashOf">Of what a slot holds; with a secret seed where strangers choose it.</param>
internal sealed class SlotIndex(Func<int, uint> hashOf)
{
    private const int None = -1;
    private const int FirstChains = 16;

    /// <summary>By chain: its first slot.</summary>
    private readonly Slots<int> _first = new();

    /// <summary>By slot: the next one of its chain.</summary>
    private readonly Slots<int> _next = new();
    private uint _level = FirstChains;
    private uint _divided;

    public int Count { get; private set; }

    private int ChainOf(uint hash)
    {
        var chain = hash % (2 * _level);
        return (int)(chain < _level + _divided ? chain : chain - _level);
    }

    /// <summary>The first slot that may be the one; <see cref="Following"/> gives the others. Below 0: none.</summary>
    public int Find(uint hash)
    {
        if (_first.Length == 0) return None;
        return _first[ChainOf(hash)];
    }

    public int Following(int slot) => _next[slot];

    public void Add(int slot)
    {
        while (_first.Length < FirstChains) _first[_first.Take()] = None;
        while (_next.Length <= slot) _next.Take();
        Push(ChainOf(hashOf(slot)), slot);
        Count++;
        if (Count > _first.Length) Divide();
    }

    public void Remove(int slot)
    {
        ref var link = ref _first[ChainOf(hashOf(slot))];
        while (link != slot)
        {
            Invariant.Holds(link != None, "only what was added is removed");
            link = ref _next[link];
        }

        link = _next[slot];
        Count--;
    }

    private void Push(int chain, int slot)
    {
        ref var first = ref _first[chain];
        _next[slot] = first;
        first = slot;
    }

    private void Divide()
    {
        var (old, fresh) = ((int)_divided, _first.Take());
        _first[fresh] = None;
        if (++_divided == _level) (_level, _divided) = (2 * _level, 0);
        var slot = _first[old];
        _first[old] = None;
        while (slot != None)
        {
            var next = _next[slot];
            Push(ChainOf(hashOf(slot)), slot);
            slot = next;
        }
    }
}
