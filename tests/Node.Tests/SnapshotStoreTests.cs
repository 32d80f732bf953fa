using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Storage;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class SnapshotStoreTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly SnapshotStore _store;

    public SnapshotStoreTests() => _store = Open();

    public void Dispose() => _directory.Dispose();

    private SnapshotStore Open() => new(Path.Combine(_directory.Path, "snapshots"));

    private string PathOf(byte chunk) => Path.Combine(_directory.Path, "snapshots", "chunks", Snapshot.ChunkDigest([chunk]).ToString());

    /// <summary>Of chunks of a byte each.</summary>
    private (TakenSnapshot Taken, CheckpointCertificate Certificate) Take(ulong height, params byte[] chunks)
    {
        var digests = chunks.Select(c => Snapshot.ChunkDigest([c])).ToArray();
        var snapshot = new Snapshot([.. chunks.Select(c => new ReadOnlyMemory<byte>([c]))], [.. digests]);
        var checkpoint = new Checkpoint(0, new Height(height), default, default, snapshot.Root);
        var commit = new QuorumCertificate(CertificateKind.Commit, 0, default, checkpoint.Height, default, []);
        return (new TakenSnapshot(checkpoint, commit, snapshot), new CheckpointCertificate(0, checkpoint, []));
    }

    private CheckpointCertificate Keep(ulong height, params byte[] chunks)
    {
        var (taken, certificate) = Take(height, chunks);
        _store.Keep(taken);
        return certificate;
    }

    private void Complete(ulong height, params byte[] chunks) => _store.Certify(Keep(height, chunks));

    private IEnumerable<byte> Present() => Directory.GetFiles(Path.Combine(_directory.Path, "snapshots", "chunks")).Select(path => File.ReadAllBytes(path)[0]).Order();

    private static byte[]? Bytes(Snapshot? snapshot) => snapshot is null ? null : [.. snapshot.Chunks.SelectMany(c => c.ToArray())];

    [Fact]
    public void A_chunk_is_written_once_and_stays_while_a_snapshot_has_it()
    {
        Complete(10, 1, 2, 3);
        var written = File.GetLastWriteTimeUtc(PathOf(2));
        File.SetLastWriteTimeUtc(PathOf(2), written.AddDays(-1));
        Complete(20, 4, 2, 2, 3);
        Assert.Equal(written.AddDays(-1), File.GetLastWriteTimeUtc(PathOf(2)));
        Assert.Equal([1, 2, 3, 4], Present());
        foreach (var path in new[] { "snapshots", "snapshots/chunks" })
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Path.Combine(_directory.Path, path)));
        Complete(30, 5, 2);
        Assert.Equal([2, 3, 4, 5], Present()); // of the newest two
        Assert.Equal((20UL, 30UL), (_store.OldestComplete()!.Value.Value, _store.Newest()!.Certificate.Checkpoint.Height.Value));
        Assert.Equal([5, 2], Bytes(_store.Read(_store.Newest()!)));
        // What a new process finds is the same.
        Assert.Equal([5, 2], Bytes(Open().Read(Open().Newest()!)));
    }

    [Fact]
    public void Only_what_is_certified_is_served_and_the_older_one_still_is()
    {
        PeerMessage? Ask(ulong height, uint? chunk) => _store.Serve(new SnapshotRequest(new ValidatorIndex(1), new Height(height), chunk));
        Assert.Null(Ask(0, null));
        var first = Keep(10, 1, 2);
        Assert.Null(Ask(0, null));
        Assert.Null(Ask(10, 0));
        _store.Certify(first with { Checkpoint = first.Checkpoint with { SnapshotRoot = default } });
        Assert.Null(Ask(0, null));
        _store.Certify(first);
        Assert.Equal(10UL, Assert.IsType<PeerMessage.SnapshotOffer>(Ask(9, null)).Certificate.Checkpoint.Height.Value);
        Assert.Null(Ask(10, null));
        Complete(20, 3, 2);
        Assert.Equal(2, Assert.IsType<PeerMessage.Chunk>(Ask(10, 1)).Bytes.Span[0]);
        Assert.Equal(20UL, Assert.IsType<PeerMessage.SnapshotOffer>(Ask(10, 2)).Certificate.Checkpoint.Height.Value); // a chunk it does not have
        Complete(30, 4);
        Assert.Equal(30UL, Assert.IsType<PeerMessage.SnapshotOffer>(Ask(10, 1)).Certificate.Checkpoint.Height.Value);
        Assert.Null(Ask(30, 1));
    }

    [Fact]
    public void While_no_checkpoint_becomes_stable_only_the_newest_two_wait()
    {
        Complete(10, 1);
        var second = Keep(20, 2);
        Keep(30, 3);
        var fourth = Keep(40, 4);
        Assert.Equal([1, 3, 4], Present());
        _store.Certify(second);
        Assert.Equal(10UL, _store.Newest()!.Certificate.Checkpoint.Height.Value);
        _store.Certify(fourth);
        Assert.Equal([1, 4], Present());
    }

    [Fact]
    public void A_damaged_chunk_is_no_snapshot_and_is_written_again_with_the_next()
    {
        Complete(10, 1, 2, 3);
        File.WriteAllBytes(PathOf(2), [9]);
        File.Delete(PathOf(3));
        Assert.Null(_store.Read(_store.Newest()!));
        Complete(20, 1, 2, 3);
        Assert.Equal([1, 2, 3], Bytes(_store.Read(_store.Newest()!)));
    }

    [Fact]
    public void What_a_crash_left_half_written_is_not_relied_on()
    {
        Complete(10, 1);
        File.WriteAllBytes(PathOf(2), [9]); // of a snapshot whose offer was never written
        File.WriteAllBytes(PathOf(3) + ".new", [9]);
        var store = Open();
        var (taken, certificate) = Take(20, 1, 2, 3);
        store.Keep(taken);
        store.Certify(certificate);
        Assert.Equal([1, 2, 3], Bytes(store.Read(store.Newest()!)));
        Assert.Equal([1, 2, 3], Present());
    }

    [Fact]
    public void One_of_the_others_takes_the_place_of_own_ones_below()
    {
        Complete(10, 1);
        var own = Keep(20, 2);
        var (taken, certificate) = Take(30, 1, 3);
        _store.Install(certificate, taken);
        _store.Certify(own);
        Assert.Equal(30UL, _store.Newest()!.Certificate.Checkpoint.Height.Value);
        Assert.Equal([1, 3], Bytes(_store.Read(_store.Newest()!)));
        Assert.Equal([1, 3], Present());
    }
}
