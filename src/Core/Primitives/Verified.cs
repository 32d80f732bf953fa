namespace CyberMesh.Core.Primitives;

/// <summary>
/// A value whose signatures have been checked. Only the authenticators inside Core can make one,
/// so unverified bytes cannot reach the replica: the type system says so.
/// </summary>
public readonly struct Verified<T> where T : class
{
    internal Verified(T value) => Value = value;

    public T Value { get; }
}
