using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Node.Storage;

/// <summary>
/// Snapshots as files: one directory per height with the chunks and, once the checkpoint is stable, the offer that proves them. Only those with
/// an offer are served and started from; a chunk that is not what the offer says is never used. The newest two are kept.
/// </summary>
public sealed class SnapshotStore
{
    private const int Kept = 2;
    private const string OfferFile = "offer";
    private readonly string _directory;
    private readonly Lock _lock = new();

    /// <summary>By height: what stands in an offer besides the certificate, of snapshots that wait for theirs.</summary>
    private readonly SortedDictionary<ulong, (QuorumCertificate Commit, ImmutableArray<Digest> Chunks)> _incomplete = [];

    public SnapshotStore(string directory)
    {
        _directory = directory;
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private string PathOf(Height height) => Path.Combine(_directory, height.Value.ToString("D20", CultureInfo.InvariantCulture));

    private static string ChunkFile(int index) => "chunk-" + index.ToString("D6", CultureInfo.InvariantCulture);

    /// <summary>An own snapshot. It need not survive a crash: it can be taken again.</summary>
    public void Keep(TakenSnapshot taken)
    {
        lock (_lock)
        {
            var path = PathOf(taken.Checkpoint.Height);
            if (File.Exists(Path.Combine(path, OfferFile))) return;
            Directory.CreateDirectory(path);
            for (var i = 0; i < taken.Snapshot.Chunks.Length; i++) File.WriteAllBytes(Path.Combine(path, ChunkFile(i)), taken.Snapshot.Chunks[i].Span);
            _incomplete[taken.Checkpoint.Height.Value] = (taken.Commit, taken.Snapshot.Digests);
            ForgetIncomplete();
        }
    }

    /// <summary>While no checkpoint becomes stable, only the newest few wait for one.</summary>
    private void ForgetIncomplete()
    {
        var incomplete = Directory.GetDirectories(_directory).Where(path => !File.Exists(Path.Combine(path, OfferFile))).OrderDescending(StringComparer.Ordinal);
        foreach (var path in incomplete.Skip(Kept).ToArray())
        {
            Directory.Delete(path, recursive: true);
            _incomplete.Remove(ulong.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture));
        }
    }

    /// <summary>The checkpoint is stable: its snapshot may be served. Older ones go.</summary>
    public void Certify(CheckpointCertificate certificate)
    {
        lock (_lock)
        {
            var height = certificate.Checkpoint.Height;
            if (!_incomplete.TryGetValue(height.Value, out var own) || Snapshot.RootOf(own.Chunks) != certificate.Checkpoint.SnapshotRoot) return;
            WriteOffer(height, new PeerMessage.SnapshotOffer(certificate, own.Commit, own.Chunks));
            _incomplete.Remove(height.Value);
            Forget();
        }
    }

    /// <summary>A snapshot of the others that everything later rests on: on disk, synced, when this returns.</summary>
    public void Install(CheckpointCertificate certificate, TakenSnapshot taken)
    {
        lock (_lock)
        {
            var path = PathOf(taken.Checkpoint.Height);
            Directory.CreateDirectory(path);
            for (var i = 0; i < taken.Snapshot.Chunks.Length; i++) Durable.Write(Path.Combine(path, ChunkFile(i)), taken.Snapshot.Chunks[i].Span);
            WriteOffer(taken.Checkpoint.Height, new PeerMessage.SnapshotOffer(certificate, taken.Commit, taken.Snapshot.Digests));
            Forget();
        }
    }

    /// <summary>Last and at once: a directory with an offer is complete.</summary>
    private void WriteOffer(Height height, PeerMessage.SnapshotOffer offer)
    {
        Durable.Replace(Path.Combine(PathOf(height), OfferFile), MessageCodec.Encode(offer));
    }

    /// <summary>All but the newest complete ones, and incomplete ones older than those.</summary>
    private void Forget()
    {
        var complete = Complete().Reverse().Take(Kept).ToArray();
        foreach (var path in Directory.GetDirectories(_directory))
            if (string.CompareOrdinal(Path.GetFileName(path), Path.GetFileName(complete[^1])) < 0)
                Directory.Delete(path, recursive: true);
        foreach (var height in _incomplete.Keys.ToArray())
            if (!Directory.Exists(PathOf(new Height(height))))
                _incomplete.Remove(height);
    }

    private IEnumerable<string> Complete() =>
        Directory.GetDirectories(_directory).Where(path => File.Exists(Path.Combine(path, OfferFile))).Order(StringComparer.Ordinal);

    /// <summary>The newest snapshot that may be served; null when there is none or its offer cannot be read.</summary>
    public PeerMessage.SnapshotOffer? Newest()
    {
        lock (_lock)
            return Complete().LastOrDefault() is { } path && MessageCodec.TryDecode(File.ReadAllBytes(Path.Combine(path, OfferFile)), out var message, out _)
                ? message as PeerMessage.SnapshotOffer
                : null;
    }

    /// <summary>The lowest height from whose snapshot a start could go on; null when there is none.</summary>
    public Height? OldestComplete()
    {
        lock (_lock) return Complete().FirstOrDefault() is { } path ? new Height(ulong.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture)) : null;
    }

    /// <summary>All bytes of a snapshot; null when a chunk is missing or damaged.</summary>
    public byte[]? Read(PeerMessage.SnapshotOffer offer)
    {
        lock (_lock)
        {
            using var bytes = new MemoryStream();
            for (var i = 0; i < offer.Chunks.Length; i++)
            {
                if (ReadChunk(offer.Certificate.Checkpoint.Height, i) is not { } chunk || Snapshot.ChunkDigest(chunk) != offer.Chunks[i]) return null;
                bytes.Write(chunk);
            }

            return bytes.ToArray();
        }
    }

    private byte[]? ReadChunk(Height height, int index)
    {
        var path = Path.Combine(PathOf(height), ChunkFile(index));
        return File.Exists(path) ? File.ReadAllBytes(path) : null;
    }

    /// <summary>The answer to a peer; null when there is nothing to give. Whoever asks for a chunk of an older one hears of the newest.</summary>
    public PeerMessage? Serve(SnapshotRequest request)
    {
        lock (_lock)
        {
            if (request.Chunk is { } index && index < Core.Encoding.Limits.SnapshotChunksMax && File.Exists(Path.Combine(PathOf(request.Height), OfferFile))
                && ReadChunk(request.Height, (int)index) is { } chunk)
                return new PeerMessage.Chunk(request.Height, index, chunk);
            return Newest() is { } newest && newest.Certificate.Checkpoint.Height > request.Height ? newest : null;
        }
    }
}
