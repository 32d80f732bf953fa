using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Threading;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

public enum RecordVerdict
{
    New,

    /// <summary>Known already, or older than what is known, or of nobody who is a member, or too soon after the last: nothing to hold against who passed it on.</summary>
    Ignored,

    /// <summary>Not signed by whom it names.</summary>
    Forged,
}

/// <summary>
/// The newest record of each member, and of nobody else, in k-buckets (Maymounkov and Mazières, Kademlia, 2002, section 2.2): of the members that share n
/// leading bits of their id with this one it keeps as many as a bucket holds, the old ones first. Survives restarts in a file, as the addresses in
/// the settings may all have changed meanwhile.
/// </summary>
/// <param name="me">This node's id.</param>
/// <param name="isMember">Whose records are kept, now.</param>
/// <param name="path">The file; null for none.</param>
/// <param name="bucketMax">Records with one distance to this node, in bits. The default keeps every member of the largest set there can be.</param>
public sealed class PeerBook(Digest chainId, Digest me, Func<PublicKey, bool> isMember, ISignatureVerifier verifier, TimeProvider time, string? path, int bucketMax = Limits.ValidatorsMax)
{
    /// <summary>Between two records of one validator, so that none makes the others spread its records without end.</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    /// <summary>Clocks may differ so much.</summary>
    private static readonly TimeSpan Skew = TimeSpan.FromHours(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<PublicKey, (PeerRecord Record, long At)> _records = [];
    private readonly int[] _buckets = new int[NodeId.Bits + 1];
    private PublicKey? _own;
    private bool _dirty;

    public ImmutableArray<PeerRecord> All
    {
        get
        {
            lock (_lock) return [.. _records.Values.Select(r => r.Record)];
        }
    }

    public PeerRecord? Find(PublicKey key)
    {
        lock (_lock) return _records.TryGetValue(key, out var known) ? known.Record : null;
    }

    /// <summary>A signature is checked only for a record that would be kept.</summary>
    public RecordVerdict Offer(PeerRecord record)
    {
        var now = time.GetUtcNow();
        lock (_lock)
            if (!IsWanted(record, now))
                return RecordVerdict.Ignored;
        if (!record.IsGenuine(chainId, verifier)) return RecordVerdict.Forged;
        lock (_lock)
        {
            if (!IsWanted(record, now)) return RecordVerdict.Ignored;
            Keep(record);
            return RecordVerdict.New;
        }
    }

    /// <summary>Of a member, by itself, and in force; whether it is kept or not.</summary>
    public bool Trusts(PeerRecord record) => IsOfMember(record, time.GetUtcNow()) && record.IsGenuine(chainId, verifier);

    private bool IsOfMember(PeerRecord record, DateTimeOffset now) =>
        record.Expires.Milliseconds > now.ToUnixTimeMilliseconds() && record.Expires.Milliseconds <= (now + PeerRecord.Lifetime + Skew).ToUnixTimeMilliseconds() && isMember(record.Key);

    private bool IsWanted(PeerRecord record, DateTimeOffset now)
    {
        if (!IsOfMember(record, now)) return false;
        if (!_records.TryGetValue(record.Key, out var known)) return _buckets[Bucket(record.Key)] < bucketMax;
        return record.Supersedes(known.Record) && (record.Key == _own || time.GetElapsedTime(known.At) >= Pause);
    }

    private int Bucket(PublicKey key) => NodeId.SharedBits(me, NodeId.Of(key));

    private void Keep(PeerRecord record)
    {
        if (!_records.ContainsKey(record.Key)) _buckets[Bucket(record.Key)]++;
        _records[record.Key] = (record, time.GetTimestamp());
        _dirty = true;
    }

    /// <summary>As many records as are asked for, the nearest to an id first.</summary>
    public ImmutableArray<PeerRecord> Nearest(Digest target, int count) => [.. All.OrderBy(r => NodeId.Distance(NodeId.Of(r.Key), target)).Take(count)];

    /// <summary>
    /// The own record: made anew when addresses or key changed, when half its life is over, and when others have a later one, from before a restart with a
    /// clock that was ahead. Null when there is nothing new to tell.
    /// </summary>
    public PeerRecord? Publish(ISigner signer, ImmutableArray<string> addresses)
    {
        var now = time.GetUtcNow();
        lock (_lock)
        {
            _own = signer.PublicKey;
            var known = _records.TryGetValue(signer.PublicKey, out var entry) ? entry.Record : null;
            if (addresses.IsEmpty && known is null) return null;
            if (known is not null && known.Addresses.SequenceEqual(addresses) && known.Expires.Milliseconds > (now + PeerRecord.Lifetime / 2).ToUnixTimeMilliseconds()) return null;
            var sequence = Math.Max((ulong)now.ToUnixTimeMilliseconds(), known is null ? 0 : known.Sequence + 1);
            var record = PeerRecord.Sign(signer, chainId, sequence, new Timestamp((now + PeerRecord.Lifetime).ToUnixTimeMilliseconds()), addresses);
            Keep(record);
            return record;
        }
    }

    /// <summary>Lets go of what has expired and of those who have left, and keeps the rest in the file when something changed.</summary>
    public void Tidy()
    {
        var now = time.GetUtcNow().ToUnixTimeMilliseconds();
        byte[]? bytes = null;
        lock (_lock)
        {
            foreach (var (key, (record, _)) in _records.ToArray())
            {
                if (record.Expires.Milliseconds > now && isMember(key)) continue;
                _records.Remove(key);
                _buckets[Bucket(key)]--;
                _dirty = true;
            }

            // One frame is enough: whoever reaches a few members learns of the others.
            if (_dirty && path is not null) bytes = new MeshFrame.Records([.. _records.Values.Select(r => r.Record).Take(MeshFrame.RecordsMax)]).Encode();
            _dirty = false;
        }

        if (bytes is null) return;
        try
        {
            File.WriteAllBytes(path + ".new", bytes);
            File.Move(path + ".new", path!, overwrite: true);
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            // The addresses come again from the others; a full disk is reported by those who cannot do without it.
        }
    }

    /// <summary>What an earlier run knew. Each record is checked as if a stranger had sent it.</summary>
    public void Load()
    {
        if (path is null || !File.Exists(path)) return;
        try
        {
            if (MeshFrame.TryDecode(File.ReadAllBytes(path), out var frame) && frame is MeshFrame.Records records)
                foreach (var record in records.Items)
                    Offer(record);
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            // as if there were none
        }
    }
}
