using System;
using System.Buffers;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

public sealed partial class Ledger
{
    private static ReadOnlySpan<byte> SnapshotMagic => "CMSNAP3"u8;

    /// <summary>About the size of a snapshot now: a buffer that has to grow is twice as large as needed, and stands in memory beside those it was copied from.</summary>
    private int SnapshotBytes => (int)Math.Min((1 << 16) + 82L * _nonces.Count + 400L * (_alerts.Count + _evidence.Count) + 64L * _tree.Count, Array.MaxLength);

    /// <summary>The whole state; only between two terms, when nothing of a term is half counted.</summary>
    public Snapshot TakeSnapshot(SnapshotHead head)
    {
        var buffer = new ArrayBufferWriter<byte>(SnapshotBytes);
        var writer = new CanonicalWriter(buffer);
        writer.Raw(SnapshotMagic);
        head.Last.Write(writer);
        writer.Count(head.Recent.Length);
        foreach (var (height, block, root) in head.Recent)
        {
            writer.Height(height);
            writer.Digest(block);
            writer.Digest(root);
        }

        Governance.Write(writer);
        Leaders.Write(writer);
        writer.Count(Producers.All.Length);
        foreach (var producer in Producers.All) producer.Write(writer);
        _reputations.Write(writer);
        var control = new List<Digest>(_control);
        control.Sort();
        writer.Count(control.Count);
        foreach (var digest in control) writer.Digest(digest);
        _nonces.Write(writer);
        _alerts.Write(writer);
        _evidence.Write(writer);
        _policies.Write(writer);
        Log.Write(writer);
        writer.Height(LogEnd.Height);
        writer.Time(LogEnd.Time);
        _tree.Write(writer);
        return new Snapshot(buffer.WrittenMemory);
    }

    /// <summary>
    /// The state a snapshot holds. The caller has compared every chunk with a certified digest; that the bytes also give the certified
    /// state root is checked here. False when they do not, or are no snapshot of this chain.
    /// </summary>
    public static bool TryRead(
        ChainContext genesis, ProducerRegistry producers, Timestamp genesisTime, ReadOnlySpan<byte> bytes, Digest stateRoot, out Ledger? ledger, out SnapshotHead? head)
    {
        (ledger, head) = (null, null);
        if (!bytes.StartsWith(SnapshotMagic)) return false;
        var reader = new CanonicalReader(bytes[SnapshotMagic.Length..]);
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
        read._nonces.Read(ref reader);
        read._alerts.Read(ref reader);
        read._evidence.Read(ref reader);
        read._policies.Read(ref reader);
        read.Log.Read(ref reader);
        read.LogEnd = (reader.Height(), reader.Time());
        read._tree.Read(ref reader);
        (read.Height, read.Time) = (last.Height, last.Time);
        var root = read.StateRoot();
        // Of the log's subtrees the state tree knows only their root.
        read.WriteLog();
        if (!reader.Finish(out _) || last.ChainId != genesis.ChainId || root != stateRoot || read.StateRoot() != root) return false;
        (ledger, head) = (read, new SnapshotHead(last, recent.ToImmutable()));
        return true;
    }
}
