namespace CyberMesh.Core.Chain;

/// <summary>
/// Quorum arithmetic for any n, computed and never configured (protocol rule Q1).
/// 2f+1 would be wrong unless n = 3f+1: with n = 6 two such quorums need not share a validator.
/// </summary>
public static class Quorum
{
    /// <summary>f: how many validators may lie.</summary>
    public static int Faulty(int n) => (n - 1) / 3;

    /// <summary>Q = ⌈(n+f+1)/2⌉: any two quorums share at least f+1 validators, and the n−f honest ones suffice.</summary>
    public static int Size(int n) => (n + Faulty(n) + 2) / 2;

    /// <summary>f+1: at least one honest validator is among them.</summary>
    public static int OneHonest(int n) => Faulty(n) + 1;
}
