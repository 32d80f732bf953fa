using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

public sealed partial class Ledger
{
    private static ReadOnlySpan<byte> SnapshotMagic => "CMSNAP4"u8;

    /// <summary>The whole state; only between two terms, when nothing of a term is half counted.</summary>
    public Snapshot TakeSnapshot(SnapshotHead head)
    {
        var output = new SnapshotWriter();
        var writer = output.Items;
        writer.Raw(SnapshotMagic);
        head.Last.Write(writer);
        writer.Count(head.Recent.Length);
        foreach (var (height, block, root) in head.Recent)
        {
            writer.Height(height);
            writer.Digest(block);
            writer.Digest(root);
        }

        Governance.Write(output);
        Leaders.Write(writer);
        writer.Count(Producers.All.Length);
        foreach (var producer in Producers.All)
        {
            producer.Write(writer);
            output.EndItem();
        }

        _reputations.Write(output);
        var control = new List<Digest>(_control);
        control.Sort();
        writer.Count(control.Count);
        foreach (var digest in control)
        {
            writer.Digest(digest);
            output.EndItem();
        }

        _alerts.Write(output);
        _evidence.Write(output);
        _policies.Write(output);
        Log.Write(writer);
        writer.Height(LogEnd.Height);
        writer.Time(LogEnd.Time);
        _tree.Write(output);
        _nonces.Write(output);
        return output.Finish();
    }

    /// <summary>
    /// The state a snapshot holds. The caller has compared every chunk with a certified digest; that they also give the certified
    /// state root is checked here. False when they do not, or are no snapshot of this chain.
    /// </summary>
    public static bool TryRead(
        ChainContext genesis, ProducerRegistry producers, Timestamp genesisTime, ReadOnlySpan<ReadOnlyMemory<byte>> chunks, Digest stateRoot, out Ledger? ledger, out SnapshotHead? head)
    {
        (ledger, head) = (null, null);
        var reader = new CanonicalReader(chunks);
        if (!reader.Raw(SnapshotMagic.Length).SequenceEqual(SnapshotMagic)) return false;
        var last = BlockHeader.Read(ref reader);
        var recent = ImmutableArray.CreateBuilder<(Height, Digest, Digest)>();
        for (var left = reader.Count(Limits.WindowMax, 72); left > 0; left--) recent.Add((reader.Height(), reader.Digest(), reader.Digest()));
        var read = new Ledger(genesis, producers, genesisTime);
        read._tree.Clear();
        if (!read.Governance.TryRead(ref reader) || !read.Leaders.TryRead(ref reader, read.Governance.Epochs)) return false;
        var trusted = new SortedDictionary<PublicKey, Producer>();
        for (var left = reader.Count(Limits.ProducersMax, 60); left > 0; left--)
            if (Producer.Read(ref reader) is var producer && !trusted.TryAdd(producer.Key, producer))
                reader.Fail(DecodeError.NotCanonical);
        if (reader.Error != DecodeError.None) return false;
        read.Producers.Adopt(new ProducerRegistry(trusted.Values));
        read._reputations.Read(ref reader);
        for (var left = reader.Count(int.MaxValue, Digest.Size); left > 0; left--) read._control.Add(reader.Digest());
        read._alerts.Read(ref reader);
        read._evidence.Read(ref reader);
        read._policies.Read(ref reader);
        read.Log.Read(ref reader);
        read.LogEnd = (reader.Height(), reader.Time());
        read._tree.Read(ref reader);
        read._nonces.Read(ref reader, last.Time);
        (read.Height, read.Time) = (last.Height, last.Time);
        var root = read.StateRoot();
        // Of the log's subtrees the state tree knows only their root.
        read.WriteLog();
        if (!reader.Finish(out _) || last.ChainId != genesis.ChainId || root != stateRoot || read.StateRoot() != root) return false;
        (ledger, head) = (read, new SnapshotHead(last, recent.ToImmutable()));
        return true;
    }
}
