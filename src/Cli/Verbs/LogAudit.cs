using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node;
using CyberMesh.Node.Api;
using CyberMesh.Node.Projection;

namespace CyberMesh.Cli.Verbs;

/// <summary>
/// Follows a log from audit to audit: every entry is downloaded and hashed, the root recomputed, and compared with the cosigned checkpoint and with
/// the leaf hashes of the last audit. An entry that has changed is named.
/// </summary>
internal sealed class LogAudit(TrustPolicy policy, ISignatureVerifier signatures, string directory)
{
    private const int ChangedNamedMax = 20;
    private readonly List<string> _lines = [];

    public bool Passed { get; private set; }

    private string CheckpointPath => Path.Combine(directory, "checkpoint");

    private string LeavesPath => Path.Combine(directory, "leaves");

    /// <summary>What was found, line by line. What the directory remembers changes only when all of it holds.</summary>
    /// <param name="from">Entries below are not downloaded again.</param>
    public async Task<IReadOnlyList<string>> RunAsync(ValidatorClient validator, ulong from, CancellationToken stop)
    {
        var (known, lastSeen) = ReadMemory();
        var bytes = await validator.ReadAsync("/checkpoint", stop);
        if (!SignedNote.TryParse(bytes, out var note)) return Fail("the checkpoint is not a signed note");
        var verifier = new ProofVerifier(policy, signatures);
        var checkpoint = verifier.Checkpoint(note, out var checks);
        foreach (var (passed, what) in checks) _lines.Add($"{(passed ? "ok" : "failed")}: {what}");
        if (checkpoint is null) return _lines;
        if (lastSeen is not null && lastSeen.Origin != checkpoint.Origin) return Fail($"the last audit was of another log, {lastSeen.Origin}");
        if (checkpoint.Size < (ulong)known.Count)
        {
            _lines.Add(string.Create(CultureInfo.InvariantCulture, $"ok: the checkpoint has {checkpoint.Size} entries, the last audit saw {known.Count}; nothing is new"));
            return Finish(known, null);
        }

        if (from > (ulong)known.Count) throw new UserError($"--from {from} is beyond the {known.Count} entries of the last audit", "begin at that number or lower");
        var leaves = known.GetRange(0, (int)from);
        var changed = 0;
        await foreach (var (index, entry) in DownloadAsync(validator, from, checkpoint.Size, stop))
        {
            if (entry.Length != LogEntry.Size || !LogEntry.TryDecode(entry, out _)) return Fail(string.Create(CultureInfo.InvariantCulture, $"entry {index} is not one"));
            var leaf = LogEntry.LeafHash(entry);
            if (index < (ulong)known.Count && known[(int)index] != leaf && changed++ < ChangedNamedMax)
                Fail(string.Create(CultureInfo.InvariantCulture, $"entry {index} has changed since the last audit"));
            leaves.Add(leaf);
        }

        if (changed > 0) return Fail(string.Create(CultureInfo.InvariantCulture, $"{changed} entries have changed"));
        var log = new LogTree();
        foreach (var leaf in leaves)
        {
            log.Append(leaf);
            if (lastSeen is not null && log.Size == lastSeen.Size && log.Root() != lastSeen.Root) return Fail("the log does not continue the checkpoint of the last audit");
        }

        if (log.Root() != checkpoint.Root) return Fail("the entries do not lead to the root of the checkpoint");
        _lines.Add(string.Create(CultureInfo.InvariantCulture, $"ok: {checkpoint.Size} entries lead to the root of the checkpoint"));
        if (lastSeen is not null) _lines.Add(string.Create(CultureInfo.InvariantCulture, $"ok: it continues the log of {lastSeen.Size} entries that the last audit saw"));
        return Finish(leaves, bytes);
    }

    private List<string> Fail(string what)
    {
        _lines.Add("failed: " + what);
        return _lines;
    }

    private List<string> Finish(List<Digest> leaves, byte[]? checkpoint)
    {
        Passed = true;
        if (checkpoint is null) return _lines;
        Directory.CreateDirectory(directory);
        var bytes = new byte[leaves.Count * Digest.Size];
        for (var i = 0; i < leaves.Count; i++) leaves[i].CopyTo(bytes.AsSpan(i * Digest.Size));
        // The leaves first: more of them than the checkpoint needs do no harm.
        Replace(LeavesPath, bytes);
        Replace(CheckpointPath, checkpoint);
        return _lines;
    }

    private static void Replace(string path, byte[] content)
    {
        File.WriteAllBytes(path + ".new", content);
        File.Move(path + ".new", path, overwrite: true);
    }

    private (List<Digest> Leaves, LogCheckpoint? Checkpoint) ReadMemory()
    {
        if (!File.Exists(CheckpointPath) || !File.Exists(LeavesPath)) return ([], null);
        var bytes = File.ReadAllBytes(LeavesPath);
        if (!SignedNote.TryParse(File.ReadAllBytes(CheckpointPath), out var note) || !LogCheckpoint.TryParse(note.Text, out var checkpoint)
            || (ulong)bytes.Length / Digest.Size < checkpoint.Size)
            throw new UserError($"{directory} does not hold what an audit leaves behind", "give another directory, and keep this one as evidence");
        var leaves = new List<Digest>();
        for (var i = 0; i < (int)checkpoint.Size; i++) leaves.Add(Digest.From(bytes.AsSpan(i * Digest.Size, Digest.Size)));
        return (leaves, checkpoint);
    }

    private static async IAsyncEnumerable<(ulong Index, byte[] Entry)> DownloadAsync(
        ValidatorClient validator, ulong from, ulong size, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken stop)
    {
        for (var bundle = from / LogCopy.TileWidth; bundle * LogCopy.TileWidth < size; bundle++)
        {
            var first = bundle * LogCopy.TileWidth;
            var width = (int)Math.Min(LogCopy.TileWidth, size - first);
            var bytes = await validator.ReadAsync("/tile/" + new TilePath(null, bundle, width), stop);
            var at = 0;
            for (var i = 0; i < width; i++)
            {
                if (at + 2 > bytes.Length) throw new ConnectionError($"the bundle of entries from {first} on is shorter than it must be");
                var length = BinaryPrimitives.ReadUInt16BigEndian(bytes.AsSpan(at));
                if (at + 2 + length > bytes.Length) throw new ConnectionError($"the bundle of entries from {first} on is shorter than it must be");
                if (first + (ulong)i >= from) yield return (first + (ulong)i, bytes[(at + 2)..(at + 2 + length)]);
                at += 2 + length;
            }
        }
    }
}
