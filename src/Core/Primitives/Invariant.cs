using System;
using System.Diagnostics.CodeAnalysis;

namespace CyberMesh.Core.Primitives;

/// <summary>Assertions that stay on in production. A broken one stops the process: going on could fork the chain.</summary>
public static class Invariant
{
    public static void Holds([DoesNotReturnIf(false)] bool condition, string what)
    {
        if (!condition) throw new InvariantViolation(what);
    }

    public static InvariantViolation Unreachable(object? value) => new("unreachable case: " + value);
}

/// <summary>Something that must never happen did. The host stops the node and says so.</summary>
public sealed class InvariantViolation(string what) : Exception(what);
