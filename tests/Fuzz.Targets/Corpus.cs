using System;
using System.Buffers;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Core.Tests;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Mesh;

namespace CyberMesh.Fuzz;

/// <summary>Inputs to start from: one valid value of every kind. They stand in the repository; findings are added there by hand.</summary>
public static class Corpus
{
    public static IEnumerable<(string Target, byte[][] Inputs)> All()
    {
        var samples = new Samples(parameters: Samples.Parameters with { TermBlocks = 8 });
        var messages = samples.EveryMessage().Select(MessageCodec.Encode).ToArray();
        yield return ("message", messages);
        var frames = new ArrayBufferWriter<byte>();
        foreach (var message in messages.Take(2)) Frames.Write(frames, message);
        frames.Write(new byte[4]);
        using var signer = new Ed25519Signer([.. Enumerable.Repeat((byte)1, 32)]);
        var peer = PeerRecord.Sign(signer, Samples.Digest(1), 1, new(86_400_000), ["validator.example:8000", "[::1]:8001"]);
        foreach (var frame in new MeshFrame[] { new MeshFrame.Records([peer]), new MeshFrame.FindNode(1, Samples.Digest(2)), new MeshFrame.Nodes(1, [peer]) }) Frames.Write(frames, frame.Encode());
        yield return ("frame", [frames.WrittenSpan.ToArray()]);
        yield return ("record", [.. samples.EveryRecord().Select(DurableRecordCodec.Encode)]);
        var block = samples.Block(samples.Genesis.Block, default, 0);
        var commit = samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, 0, 1, 2);
        yield return ("block", [new StoredBlock(new BlockWithBodies(block, []), null).Encode(), new StoredBlock(new BlockWithBodies(block, []), commit).Encode()]);
        var proof = Misbehaviour.TryCreate(
            new Core.Primitives.ValidatorIndex(0), SignedVotes.Of(samples.Messages(0).Checkpoint(new Checkpoint(0, new(8), Samples.Digest(1), Samples.Digest(2), default))),
            SignedVotes.Of(samples.Messages(0).Checkpoint(new Checkpoint(0, new(8), Samples.Digest(3), Samples.Digest(2), default))))!;
        byte[] anomaly = [(byte)AlertKind.Anomaly, .. samples.Alerts.Anomaly(1_790_000_000)];
        yield return ("alert", [anomaly, AlertEnvelope.Of(proof).Body.ToArray(), .. samples.EveryControlTransaction().Select(t => t.Body.ToArray())]);
        yield return ("snapshot", [Snapshot(samples, alerts: 0), Snapshot(samples, alerts: 2)]);
        yield return ("replica", [[.. Enumerable.Range(0, 64).Select(i => (byte)(i % 4 == 0 ? i / 4 : 0))], [0, 0, 0, 8, 1, 0, 1, 0, 2, 0, 1, 0, 4, 4, 1, 4, 5, 4, 0, 0]]);
        yield return ("proof", [Encoding.UTF8.GetBytes(new ProofBench().Proof(0, 1, 3).ToString()), Encoding.UTF8.GetBytes(TrustPolicy.Of(samples.Genesis.Chain)), .. BlockProofs(samples)]);
        yield return ("signature", [[.. Enumerable.Range(0, 4).SelectMany(i => Signed((byte)i, new byte[64], (byte)(9 * i)))], [.. Signed(128, [1], 3), .. Signed(1, [.. new byte[63], 0x10], 3)]]);
        yield return ("canary", ["nothing"u8.ToArray()]);
    }

    private static byte[] Snapshot(Samples samples, int alerts)
    {
        var ledger = samples.Genesis.NewLedger();
        var header = samples.Genesis.Block.Header;
        header = header with { Height = header.Height.Next, Time = header.Time.PlusMs(1000), TransactionCount = (uint)alerts };
        var authenticator = new EnvelopeAuthenticator(samples.Signatures);
        var transactions = Enumerable.Range(0, alerts).Select(number =>
        {
            EnvelopeDecoder.TryDecode(AlertKind.Anomaly, samples.Alerts.Anomaly(header.Time.Milliseconds / 1000, new Nonce((UInt128)number), $"alert {number}", 5), out var alert, out _);
            authenticator.TryAuthenticate(alert!, SigningProfiles.V1, out _);
            return alert!;
        }).ToArray();
        ledger.Apply(new Block(header, null, []), transactions);
        return [.. ledger.TakeSnapshot(new SnapshotHead(header, [(header.Height, header.Hash(), Samples.Digest(1))])).Chunks.SelectMany(c => c.ToArray())];
    }

    private static byte[] Signed(byte key, byte[] added, byte length) => [key, length, .. added, .. new byte[64 - added.Length], .. Enumerable.Repeat(key, length)];

    /// <summary>Without the first line and the base64 around them, which would keep the fuzzer from what is inside.</summary>
    private static IEnumerable<byte[]> BlockProofs(Samples samples)
    {
        var tree = new StateTree();
        for (byte i = 0; i < 9; i++) tree.Set([i], [i, i]);
        var block = samples.Block(samples.Genesis.Block, default, 0, Samples.Digest(1), Samples.Digest(2));
        block = new Block(block.Header with { StateRoot = tree.Root() }, null, block.Transactions);
        var certified = new CertifiedHeader([block.Header], samples.Certificate(CertificateKind.Commit, default, block.Height, block.Digest, 0, 1, 2));
        BlockClaim[] claims =
        [
            new BlockClaim.Contains(1, Samples.Digest(2), MerkleTree.Path(1, block.Transactions.AsSpan())),
            new BlockClaim.State(new byte[] { 3 }, [3, 3], tree.Prove([3])), new BlockClaim.State(new byte[] { 77 }, null, tree.Prove([77])),
        ];
        return claims.Select(claim => Convert.FromBase64String(new BlockProof(certified, claim).ToString().Split('\n')[1]));
    }
}
