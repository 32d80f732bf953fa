using System.Collections.Generic;
using System.Threading.Tasks;

namespace CyberMesh.Architecture.Tests.Planted;

/// <summary>Everything purity net 3 must find, one violation a method.</summary>
internal sealed class PlantedViolations
{
    private readonly Dictionary<int, int> _map = new() { [1] = 2 };

    public async Task<int> Async()
    {
        await Task.Yield();
        return 1;
    }

    public int OverDictionary()
    {
        var sum = 0;
        foreach (var (_, value) in _map) sum += value;
        return sum;
    }

    public int OverKeys() => _map.Keys.Count;

    public int OverSet()
    {
        var sum = 0;
        foreach (var value in new HashSet<int> { 1 }) sum += value;
        return sum;
    }

    public double InSignature() => 0;

    public int InExpression(int x) => (int)(x * 1.5);
}
