using System;
using System.Buffers;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>
/// The state after the last block of a term as bytes, the same on every validator, in chunks that can be checked one by one as they
/// arrive (rule P4): the CHECKPOINT names the Merkle root over their digests.
/// </summary>
/// <param name="Chunks">In order. What follows in one another reads as one; an item of the state stands in one of them.</param>
/// <param name="Digests">Of the chunks.</param>
public sealed record Snapshot(ImmutableArray<ReadOnlyMemory<byte>> Chunks, ImmutableArray<Digest> Digests)
{
    public Digest Root => RootOf(Digests);

    public static Digest ChunkDigest(ReadOnlySpan<byte> chunk) => Digest.Sha256(DigestDomain.SnapshotChunk, chunk);

    public static Digest RootOf(ImmutableArray<Digest> digests) => MerkleTree.Root(digests.AsSpan());
}

/// <summary>What the chain needs besides the state to go on from a snapshot.</summary>
/// <param name="Last">Header of the block the snapshot was taken after.</param>
/// <param name="Recent">The last W blocks with the state roots after them, lowest first: headers and seals to come refer to them.</param>
public sealed record SnapshotHead(BlockHeader Last, ImmutableArray<(Height Height, Digest Block, Digest StateRoot)> Recent);

/// <summary>Cuts a state into chunks while it is written, so that it never stands in memory as a whole.</summary>
internal sealed class SnapshotWriter
{
    private readonly ArrayBufferWriter<byte> _chunk = new(1 << 16);
    private readonly ImmutableArray<ReadOnlyMemory<byte>>.Builder _chunks = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>();
    private readonly ImmutableArray<Digest>.Builder _digests = ImmutableArray.CreateBuilder<Digest>();

    /// <summary>Writes into the chunk that is open; it stays good over the chunks.</summary>
    public CanonicalWriter Items => new(_chunk);

    /// <summary>Here a chunk may end: no item stands in two.</summary>
    public void EndItem()
    {
        if (_chunk.WrittenCount >= Limits.SnapshotChunkBytes) EndChunk();
    }

    /// <summary>Adds a chunk of its own: what is open ends before it. The bytes are not copied.</summary>
    public void Chunk(ReadOnlyMemory<byte> bytes, Digest digest)
    {
        EndChunk();
        _chunks.Add(bytes);
        _digests.Add(digest);
    }

    public Snapshot Finish()
    {
        EndChunk();
        return new Snapshot(_chunks.ToImmutable(), _digests.ToImmutable());
    }

    private void EndChunk()
    {
        if (_chunk.WrittenCount == 0) return;
        byte[] bytes = [.. _chunk.WrittenSpan];
        _chunk.ResetWrittenCount();
        _chunks.Add(bytes);
        _digests.Add(Snapshot.ChunkDigest(bytes));
    }
}
