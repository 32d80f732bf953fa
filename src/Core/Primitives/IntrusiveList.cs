namespace CyberMesh.Core.Primitives;

/// <summary>Where an item stands in a list that has its links in the items.</summary>
internal struct Links<T>
    where T : class
{
    internal T? Previous;
    internal T? Next;
}

/// <summary>Which links of an item a list uses: an item in two lists has two.</summary>
internal interface ILinksOf<T>
    where T : class
{
    static abstract ref Links<T> In(T item);
}

/// <summary>
/// A doubly linked list without objects of its own for the links. What lives long in large numbers is few objects this way, and those are what the
/// collector has to visit.
/// </summary>
internal sealed class IntrusiveList<T, TLinks>
    where T : class
    where TLinks : struct, ILinksOf<T>
{
    public T? First { get; private set; }

    public T? Last { get; private set; }

    public int Count { get; private set; }

    public static T? Next(T item) => TLinks.In(item).Next;

    /// <param name="item">In no other list by these links.</param>
    public void AddLast(T item)
    {
        ref var links = ref TLinks.In(item);
        (links.Previous, links.Next) = (Last, null);
        if (Last is null) First = item;
        else TLinks.In(Last).Next = item;
        Last = item;
        Count++;
    }

    /// <param name="item">Of this list.</param>
    public void Remove(T item)
    {
        ref var links = ref TLinks.In(item);
        if (links.Previous is null) First = links.Next;
        else TLinks.In(links.Previous).Next = links.Next;
        if (links.Next is null) Last = links.Previous;
        else TLinks.In(links.Next).Previous = links.Previous;
        links = default;
        Count--;
    }
}
