using System;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>One state of a transparency log, as C2SP tlog-checkpoint writes it: origin, size and root, a line each.</summary>
public sealed record LogCheckpoint(string Origin, ulong Size, Digest Root)
{
    public string Text => string.Create(CultureInfo.InvariantCulture, $"{Origin}\n{Size}\n{Convert.ToBase64String(Root.ToArray())}\n");

    /// <summary>Lines after the third are extensions and mean nothing here.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out LogCheckpoint? checkpoint)
    {
        checkpoint = null;
        var lines = text.Split('\n');
        if (lines.Length < 4 || lines[0].Length == 0 || !TryNumber(lines[1], out var size)) return false;
        if (!Base64.TryDecode(lines[2], out var root) || root.Length != Digest.Size) return false;
        checkpoint = new LogCheckpoint(lines[0], size, Digest.From(root));
        return true;
    }

    /// <summary>Decimal without leading zeros.</summary>
    internal static bool TryNumber(string text, out ulong number) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number.ToString(CultureInfo.InvariantCulture) == text;
}

/// <summary>The names of a chain's log and of its cosigners. Equal on everyone, because they are part of what is signed.</summary>
public static class LogNames
{
    public static string Origin(Digest chainId) => "cybermesh/" + chainId;

    /// <summary>Any validator may sign as the log: there is no single log key, and a policy lists all of them.</summary>
    public static NoteKey LogKey(ChainContext chain, ValidatorIndex index) => new(Origin(chain.ChainId), NoteKeyType.Ed25519, chain.Validators[index].LogKey);

    public static NoteKey CosignerKey(ChainContext chain, ValidatorIndex index) =>
        new(Origin(chain.ChainId) + "/" + Label(chain, index), NoteKeyType.Cosignature, chain.Validators[index].CosignerKey);

    /// <summary>The name of the validator where it can stand in a key, otherwise its place.</summary>
    internal static string Label(ChainContext chain, ValidatorIndex index)
    {
        var name = chain.Validators[index].Name;
        foreach (var c in name)
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('-' or '_' or '.'))
                return "place-" + index;
        return name;
    }
}
