using System;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// That one entry is in a log, in one file (C2SP tlog-proof): the entry in the <c>extra</c> line, its index, the path to the root, and a checkpoint
/// with its signatures.
/// </summary>
public sealed record LogProof(ImmutableArray<byte> Extra, ulong Index, ImmutableArray<Digest> Path, SignedNote Checkpoint)
{
    public const string FirstLine = "c2sp.org/tlog-proof@v1";
    private const int ExtraMax = 1 << 16;

    public override string ToString()
    {
        var text = new StringBuilder(FirstLine).Append('\n');
        if (!Extra.IsEmpty) text.Append("extra ").Append(Convert.ToBase64String(Extra.AsSpan())).Append('\n');
        text.Append(CultureInfo.InvariantCulture, $"index {Index}\n");
        foreach (var node in Path) text.Append(Convert.ToBase64String(node.ToArray())).Append('\n');
        return text.Append('\n').Append(Checkpoint).ToString();
    }

    /// <summary>False with a sentence that says what is wrong.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out LogProof? proof, out string problem)
    {
        proof = null;
        problem = "the file is larger than a proof can be, or not UTF-8 text";
        if (bytes.Length > SignedNote.BytesMax || !System.Text.Unicode.Utf8.IsValid(bytes)) return false;
        var text = System.Text.Encoding.UTF8.GetString(bytes);
        problem = "an empty line between the path and the checkpoint is missing";
        var end = text.IndexOf("\n\n", StringComparison.Ordinal);
        if (end < 0) return false;
        var lines = text[..end].Split('\n');
        problem = $"the first line is not '{FirstLine}'";
        if (lines[0] != FirstLine) return false;
        var at = 1;
        byte[] extra = [];
        if (at < lines.Length && lines[at].StartsWith("extra ", StringComparison.Ordinal))
        {
            problem = "the extra line is not base64";
            if (!Base64.TryDecode(lines[at]["extra ".Length..], out extra) || extra.Length is 0 or > ExtraMax) return false;
            at++;
        }

        problem = "the index line is missing or no number";
        if (at >= lines.Length || !lines[at].StartsWith("index ", StringComparison.Ordinal) || !LogCheckpoint.TryNumber(lines[at]["index ".Length..], out var index)) return false;
        at++;
        problem = "the path holds something else than hashes, or too many";
        if (lines.Length - at > MerkleProof.PathMax) return false;
        var path = ImmutableArray.CreateBuilder<Digest>();
        for (; at < lines.Length; at++)
        {
            if (!Base64.TryDecode(lines[at], out var node) || node.Length != Digest.Size) return false;
            path.Add(Digest.From(node));
        }

        problem = "the checkpoint is not a signed note";
        if (!SignedNote.TryParse(System.Text.Encoding.UTF8.GetBytes(text[(end + 2)..]), out var note)) return false;
        proof = new LogProof([.. extra], index, path.ToImmutable(), note);
        return true;
    }
}
