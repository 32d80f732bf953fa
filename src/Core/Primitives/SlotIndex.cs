using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;

namespace CyberMesh.Core.Primitives;

/// <summary>
/// Finds slots, numbers of places, by a hash of what they hold. Linear hashing (Litwin, 1980): with each slot that is added one chain is divided, so that no
/// addition takes long, where a table that doubles would stop everything for a tenth of a second at a million.
/// </summary>
/// <remarks>
/// What a slot holds is seldom in the processor's cache, so its hash stands beside the link: looking for what is not there, and dividing a chain, touches no slot.
/// </remarks>
internal sealed class SlotIndex
{
    private const int None = -1;
    private const int FirstChains = 16;

    /// <summary>Of a slot: its hash, and the next one of its chain.</summary>
    private struct Link
    {
        public uint Hash;
        public int Next;
    }

    /// <summary>By chain: its first slot.</summary>
    private readonly Pages<int> _first = new();

    /// <summary>By slot.</summary>
    private readonly Pages<Link> _links = new();
    private int _chains;
    private uint _level = FirstChains;
    private uint _divided;

    public int Count { get; private set; }

    /// <summary>How many slots the longest chain has.</summary>
    internal int LongestChain
    {
        get
        {
            var longest = 0;
            for (var chain = 0; chain < _chains; chain++)
            {
                var length = 0;
                for (var slot = _first[chain]; slot != None; slot = _links[slot].Next) length++;
                longest = Math.Max(longest, length);
            }

            return longest;
        }
    }

    private int ChainOf(uint hash)
    {
        var chain = hash % (2 * _level);
        return (int)(chain < _level + _divided ? chain : chain - _level);
    }

    /// <summary>The first slot that was added with this hash; <see cref="Following"/> gives the others. Below 0: none.</summary>
    public int Find(uint hash) => _chains == 0 ? None : FirstOf(hash, _first[ChainOf(hash)]);

    /// <summary>The next slot with the hash of this one.</summary>
    public int Following(int slot) => FirstOf(_links[slot].Hash, _links[slot].Next);

    private int FirstOf(uint hash, int slot)
    {
        while (slot != None && _links[slot].Hash != hash) slot = _links[slot].Next;
        return slot;
    }

    /// <param name="hash">Of what it holds; with a secret seed where strangers choose it.</param>
    public void Add(int slot, uint hash)
    {
        while (_chains < FirstChains) AddChain();
        _links.Reach(slot);
        _links[slot].Hash = hash;
        Push(slot);
        Count++;
        if (Count > _chains) Divide();
    }

    public void Remove(int slot)
    {
        ref var at = ref _first[ChainOf(_links[slot].Hash)];
        while (at != slot)
        {
            Invariant.Holds(at != None, "only what was added is removed");
            at = ref _links[at].Next;
        }

        at = _links[slot].Next;
        Count--;
    }

    private void Push(int slot)
    {
        ref var link = ref _links[slot];
        ref var first = ref _first[ChainOf(link.Hash)];
        link.Next = first;
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
            var next = _links[slot].Next;
            Push(slot);
            slot = next;
        }
    }

    /// <summary>Values by place. It grows without moving them, which a million in an array would feel, and only where places are used.</summary>
    private sealed class Pages<T>
        where T : struct
    {
        private const int Bits = 12;
        private const int Mask = (1 << Bits) - 1;

        private readonly List<T[]?> _pages = [];

        public ref T this[int place]
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            get => ref _pages[place >> Bits]![place & Mask];
        }

        /// <summary>Before a place is used.</summary>
        public void Reach(int place)
        {
            while (_pages.Count <= place >> Bits) _pages.Add(null);
            _pages[place >> Bits] ??= new T[Mask + 1];
        }
    }
}
