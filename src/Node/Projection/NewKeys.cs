using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using CyberMesh.Core.Alerts;

namespace CyberMesh.Node.Projection;

/// <summary>
/// Rows of <c>transaction_keys</c> that are still to be written. Keys are random, so in a long table each is in a page of its own: in their order, many at once,
/// they go through its pages one after the other, and each page is read and written once. One by one they would push one another's pages out of the cache.
/// </summary>
internal sealed class NewKeys
{
    private readonly List<long> _keys = [];
    private readonly List<(object Height, object Position)> _places = [];

    /// <summary>
    /// An alert whose key is not written yet must be found among <see cref="AlertPlaces"/>. Each has two keys, so with the largest block that can follow
    /// (<see cref="Core.Encoding.Limits.BlockTransactionsMax"/>) there are still fewer than that knows.
    /// </summary>
    public bool IsFull => _keys.Count >= AlertPlaces.Max;

    /// <param name="height">As it goes into rows.</param>
    public void Add(AlertEnvelope transaction, object height, object position)
    {
        foreach (var key in (ReadOnlySpan<long>)[Schema.KeyOf(transaction.Digest), Schema.KeyOf(transaction.Id)])
        {
            _keys.Add(key);
            _places.Add((height, position));
        }
    }

    public void Write(RowBatch batch)
    {
        CollectionsMarshal.AsSpan(_keys).Sort(CollectionsMarshal.AsSpan(_places));
        for (var i = 0; i < _keys.Count; i++) batch.Insert(Tables.TransactionKeys, _keys[i], _places[i].Height, _places[i].Position);
        _keys.Clear();
        _places.Clear();
    }
}
