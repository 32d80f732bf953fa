using System;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Protos.Control;
using Google.Protobuf;
using Timestamp = CyberMesh.Core.Primitives.Timestamp;

namespace CyberMesh.Node.Feedback;

/// <summary>A record of a control topic that was found good, and what it is good for.</summary>
/// <param name="Message">Commit, policy or reputation, without its signature.</param>
/// <param name="Signer">The validator whose word everything is that is not proven.</param>
/// <param name="Block">The block it tells of; a quorum has certified it.</param>
/// <param name="Policy">What a quorum says about the policy of a policy record; null for other records.</param>
public sealed record VerifiedRecord(IMessage Message, string Signer, BlockHeader Block, ProvenPolicy? Policy)
{
    /// <summary>For people.</summary>
    public override string ToString() => Message switch
    {
        PolicyUpdateEvent p => $"policy {p.PolicyId} {p.Action} {p.RuleType} from block {p.EffectiveHeight}: {p.RuleData.ToStringUtf8()}",
        ReputationEvent r => $"producer {Convert.ToHexStringLower(r.AiProducerId.Span)} {r.Score:+#;-#;0} ({r.Reason}) for {r.AiMessageId}, block {r.BlockHeight}{(r.AnalystNotes.Length > 0 ? ": " + r.AnalystNotes : "")}",
        CommitEvent c => $"block {c.Height} with {c.TxCount} transactions, {c.AnomalyCount} alerts",
        _ => throw Invariant.Unreachable(Message),
    };
}

/// <summary>Where a policy stood after a block, by the word of a quorum.</summary>
/// <param name="Digest">Its transaction.</param>
/// <param name="Id">As its producer named it.</param>
/// <param name="Until">End of its time in force; null when it is not in force.</param>
public sealed record ProvenPolicy(Digest Digest, string Id, Height After, Timestamp? Until, PolicyParams Content);

/// <summary>
/// The consumer's side: believes a record of a control topic because of the keys in a trust policy, not because of who runs the broker. A commit record
/// proves its block; a policy record also that a quorum holds the policy to be in force, or not; what a reputation record says is its signer's word.
/// </summary>
/// <param name="epoch">The validators of an epoch; null when their keys are not known.</param>
/// <param name="signer">The validator whose control key this is; null when it is nobody's.</param>
public sealed class ControlVerifier(Func<ulong, ChainContext?> epoch, Func<PublicKey, string?> signer, ISignatureVerifier signatures)
{
    /// <summary>With nothing but a file of keys.</summary>
    public ControlVerifier(TrustPolicy trust, ISignatureVerifier signatures)
        : this(
            number => trust.Chain is { } chain && chain.Epoch == number ? chain : null,
            key => trust.Chain?.Validators.Members.FirstOrDefault(v => v.ControlKey == key)?.Name, signatures)
    {
    }

    private const int RecordBytesMax = 1 << 20;
    private const string StateHeader = "cm-state";

    /// <param name="topic">As it is named in Kafka: it is part of what was signed.</param>
    /// <param name="problem">Why it is not to be believed, as a sentence.</param>
    /// <returns>Null when it is not to be believed.</returns>
    public VerifiedRecord? Verify(string topic, byte[]? value, Headers? headers, out string problem)
    {
        problem = "the record has no value";
        if (value is null || headers is null) return null;
        problem = $"the record is larger than {RecordBytesMax} bytes";
        if (value.Length > RecordBytesMax) return null;
        problem = "the record is no commit, policy or reputation message";
        if (Parse(Text(headers, "type"), value) is not { } message) return null;
        if (SignerOf(topic, message, out problem) is not { } name) return null;
        problem = "the record carries no proof of its block (cm-proof)";
        if (!headers.TryGetLastBytes("cm-proof", out var bytes) || bytes is null || !CertifiedHeader.TryDecode(bytes, out var proof)) return null;
        if (!IsCertified(proof, out problem) || !IsAbout(message, proof.Header, out problem)) return null;
        var policy = message is PolicyUpdateEvent update ? PolicyOf(update, headers, out problem) : null;
        return message is PolicyUpdateEvent && policy is null ? null : new VerifiedRecord(message, name, proof.Header, policy);
    }

    private static string Text(Headers headers, string name) => headers.TryGetLastBytes(name, out var bytes) && bytes is not null ? Encoding.UTF8.GetString(bytes) : "";

    private static IMessage? Parse(string type, byte[] value)
    {
        try
        {
            return type switch
            {
                "commit" => CommitEvent.Parser.ParseFrom(value),
                "policy" => PolicyUpdateEvent.Parser.ParseFrom(value),
                "reputation" => ReputationEvent.Parser.ParseFrom(value),
                _ => null,
            };
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    private string? SignerOf(string topic, IMessage message, out string problem)
    {
        var (signature, key, producer, algorithm) = Unsign(message);
        problem = "the record does not carry one Ed25519 key and signature";
        if (signature.Length != Signature.Size || key.Length != PublicKey.Size || key != producer || algorithm != "Ed25519") return null;
        var known = PublicKey.From(key.Span);
        problem = $"the record is signed with a key that is none of these validators' control keys ({known})";
        if (signer(known) is not { } name) return null;
        problem = $"the signature is not that of {name} over these bytes and this topic";
        return signatures.Verify(known, [.. Encoding.UTF8.GetBytes(topic), .. message.ToByteArray()], Signature.From(signature.Span)) ? name : null;
    }

    private bool IsCertified(CertifiedHeader block, out string problem)
    {
        problem = epoch(block.Commit.Epoch) is { } chain
            ? block.Problem(chain, signatures) ?? ""
            : $"the block is of epoch {block.Commit.Epoch.ToString(CultureInfo.InvariantCulture)}, whose keys are not known here; make a policy with 'trust export'";
        return problem.Length == 0;
    }

    private static bool IsAbout(IMessage message, BlockHeader block, out string problem)
    {
        var height = message switch { CommitEvent c => c.Height, PolicyUpdateEvent p => p.EffectiveHeight, ReputationEvent r => r.BlockHeight, _ => -1 };
        problem = $"the record tells of block {height.ToString(CultureInfo.InvariantCulture)}, the proof is of block {block.Height}";
        if (height < 0 || (ulong)height != block.Height.Value) return false;
        problem = "the record tells of another block than the proof";
        return message is not CommitEvent commit || (commit.BlockHash.Span.SequenceEqual(block.Hash().ToArray()) && commit.TxCount == block.TransactionCount);
    }

    private ProvenPolicy? PolicyOf(PolicyUpdateEvent update, Headers headers, out string problem)
    {
        problem = "the record does not say which transaction the policy is (cm-digest)";
        if (!StateKey.TryParse("policy:" + Text(headers, "cm-digest"), out var key) || !Digest.TryParse(Text(headers, "cm-digest"), out var digest)) return null;
        problem = $"the record carries no proof of where the policy stands ({StateHeader})";
        if (!headers.TryGetLastBytes(StateHeader, out var bytes) || bytes is null || !BlockProof.TryParse(bytes, out var proof, out _) || proof.Claim is not BlockClaim.State claim) return null;
        if (!IsCertified(proof.Block, out problem)) return null;
        problem = "the proof is about another policy, or of a time before the record";
        if (!claim.Key.Span.SequenceEqual(key.Bytes.Span) || proof.Block.Header.RootHeight.Value < (ulong)update.EffectiveHeight) return null;
        problem = "the path does not lead from the policy to the state root of the header";
        if (!claim.IsShownBy(proof.Block.Header.StateRoot)) return null;
        problem = "rule_data is no policy that can be enforced, or not the one of rule_hash, policy_id, action and rule_type";
        var hash = SHA256.HashData(update.RuleData.Span);
        if (!PolicyParams.TryRead(update.RuleData.Span, out var content, out _) || !update.RuleHash.Span.SequenceEqual(hash) || content.PolicyId != update.PolicyId
            || content.RuleType != update.RuleType || (update.Action != content.Action && update.Action != "remove"))
            return null;
        // What the state does not hold is not in force, whatever it was.
        if (claim.Value is null) return new ProvenPolicy(digest, update.PolicyId, proof.Block.Header.RootHeight, null, content);
        problem = "the policy a quorum holds is another one than the record's";
        if (!PolicyInState.TryRead(claim.Value, out var state) || state.Id != update.PolicyId || state.Params != Digest.From(hash)) return null;
        return new ProvenPolicy(digest, state.Id, proof.Block.Header.RootHeight, state.Status == PolicyStatus.Active ? state.Until : null, content);
    }

    /// <summary>
    /// Identity of what a record says, whoever published it and when: topic, place in the chain, and content without time, key and signature.
    /// </summary>
    public static Digest Identify(string topic, Headers headers, IMessage message)
    {
        var content = message switch
        {
            CommitEvent m => new CommitEvent(m) { Timestamp = 0, ProducerId = ByteString.Empty, Signature = ByteString.Empty, Pubkey = ByteString.Empty, Alg = "" }.ToByteArray(),
            PolicyUpdateEvent m => new PolicyUpdateEvent(m) { Timestamp = 0, ProducerId = ByteString.Empty, Signature = ByteString.Empty, Pubkey = ByteString.Empty, Alg = "" }.ToByteArray(),
            ReputationEvent m => new ReputationEvent(m) { Timestamp = 0, ProducerId = ByteString.Empty, Signature = ByteString.Empty, Pubkey = ByteString.Empty, Alg = "" }.ToByteArray(),
            _ => throw Invariant.Unreachable(message),
        };
        return Digest.Sha256([.. Encoding.UTF8.GetBytes($"{topic}\n{Text(headers, "cm-height")}\n{Text(headers, "cm-index")}\n"), .. content]);
    }

    /// <summary>As <see cref="Identify(string, Headers, IMessage)"/>, of a record of one's own.</summary>
    public static Digest Identify(string topic, Message<byte[]?, byte[]?> record) => Identify(topic, record.Headers, Parse(Text(record.Headers, "type"), record.Value!)!);

    /// <summary>Takes signature, key and algorithm out of a record: what is left is what was signed.</summary>
    private static (ByteString Signature, ByteString Key, ByteString Producer, string Algorithm) Unsign(IMessage message)
    {
        (ByteString, ByteString, ByteString, string) signed;
        switch (message)
        {
            case PolicyUpdateEvent m:
                signed = (m.Signature, m.Pubkey, m.ProducerId, m.Alg);
                (m.Signature, m.Pubkey, m.Alg) = (ByteString.Empty, ByteString.Empty, "");
                return signed;
            case ReputationEvent m:
                signed = (m.Signature, m.Pubkey, m.ProducerId, m.Alg);
                (m.Signature, m.Pubkey, m.Alg) = (ByteString.Empty, ByteString.Empty, "");
                return signed;
            case CommitEvent m:
                signed = (m.Signature, m.Pubkey, m.ProducerId, m.Alg);
                (m.Signature, m.Pubkey, m.Alg) = (ByteString.Empty, ByteString.Empty, "");
                return signed;
            default:
                throw Invariant.Unreachable(message);
        }
    }
}
