using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>
/// What survives a crash of one node: the consensus log and the block store, as encoded bytes. Each is written batch by batch, a
/// batch wholly or not at all (as a SQLite transaction is), first the log, then the blocks. Beside them stands a mark with the key: how
/// far the log was written.
/// </summary>
public sealed class SimulatedDisk
{
    private List<byte[]> _log = [];
    private SortedList<ulong, byte[]> _blocks = [];
    private List<(TakenSnapshot Taken, CheckpointCertificate? Certificate)> _snapshots = [];
    private long _written;
    private long _mark;
    private bool _lossAccepted;

    /// <summary>A copy of the disk. Immutable: lists are copied on restore.</summary>
    public sealed record Image(ImmutableArray<byte[]> Log, ImmutableArray<KeyValuePair<ulong, byte[]>> Blocks,
        ImmutableArray<(TakenSnapshot Taken, CheckpointCertificate? Certificate)> Snapshots, long Written, long Mark);

    /// <summary>The log is not what was written last: votes may be forgotten.</summary>
    public bool LogIsShort => _written < _mark;

    public int BlockCount => _blocks.Count;

    public Image Copy() => new([.. _log], [.. _blocks], [.. _snapshots], _written, _mark);

    /// <param name="withMark">The whole machine went back in time, so nothing on it can tell.</param>
    public void Restore(Image image, bool withMark)
    {
        (_log, _snapshots, _written, _lossAccepted) = ([.. image.Log], [.. image.Snapshots], image.Written, false);
        _blocks = [];
        foreach (var (height, block) in image.Blocks) _blocks.Add(height, block);
        if (withMark) _mark = image.Mark;
    }

    public void LoseLog()
    {
        _log.Clear();
        _written = 0;
    }

    public void LoseBlocks(bool withSnapshots)
    {
        _blocks.Clear();
        if (withSnapshots) _snapshots.Clear();
    }

    public void LoseAll()
    {
        LoseLog();
        LoseBlocks(withSnapshots: true);
    }

    /// <summary>An own snapshot; the last few are kept, and always the one that everything later may rest on.</summary>
    public void Keep(TakenSnapshot taken)
    {
        if (_snapshots.Exists(s => s.Taken.Checkpoint.Height == taken.Checkpoint.Height)) return;
        _snapshots.Add((taken, null));
        if (_snapshots.Count > 3) _snapshots.RemoveAt(_snapshots.FindLastIndex(s => s.Certificate is not null) == 0 ? 1 : 0);
    }

    /// <summary>Its checkpoint is stable: it may be served, and started from.</summary>
    public void Certify(CheckpointCertificate certificate)
    {
        var index = _snapshots.FindIndex(s => s.Taken.Checkpoint == certificate.Checkpoint);
        if (index >= 0) _snapshots[index] = (_snapshots[index].Taken, certificate);
    }

    /// <summary>The newest snapshot that may be served or started from.</summary>
    public (TakenSnapshot Taken, CheckpointCertificate Certificate)? Newest()
    {
        for (var i = _snapshots.Count - 1; i >= 0; i--)
            if (_snapshots[i].Certificate is { } certificate)
                return (_snapshots[i].Taken, certificate);
        return null;
    }

    /// <summary>The answer to a request; null when there is nothing to give.</summary>
    public PeerMessage? Serve(SnapshotRequest request)
    {
        if (Newest() is not { } newest) return null;
        var (taken, certificate) = newest;
        // Whoever asks for a chunk of an older one hears of the newest.
        if (request.Chunk is null || taken.Checkpoint.Height > request.Height)
            return taken.Checkpoint.Height > request.Height ? new PeerMessage.SnapshotOffer(certificate, taken.Commit, taken.Snapshot.Digests) : null;
        return taken.Checkpoint.Height == request.Height && request.Chunk < taken.Snapshot.Chunks.Length
            ? new PeerMessage.Chunk(request.Height, request.Chunk.Value, taken.Snapshot.Chunks[(int)request.Chunk])
            : null;
    }

    public void AppendLog(IEnumerable<DurableRecord> records)
    {
        if (_lossAccepted) (_written, _lossAccepted) = (_mark, false);
        foreach (var record in records)
        {
            if (record is DurableRecord.Reset) _log.Clear();
            _log.Add(DurableRecordCodec.Encode(record));
            _written++;
        }

        _mark = Math.Max(_mark, _written);
    }

    /// <summary>The loss was noticed; with its first record a log that starts over counts on from where the lost one ended.</summary>
    public void AcceptLoss() => _lossAccepted = true;

    public void AppendBlocks(IEnumerable<CommittedBlock> blocks)
    {
        foreach (var block in blocks) _blocks[block.Block.Height.Value] = StoredBlock.Of(block).Encode();
    }

    public IEnumerable<DurableRecord> ReadLog()
    {
        foreach (var bytes in _log)
        {
            Invariant.Holds(DurableRecordCodec.TryDecode(bytes, out var record, out _), "the log decodes");
            yield return record!;
        }
    }

    public IEnumerable<StoredBlock> ReadBlocks(Height above)
    {
        foreach (var (height, bytes) in _blocks)
            if (height > above.Value)
                yield return StoredBlock.Decode(bytes);
    }

    /// <summary>Consecutive blocks from a height on, ending at a certified one; null when there is nothing to give.</summary>
    public PeerMessage.Blocks? Serve(Height from, Height last, int blocksMax)
    {
        var items = ImmutableArray.CreateBuilder<BlockWithBodies>();
        PeerMessage.Blocks? answer = null;
        for (var height = from.Value; height <= last.Value && _blocks.TryGetValue(height, out var bytes); height++)
        {
            var stored = StoredBlock.Decode(bytes);
            items.Add(stored.Block);
            if (stored.Certificate is { } certificate) answer = new PeerMessage.Blocks(items.ToImmutable(), certificate);
            if (answer is not null && items.Count >= blocksMax) break;
        }

        return answer;
    }
}
