using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;

namespace CyberMesh.Core.Primitives;

/// <summary>
/// Finds slots, numbers of places, by a hash of what they hold. Linear hashing (Litwin, 1980): with each slot that is added one chain is divided, so that no
/// addition takes long, where a table that doubles would stop everything for a tenth of a second at a million.
/// </summary>
/// <param name="hashOf">Of what a slot holds; with a secret seed where strangers choose it.</param>
internal sealed class SlotIndex(Func<int, uint> hashOf)
{
    private const int None = -1;
    private const int FirstChains = 16;

    /// <summary>By chain: its first slot.</summary>
    private readonly Pages _first = new();

    /// <summary>By slot: the next one of its chain.</summary>
    private readonly Pages _next = new();
    private int _chains;
    private uint _level = FirstChains;
    private uint _divided;

    public int Count { get; private set; }

    private int ChainOf(uint hash)
    {
        var chain = hash % (2 * _level);
        return (int)(chain < _level + _divided ? chain : chain - _level);
    }

    /// <summary>The first slot that may be the one; <see cref="Following"/> gives the others. Below 0: none.</summary>
    public int Find(uint hash) => _chains == 0 ? None : _first[ChainOf(hash)];

    public int Following(int slot) => _next[slot];

    public void Add(int slot)
    {
        while (_chains < FirstChains) AddChain();
        _next.Reach(slot);
        Push(ChainOf(hashOf(slot)), slot);
        Count++;
        if (Count > _chains) Divide();
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

    private void AddChain()
    {
        _first.Reach(_chains);
        _first[_chains++] = None;
    }

    private void Divide()
    {
        AddChain();
        var old = (int)_divided;
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

    /// <summary>Numbers by place. It grows without moving them, which a million in an array would feel, and only where places are used.</summary>
    private sealed class Pages
    {
        private const int Bits = 10;
        private const int Mask = (1 << Bits) - 1;

        private readonly List<int[]?> _pages = [];

        public ref int this[int place]
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            get => ref _pages[place >> Bits]![place & Mask];
        }

        /// <summary>Before a place is used.</summary>
        public void Reach(int place)
        {
            while (_pages.Count <= place >> Bits) _pages.Add(null);
            _pages[place >> Bits] ??= new int[Mask + 1];
        }
    }
}
