using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>
/// What survives a crash of one node: the consensus log and the block store, as encoded bytes. Each is written batch by batch, a
/// batch wholly or not at all (as a SQLite transaction is), first the log, then the blocks.
/// </summary>
public sealed class SimulatedDisk
{
    private readonly List<byte[]> _log = [];
    private readonly List<byte[]> _blocks = [];

    public void AppendLog(IEnumerable<DurableRecord> records)
    {
        foreach (var record in records)
        {
            if (record is DurableRecord.Reset) _log.Clear();
            _log.Add(DurableRecordCodec.Encode(record));
        }
    }

    public void AppendBlocks(IEnumerable<CommittedBlock> blocks)
    {
        // The stored form is a one-block answer; an uncertified block keeps the certificate of its run's end apart.
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
