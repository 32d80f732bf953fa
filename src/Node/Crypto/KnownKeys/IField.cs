using System;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Numbers modulo p = 2^255 - 19, one in each of <see cref="Lanes"/> lanes: one computation, or several side by side. The curve is written once against
/// this interface. Numbers stand in five limbs of 51 bits that are not always reduced, so operations have bounds, counted in units: what a product,
/// a square, <see cref="Reduce"/> and <see cref="Load"/> return is one; sums and differences add up.
/// </summary>
internal interface IField<F>
    where F : unmanaged, IField<F>
{
    static abstract int Lanes { get; }

    /// <param name="lanes">A number for each lane.</param>
    static abstract F Load(ReadOnlySpan<Field51> lanes);

    /// <summary>The number of each lane, for as many as there is room.</summary>
    static abstract void Store(in F value, Span<Field51> lanes);

    static abstract void Add(out F sum, in F f, in F g);

    /// <param name="difference">A unit or two above f.</param>
    /// <param name="f">Up to two units.</param>
    /// <param name="g">One unit.</param>
    static abstract void Subtract(out F difference, in F f, in F g);

    /// <summary>The same number in one unit, from up to five.</summary>
    static abstract void Reduce(out F result, in F f);

    /// <param name="product">One unit.</param>
    /// <param name="f">A sum or a difference of two numbers of one unit, or less.</param>
    /// <param name="g">One unit; or two, and then f is one.</param>
    static abstract void Multiply(out F product, in F f, in F g);

    /// <param name="square">One unit.</param>
    /// <param name="f">One unit.</param>
    static abstract void Square(out F square, in F f);

    /// <summary>In each lane an entry of the table of that lane.</summary>
    /// <param name="tables">One for each lane.</param>
    /// <param name="entries">Numbers of entries (<see cref="KeyTable.EntryOf"/>); of a negative one the negative point.</param>
    static abstract void Take(ReadOnlySpan<KeyTable> tables, ReadOnlySpan<int> entries, out Niels<F> points);
}
