using System;
using System.Collections.Generic;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>Where an open item comes from.</summary>
/// <param name="Sequence">Position in the transparency log: the order of commitment.</param>
internal readonly record struct Origin(ulong Sequence, Digest Transaction, string Id, string Producer, string Organisation, Height Height, Timestamp CommittedAt)
{
    /// <summary>All but the transaction, which is the key it stands under.</summary>
    public void Write(CanonicalWriter writer)
    {
        writer.UInt64(Sequence);
        writer.Height(Height);
        writer.Time(CommittedAt);
        writer.Text(Id);
        writer.Text(Producer);
        writer.Text(Organisation);
    }

    public static Origin Read(ref CanonicalReader reader, Digest transaction)
    {
        var (sequence, height, committedAt) = (reader.UInt64(), reader.Height(), reader.Time());
        return new Origin(sequence, transaction, reader.Text(Limits.IdBytesMax), reader.Text(Limits.NameBytesMax), reader.Text(Limits.NameBytesMax), height, committedAt);
    }
}

/// <summary>A committed alert or piece of evidence that the state still holds.</summary>
internal abstract class OpenItem(Origin origin)
{
    private readonly Origin _origin = origin;
    private Links<OpenItem> _inAll;
    private Links<OpenItem> _inOrganisation;

    public Origin Origin => _origin;
    public Digest Digest => _origin.Transaction;
    public string Organisation => _origin.Organisation;
    public Timestamp CommittedAt => _origin.CommittedAt;

    internal readonly struct InAll : ILinksOf<OpenItem>
    {
        public static ref Links<OpenItem> In(OpenItem item) => ref item._inAll;
    }

    internal readonly struct InOrganisation : ILinksOf<OpenItem>
    {
        public static ref Links<OpenItem> In(OpenItem item) => ref item._inOrganisation;
    }
}

/// <summary>
/// Items in the order they were committed, bounded by age and by number per organisation: the oldest goes first, and one organisation never
/// pushes out what another one has reported.
/// </summary>
internal sealed class OpenItems<T> where T : OpenItem
{
    private readonly IntrusiveList<OpenItem, OpenItem.InAll> _all = new();
    private readonly Dictionary<string, IntrusiveList<OpenItem, OpenItem.InOrganisation>> _byOrganisation = new(StringComparer.Ordinal);
    private readonly Dictionary<Digest, T> _byDigest = [];

    public int Count => _byDigest.Count;

    public T? Find(Digest digest) => _byDigest.GetValueOrDefault(digest);

    public void Add(T item)
    {
        Invariant.Holds(_byDigest.TryAdd(item.Digest, item), "an open item is committed once");
        if (!_byOrganisation.TryGetValue(item.Organisation, out var own)) _byOrganisation[item.Organisation] = own = new IntrusiveList<OpenItem, OpenItem.InOrganisation>();
        _all.AddLast(item);
        own.AddLast(item);
    }

    public void Remove(T item)
    {
        _byDigest.Remove(item.Digest);
        _all.Remove(item);
        var own = _byOrganisation[item.Organisation];
        own.Remove(item);
        if (own.Count == 0) _byOrganisation.Remove(item.Organisation);
    }

    /// <summary>The oldest of all, if it was committed before a time.</summary>
    public T? OldestBefore(Timestamp time) => _all.First is T oldest && oldest.CommittedAt < time ? oldest : null;

    /// <summary>The oldest of an organisation, if it has more than <paramref name="max"/>.</summary>
    public T? OldestBeyond(string organisation, int max) =>
        _byOrganisation.TryGetValue(organisation, out var own) && own.Count > max ? (T)own.First! : null;

    public IEnumerable<T> InOrder()
    {
        for (var item = _all.First; item is not null; item = IntrusiveList<OpenItem, OpenItem.InAll>.Next(item)) yield return (T)item;
    }
}
