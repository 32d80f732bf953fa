using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using System.Text.Unicode;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>One signature line: who, the short id of the key, and bytes whose meaning the key's type defines.</summary>
public sealed record NoteSignature(string Name, uint KeyId, ImmutableArray<byte> Bytes);

/// <summary>
/// A text with signatures below it, as in C2SP signed-note: the text ends in a newline, an empty line follows, then one line per signature. Unknown
/// signatures mean nothing, so anyone may add one.
/// </summary>
public sealed record SignedNote(string Text, ImmutableArray<NoteSignature> Signatures)
{
    public const int BytesMax = 1 << 20;
    private const int SignaturesMax = 512; // twice the most validators there can be
    private const string LineStart = "— ";

    public override string ToString()
    {
        var note = new StringBuilder(Text).Append('\n');
        foreach (var (name, keyId, bytes) in Signatures)
        {
            var signature = new byte[4 + bytes.Length];
            BinaryPrimitives.WriteUInt32BigEndian(signature, keyId);
            bytes.CopyTo(signature.AsSpan(4));
            note.Append(LineStart).Append(name).Append(' ').Append(Convert.ToBase64String(signature)).Append('\n');
        }

        return note.ToString();
    }

    public static bool TryParse(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out SignedNote? note)
    {
        note = null;
        if (bytes.Length > BytesMax || !Utf8.IsValid(bytes)) return false;
        foreach (var b in bytes)
            if (b < 0x20 && b != (byte)'\n')
                return false;
        var all = System.Text.Encoding.UTF8.GetString(bytes);
        // The last empty line separates: a text may have some of its own.
        var split = all.LastIndexOf("\n\n", StringComparison.Ordinal);
        if (split < 0 || !all.EndsWith('\n')) return false;
        var lines = all[(split + 2)..].Split('\n');
        if (lines.Length is < 2 or > SignaturesMax + 1) return false;
        var signatures = ImmutableArray.CreateBuilder<NoteSignature>(lines.Length - 1);
        foreach (var line in lines.AsSpan(0, lines.Length - 1))
        {
            if (!TryParseSignature(line, out var signature)) return false;
            signatures.Add(signature);
        }

        note = new SignedNote(all[..(split + 1)], signatures.MoveToImmutable());
        return true;
    }

    private static bool TryParseSignature(string line, [NotNullWhen(true)] out NoteSignature? signature)
    {
        signature = null;
        if (!line.StartsWith(LineStart, StringComparison.Ordinal)) return false;
        var rest = line[LineStart.Length..];
        var space = rest.IndexOf(' ', StringComparison.Ordinal);
        if (space < 0 || !NoteKey.IsName(rest[..space]) || !Base64.TryDecode(rest[(space + 1)..], out var bytes) || bytes.Length < 5) return false;
        signature = new NoteSignature(rest[..space], BinaryPrimitives.ReadUInt32BigEndian(bytes), [.. bytes[4..]]);
        return true;
    }
}

/// <summary>What a signature under a key is over.</summary>
public enum NoteKeyType : byte
{
    /// <summary>Ed25519 over the text: the log's own signature.</summary>
    Ed25519 = 0x01,

    /// <summary>C2SP cosignature/v1: Ed25519 over a header line, a time and the text.</summary>
    Cosignature = 0x04,
}

/// <summary>A key that checks signatures of notes, as C2SP signed-note writes it: <c>name+id+base64(type, key)</c>.</summary>
public sealed record NoteKey(string Name, NoteKeyType Type, PublicKey Key)
{
    private const int TimeSize = 8;

    /// <summary>The first bytes of SHA-256 over name, newline, type and key: a hint which key made a signature, not an identity.</summary>
    public uint Id { get; } =
        BinaryPrimitives.ReadUInt32BigEndian(SHA256.HashData([.. System.Text.Encoding.UTF8.GetBytes(Name), (byte)'\n', (byte)Type, .. Key.ToArray()]));

    public static bool IsName(string name)
    {
        foreach (var c in name)
            if (char.IsWhiteSpace(c) || char.IsControl(c) || c == '+')
                return false;
        return name.Length > 0;
    }

    public override string ToString() => $"{Name}+{Id:x8}+{Convert.ToBase64String([(byte)Type, .. Key.ToArray()])}";

    /// <summary>False unless name, id and key fit together and the type is a known one.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out NoteKey? key)
    {
        key = null;
        var name = text.IndexOf('+', StringComparison.Ordinal);
        if (name < 0 || text.Length < name + 10 || text[name + 9] != '+' || !IsName(text[..name])) return false;
        if (!Base64.TryDecode(text[(name + 10)..], out var bytes) || bytes.Length != 1 + PublicKey.Size) return false;
        if ((NoteKeyType)bytes[0] is not (NoteKeyType.Ed25519 or NoteKeyType.Cosignature)) return false;
        var read = new NoteKey(text[..name], (NoteKeyType)bytes[0], PublicKey.From(bytes.AsSpan(1)));
        if (read.ToString() != text) return false;
        key = read;
        return true;
    }

    /// <summary>The signature of the log.</summary>
    public NoteSignature Sign(string text, ISigner signer) => new(Name, Id, [.. signer.Sign(System.Text.Encoding.UTF8.GetBytes(text)).ToArray()]);

    /// <summary>A cosignature as it stands in a note: the time, then the signature.</summary>
    public NoteSignature Cosigned(long timeSeconds, Signature signature)
    {
        var bytes = new byte[TimeSize + Signature.Size];
        BinaryPrimitives.WriteInt64BigEndian(bytes, timeSeconds);
        signature.CopyTo(bytes.AsSpan(TimeSize));
        return new NoteSignature(Name, Id, [.. bytes]);
    }

    /// <summary>What a cosigner signs.</summary>
    public static byte[] CosignedBytes(string text, long timeSeconds) =>
        System.Text.Encoding.UTF8.GetBytes(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"cosignature/v1\ntime {timeSeconds}\n{text}"));

    /// <summary>Is this a signature of this key, and genuine? Null when it is another key's.</summary>
    public bool? Verify(string text, NoteSignature signature, ISignatureVerifier verifier)
    {
        if (signature.Name != Name || signature.KeyId != Id) return null;
        var bytes = signature.Bytes.AsSpan();
        switch (Type)
        {
            case NoteKeyType.Ed25519:
                return bytes.Length == Signature.Size && verifier.Verify(Key, System.Text.Encoding.UTF8.GetBytes(text), Signature.From(bytes));
            case NoteKeyType.Cosignature:
                if (bytes.Length != TimeSize + Signature.Size) return false;
                var time = BinaryPrimitives.ReadUInt64BigEndian(bytes);
                return time <= long.MaxValue && verifier.Verify(Key, CosignedBytes(text, (long)time), Signature.From(bytes[TimeSize..]));
            default:
                throw Invariant.Unreachable(Type);
        }
    }
}

/// <summary>Base64 with one spelling per value (RFC 4648 with padding, no white space, no loose bits).</summary>
internal static class Base64
{
    public static bool TryDecode(string text, out byte[] bytes)
    {
        bytes = new byte[(text.Length / 4 * 3) + 3];
        if (!Convert.TryFromBase64String(text, bytes, out var written)) return false;
        bytes = bytes[..written];
        return Convert.ToBase64String(bytes) == text;
    }
}
