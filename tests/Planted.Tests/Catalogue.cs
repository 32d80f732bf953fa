namespace CyberMesh.Planted.Tests;

/// <summary>One mistake: in <paramref name="File"/> the code <paramref name="Right"/> is replaced by <paramref name="Wrong"/>.</summary>
internal sealed record Bug(string Name, string File, string Right, string Wrong)
{
    /// <summary>How the classes begin that test this part; they are asked first.</summary>
    public string Tests => File.Split('/')[1] switch
    {
        "Ledger" => "StateMachine",
        "Mempool" => "Mempool",
        "Proofs" => "Proof",
        _ => "Protocol",
    };
}

/// <summary>Mistakes that PBFT implementations have made, and those that broke a model of this protocol (docs/testing.md).</summary>
internal static class Catalogue
{
    private const string Pbft = "Core/Consensus/Pbft.cs";
    private const string Replica = "Core/Replica/Replica.cs";
    private const string Authenticator = "Core/Consensus/MessageAuthenticator.cs";
    private const string Alerts = "Core/Ledger/AlertBook.cs";
    private const string Policies = "Core/Ledger/PolicyBook.cs";
    private const string Nonces = "Core/Ledger/NonceSet.cs";
    private const string Pool = "Core/Mempool/Mempool.cs";

    public static readonly Bug[] Bugs =
    [
        new("quorum 2f+1 for any n", "Core/Chain/Quorum.cs", "(n + Faulty(n) + 2) / 2", "2 * Faulty(n) + 1"),
        new("f suspicions are enough", "Core/Chain/Quorum.cs", "OneHonest(int n) => Faulty(n) + 1", "OneHonest(int n) => Faulty(n)"),
        new("votes for different blocks added up", "Core/Consensus/VoteTally.cs", "is { } cast && cast.Digest == digest)", "is { } cast)"),
        new("certificate of f+1 votes", "Core/Consensus/VoteTally.cs", "if (CountFor(slot, digest) < validators.Quorum) return null;", "if (CountFor(slot, digest) < validators.OneHonest) return null;"),
        new("certificates ordered by height first", "Core/Chain/QuorumCertificate.cs",
            "if (View != other.View) return View.CompareTo(other.View);", "if (Height != other.Height) return Height.CompareTo(other.Height);\n        if (View != other.View) return View.CompareTo(other.View);"),
        new("best certificate forgotten", Pbft, "        RaiseBest(prepared);\n", ""),
        new("lower heights prepared again", Pbft,
            "path.Count > 0 && MayVote) VotePrepare(_tip, outbox);", "path.Count > 0 && MayVote) foreach (var lower in path) VotePrepare(lower, outbox);"),
        new("vote without the accepted parent", Pbft, "if (header.Parent != _tip.Digest) return \"parent is not the block accepted before it\";", ""),
        new("commit vote after leaving the view", Pbft, "if (!_changing && MayVote && _chain.TryGetValue", "if (MayVote && _chain.TryGetValue"),
        new("proposal voted for after leaving the view", Pbft, "if (_changing || !MayVote || MissedView || ", "if (!MayVote || MissedView || "),
        new("old leader goes on after the others left", Pbft, "if (_changing || !MayVote || MissedView || ", "if (_changing || !MayVote || "),
        new("prepare vote not durable", Pbft, "        outbox.Records.Add(new DurableRecord.PrepareVote(_view, block.Height, block.Digest));\n", ""),
        new("commit vote not durable", Pbft, "        outbox.Records.Add(new DurableRecord.CommitVote(_view, block.Height, block.Digest, prepared));\n", ""),
        new("view change not durable", Pbft, "        outbox.Records.Add(new DurableRecord.ViewChangeSent(target));\n", ""),
        new("new view not durable", Pbft, "        outbox.Records.Add(new DurableRecord.NewViewSent(_sentNewView));\n", ""),
        new("proposal not durable", Pbft, "        outbox.Records.Add(new DurableRecord.Proposed(block));\n", ""),
        new("entered view not durable", Pbft, "        outbox.Records.Add(new DurableRecord.ViewEntered(message));\n", ""),
        new("accepted block not durable", Pbft, "        outbox.Records.Add(new DurableRecord.BlockHeld(block));\n", ""),
        new("restart forgets the prepare votes", Pbft, "                _guard.Prepare(new Guard.Vote(r.View, r.Height, r.Digest));\n", ""),
        new("log starts over without the present state", Replica, "        foreach (var record in _pbft.DurableState(WithBodies)) effects.Records.Add(record);\n", ""),
        new("claims of a new view believed", Authenticator, "            if (!Claim(m.View, signed)) return false;\n", ""),
        new("new view with too few claims", Authenticator, "m.Claims.Length < chain.Validators.Quorum || ", ""),
        new("new view below the one asked for", Pbft, "m.View <= _view || (_changing && m.View < _target) || TermIsComplete) return;", "m.View <= _view || TermIsComplete) return;"),
        new("lock against the new view", Pbft, "        if (_pendingNewView is { } pending && pending.View >= m.View) return;\n", "        if (_pendingNewView is { } pending && pending.View >= m.View || m.Best.Rank < _best.Rank) return;\n"),
        new("signatures not checked", Authenticator, "        Verify(message.Sender, message.Signature, type, view, height, digest, extra);", "        true;"),
        new("votes of the old view kept", Pbft, "        _prepares.Clear();\n", ""),
        new("certificates of other views ignored", Pbft, "        LookForForgottenVotes(certificate, outbox);\n        if (_recent", "        if (certificate.View != _view) return;\n        if (_recent"),
        new("forgotten votes overlooked in the end of fetched blocks", Pbft, "        LookForForgottenVotes(certificate, outbox);\n        RaiseBest", "        RaiseBest"),
        new("forgotten votes overlooked in the seals of fetched blocks", Pbft, "if (block.Seal is { } seal)\n", "if (block.Seal is { Height.Value: 0 } seal)\n"),
        new("places of another epoch taken for own ones", Pbft, "!MayVote || certificate.Epoch != _chainContext.Epoch || ", "!MayVote || "),
        new("nobody joins f+1 others", "Core/Consensus/ViewChangeBook.cs", "if (views.Count < chain.Validators.OneHonest) return null;", "if (views.Count < chain.Validators.Quorum + 1) return null;"),
        new("constant timer", "Core/Consensus/Pacemaker.cs", "return Math.Min(_base << doublings, _parameters.TimeoutCapMs);", "return Math.Min(_base + 0 * doublings, _parameters.TimeoutCapMs);"),
        new("full blocks called late", Pbft, " || block.Header.IsHalfFull(Parameters) || ", " || "),
        new("late blocks compared with no others", "Core/Consensus/ProposalDelay.cs", "Math.Max(agreementMs, _waits.Usual is", "Math.Max(0 * agreementMs, _waits.Usual is"),
        new("lost attempts forgotten in a few terms", "Core/Chain/LeaderScores.cs", "IsBarred(index.Value) || IsResting(index.Value) || ", "IsBarred(index.Value) || "),
        new("nothing is sent again", Pbft, "if (now >= _resendAt) Resend(now, outbox);", ""),
        new("equivocation told for ever", Pbft, "            _equivocated = true;\n", ""),
        new("state root of the leader believed", Replica, "if (header.StateRoot != RootAt(header.RootHeight)) return \"the state root is not the one this validator computed\";", ""),
        new("blocks of a peer not linked", Replica, "if (block.Header.Parent != parent.Digest || block.Height != parent.Height.Next)\n", "if (block.Height < parent.Height)\n"),
        new("each validator has its own leader order", Replica, "_pbft.EnterTerm(_ledger.Leaders.Order, now, effects);",
            "_pbft.EnterTerm(Me.Value == 3 ? new LeaderOrder([.. _ledger.Leaders.Order.Attempts.Sort()]) : _ledger.Leaders.Order, now, effects);"),
        new("proposals beyond the term", Pbft, "!HasProposedAbove && ProposalParent.Height < Parameters.LastHeight(_view.Term)\n", "!HasProposedAbove\n"),
        new("transactions of the chain proposed again", Replica, "if (!seen.Add(digest) || _accepted.Contains(digest) || _ledger.HasDecided(digest))", "if (!seen.Add(digest) && _ledger.HasDecided(digest))"),
        new("unbounded buffer for later views", "Core/Consensus/EarlyMessages.cs", "if (view == kept.View && kept.Messages.Count < perSenderMax)", "if (view == kept.View)"),
        new("quarantine ignored", Pbft, "public bool MayVote => _signer is not null && _answered is null && _view.Term >= _voteFromTerm && ", "public bool MayVote => _signer is not null && "),
        new("abstention two terms too short", Pbft, "_voteFromTerm = Math.Max(_voteFromTerm, _highestTerm + 2);", "_voteFromTerm = _highestTerm;"),
        new("blocks of the next term committed in this one", Pbft, "certificate.Height <= Parameters.LastHeight(_view.Term) && _held.Path", "_held.Path"),
        new("votes in the term whose blocks were lost", Pbft, " && _view.Term >= _guard.View.Term;", ";"),
        new("votes below the view signed before", Pbft, "        ReturnToSignedView();\n        if (_changing && MayVote)", "        if (_changing && MayVote)"),
        new("log starts over without the last proposal", Pbft, "        if (_own.Count == 0 && _guard.Proposed is { } last) yield return", "        if (_own.Count > 9000 && _guard.Proposed is { } last) yield return"),
        new("proposals on the way through the past", Pbft, "_ahead is null && !MayHaveForgotten && ", ""),
        new("proposal for a height proposed before", Pbft, "Leader == _me && !HasProposedAbove && ", "Leader == _me && "),
        new("cosignatures of different trees added up", "Core/Replica/Cosigner.cs", "if (other == own with { Signer = index, Signature = other.Signature })", "if (other.Size == own.Size)"),
        new("a smaller tree cosigned", "Core/Replica/Cosigner.cs", " || (_own is { } signed && signed.Size >= _last.Size)", ""),
        new("rejected transactions not in the log", "Core/Ledger/Ledger.cs", "            Log.Append(new LogEntry(", "            if (result == RejectionReason.None) Log.Append(new LogEntry("),
        new("log not bound by the state", "Core/Ledger/Ledger.cs", "            LogEnd = (header.Height, header.Time);\n            WriteLog();", "            LogEnd = (header.Height, header.Time);"),
        new("half a quorum cosigns", "Core/Replica/Cosigner.cs", "if (cosigned.Count < chain.Validators.Quorum) return;", "if (cosigned.Count < chain.Validators.OneHonest) return;"),
        new("path of a proof not followed", "Core/Proofs/MerkleProof.cs", "return last == 0 ? root : null;", "return root;"),
        new("policy met by one signature", "Core/Proofs/TrustPolicy.cs", "return (have, group.Needed);", "return (have, 1);"),
        new("honest view change taken for a denial", "Core/Chain/Misbehaviour.cs", "|| viewChange.View <= commit.View) return false;", ") return false;"),
        new("checkpoint signed anew after a restart", Pbft, "_ownCheckpoint = MayVote && _signedCheckpoint == checkpoint ? Signer.Checkpoint(checkpoint) : null;", "_ownCheckpoint = MayVote ? Signer.Checkpoint(checkpoint) : null;"),
        new("divergence goes unnoticed", Replica, "if (block.Header.StateRoot != RootAt(block.Header.RootHeight))", "if (false)"),
        new("chunks of a snapshot not compared", "Core/Replica/SnapshotFetch.cs", "if (Snapshot.ChunkDigest(chunk.Bytes.Span) != offer.Chunks[_next]) return null;", ""),
        new("state of a snapshot not compared with the certified root", "Core/Ledger/Ledger.Snapshot.cs", " || root != stateRoot", ""),
        new("pool not cleaned by a snapshot", Replica, "            if (_ledger.HasDecided(digest))\n                _pool.Remove(digest);", "            if (digest == default)\n                _pool.Remove(digest);"),
        new("old keys certify later terms", "Core/Chain/QuorumCertificate.cs", " || chain.Parameters.TermOf(Height) != View.Term", ""),
        new("orders take effect without readiness", "Core/Ledger/Governance.cs", "_ready = NewKey(order) is null;", "_ready = true;"),
        new("a change is in force a term too early", "Core/Ledger/Governance.cs", "Epochs.Schedule(term + 2, Open.Change", "Epochs.Schedule(term + 1, Open.Change"),
        new("one operator is enough", "Core/Chain/ChangeOrder.cs", "Signatures.Length < operators.Threshold", "Signatures.IsEmpty"),
        new("statements checked with the present set", "Core/Consensus/MessageAuthenticator.cs", "epochs.At(view.Term) is { } chain && SignedStatement", "epochs.Current is { } chain && SignedStatement"),
        new("abstention over a change of the set", Pbft, "if (_answered is not null || _view.Term < _voteFromTerm) Quarantine(", "if (_answered is not null) Quarantine("),
        new("evidence against the wrong one", Pbft, "                    sender, new SignedVote(type,", "                    new ValidatorIndex((ushort)((sender.Value + 1) % 4)), new SignedVote(type,"),
        new("forks not looked for", Pbft, "if (_recent.TryGetValue(certificate.Height.Value, out var mine) && mine != certificate.Digest) Contradict(new Branch([], certificate));", ""),
        new("rivals of a used nonce wait on", Replica, "        GiveUpRivals(bodies, effects);\n", ""),
        new("block proof without its quorum", "Core/Proofs/BlockProof.cs", "        if (Commit.Signatures.Length < chain.Validators.Quorum) return", "        if (Commit.Signatures.Length < 1) return"),
        new("state proof of any key", "Core/Proofs/ProofVerifier.cs", "Say(claim.Key.Span.SequenceEqual(key), ", "Say(!claim.Key.IsEmpty, "),
        new("alerts corroborated by sensors instead of organisations", Alerts, "organisations.Add(alert.Organisation);", "organisations.Add(alert.Origin.Producer);"),
        new("alerts corroborated at any distance in time", Alerts, " && time.Since(alert.CommittedAt) <= parameters.CorroborationWindowMs;", ";"),
        new("an analyst settles its own dispute", Alerts, "return alert.Status == AlertStatus.Disputed && alert.DecidedBy == analyst", "return alert.Status == AlertStatus.Expired"),
        new("own verdicts pay", Alerts, "wanted != AlertStatus.Confirmed || analyst.Organisation != alert.Organisation;", "wanted != AlertStatus.Expired;"),
        new("one organisation pushes out the alerts of another", "Core/Ledger/OpenItems.cs", "own.Count > max ? (T)own.First! : null", "_all.Count > max ? (T)_all.First! : null"),
        new("a replay under v1 costs reputation", "Core/Ledger/Ledger.cs", "(result == RejectionReason.ReplayedNonce && envelope.Profile == SigningProfile.V2)", "result == RejectionReason.ReplayedNonce"),
        new("one approver approves twice", Policies, "if (votes.Contains(approver))", "if (votes.Contains(approver) && votes.Count > 1)"),
        new("policies outlive their time", Policies, "_ends.Min is var (until, digest) && until <= time)", "_ends.Min is var (until, digest) && until.PlusMs(60_000) <= time)"),
        new("never-block list not asked", Policies, "(NeverBlockList.Always.Find(target) ?? parameters.NeverBlock.Find(target)) is", "NeverBlockList.Always.Find(target) is"),
        new("IPv4 inside IPv6 not seen", "Core/Primitives/IpPrefix.cs", "new IpPrefix(isV4, bits, length).Unwrapped();", "new IpPrefix(isV4, bits, length);"),
        new("cap on policies not kept", Policies, "        _inThisBlock++;\n", ""),
        new("a revoked producer keeps its second key", "Core/Ledger/Governance.cs", "foreach (var producer in producers.Named(c.Name)) changed.Add(producer with { Revoked = true });", "changed.Add(CurrentKey(c.Name)! with { Revoked = true });"),
        new("whoever holds most keeps all", Pool, "if (victims.Count == 0 || largest!.Room - RoomOf(victims) < (own?.Room ?? 0) + entry.Room)", "if (largest!.Room - RoomOf(victims) < 0 || true)"),
        new("room made for those who hold most", Pool, "largest!.Room - RoomOf(victims) < (own?.Room ?? 0) + entry.Room", "largest!.Room - RoomOf(victims) < 0"),
        new("allowance never used up", Pool, "        bucket?.Take();\n", ""),
        new("producers do not take turns", Pool, "turns.Enqueue(turn, (turn.Taken, -next.Priority, next.Number));", "turns.Enqueue(turn, (0, -next.Priority, next.Number));"),
        new("what is urgent goes first for ever", Pool, "            _oldest = !_oldest;\n", "            _oldest = false;\n"),
        new("a view opened before the blocks were lost is forgotten", Pbft, "if (_sentNewView?.View.Term < term) _sentNewView = null;", "_sentNewView = null;"),
        new("what one validator got is not announced", Replica, "            else announced.Add(entry.Alert.Digest);\n", ""),
        new("a refused message may come again", "Core/Ledger/Ledger.cs", "        Remember(envelope);\n        return refused;\n", "        if (refused is null) Remember(envelope);\n        return refused;\n"),
        new("a nonce stays used after its time", Nonces, "ProducerOf(entry) == producer && !IsForgotten(slot, entry)", "ProducerOf(entry) == producer"),
        new("a message is known after its time", Nonces, "SequenceEqual(wanted) && !IsForgotten(slot, entry)", "SequenceEqual(wanted)"),
        new("each message holds its nonce, used before or not", Nonces, "(Contains(number, nonce) ? 1u : 0)", "0u"),
        new("what expired comes back with a snapshot", Nonces, "        if (expiresAt < _now) return; // read again with its window\n", ""),
        new("a segment keeps the digest it had", Nonces, "if (_hashed != Count) (_digest", "if (_hashed == 0) (_digest"),
        new("a snapshot lacks its last chunk", "Core/Ledger/Snapshot.cs", "        EndChunk();\n        return new Snapshot(", "        return new Snapshot("),
    ];
}
