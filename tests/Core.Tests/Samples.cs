using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Simulator;

namespace CyberMesh.Core.Tests;

/// <summary>A small chain with known keys: the same values in every run.</summary>
internal sealed class Samples
{
    /// <summary>Golden bytes outlast a default that changes.</summary>
    public static readonly ChainParameters Parameters = new() { SnapshotTerms = 8, BatchDelayMs = 5 };

    public Samples(int validators = 4, ChainParameters? parameters = null)
    {
        Signers = [.. Enumerable.Range(0, validators).Select(i => Signatures.NewSigner($"validator {i}")).OrderBy(s => s.PublicKey)];
        Cosigners = [.. Enumerable.Range(0, validators).Select(i => Signatures.NewSigner($"cosigner {i}"))];
        LogKeys = [.. Enumerable.Range(0, validators).Select(i => Signatures.NewSigner($"log {i}"))];
        var set = Signers.Select((s, i) => new Validator($"v{i + 1}", s.PublicKey, Key($"control {i}"), Cosigners[i].PublicKey, LogKeys[i].PublicKey));
        OperatorKeys = [.. Enumerable.Range(0, 3).Select(i => Signatures.NewSigner($"operator {i}")).OrderBy(o => o.PublicKey)];
        Sensor = Signatures.NewSigner("sensor");
        Genesis = new Genesis(
            "golden", Timestamp.FromSeconds(1_790_000_000), set,
            [new Producer(Sensor.PublicKey, "sensor", "org", AlertKinds.All, SigningProfiles.V1 | SigningProfiles.V2, 1000, default, null, false)], parameters ?? Parameters,
            Operators.From(2, OperatorKeys.Select(o => o.PublicKey)));
        Alerts = new AlertFactory(Sensor);
    }

    public StubSignatures Signatures { get; } = new();
    public ImmutableArray<ISigner> Signers { get; }
    public ImmutableArray<ISigner> Cosigners { get; }
    public ImmutableArray<ISigner> LogKeys { get; }
    public ImmutableArray<ISigner> OperatorKeys { get; }
    public ISigner Sensor { get; }
    public Genesis Genesis { get; }
    public AlertFactory Alerts { get; }

    public static Digest Digest(byte fill) => Primitives.Digest.From(Enumerable.Repeat(fill, 32).ToArray());

    private PublicKey Key(string name) => Signatures.NewSigner(name).PublicKey;

    public MessageSigner Messages(int validator) => new(Genesis.Chain, new ValidatorIndex((ushort)validator), Signers[validator]);

    public PeerAuthenticator Authenticator() => new(new EpochSchedule(Genesis.Chain), Genesis.Block.Digest, Genesis.Operators, Signatures);

    public Pbft NewPbft(int me) => new(new EpochSchedule(Genesis.Chain), Genesis.Block, Genesis.NewLedger().Leaders.Order, new SingleKey(Signers[me]));

    public QuorumCertificate Certificate(CertificateKind kind, View view, Height height, Digest digest, params int[] signers)
    {
        var type = kind == CertificateKind.Prepare ? StatementType.Prepare : StatementType.Commit;
        return new QuorumCertificate(kind, 0, view, height, digest, [.. signers.Select(i => new SignerSignature(
            new ValidatorIndex((ushort)i), SignedStatement.Sign(Signers[i], Genesis.Chain, type, view, height, digest)))]);
    }

    public Block Block(Block parent, View view, int proposer, params Digest[] transactions) => new(
        parent.Header with
        {
            View = view,
            Height = parent.Height.Next,
            Parent = parent.Digest,
            Time = parent.Header.Time.PlusMs(100),
            Proposer = new ValidatorIndex((ushort)proposer),
            TransactionRoot = MerkleTree.Root(transactions),
            TransactionCount = (uint)transactions.Length,
            BodyBytes = 10,
            RootHeight = parent.Height.Next.Minus(8),
        },
        null, [.. transactions]);

    /// <summary>One message of every kind.</summary>
    public IEnumerable<PeerMessage> EveryMessage()
    {
        var view = new View(0, 3);
        var block = Block(Genesis.Block, view, 1, Digest(1), Digest(2), Digest(3));
        var commit = Certificate(CertificateKind.Commit, new View(0, 1), new Height(5), Digest(9), 0, 1, 3);
        var prepare = Certificate(CertificateKind.Prepare, new View(0, 2), new Height(6), Digest(8), 1, 2, 3);
        var suspicions = ImmutableArray.Create(new SignedSuspicion(new ValidatorIndex(0), SuspectReason.NoProgress, Messages(0).Suspect(new View(0, 2), SuspectReason.NoProgress).Signature));
        var changes = Enumerable.Range(0, 3).Select(i => Messages(i).ViewChange(view, i == 2 ? prepare : commit, new Height(5), Justification.None)).ToArray();
        ReadOnlyMemory<byte> body = new byte[] { 1, 2, 3 };
        yield return Messages(1).PrePrepare(block);
        yield return Messages(2).Prepare(view, new Height(7), Digest(7));
        yield return Messages(3).Commit(view, new Height(7), Digest(7));
        yield return Messages(0).Suspect(view, SuspectReason.Censorship);
        yield return Messages(1).ViewChange(view, prepare, new Height(5), new Justification(new View(0, 2), suspicions, null));
        yield return Messages(3).NewView(view, [.. changes.Select(c => new SignedClaim(c.Sender, c.Claim, c.Signature))], prepare);
        yield return Messages(3).Heartbeat(view, commit);
        yield return Messages(0).Status(view, new Height(12), StatusKind.Answer, commit, prepare);
        yield return Messages(3).Handover(view);
        yield return new PeerMessage.Announcement([Digest(1), Digest(2)]);
        yield return new PeerMessage.GetTransactions([Digest(1), Digest(2)]);
        yield return new PeerMessage.Transactions([body, body]);
        yield return new PeerMessage.GetProposal(Digest(4));
        yield return new PeerMessage.Proposal(new BlockWithBodies(block, [body]));
        yield return new PeerMessage.GetBlocks(new Height(77));
        yield return new PeerMessage.Blocks([new BlockWithBodies(block, [body])], commit);
        var (certificate, last) = StableCheckpoint();
        yield return Messages(2).Checkpoint(certificate.Checkpoint);
        yield return new PeerMessage.StableCheckpoint(certificate);
        yield return new PeerMessage.GetSnapshot(new Height(12));
        yield return new PeerMessage.SnapshotOffer(certificate, last, [Digest(6), Digest(7)]);
        yield return new PeerMessage.GetChunk(new Height(128), 1);
        yield return new PeerMessage.Chunk(new Height(128), 1, body);
        yield return Cosignature(1, 12, Digest(3));
    }

    /// <summary>Of the log after block 5.</summary>
    public PeerMessage.Cosignature Cosignature(int validator, ulong size, Digest root)
    {
        var text = new LogCheckpoint(LogNames.Origin(Genesis.Chain.ChainId), size, root).Text;
        return new PeerMessage.Cosignature(
            new ValidatorIndex((ushort)validator), 0, new Height(5), size, root, 1_790_000_001, Cosigners[validator].Sign(NoteKey.CosignedBytes(text, 1_790_000_001)));
    }

    /// <summary>The checkpoint of term 0 with a snapshot of two chunks, and the commit of its block.</summary>
    private (CheckpointCertificate Certificate, QuorumCertificate Commit) StableCheckpoint()
    {
        var height = new Height((ulong)Genesis.Parameters.TermBlocks);
        var checkpoint = new Checkpoint(0, height, Digest(3), Digest(4), MerkleTree.Root([Digest(6), Digest(7)]));
        var signatures = new[] { 0, 1, 3 }.Select(i => new SignerSignature(new ValidatorIndex((ushort)i), Messages(i).Checkpoint(checkpoint).Signature));
        return (new CheckpointCertificate(0, checkpoint, [.. signatures]), Certificate(CertificateKind.Commit, default, height, Digest(3), 0, 1, 3));
    }

    /// <summary>An order and the readiness for it, as they stand in blocks.</summary>
    public IEnumerable<AlertEnvelope> EveryControlTransaction()
    {
        var newcomer = Signatures.NewSigner("newcomer");
        var order = new ChangeOrder(
            Genesis.Chain.ChainId, 1, new Change.AddValidator(new Validator("v5", newcomer.PublicKey, Key("c5"), Key("s5"), Key("l5"), "127.0.0.1:1")), []);
        yield return AlertEnvelope.Of(order.SignedBy(0, OperatorKeys[0]).SignedBy(2, OperatorKeys[2]));
        yield return AlertEnvelope.Of(Readiness.Sign(order.Digest(), newcomer));
        yield return AlertEnvelope.Of(new AlertFactory(Sensor).Decide(Genesis.Chain.ChainId, Digest(5), Ruling.FalsePositive, 1_790_000_000, "a note"));
    }

    /// <summary>An order with every kind of change.</summary>
    public IEnumerable<ChangeOrder> EveryOrder()
    {
        var validator = new Validator("v5", Key("k5"), Key("c5"), Key("s5"), Key("l5"), "127.0.0.1:1");
        var producer = new Producer(Key("p"), "producer", "organisation", AlertKinds.All | AlertKinds.Verdict, SigningProfiles.V2, 7, new Height(3), new Height(9), true);
        Invariant.Holds(NeverBlockList.TryCreate(["198.51.100.0/24", "2001:db8::/32"], out var never, out _), "networks");
        Change[] changes =
        [
            new Change.AddValidator(validator), new Change.RemoveValidator("v5"), new Change.RotateKeys(validator), new Change.SetParameters(Parameters with { NeverBlock = never }),
            new Change.PutProducer(producer), new Change.RotateProducer("producer", Key("q"), 100), new Change.RevokeProducer("producer"), new Change.HaltPolicies(true), new Change.Upgrade(2),
        ];
        return changes.Select((change, i) => new ChangeOrder(Genesis.Chain.ChainId, (ulong)i + 1, change, []).SignedBy(1, OperatorKeys[1]));
    }

    public IEnumerable<DurableRecord> EveryRecord()
    {
        var block = Block(Genesis.Block, default, 0, Digest(1));
        var newView = EveryMessage().OfType<PeerMessage.NewView>().Single();
        yield return new DurableRecord.Reset();
        yield return new DurableRecord.Proposed(block);
        yield return new DurableRecord.BlockHeld(new BlockWithBodies(block, [new byte[] { 9 }]));
        yield return new DurableRecord.PrepareVote(default, new Height(1), block.Digest);
        yield return new DurableRecord.CommitVote(default, new Height(1), block.Digest, newView.Best);
        yield return new DurableRecord.ViewChangeSent(new View(0, 4));
        yield return new DurableRecord.BestCertificate(newView.Best);
        yield return new DurableRecord.NewViewSent(newView);
        yield return new DurableRecord.CheckpointSent(StableCheckpoint().Certificate.Checkpoint);
        yield return new DurableRecord.ViewEntered(newView);
        yield return new DurableRecord.Quarantined();
        yield return new DurableRecord.VoteFromTerm(7);
        yield return new DurableRecord.ProposedLast(new View(0, 1), new Height(1), block.Digest);
    }
}
