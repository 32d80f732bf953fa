using System.Buffers;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>What is hashed and voted on. Fixed size; an unknown version is refused.</summary>
public sealed record BlockHeader
{
    public const ushort Version = 1;

    public required Digest ChainId { get; init; }
    public required ulong Epoch { get; init; }
    public required View View { get; init; }
    public required Height Height { get; init; }
    public required Digest Parent { get; init; }

    /// <summary>Block time: strictly above the parent's; the only clock execution knows.</summary>
    public required Timestamp Time { get; init; }

    public required ValidatorIndex Proposer { get; init; }

    /// <summary>RFC 6962 Merkle root over the transaction digests.</summary>
    public required Digest TransactionRoot { get; init; }

    public required uint TransactionCount { get; init; }

    /// <summary>Sum of the transaction body lengths.</summary>
    public required uint BodyBytes { get; init; }

    /// <summary>Digest of the commit certificate carried in the block; zero while there is none yet.</summary>
    public required Digest SealDigest { get; init; }

    /// <summary>Height − D, or 0: the block whose resulting state <see cref="StateRoot"/> is of.</summary>
    public required Height RootHeight { get; init; }

    public required Digest StateRoot { get; init; }
    public required Digest ValidatorsHash { get; init; }
    public required Digest NextValidatorsHash { get; init; }
    public required Digest ParametersHash { get; init; }

    /// <summary>Digest of the NEW-VIEW the view was entered with; zero for attempt 0.</summary>
    public required Digest NewViewDigest { get; init; }

    public required uint AppVersion { get; init; }

    /// <summary>What waits comes in blocks of this size only when there is more than can be taken at once.</summary>
    internal bool IsHalfFull(ChainParameters parameters) => TransactionCount >= (uint)parameters.BlockTransactionsMax / 2 || BodyBytes >= (uint)parameters.BlockBytesMax / 2;

    public Digest Hash()
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        Write(new CanonicalWriter(buffer));
        return Digest.Sha256(DigestDomain.Block, buffer.WrittenSpan);
    }

    public void Write(CanonicalWriter writer)
    {
        writer.UInt16(Version);
        writer.UInt16(0); // lane, reserved
        writer.Digest(ChainId);
        writer.UInt64(Epoch);
        writer.View(View);
        writer.Height(Height);
        writer.Digest(Parent);
        writer.Time(Time);
        writer.Index(Proposer);
        writer.Digest(TransactionRoot);
        writer.UInt32(TransactionCount);
        writer.UInt32(BodyBytes);
        writer.Digest(SealDigest);
        writer.Height(RootHeight);
        writer.Digest(StateRoot);
        writer.Digest(ValidatorsHash);
        writer.Digest(NextValidatorsHash);
        writer.Digest(ParametersHash);
        writer.Digest(NewViewDigest);
        writer.UInt32(AppVersion);
    }

    public static BlockHeader Read(ref CanonicalReader reader)
    {
        if (reader.UInt16() != Version) reader.Fail(DecodeError.UnsupportedVersion);
        if (reader.UInt16() != 0) reader.Fail(DecodeError.UnsupportedVersion);
        return new BlockHeader
        {
            ChainId = reader.Digest(),
            Epoch = reader.UInt64(),
            View = reader.View(),
            Height = reader.Height(),
            Parent = reader.Digest(),
            Time = reader.Time(),
            Proposer = reader.Index(),
            TransactionRoot = reader.Digest(),
            TransactionCount = reader.UInt32(),
            BodyBytes = reader.UInt32(),
            SealDigest = reader.Digest(),
            RootHeight = reader.Height(),
            StateRoot = reader.Digest(),
            ValidatorsHash = reader.Digest(),
            NextValidatorsHash = reader.Digest(),
            ParametersHash = reader.Digest(),
            NewViewDigest = reader.Digest(),
            AppVersion = reader.UInt32(),
        };
    }
}

/// <summary>A header, the commit certificate of an ancestor (the seal) and the digests of the transactions; bodies travel apart.</summary>
public sealed class Block
{
    public Block(BlockHeader header, QuorumCertificate? seal, ImmutableArray<Digest> transactions)
    {
        Header = header;
        Seal = seal;
        Transactions = transactions;
        Digest = header.Hash();
    }

    public BlockHeader Header { get; }
    public QuorumCertificate? Seal { get; }
    public ImmutableArray<Digest> Transactions { get; }

    /// <summary>The block's identity: the hash of its header.</summary>
    public Digest Digest { get; }

    public Height Height => Header.Height;

    /// <summary>
    /// The block before the first one. Every validator computes it from genesis; it is never sent.
    /// </summary>
    public static Block Genesis(ChainContext chain, Digest parametersHash, Digest stateRoot, Timestamp time) => new(
        new BlockHeader
        {
            ChainId = chain.ChainId,
            Epoch = chain.Epoch,
            View = default,
            Height = default,
            Parent = default,
            Time = time,
            Proposer = default,
            TransactionRoot = MerkleTree.Root([]),
            TransactionCount = 0,
            BodyBytes = 0,
            SealDigest = default,
            RootHeight = default,
            StateRoot = stateRoot,
            ValidatorsHash = chain.Validators.Hash(),
            NextValidatorsHash = chain.Validators.Hash(),
            ParametersHash = parametersHash,
            NewViewDigest = default,
            AppVersion = 1,
        },
        null, []);

    /// <summary>True when seal and transactions are the ones the header commits to.</summary>
    public bool MatchesHeader() =>
        Header.TransactionCount == (uint)Transactions.Length
        && Header.TransactionRoot == MerkleTree.Root(Transactions.AsSpan())
        && Header.SealDigest == (Seal?.Hash() ?? default);

    public void Write(CanonicalWriter writer)
    {
        Header.Write(writer);
        writer.UInt8(Seal is null ? (byte)0 : (byte)1);
        Seal?.Write(writer);
        writer.Count(Transactions.Length);
        foreach (var transaction in Transactions) writer.Digest(transaction);
    }

    /// <summary>Reads a block and refuses one whose content is not what its header commits to.</summary>
    public static Block Read(ref CanonicalReader reader)
    {
        var header = BlockHeader.Read(ref reader);
        var sealFlag = reader.UInt8();
        if (sealFlag > 1) reader.Fail(DecodeError.NotCanonical);
        var seal = sealFlag == 1 ? QuorumCertificate.Read(ref reader) : null;
        var count = reader.Count(Limits.BlockTransactionsMax, Digest.Size);
        var transactions = ImmutableArray.CreateBuilder<Digest>(count);
        for (var i = 0; i < count; i++) transactions.Add(reader.Digest());
        var block = new Block(header, seal, transactions.MoveToImmutable());
        if (reader.Error == DecodeError.None && !block.MatchesHeader()) reader.Fail(DecodeError.NotCanonical);
        return block;
    }
}
