using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>
/// The state after the last block of a term as bytes, the same on every validator, cut into chunks that can be checked one by one as they
/// arrive (rule P4): the CHECKPOINT names the Merkle root over their digests.
/// </summary>
public sealed class Snapshot
{
    public Snapshot(ReadOnlyMemory<byte> bytes)
    {
        var chunks = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>();
        var digests = ImmutableArray.CreateBuilder<Digest>();
        for (var at = 0; at < bytes.Length; at += Limits.SnapshotChunkBytes)
        {
            var chunk = bytes[at..Math.Min(bytes.Length, at + Limits.SnapshotChunkBytes)];
            chunks.Add(chunk);
            digests.Add(ChunkDigest(chunk.Span));
        }

        (Chunks, Digests) = (chunks.ToImmutable(), digests.ToImmutable());
        Root = RootOf(Digests);
    }

    public ImmutableArray<ReadOnlyMemory<byte>> Chunks { get; }

    public ImmutableArray<Digest> Digests { get; }

    public Digest Root { get; }

    public static Digest ChunkDigest(ReadOnlySpan<byte> chunk) => Digest.Sha256(DigestDomain.SnapshotChunk, chunk);

    public static Digest RootOf(ImmutableArray<Digest> digests) => MerkleTree.Root(digests.AsSpan());
}

/// <summary>What the chain needs besides the state to go on from a snapshot.</summary>
/// <param name="Last">Header of the block the snapshot was taken after.</param>
/// <param name="Recent">The last W blocks with the state roots after them, lowest first: headers and seals to come refer to them.</param>
public sealed record SnapshotHead(BlockHeader Last, ImmutableArray<(Height Height, Digest Block, Digest StateRoot)> Recent);
