using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>The people who may change the set and the parameters: any <paramref name="Threshold"/> of these keys together. Part of genesis.</summary>
/// <param name="Keys">Sorted. Empty when the chain is never to be changed.</param>
public sealed record Operators(int Threshold, ImmutableArray<PublicKey> Keys)
{
    public static readonly Operators None = new(0, []);

    public static Operators From(int threshold, IEnumerable<PublicKey> keys) => new(threshold, ImmutableArray.CreateRange(keys).Sort());

    public string? Problem()
    {
        if (Keys.IsEmpty) return Threshold == 0 ? null : "operators have a threshold but no keys";
        if (Keys.Length > Limits.OperatorsMax) return $"{Keys.Length} operators; at most {Limits.OperatorsMax} are allowed";
        if (Threshold < 1 || Threshold > Keys.Length) return $"the operators' threshold is {Threshold}; it must be 1 to {Keys.Length}";
        for (var i = 1; i < Keys.Length; i++)
            if (Keys[i] == Keys[i - 1])
                return $"operator key {Keys[i]} stands twice";
        return null;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt32((uint)Threshold);
        writer.Count(Keys.Length);
        foreach (var key in Keys) writer.Key(key);
    }
}
