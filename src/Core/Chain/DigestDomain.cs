namespace CyberMesh.Core.Chain;

/// <summary>The leading byte of every hashed structure (docs/wire-format.md). A value is never reused.</summary>
public static class DigestDomain
{
    public const byte MerkleLeaf = 0x00;

    /// <summary>Shared on purpose: a block digest is over a fixed-size header, a Merkle node over exactly 64 bytes.</summary>
    public const byte MerkleNode = 0x01;

    public const byte Block = 0x01;
    public const byte Transaction = 0x02;
    public const byte Certificate = 0x03;
    public const byte ValidatorSet = 0x04;
    public const byte Parameters = 0x05;
    public const byte Genesis = 0x06;
    public const byte NewView = 0x07;
    public const byte StateLeaf = 0x08;
    public const byte StateNode = 0x09;
    public const byte StateKey = 0x0a;
    public const byte StateValue = 0x0b;
    public const byte Change = 0x0c;
    public const byte SnapshotChunk = 0x0d;
    public const byte NonceChain = 0x0e;
    public const byte Name = 0x0f;
}
