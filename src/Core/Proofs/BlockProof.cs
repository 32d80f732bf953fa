using System;
using System.Buffers;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>
/// What one block says, in one file, as soon as the block is committed: its header with the commit certificate, and the way from one of the header's
/// roots to a transaction or to an entry of the state.
/// </summary>
public sealed record BlockProof(CertifiedHeader Block, BlockClaim Claim)
{
    public const string FirstLine = "cybermesh/block-proof@v1";

    public override string ToString()
    {
        var buffer = new ArrayBufferWriter<byte>(4096);
        var writer = new CanonicalWriter(buffer);
        Block.Write(writer);
        Claim.Write(writer);
        return FirstLine + "\n" + Convert.ToBase64String(buffer.WrittenSpan) + "\n";
    }

    /// <summary>Whether a file says that it is one; what is in it may still be wrong.</summary>
    public static bool IsOne(ReadOnlySpan<byte> file) => file.StartsWith(System.Text.Encoding.ASCII.GetBytes(FirstLine));

    /// <summary>False with a sentence that says what is wrong.</summary>
    public static bool TryParse(ReadOnlySpan<byte> file, [NotNullWhen(true)] out BlockProof? proof, out string problem)
    {
        proof = null;
        problem = "the file is larger than a proof can be, or not text";
        if (file.Length > SignedNote.BytesMax || !Ascii.IsValid(file)) return false;
        var lines = System.Text.Encoding.ASCII.GetString(file).Split('\n');
        problem = $"it is not '{FirstLine}', a line of base64, and nothing more";
        if (lines.Length != 3 || lines[0] != FirstLine || lines[2].Length > 0 || !Base64.TryDecode(lines[1], out var bytes)) return false;
        var reader = new CanonicalReader(bytes);
        var (block, claim) = (CertifiedHeader.Read(ref reader), BlockClaim.Read(ref reader));
        problem = "what the base64 stands for is no proof";
        if (!reader.Finish(out _)) return false;
        proof = new BlockProof(block, claim);
        return true;
    }
}

/// <summary>Headers from one block to a descendant, and the commit certificate of that descendant: votes are cumulative, so it is one for the first block too.</summary>
/// <param name="Headers">Parent before child, no gap.</param>
public sealed record CertifiedHeader(ImmutableArray<BlockHeader> Headers, QuorumCertificate Commit)
{
    /// <summary>A leader is at most a window ahead of the last certificate it has seen; catching up leaves longer stretches.</summary>
    public const int HeadersMax = Limits.BlocksPerAnswerMax;

    public BlockHeader Header => Headers[0];

    /// <summary>Why these headers are not of that chain or not certified; null when they are.</summary>
    public string? Problem(ChainContext chain, ISignatureVerifier signatures)
    {
        var digest = default(Digest);
        for (var i = 0; i < Headers.Length; i++)
        {
            var header = Headers[i];
            if (header.ChainId != chain.ChainId) return "the block is of another chain";
            if (i > 0 && (header.Parent != digest || header.Height != Headers[i - 1].Height.Next)) return "the headers do not follow one another";
            digest = header.Hash();
        }

        var last = Headers[^1];
        if (Commit.Kind != CertificateKind.Commit || Commit.Height != last.Height || Commit.Digest != digest || last.Height.Value == 0) return "the certificate is of another block";
        if (Commit.Signatures.Length < chain.Validators.Quorum) return $"certified by {Commit.Signatures.Length} of {chain.Validators.Quorum} needed; this is no quorum";
        return Commit.Verify(chain, default, signatures) ? null : "the certificate is not one of these validators";
    }

    public void Write(CanonicalWriter writer)
    {
        writer.Count(Headers.Length);
        foreach (var header in Headers) header.Write(writer);
        Commit.Write(writer);
    }

    public byte[] Encode()
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        Write(new CanonicalWriter(buffer));
        return buffer.WrittenSpan.ToArray();
    }

    public static bool TryDecode(ReadOnlySpan<byte> bytes, [NotNullWhen(true)] out CertifiedHeader? header)
    {
        var reader = new CanonicalReader(bytes);
        var read = Read(ref reader);
        header = reader.Finish(out _) ? read : null;
        return header is not null;
    }

    public static CertifiedHeader Read(ref CanonicalReader reader)
    {
        var headers = ImmutableArray.CreateBuilder<BlockHeader>();
        var count = reader.Count(HeadersMax, 1);
        if (count == 0) reader.Fail(DecodeError.NotCanonical);
        for (; headers.Count < count && reader.Error == DecodeError.None;) headers.Add(BlockHeader.Read(ref reader));
        return new CertifiedHeader(headers.ToImmutable(), QuorumCertificate.Read(ref reader));
    }
}

/// <summary>What a proof says about its block.</summary>
public abstract record BlockClaim
{
    private BlockClaim()
    {
    }

    /// <summary>The block holds this transaction. What came of it is not said: the log says that, and the state of a later block.</summary>
    public sealed record Contains(uint Index, Digest Transaction, ImmutableArray<Digest> Path) : BlockClaim
    {
        public bool IsShownBy(BlockHeader header) =>
            MerkleProof.RootOf(Index, header.TransactionCount, MerkleTree.Leaf(Transaction), Path.AsSpan()) == header.TransactionRoot;
    }

    /// <summary>The state that the block's header names holds this value under the key, or nothing.</summary>
    /// <param name="Value">Null when it holds nothing.</param>
    public sealed record State(ReadOnlyMemory<byte> Key, byte[]? Value, StateProof Proof) : BlockClaim
    {
        public bool IsShownBy(Digest stateRoot) =>
            Value is { } value ? Proof.ShowsPresence(stateRoot, Key.Span, value) : Proof.ShowsAbsence(stateRoot, Key.Span);
    }

    internal void Write(CanonicalWriter writer)
    {
        switch (this)
        {
            case Contains c:
                writer.UInt8(1);
                writer.UInt32(c.Index);
                writer.Digest(c.Transaction);
                writer.Count(c.Path.Length);
                foreach (var node in c.Path) writer.Digest(node);
                break;
            case State s:
                writer.UInt8(s.Value is null ? (byte)3 : (byte)2);
                writer.Bytes(s.Key.Span);
                if (s.Value is { } value) writer.Bytes(value);
                s.Proof.Write(writer);
                break;
            default:
                throw Invariant.Unreachable(this);
        }
    }

    internal static BlockClaim Read(ref CanonicalReader reader)
    {
        var tag = reader.UInt8();
        if (tag is 2 or 3)
        {
            var key = reader.Bytes(Limits.StateKeyBytesMax);
            var value = tag == 2 ? reader.Bytes(Limits.StateValueBytesMax) : null;
            return new State(key, value, StateProof.Read(ref reader));
        }

        if (tag != 1) reader.Fail(DecodeError.UnknownTag);
        var (index, transaction) = (reader.UInt32(), reader.Digest());
        var path = ImmutableArray.CreateBuilder<Digest>();
        for (var left = reader.Count(MerkleProof.PathMax, Digest.Size); left > 0; left--) path.Add(reader.Digest());
        return new Contains(index, transaction, path.ToImmutable());
    }
}
