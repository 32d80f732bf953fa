using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Proofs;

/// <summary>One thing that was looked at, and what came of it.</summary>
public readonly record struct Check(bool Passed, string What);

/// <summary>Everything a verification looked at, in order. It passes when something was checked and nothing failed.</summary>
public sealed record Verdict(ImmutableArray<Check> Checks, LogEntry? Entry)
{
    public bool Passed
    {
        get
        {
            foreach (var check in Checks)
                if (!check.Passed)
                    return false;
            return Checks.Length > 0;
        }
    }
}

/// <summary>
/// Checks proofs with a policy and nothing else: no network, no clock, no state. It stops at the first thing that fails, because what would follow
/// from it means nothing.
/// </summary>
public sealed class ProofVerifier(TrustPolicy policy, ISignatureVerifier signatures)
{
    private readonly ImmutableArray<Check>.Builder _checks = ImmutableArray.CreateBuilder<Check>();

    /// <summary>The entry is in a log whose checkpoint the quorum has signed.</summary>
    /// <param name="record">The Kafka record value the entry must be about; null when only the entry is of interest.</param>
    public Verdict Verify(LogProof proof, ReadOnlyMemory<byte>? record)
    {
        _checks.Clear();
        LogEntry? entry = null;
        if (Checkpoint(proof.Checkpoint) is { } checkpoint && Inclusion(proof, checkpoint, out entry) && record is { } bytes) CheckRecord(bytes, entry!);
        return new Verdict(_checks.DrainToImmutable(), entry);
    }

    /// <summary>The block is one that the validators have certified, and holds the transaction.</summary>
    /// <param name="record">The Kafka record value the transaction must be; null when only the block is of interest.</param>
    public Verdict Verify(CertifiedHeader block, BlockClaim.Contains claim, ReadOnlyMemory<byte>? record)
    {
        _checks.Clear();
        if (Block(block)
            && Say(claim.IsShownBy(block.Header), Format($"transaction {claim.Index} of {block.Header.TransactionCount} is in the block"), "the path does not lead from the transaction to the header")
            && record is { } bytes)
            CheckRecord(bytes, claim.Transaction);
        return new Verdict(_checks.DrainToImmutable(), null);
    }

    /// <summary>The block is one that the validators have certified, and the state it names holds this under the key.</summary>
    public Verdict Verify(CertifiedHeader block, BlockClaim.State claim, ReadOnlySpan<byte> key)
    {
        _checks.Clear();
        if (Block(block) && Say(claim.Key.Span.SequenceEqual(key), "the proof is about this key", "the proof is about another key"))
            Say(claim.IsShownBy(block.Header.StateRoot),
                Format($"the state after block {block.Header.RootHeight} holds {(claim.Value is null ? "nothing" : "this value")} there"),
                "the path does not lead from the key to the state root of the header");
        return new Verdict(_checks.DrainToImmutable(), null);
    }

    private bool Block(CertifiedHeader block)
    {
        if (policy.Chain is not { } chain)
        {
            Failed("the policy names no consensus keys; make one with 'trust export'");
            return false;
        }

        var problem = block.Problem(chain, signatures);
        return Say(problem is null, Format($"block {block.Header.Height} is certified by {block.Commit.Signatures.Length} of {chain.Validators.Quorum} needed"), problem ?? "");
    }

    /// <summary>The checkpoint is the log's and the quorum has signed it; null when not.</summary>
    public LogCheckpoint? Checkpoint(SignedNote note, out ImmutableArray<Check> checks)
    {
        _checks.Clear();
        var checkpoint = Checkpoint(note);
        checks = _checks.DrainToImmutable();
        return checkpoint;
    }

    private LogCheckpoint? Checkpoint(SignedNote note)
    {
        if (!LogCheckpoint.TryParse(note.Text, out var checkpoint))
        {
            Failed("the checkpoint does not hold origin, size and root");
            return null;
        }

        var signedAsLog = false;
        var signed = new HashSet<string>(StringComparer.Ordinal);
        var place = -1;
        foreach (var signature in note.Signatures)
        {
            // Known signatures stand in the order of the policy, so that a file has one form.
            if (Find(note.Text, checkpoint.Origin, signature) is not { } found) continue;
            if (!found.Genuine || found.Place <= place)
            {
                Failed(found.Genuine ? $"the signature of {signature.Name} stands twice or out of order" : $"the signature of {signature.Name} is not genuine");
                return null;
            }

            place = found.Place;
            if (found.Witness is { } witness) signed.Add(witness);
            else signedAsLog = true;
        }

        if (!Say(signedAsLog, $"signed as log {checkpoint.Origin}", "no key that the policy lists for this log has signed the checkpoint")) return null;
        var (have, needed) = policy.Quorum(signed);
        var names = string.Join(", ", signed);
        return Say(policy.IsMetBy(signed),
            string.Create(CultureInfo.InvariantCulture, $"cosigned by {have} of {needed} needed: {names}"),
            string.Create(CultureInfo.InvariantCulture, $"cosigned by {have} of {needed} needed{(have == 0 ? "" : ": " + names)}; this is no quorum"))
            ? checkpoint
            : null;
    }

    private (int Place, string? Witness, bool Genuine)? Find(string text, string origin, NoteSignature signature)
    {
        // All log keys share one place: one of them signs.
        foreach (var log in policy.Logs)
            if (log.Name == origin && log.Verify(text, signature, signatures) is { } genuine)
                return (0, null, genuine);
        for (var i = 0; i < policy.Witnesses.Count; i++)
            if (policy.Witnesses[i].Key.Verify(text, signature, signatures) is { } genuine)
                return (i + 1, policy.Witnesses[i].Name, genuine);
        return null;
    }

    private bool Inclusion(LogProof proof, LogCheckpoint checkpoint, out LogEntry? entry)
    {
        if (!Say(LogEntry.TryDecode(proof.Extra.AsSpan(), out entry), "the entry is well formed", "the extra line holds no entry of this kind of log")) return false;
        if (!Say(LogNames.Origin(entry!.ChainId) == checkpoint.Origin, "the entry is of this chain", "the entry is of another chain than the checkpoint")) return false;
        var included = MerkleProof.RootOf(proof.Index, checkpoint.Size, entry.LeafHash(), proof.Path.AsSpan()) == checkpoint.Root;
        return Say(included,
            string.Create(CultureInfo.InvariantCulture, $"entry {proof.Index} of {checkpoint.Size} is in the log"),
            string.Create(CultureInfo.InvariantCulture, $"the path does not lead from entry {proof.Index} to the root of the checkpoint"));
    }

    private void CheckRecord(ReadOnlyMemory<byte> record, LogEntry entry)
    {
        if (!EnvelopeDecoder.TryDecode(entry.Kind, record.Span, out var envelope, out var rejection))
        {
            Failed("the message cannot be read: " + rejection.Explanation);
            return;
        }

        if (!Say(envelope.Digest == entry.Transaction, "the message is the one the entry names", "the message is another one than the entry names")) return;
        CheckSignature(envelope);
    }

    /// <summary>A block proof says no kind, but the digest is over kind and record.</summary>
    private void CheckRecord(ReadOnlyMemory<byte> record, Digest transaction)
    {
        for (var kind = AlertKind.Anomaly; kind <= AlertKind.Decision; kind++)
        {
            if (!EnvelopeDecoder.TryDecode(kind, record.Span, out var envelope, out _) || envelope.Digest != transaction) continue;
            Say(true, "the message is that transaction", "");
            CheckSignature(envelope);
            return;
        }

        Failed("the message is another one than that transaction");
    }

    private void CheckSignature(AlertEnvelope envelope)
    {
        // What validators and operators sign they sign for the chain, and the chain has checked it.
        if (envelope.Kind.IsControl()) return;
        var genuine = new EnvelopeAuthenticator(signatures).TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out _);
        Say(genuine, $"signed by its producer {envelope.Producer}, profile v{(byte)envelope.Profile}", $"its signature is not that of producer {envelope.Producer}");
    }

    private static string Format(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private void Failed(string what) => _checks.Add(new Check(false, what));

    private bool Say(bool passed, string yes, string no)
    {
        _checks.Add(new Check(passed, passed ? yes : no));
        return passed;
    }
}
