using System.Collections.Generic;

namespace CyberMesh.Core.Primitives;

internal static class Median
{
    /// <summary>The upper one of an even number, 0 of none. Sorts them.</summary>
    public static long Of(List<long> values)
    {
        if (values.Count == 0) return 0;
        values.Sort();
        return values[values.Count / 2];
    }
}
