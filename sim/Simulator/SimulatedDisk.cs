using System;
using System.Collections.Generic;
using System.Collections.Immutable;
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
    private List<byte[]> _blocks = [];
    private long _written;
    private long _mark;

    /// <summary>A copy of the disk. Immutable: lists are copied on restore.</summary>
    public sealed record Image(ImmutableArray<byte[]> Log, ImmutableArray<byte[]> Blocks, long Written, long Mark);

    /// <summary>The log is not what was written last: votes may be forgotten.</summary>
    public bool LogIsShort => _written < _mark;

    public int BlockCount => _blocks.Count;

    public Image Copy() => new([.. _log], [.. _blocks], _written, _mark);

    /// <param name="withMark">The whole machine went back in time, so nothing on it can tell.</param>
    public void Restore(Image image, bool withMark)
    {
        (_log, _blocks, _written) = ([.. image.Log], [.. image.Blocks], image.Written);
        if (withMark) _mark = image.Mark;
    }

    public void LoseLog()
    {
        _log.Clear();
        _written = 0;
    }

    public void LoseAll()
    {
        LoseLog();
        _blocks.Clear();
    }

    public void AppendLog(IEnumerable<DurableRecord> records)
    {
        foreach (var record in records)
        {
            if (record is DurableRecord.Reset) _log.Clear();
            _log.Add(DurableRecordCodec.Encode(record));
            _written++;
        }

        _mark = Math.Max(_mark, _written);
    }

    /// <summary>The loss was noticed; a log that starts over counts on from where the lost one ended.</summary>
    public void AcceptLoss() => _written = _mark;

    public void AppendBlocks(IEnumerable<CommittedBlock> blocks)
    {
        foreach (var block in blocks) _blocks.Add(StoredBlock.Encode(block));
    }

    public IEnumerable<DurableRecord> ReadLog()
    {
        foreach (var bytes in _log)
        {
            Invariant.Holds(DurableRecordCodec.TryDecode(bytes, out var record, out _), "the log decodes");
            yield return record!;
        }
    }

    public IEnumerable<StoredBlock> ReadBlocks()
    {
        foreach (var bytes in _blocks) yield return StoredBlock.Decode(bytes);
    }

    /// <summary>Consecutive blocks from a height on, ending at a certified one; null when there is nothing to give.</summary>
    public PeerMessage.Blocks? Serve(Height from, Height last, int blocksMax)
    {
        var items = ImmutableArray.CreateBuilder<BlockWithBodies>();
        var end = (int)Math.Min(last.Value, (ulong)_blocks.Count);
        for (var index = (int)Math.Min(from.Value, int.MaxValue) - 1; index >= 0 && index < end; index++)
        {
            var stored = StoredBlock.Decode(_blocks[index]);
            items.Add(stored.Block);
            if (stored.Certificate is { } certificate && items.Count >= Math.Min(blocksMax, end - (int)from.Value + 1))
                return new PeerMessage.Blocks(items.ToImmutable(), certificate);
        }

        return null;
    }
}
