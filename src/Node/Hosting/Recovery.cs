using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Hosting;

/// <summary>A replica as the local store left it: from the newest snapshot, by executing the stored blocks above it again, with the code that runs in service.</summary>
public static class Recovery
{
    /// <param name="records">The consensus log; empty for somebody who only looks.</param>
    /// <exception cref="UserError">The block store is damaged, or has a hole that no snapshot covers.</exception>
    public static Replica Run(
        Genesis genesis, IKeyring keys, Settings settings, ISignatureVerifier verifier, SnapshotStore snapshots, BlockReader reader, IReadOnlyList<DurableRecord> records)
    {
        var replica = new Replica(genesis, keys, settings.MempoolTransactionsMax, settings.MempoolBytesMax, (uint)settings.MempoolRatePerSecond);
        var authenticator = new EnvelopeAuthenticator(verifier, replica.Epochs, genesis.Operators);
        var certified = true;
        // A snapshot that cannot be used costs time, unless it is the others' and blocks below it are not here.
        if (snapshots.Newest() is { } newest && snapshots.Read(newest) is { } bytes) replica.TryRestore(newest.Certificate.Checkpoint, newest.Committed, bytes);
        if (reader.FirstGap(replica.Height) is { } gap)
            throw new UserError($"the block store (blocks.db) lacks block {gap}, and no snapshot (data/snapshots) covers it", "restore the disk, or move the data directory away: the validator follows the others anew");
        foreach (var block in reader.Read(replica.Height.Next))
        {
            if (block.Stored.IsPruned)
                throw new UserError($"the bodies of block {block.Stored.Block.Block.Height} have expired, and no snapshot (data/snapshots) covers it", "restore the snapshots, or move the data directory away: the validator follows the others anew");
            certified = block.Stored.Certificate is not null;
            var bodies = ImmutableArray.CreateBuilder<AlertEnvelope>(block.Stored.Block.Bodies.Length);
            foreach (var body in block.Stored.Block.Bodies)
            {
                if (!EnvelopeDecoder.TryDecodeBody(body, out var envelope, out _)) throw Damaged();
                bodies.Add(authenticator.Recovered(envelope).Value);
            }

            replica.Replay(block.Stored.Block.Block, bodies.MoveToImmutable(), block.Stored.Certificate);
            if (replica.StateRoot != block.StateRoot) throw Damaged();
        }

        // A run of blocks is written together with the certificate of its end.
        if (!certified) throw Damaged();
        foreach (var record in records) replica.Restore(record, authenticator);
        return replica;
    }

    private static UserError Damaged() =>
        new("the block store (blocks.db) does not replay to the state it was written with", "restore the disk, or move the data directory away and replace the validator");
}
