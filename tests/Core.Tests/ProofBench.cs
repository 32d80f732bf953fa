using System;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using static System.Text.Encoding;

namespace CyberMesh.Core.Tests;

/// <summary>A log of 70 entries, one of them about an alert, and proofs of it.</summary>
internal sealed class ProofBench
{
    public static readonly Digest[] Leaves = [.. Enumerable.Range(0, 70).Select(i => Digest.Sha256(ASCII.GetBytes($"leaf {i}")))];

    public ProofBench()
    {
        Alert = Envelope(0, 1);
        Invariant.Holds(TrustPolicy.TryParse(UTF8.GetBytes(TrustPolicy.Of(Samples.Genesis.Chain)), out var policy, out var problem), problem);
        Policy = policy!;
    }

    public Samples Samples { get; } = new();
    public AlertEnvelope Alert { get; }
    public TrustPolicy Policy { get; }

    /// <summary>RFC 6962 section 2.1, word for word.</summary>
    public static Digest Mth(ReadOnlySpan<Digest> leaves)
    {
        if (leaves.Length == 0) return Digest.Sha256([]);
        if (leaves.Length == 1) return leaves[0];
        var k = 1;
        while (k * 2 < leaves.Length) k *= 2;
        return MerkleTree.Node(Mth(leaves[..k]), Mth(leaves[k..]));
    }

    public static Digest Node(int level, ulong index) => Mth(Leaves.AsSpan((int)index << level, 1 << level));

    public AlertEnvelope Envelope(long secondsAfterGenesis, ulong nonce)
    {
        var record = Samples.Alerts.Anomaly(1_790_000_000 + secondsAfterGenesis, new Nonce(nonce), "a", 5);
        Invariant.Holds(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _), "a sample decodes");
        return new EnvelopeAuthenticator(Samples.Signatures).Recovered(envelope!).Value;
    }

    /// <summary>The sixth of 70 entries is about <see cref="Alert"/>.</summary>
    public LogProof Proof(params int[] cosigners)
    {
        var entry = new LogEntry(Samples.Genesis.Chain.ChainId, new Height(5), 2, Samples.Genesis.Time, AlertKind.Anomaly, RejectionReason.None, Alert.Digest);
        Digest[] leaves = [.. Leaves];
        leaves[5] = entry.LeafHash();
        Digest At(int level, ulong index) => Mth(leaves.AsSpan((int)index << level, 1 << level));
        var text = new LogCheckpoint(LogNames.Origin(entry.ChainId), 70, Mth(leaves)).Text;
        var chain = Samples.Genesis.Chain;
        var signatures = cosigners.Select(i => LogNames.CosignerKey(chain, new((ushort)i)).Cosigned(1_790_000_001, Samples.Cosigners[i].Sign(NoteKey.CosignedBytes(text, 1_790_000_001))));
        return new LogProof([.. entry.Encode()], 5, MerkleProof.Inclusion(5, 70, At),
            new SignedNote(text, [LogNames.LogKey(chain, new(2)).Sign(text, Samples.LogKeys[2]), .. signatures]));
    }

    public Verdict Verify(LogProof proof, ReadOnlyMemory<byte>? record = null) => new ProofVerifier(Policy, Samples.Signatures).Verify(proof, record);

    public bool Passes(byte[] file) => LogProof.TryParse(file, out var proof, out _) && Verify(proof, Alert.Record).Passed;
}
