using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Api.Access;

/// <summary>What somebody did, or was not allowed to do.</summary>
/// <param name="Detail">The digest of a transaction, or why it was refused.</param>
public sealed record AuditEvent(string Who, Role Role, string Address, string Method, string Path, int Status, string Detail);

/// <summary>
/// The audit log: one line of JSON for each event, with the hash of the line before it and a signature over itself, across restarts and files. Whoever changes, drops or
/// swaps lines is found (<see cref="AuditChain"/>); whoever cuts the end off is found by those who have seen a later line.
/// </summary>
public sealed class AuditLog : IDisposable
{
    public const string FileName = "audit.log";
    private const long FileBytesMax = 16 << 20;

    private readonly string _directory;
    private readonly Digest _chainId;
    private readonly Func<ISigner> _signer;
    private readonly TimeProvider _time;
    private readonly Lock _lock = new();
    private FileStream _file;
    private AuditHead _head;

    /// <param name="signer">The key in use.</param>
    /// <exception cref="UserError">The end of the log is not what this program writes.</exception>
    public AuditLog(string directory, Digest chainId, Func<ISigner> signer, TimeProvider time)
    {
        (_directory, _chainId, _signer, _time) = (directory, chainId, signer, time);
        Directory.CreateDirectory(directory);
        var path = Path.Combine(directory, FileName);
        _file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var torn = CutTornLine(_file);
        var last = AuditChain.Files(directory).Select(LastLine).LastOrDefault(line => line is not null);
        _head = last is null ? AuditHead.None : AuditChain.HeadOf(last) ?? throw new UserError($"{path} ends in a line that is no entry of an audit log", "keep the file as evidence under another name, and find out who changed it");
        _file.Seek(0, SeekOrigin.End);
        if (torn > 0) Append(new AuditEvent("node", Role.None, "", "", "", 0, $"{torn} bytes of an entry were lost when this node stopped"));
    }

    /// <summary>The last entry.</summary>
    public AuditHead Head
    {
        get
        {
            lock (_lock) return _head;
        }
    }

    /// <summary>On the disk when it returns.</summary>
    /// <exception cref="IOException">The disk does not take it: what it is about must not happen then.</exception>
    public void Append(AuditEvent happened)
    {
        lock (_lock)
        {
            if (_file.Length > FileBytesMax) StartFile();
            var entry = new JsonObject
            {
                ["sequence"] = _head.Sequence + 1,
                ["time"] = _time.GetUtcNow().UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", System.Globalization.CultureInfo.InvariantCulture),
                ["who"] = happened.Who,
                ["role"] = happened.Role.ToString().ToLowerInvariant(),
                ["address"] = happened.Address,
                ["method"] = happened.Method,
                ["path"] = happened.Path,
                ["status"] = happened.Status,
                ["detail"] = happened.Detail,
                ["previous"] = _head.Hash.ToString(),
            };
            var content = Encoding.UTF8.GetBytes(entry.ToJsonString());
            var signature = new byte[Signature.Size];
            _signer().Sign(AuditChain.Statement(_chainId, content)).CopyTo(signature);
            var line = AuditChain.Join(content, signature);
            var start = _file.Length;
            try
            {
                _file.Write([.. line, (byte)'\n']);
                _file.Flush(flushToDisk: true);
            }
            catch (IOException)
            {
                // Half a line must not stand before the next one.
                _file.SetLength(start);
                throw;
            }

            _head = new AuditHead(_head.Sequence + 1, Digest.Sha256(line));
        }
    }

    /// <summary>The newest entries, oldest first.</summary>
    public string Tail(int lines)
    {
        lock (_lock)
        {
            var kept = new Queue<string>();
            foreach (var line in AuditChain.Files(_directory).TakeLast(2).SelectMany(ReadLines))
            {
                kept.Enqueue(line);
                if (kept.Count > lines) kept.Dequeue();
            }

            return string.Concat(kept.Select(line => line + "\n"));
        }
    }

    private void StartFile()
    {
        _file.Dispose();
        var path = Path.Combine(_directory, FileName);
        File.Move(path, Path.Combine(_directory, $"audit-{_head.Sequence:D12}.log"));
        _file = new FileStream(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
    }

    /// <summary>What a crash left of a line: it was never acknowledged. Returns its length.</summary>
    private static long CutTornLine(FileStream file)
    {
        var end = file.Length;
        while (end > 0)
        {
            file.Seek(end - 1, SeekOrigin.Begin);
            if (file.ReadByte() == '\n') break;
            end--;
        }

        var torn = file.Length - end;
        if (torn > 0) file.SetLength(end);
        return torn;
    }

    private static IEnumerable<string> ReadLines(string path)
    {
        using var reader = new StreamReader(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        while (reader.ReadLine() is { } line) yield return line;
    }

    private static byte[]? LastLine(string path) => ReadLines(path).LastOrDefault() is { } line ? Encoding.UTF8.GetBytes(line) : null;

    public void Dispose() => _file.Dispose();
}

/// <param name="Hash">Of the line, without its end.</param>
public readonly record struct AuditHead(long Sequence, Digest Hash)
{
    public static readonly AuditHead None = default;

    public override string ToString() => $"{Sequence}:{Hash}";

    public static bool TryParse(string text, out AuditHead head)
    {
        head = default;
        var parts = text.Split(':');
        if (parts.Length != 2 || !long.TryParse(parts[0], System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var sequence) || !Digest.TryParse(parts[1], out var hash)) return false;
        head = new AuditHead(sequence, hash);
        return true;
    }
}

/// <summary>The form of an audit log, and its check; needs the files and a key alone.</summary>
public static class AuditChain
{
    private const string SignatureMember = ",\"signature\":\"";

    /// <summary>Oldest first.</summary>
    public static string[] Files(string directory) =>
        [.. Directory.GetFiles(directory, "audit-*.log").Order(StringComparer.Ordinal), .. new[] { Path.Combine(directory, AuditLog.FileName) }.Where(File.Exists)];

    /// <summary><c>"cybermesh/audit/v1" ‖ 0x00 ‖ chain id ‖ SHA-256 of the entry without its signature</c></summary>
    internal static byte[] Statement(Digest chainId, ReadOnlySpan<byte> content) => [.. "cybermesh/audit/v1\0"u8, .. chainId.Value.ToArray(), .. SHA256.HashData(content)];

    /// <summary>The signature is the last member.</summary>
    internal static byte[] Join(ReadOnlySpan<byte> content, ReadOnlySpan<byte> signature) => [.. content[..^1], .. Encoding.ASCII.GetBytes(SignatureMember + Convert.ToHexStringLower(signature) + "\"}")];

    private static bool TrySplit(byte[] line, out byte[] content, out Signature signature)
    {
        (content, signature) = ([], default);
        var tail = SignatureMember.Length + (2 * Signature.Size) + 2;
        if (line.Length < tail + 2) return false;
        var member = Encoding.UTF8.GetString(line.AsSpan(^tail..));
        if (!member.StartsWith(SignatureMember, StringComparison.Ordinal) || !member.EndsWith("\"}", StringComparison.Ordinal)) return false;
        var bytes = new byte[Signature.Size];
        if (Convert.FromHexString(member.AsSpan(SignatureMember.Length, 2 * Signature.Size), bytes, out _, out _) != System.Buffers.OperationStatus.Done) return false;
        content = [.. line[..^tail], (byte)'}'];
        signature = Signature.From(bytes);
        return true;
    }

    internal static AuditHead? HeadOf(byte[] line) => TrySplit(line, out var content, out _) && Entry(content) is { } entry ? new AuditHead(entry.Sequence, Digest.Sha256(line)) : null;

    private static (long Sequence, string Previous)? Entry(byte[] content)
    {
        try
        {
            var entry = JsonNode.Parse(content);
            return ((long)entry!["sequence"]!, (string)entry["previous"]!);
        }
        catch (Exception problem) when (problem is JsonException or InvalidOperationException or NullReferenceException or FormatException)
        {
            return null;
        }
    }

    /// <summary>Every line, from the first to the last.</summary>
    /// <param name="keys">Whose signatures count.</param>
    /// <param name="seen">Heads that were printed or committed earlier; they must still be there.</param>
    /// <param name="head">The last line that holds.</param>
    /// <returns>What is wrong, and where; null when all of it holds.</returns>
    public static string? Check(IEnumerable<string> lines, Digest chainId, IReadOnlyCollection<PublicKey> keys, IReadOnlySet<AuditHead> seen, ISignatureVerifier verifier, out AuditHead head)
    {
        head = AuditHead.None;
        var missing = new HashSet<AuditHead>(seen);
        missing.Remove(AuditHead.None);
        foreach (var text in lines)
        {
            var line = Encoding.UTF8.GetBytes(text);
            var expected = head.Sequence + 1;
            if (!TrySplit(line, out var content, out var signature) || Entry(content) is not { } entry) return $"entry {expected} is no entry of an audit log";
            if (entry.Sequence != expected) return $"entry {expected} is missing: {entry.Sequence} stands in its place";
            if (entry.Previous != head.Hash.ToString()) return $"entry {expected} does not follow on entry {head.Sequence}: one of them was changed";
            if (!keys.Any(key => verifier.Verify(key, Statement(chainId, content), signature))) return $"entry {expected} is not signed by a key that counts";
            head = new AuditHead(expected, Digest.Sha256(line));
            missing.Remove(head);
        }

        return missing.Count == 0 ? null : $"the log does not hold entry {missing.Min(h => h.Sequence)} as it was seen: it ends before, or was written anew";
    }
}
