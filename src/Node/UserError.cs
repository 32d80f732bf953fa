using System;

namespace CyberMesh.Node;

/// <summary>Something a person can put right: what is wrong, and how to fix it. Shown without a stack trace.</summary>
public sealed class UserError(string what, string fix) : Exception(what + ". " + Capital(fix) + ".")
{
    public string What { get; } = what;
    public string Fix { get; } = fix;

    private static string Capital(string text) => text.Length == 0 ? text : char.ToUpperInvariant(text[0]) + text[1..];
}
