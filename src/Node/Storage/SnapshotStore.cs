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
/// Snapshots as files. A chunk is named by its digest, so that what a state has in common with the one before, nearly all of its nonces, is not written
/// again; a directory per height holds the offer that proves a snapshot and names its chunks. Only those with an offer are served and started from; a
/// chunk that is not what the offer says is never used. The newest two are kept.
/// </summary>
public sealed class SnapshotStore(string directory)
{
    private const int Kept = 2;
    private const string OfferFile = "offer";
    private readonly string _chunks = Path.Combine(directory, "chunks");
    private readonly Lock _lock = new();

    /// <summary>By height: what stands in an offer besides the certificate, of snapshots that wait for theirs.</summary>
    private readonly SortedDictionary<ulong, (QuorumCertificate Commit, ImmutableArray<Digest> Chunks)> _incomplete = [];

    /// <summary>Chunks that were found not to be what their name says: to be written again.</summary>
    private readonly HashSet<Digest> _damaged = [];

    /// <summary>By height: offers that were read.</summary>
    private readonly Dictionary<ulong, PeerMessage.SnapshotOffer> _offers = [];

    /// <summary>What a crash may have left half written is gone, so that what is there can be relied on.</summary>
    private bool _isSwept;

    private string PathOf(Height height) => Path.Combine(directory, height.Value.ToString("D20", CultureInfo.InvariantCulture));

    private string OfferOf(Height height) => Path.Combine(PathOf(height), OfferFile);

    private string PathOf(Digest chunk) => Path.Combine(_chunks, chunk.ToString());

    /// <summary>An own snapshot. It need not survive a crash: it can be taken again.</summary>
    public void Keep(TakenSnapshot taken)
    {
        lock (_lock)
        {
            var height = taken.Checkpoint.Height;
            if (File.Exists(OfferOf(height))) return;
            CreateDirectories();
            if (!_isSwept) ForgetChunks();
            foreach (var (digest, bytes) in taken.Snapshot.Digests.Zip(taken.Snapshot.Chunks))
            {
                if (File.Exists(PathOf(digest)) && !_damaged.Contains(digest)) continue;
                // A chunk that has its name is whole.
                var unfinished = PathOf(digest) + ".new";
                File.WriteAllBytes(unfinished, bytes.Span);
                File.Move(unfinished, PathOf(digest), overwrite: true);
                _damaged.Remove(digest);
            }

            _incomplete[height.Value] = (taken.Commit, taken.Snapshot.Digests);
            if (_incomplete.Count <= Kept) return;
            // While no checkpoint becomes stable, only the newest few wait for one.
            _incomplete.Remove(_incomplete.Keys.First());
            ForgetChunks();
        }
    }

    /// <summary>The checkpoint is stable: its snapshot may be served. Older ones go.</summary>
    public void Certify(CheckpointCertificate certificate)
    {
        lock (_lock)
        {
            var height = certificate.Checkpoint.Height;
            if (!_incomplete.TryGetValue(height.Value, out var own) || Snapshot.RootOf(own.Chunks) != certificate.Checkpoint.SnapshotRoot) return;
            WriteOffer(new PeerMessage.SnapshotOffer(certificate, own.Commit, own.Chunks));
        }
    }

    /// <summary>A snapshot of the others that everything later rests on: on disk, synced, when this returns.</summary>
    public void Install(CheckpointCertificate certificate, TakenSnapshot taken)
    {
        lock (_lock)
        {
            CreateDirectories();
            foreach (var (digest, bytes) in taken.Snapshot.Digests.Zip(taken.Snapshot.Chunks)) Durable.Replace(PathOf(digest), bytes.Span);
            WriteOffer(new PeerMessage.SnapshotOffer(certificate, taken.Commit, taken.Snapshot.Digests));
        }
    }

    /// <summary>Nobody else's business; a mode holds for the last directory of a path alone.</summary>
    private void CreateDirectories()
    {
        foreach (var path in new[] { directory, _chunks }) Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    /// <summary>Last and at once: with an offer it is complete, and older ones go.</summary>
    private void WriteOffer(PeerMessage.SnapshotOffer offer)
    {
        var height = offer.Certificate.Checkpoint.Height;
        Directory.CreateDirectory(PathOf(height));
        Durable.Replace(OfferOf(height), MessageCodec.Encode(offer));
        _offers.Remove(height.Value);
        foreach (var older in _incomplete.Keys.TakeWhile(h => h <= height.Value).ToArray()) _incomplete.Remove(older);
        foreach (var old in Complete().Reverse().Skip(Kept).ToArray()) Directory.Delete(PathOf(old), recursive: true);
        ForgetChunks();
    }

    /// <summary>All that stand neither in a snapshot that is kept nor in one that waits.</summary>
    private void ForgetChunks()
    {
        var kept = new HashSet<string>(_incomplete.Values.SelectMany(waiting => waiting.Chunks).Concat(Complete().SelectMany(height => OfferAt(height)?.Chunks ?? [])).Select(PathOf));
        foreach (var path in Directory.GetFiles(_chunks))
            if (!kept.Contains(path))
                File.Delete(path);
        _isSwept = true;
    }

    /// <summary>Those with an offer, lowest first.</summary>
    private IEnumerable<Height> Complete() => Directory.Exists(directory)
        ? Directory.GetDirectories(directory).Where(path => File.Exists(Path.Combine(path, OfferFile)))
            .Order(StringComparer.Ordinal).Select(path => new Height(ulong.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture)))
        : [];

    /// <summary>Null when there is none or it cannot be read.</summary>
    private PeerMessage.SnapshotOffer? OfferAt(Height height)
    {
        if (!File.Exists(OfferOf(height))) return null;
        if (_offers.TryGetValue(height.Value, out var known)) return known;
        if (!MessageCodec.TryDecode(File.ReadAllBytes(OfferOf(height)), out var message, out _) || message is not PeerMessage.SnapshotOffer offer) return null;
        while (_offers.Count >= Kept) _offers.Remove(_offers.Keys.Min());
        return _offers[height.Value] = offer;
    }

    /// <summary>The newest snapshot that may be served; null when there is none or its offer cannot be read.</summary>
    public PeerMessage.SnapshotOffer? Newest()
    {
        lock (_lock)
            return Complete().Select(height => (Height?)height).LastOrDefault() is { } height ? OfferAt(height) : null;
    }

    /// <summary>The lowest height from whose snapshot a start could go on; null when there is none.</summary>
    public Height? OldestComplete()
    {
        lock (_lock) return Complete().Select(height => (Height?)height).FirstOrDefault();
    }

    /// <summary>All of a snapshot; null when a chunk is missing or damaged. The next own snapshot mends it.</summary>
    public Snapshot? Read(PeerMessage.SnapshotOffer offer)
    {
        lock (_lock)
        {
            var chunks = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>(offer.Chunks.Length);
            foreach (var digest in offer.Chunks)
            {
                if (ReadChunk(digest) is not { } chunk) continue;
                if (Snapshot.ChunkDigest(chunk) == digest) chunks.Add(chunk);
                else _damaged.Add(digest);
            }

            return chunks.Count == offer.Chunks.Length ? new Snapshot(chunks.MoveToImmutable(), offer.Chunks) : null;
        }
    }

    private byte[]? ReadChunk(Digest digest) => File.Exists(PathOf(digest)) ? File.ReadAllBytes(PathOf(digest)) : null;

    /// <summary>The answer to a peer; null when there is nothing to give. Whoever asks for a chunk of an older one hears of the newest.</summary>
    public PeerMessage? Serve(SnapshotRequest request)
    {
        lock (_lock)
        {
            if (request.Chunk is { } index && OfferAt(request.Height) is { } offer && index < offer.Chunks.Length && ReadChunk(offer.Chunks[(int)index]) is { } chunk)
                return new PeerMessage.Chunk(request.Height, index, chunk);
            return Newest() is { } newest && newest.Certificate.Checkpoint.Height > request.Height ? newest : null;
        }
    }
}
