using System;
using System.Collections.Generic;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>A property did not hold; the run stops here.</summary>
public sealed class PropertyViolation(string what) : Exception(what);

/// <summary>
/// The safety properties, checked after every event over everything honest validators send and decide. It knows nothing of how
/// the replica works.
/// </summary>
public sealed class Checker(Digest genesisBlock, ISignatureVerifier verifier, bool expectFork)
{
    private readonly Dictionary<ulong, (Digest Block, Digest StateRoot)> _decided = [];
    private readonly Dictionary<(int Node, StatementType, View, ulong), Digest> _signed = [];
    private readonly Dictionary<(int Node, Digest), Height> _accepted = [];
    private readonly Dictionary<int, Digest> _lastDecided = [];
    private readonly Dictionary<int, View> _leftBelow = [];
    private readonly HashSet<Digest> _certified = [];
    private readonly Dictionary<ulong, Checkpoint> _snapshots = [];

    private readonly Dictionary<ulong, Digest> _logs = [];
    private readonly Dictionary<ChainContext, ProofVerifier> _policies = [];
    private readonly HashSet<int> _forgetful = [];

    /// <summary>I7: everything a replica keeps stays within its bound.</summary>
    public static void Sizes(int node, Replica replica)
    {
        foreach (var (name, size, bound) in replica.Sizes)
            if (size > bound)
                throw new PropertyViolation($"I7: validator {node} keeps {size} {name}, more than {bound}");
    }

    /// <summary>This one may sign twice from now on: its whole machine went back in time.</summary>
    public void MayHaveForgotten(int node) => _forgetful.Add(node);

    public bool IsForgetful(int node) => _forgetful.Contains(node);

    /// <summary>Two honest validators decided differently.</summary>
    public bool HasForked { get; private set; }

    public ulong HighestDecided { get; private set; }

    /// <summary>I1 agreement, I2 linkage and certificate, I3 every transaction accepted once, I5 equal roots.</summary>
    public void Decided(int node, CommittedBlock committed, IReadOnlySet<Digest> published, EpochSchedule epochs)
    {
        var height = committed.Block.Height.Value;
        if (!_decided.TryAdd(height, (committed.Block.Digest, committed.StateRoot))
            && _decided[height] != (committed.Block.Digest, committed.StateRoot))
        {
            HasForked = true;
            if (expectFork) return;
            throw new PropertyViolation($"I1: validator {node} decided another block or state at height {height}");
        }

        HighestDecided = Math.Max(HighestDecided, height);

        var parent = _lastDecided.GetValueOrDefault(node, genesisBlock);
        if (expectFork) return;
        if (committed.Block.Header.Parent != parent) throw new PropertyViolation($"I2: validator {node} decided height {height} on another parent");
        _lastDecided[node] = committed.Block.Digest;
        if (committed.Certificate is { } certificate && _certified.Add(certificate.Hash()))
        {
            if (certificate.Kind != CertificateKind.Commit || certificate.Digest != committed.Block.Digest || epochs.At(certificate.View.Term) is not { } chain || !certificate.Verify(chain, genesisBlock, verifier))
                throw new PropertyViolation($"I2: the certificate of height {height} is not genuine");
        }

        foreach (var receipt in committed.Receipts)
        {
            if (receipt.Kind.IsControl()) continue;
            if (!published.Contains(receipt.Transaction)) throw new PropertyViolation($"I3: height {height} has a transaction nobody published");
            if (receipt.Accepted && !_accepted.TryAdd((node, receipt.Transaction), committed.Block.Height))
                throw new PropertyViolation($"I3: validator {node} accepted a transaction twice, again at height {height}");
        }
    }

    /// <summary>I5: a snapshot is the same on all validators, byte for byte.</summary>
    public void Snapshot(int node, TakenSnapshot taken)
    {
        var height = taken.Checkpoint.Height.Value;
        if (!_snapshots.TryAdd(height, taken.Checkpoint) && _snapshots[height] != taken.Checkpoint && !expectFork)
            throw new PropertyViolation($"I5: validator {node} took another snapshot after height {height}");
    }

    /// <summary>W3: the policy of some epoch accepts it, and of two trees of one size there is one root.</summary>
    public void LogCheckpoint(int node, SignedNote note, EpochSchedule epochs)
    {
        var known = new List<ChainContext> { epochs.Current };
        for (var term = epochs.LatestFrom; known.Count < 3 && term > 0; term--)
            if (epochs.At(term - 1) is { } earlier && earlier.Epoch != known[^1].Epoch)
                known.Add(earlier);
        foreach (var epoch in known)
        {
            if (PolicyOf(epoch).Checkpoint(note, out _) is not { } checkpoint) continue;
            if (!_logs.TryAdd(checkpoint.Size, checkpoint.Root) && _logs[checkpoint.Size] != checkpoint.Root && !expectFork)
                throw new PropertyViolation($"W3: validator {node} has a cosigned log of {checkpoint.Size} entries with another root");
            return;
        }

        throw new PropertyViolation($"W3: validator {node} has a checkpoint that no policy accepts: {note}");
    }

    private ProofVerifier PolicyOf(ChainContext epoch)
    {
        if (_policies.TryGetValue(epoch, out var known)) return known;
        Invariant.Holds(TrustPolicy.TryParse(System.Text.Encoding.UTF8.GetBytes(TrustPolicy.Of(epoch)), out var policy, out var problem), problem);
        return _policies[epoch] = new ProofVerifier(policy!, verifier);
    }

    /// <summary>A node came back with the blocks it had stored; it will go on from there.</summary>
    public void Restarted(int node, Digest lastStored, IEnumerable<Digest> acceptedInStore)
    {
        _lastDecided[node] = lastStored;
        var stored = new HashSet<Digest>(acceptedInStore);
        var forget = new List<(int, Digest)>();
        foreach (var key in _accepted.Keys)
            if (key.Node == node && !stored.Contains(key.Item2))
                forget.Add(key);
        foreach (var key in forget) _accepted.Remove(key);
    }

    /// <summary>I4: no honest validator signs two different statements for one slot, nor votes in a view it has left.</summary>
    public void Sent(int node, PeerMessage message)
    {
        if (_forgetful.Contains(node)) return;
        switch (message)
        {
            case PeerMessage.PrePrepare m when m.Sender.Value == node:
                Once(node, StatementType.PrePrepare, m.Block.Header.View, m.Block.Height.Value, m.Block.Digest);
                break;
            case PeerMessage.Prepare m:
                Once(node, StatementType.Prepare, m.View, m.Height.Value, m.Digest);
                break;
            case PeerMessage.Commit m:
                Once(node, StatementType.Commit, m.View, m.Height.Value, m.Digest);
                break;
            case PeerMessage.NewView m when m.Sender.Value == node:
                Once(node, StatementType.NewView, m.View, 0, Statements.NewViewDigest(m.Claims, m.Best));
                break;
            case PeerMessage.ViewChange m:
                if (m.View > _leftBelow.GetValueOrDefault(node)) _leftBelow[node] = m.View;
                break;
        }
    }

    private void Once(int node, StatementType type, View view, ulong height, Digest digest)
    {
        var slot = (node, type, view, height);
        if (_signed.TryGetValue(slot, out var before))
        {
            if (before != digest) throw new PropertyViolation($"I4: validator {node} signed two {type} for view {view} height {height}");
            return;
        }

        _signed[slot] = digest;
        if (view < _leftBelow.GetValueOrDefault(node)) throw new PropertyViolation($"I4: validator {node} signed a {type} in view {view}, which it had left");
    }
}
