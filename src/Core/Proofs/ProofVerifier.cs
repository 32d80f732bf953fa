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
        if (!EnvelopeDecoder.TryDecode(entry.Kind, record, out var envelope, out var rejection))
        {
            Failed("the message cannot be read: " + rejection.Explanation);
            return;
        }

        if (!Say(envelope.Digest == entry.Transaction, "the message is the one the entry names", "the message is another one than the entry names")) return;
        // What validators and operators sign they sign for the chain, and the chain has checked it.
        if (entry.Kind.IsControl()) return;
        var genuine = new EnvelopeAuthenticator(signatures).TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out _);
        Say(genuine, $"signed by its producer {envelope.Producer}, profile v{(byte)envelope.Profile}", $"its signature is not that of producer {envelope.Producer}");
    }

    private void Failed(string what) => _checks.Add(new Check(false, what));

    private bool Say(bool passed, string yes, string no)
    {
        _checks.Add(new Check(passed, passed ? yes : no));
        return passed;
    }
}
