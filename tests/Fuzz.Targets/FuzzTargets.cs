using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;
using CyberMesh.Core.Tests;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using CyberMesh.Node.Mesh;

namespace CyberMesh.Fuzz;

/// <summary>
/// What a stranger, a liar or a damaged disk can hand to a decoder or a replica. Each target takes any bytes; an exception other than the
/// declared one, or a value with a second encoding, is a finding.
/// </summary>
public static class FuzzTargets
{
    private static readonly ProofBench Proofs = new();
    private static readonly (Ed25519Signer Key, KeyTable Table)[] SigningKeys = [.. Enumerable.Range(1, 3).Select(SigningKey)];
    private static readonly Samples Known = new(parameters: Samples.Parameters with { TermBlocks = 8 });

    public static readonly IReadOnlyDictionary<string, Action<byte[]>> All = new SortedDictionary<string, Action<byte[]>>(StringComparer.Ordinal)
    {
        ["alert"] = Alert,
        ["block"] = Block,
        ["canary"] = Canary,
        ["frame"] = Frame,
        ["message"] = Message,
        ["proof"] = Proof,
        ["record"] = Record,
        ["replica"] = Replica,
        ["signature"] = Signatures,
        ["snapshot"] = SnapshotBytes,
    };

    /// <summary>A finding: what was accepted is not what was given.</summary>
    public sealed class Finding(string what) : Exception(what);

    private static void Same(byte[] given, ReadOnlySpan<byte> encoded, string what)
    {
        if (!given.AsSpan().SequenceEqual(encoded)) throw new Finding($"{what} has a second encoding");
    }

    /// <summary>A mesh stream: frame after frame until it ends, and what the mesh itself reads of them.</summary>
    private static void Frame(byte[] bytes)
    {
        using var stream = new MemoryStream(bytes);
        try
        {
            using var reader = new FrameReader(stream, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan, CancellationToken.None);
            while (reader.ReadAsync().AsTask().GetAwaiter().GetResult() is { } frame)
            {
                if (frame.Length > bytes.Length) throw new Finding("a frame is longer than the stream");
                if (MeshFrame.TryDecode(frame, out var decoded)) Same(frame, decoded.Encode(), decoded.GetType().Name);
            }
        }
        catch (Exception declared) when (declared is InvalidDataException or EndOfStreamException)
        {
            // said so
        }
    }

    /// <summary>A peer message and everything in it.</summary>
    private static void Message(byte[] bytes)
    {
        if (!MessageCodec.TryDecode(bytes, out var message, out _)) return;
        Same(bytes, MessageCodec.Encode(message), message.GetType().Name);
        Known.Authenticator().TryVerify(message, out _, out _);
    }

    /// <summary>What a verifier is given by people it does not trust: proofs and checkpoints; and a policy, which somebody may have edited.</summary>
    private static void Proof(byte[] bytes)
    {
        if (SignedNote.TryParse(bytes, out var note)) Same(bytes, System.Text.Encoding.UTF8.GetBytes(note.ToString()), "a note");
        TrustPolicy.TryParse(bytes, out _, out _);
        var file = System.Text.Encoding.UTF8.GetBytes($"{BlockProof.FirstLine}\n{Convert.ToBase64String(bytes)}\n");
        if (BlockProof.TryParse(file, out var block, out _))
        {
            Same(file, System.Text.Encoding.UTF8.GetBytes(block.ToString()), "a block proof");
            var verifier = new ProofVerifier(Proofs.Policy, Known.Signatures);
            if (block.Claim is BlockClaim.Contains contains) verifier.Verify(block.Block, contains, null);
            else if (block.Claim is BlockClaim.State state) verifier.Verify(block.Block, state, state.Key.Span);
        }

        if (!LogProof.TryParse(bytes, out var proof, out _)) return;
        Same(bytes, System.Text.Encoding.UTF8.GetBytes(proof.ToString()), "a proof");
        Proofs.Verify(proof, null);
    }

    /// <summary>A transaction body of any kind, as it comes from a peer or from Kafka.</summary>
    private static void Alert(byte[] bytes)
    {
        if (!EnvelopeDecoder.TryDecodeBody(bytes, out var envelope, out _)) return;
        Same(bytes, envelope.Body.Span, envelope.Kind.Name());
        // Out of the own store it is read again without the checks.
        if (EnvelopeDecoder.DecodeCommitted(envelope.Body, envelope.Digest) is var committed && (committed.Id, committed.Nonce, committed.Digest) != (envelope.Id, envelope.Nonce, envelope.Digest))
            throw new Finding("a committed body is another message");
        if (envelope.Kind == AlertKind.Anomaly && EnvelopeDecoder.IdOfCommitted(envelope.Body) != envelope.Id) throw new Finding("a committed body has another id");
        var authenticator = new EnvelopeAuthenticator(Known.Signatures, new EpochSchedule(Known.Genesis.Chain), Known.Genesis.Operators);
        if (authenticator.TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out _)) Known.Genesis.NewLedger().Check(envelope, Known.Genesis.Time);
    }

    private static (Ed25519Signer Key, KeyTable Table) SigningKey(int number)
    {
        var key = new Ed25519Signer([.. Enumerable.Repeat((byte)number, 32)]);
        return KeyTable.TryCreate(key.PublicKey.ToArray(), out var table) ? (key, table) : throw new Finding($"no table for {key.PublicKey}");
    }

    /// <summary>
    /// Signatures one after the other: a byte that chooses the key, one for the length of the message, 64 that are added to the true signature (or, from
    /// 128 on, stand for it), and the message. All together get libsodium's verdicts, in every width that this machine has.
    /// </summary>
    private static void Signatures(byte[] bytes)
    {
        const int head = 2 + Signature.Size;
        var (library, checks, tables) = (new Ed25519Verifier(), new List<SignatureCheck>(), new List<KeyTable>());
        for (var rest = bytes.AsSpan(); rest.Length >= head && checks.Count < 2 * TableVerification.RunMax;)
        {
            var (key, table) = SigningKeys[rest[0] % SigningKeys.Length];
            var message = rest.Slice(head, Math.Min(rest[1], rest.Length - head)).ToArray();
            var signature = rest[0] < 128 ? key.Sign(message).ToArray() : new byte[Signature.Size];
            for (var i = 0; i < Signature.Size; i++) signature[i] ^= rest[2 + i];
            checks.Add(new SignatureCheck(key.PublicKey, message, Signature.From(signature)));
            tables.Add(table);
            rest = rest[(head + message.Length)..];
        }

        var expected = checks.Select(c => library.Verify(c.Key, c.Message.Span, c.Signature)).ToArray();
        foreach (var width in TableVerification.Widths)
        {
            var accepted = new bool[checks.Count];
            width.Verify(checks.ToArray(), tables.ToArray(), accepted);
            if (!accepted.AsSpan().SequenceEqual(expected)) throw new Finding($"{width.Instructions} and libsodium do not agree");
        }
    }

    /// <summary>A block of the own store.</summary>
    private static void Block(byte[] bytes)
    {
        try
        {
            StoredBlock.Decode(bytes);
        }
        catch (InvariantViolation)
        {
            // damaged, and said so
        }
    }

    /// <summary>A record of the own log.</summary>
    private static void Record(byte[] bytes)
    {
        if (DurableRecordCodec.TryDecode(bytes, out var record, out _)) Same(bytes, DurableRecordCodec.Encode(record), record.GetType().Name);
    }

    /// <summary>The chunks of a snapshot put together.</summary>
    private static void SnapshotBytes(byte[] bytes)
    {
        // Any root: what matters is how the bytes are read.
        Ledger.TryRead(Known.Genesis.Chain, Known.Genesis.Producers, Known.Genesis.Time, [bytes], default, out _, out _);
    }

    /// <summary>
    /// One validator lies, with its real key: the bytes choose, step by step, a message, its fields and the time that passes. The honest
    /// replica must not break an invariant of its own.
    /// </summary>
    private static void Replica(byte[] bytes)
    {
        const int liar = 0;
        var replica = new Core.Replica.Replica(Known.Genesis, new SingleKey(Known.Signers[1]));
        var effects = new Effects();
        var now = Known.Genesis.Time.PlusMs(300);
        var signer = Known.Messages(liar);
        var authenticator = new PeerAuthenticator(replica.Epochs, Known.Genesis.Block.Digest, Known.Genesis.Operators, Known.Signatures);
        var tip = Known.Genesis.Block;
        replica.Resume(now, effects);
        for (var at = 0; at + 4 <= bytes.Length && at < 256; at += 4)
        {
            var (kind, a, b, c) = (bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
            var view = new View((ulong)(a & 3) / 3, (uint)(a >> 2 & 7));
            var height = new Height((ulong)(b & 31));
            var digest = (c & 3) switch { 0 => tip.Digest, 1 => Known.Genesis.Block.Digest, _ => Digest.Sha256([c]) };
            var certificate = (c & 4) == 0 ? QuorumCertificate.ForGenesis(Known.Genesis.Block.Digest) : Known.Certificate(CertificateKind.Commit, default, new Height(1), Known.Block(Known.Genesis.Block, default, 0).Digest, 0, 2, 3);
            PeerMessage message = (kind % 16) switch
            {
                0 => signer.PrePrepare(tip = Known.Block((c & 8) == 0 ? tip : Known.Genesis.Block, view, b % 5)),
                1 => signer.Prepare(view, height, digest),
                2 => signer.Commit(view, height, digest),
                3 => signer.Suspect(view, (SuspectReason)(1 + b % 6)),
                4 => signer.ViewChange(view, certificate, height, Justification.None),
                5 => signer.NewView(view, [], certificate),
                6 => signer.Heartbeat(view, certificate),
                7 => signer.Status(view, height, (StatusKind)(b % 3), certificate, certificate),
                8 => signer.Handover(view),
                9 => signer.Checkpoint(new Checkpoint((ulong)(a & 3), new Height(8 * ((ulong)(a & 3) + 1)), digest, digest, digest)),
                10 => new PeerMessage.GetBlocks(new Height((ulong)b << (c & 63))),
                11 => (c & 1) == 0 ? new PeerMessage.GetTransactions([digest, digest]) : new PeerMessage.Announcement([digest, digest]),
                12 => new PeerMessage.GetProposal(digest),
                13 => new PeerMessage.GetSnapshot(height),
                14 => new PeerMessage.Blocks([new BlockWithBodies(tip, [])], certificate),
                _ => new PeerMessage.Chunk(height, c, new byte[] { a, b, c }),
            };
            // Another sender in the message than the key that signed it, now and then.
            if (kind >= 240 && message is PeerMessage.Signed signed) message = signed with { Sender = new ValidatorIndex((ushort)(a << 8 | b)) };
            if (authenticator.TryVerify(message, out var verified, out _)) replica.Receive(new ValidatorIndex(liar), verified, now, effects);
            now = now.PlusMs(c);
            replica.Tick(now, effects);
            foreach (var outgoing in effects.Messages.ToArray())
                if (outgoing.To is null && outgoing.Message is PeerMessage.Signed own)
                    replica.Receive(replica.Me, PeerAuthenticator.Own(own), now, effects);
            if (effects.Decided.Count > 0) replica.Stored(effects.Decided[^1].Block.Height, now, effects);
            foreach (var (name, size, bound) in replica.Sizes)
                if (size > bound)
                    throw new Finding($"{size} {name}, more than {bound}");
            effects.Clear();
        }
    }

    /// <summary>Does the fuzzer find anything at all? A fault four comparisons deep, which chance does not hit.</summary>
    private static void Canary(byte[] bytes)
    {
        if (bytes.Length < 5 || bytes[0] != 'C') return;
        if (bytes[1] != 'M') return;
        if (bytes[2] != 0xfe) return;
        if (bytes[3] + bytes[4] == 300) throw new Finding("the canary sings");
    }
}
