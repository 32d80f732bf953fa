using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>A committed block, in height order. Only the last of a run carries the certificate that commits them all.</summary>
public sealed record Decision(Block Block, QuorumCertificate? Certificate);

/// <summary>
/// The consensus of one replica: chained PBFT with cumulative votes (docs/protocol.md). It orders opaque blocks; its owner checks
/// their content (<see cref="NextCandidate"/>, then <see cref="Accept"/> or <see cref="Refuse"/>), proposes
/// (<see cref="CanPropose"/>) and takes decisions (<see cref="TryTakeDecision"/>). Not thread-safe; time is an argument.
/// </summary>
public sealed class Pbft
{
    private readonly EpochSchedule _epochs;
    private readonly IKeyring _keys;
    private readonly Guard _guard = new();
    private readonly Pacemaker _pacemaker;
    private readonly ThroughputDemand _demand = new();
    private readonly ProposalDelay _delay = new();
    private readonly HeldBlocks _held;
    private readonly Queue<Decision> _decisions = new();
    private readonly Accusations _accusations = new();

    // The epoch.
    private ChainContext _chainContext;
    private ulong _lastEpoch; // as of the last term entered
    private ValidatorIndex _me;
    private MessageSigner? _signer;
    private VoteTally _prepares;
    private VoteTally _commits;
    private ViewChangeBook _viewChanges;
    private Branch? _contradiction;

    // The chain as far as this replica knows it.
    private Block _committed;
    private QuorumCertificate _committedProof;
    private readonly SortedDictionary<ulong, Digest> _recent = [];
    private readonly SortedDictionary<ulong, Block> _chain = [];
    private Block _tip;
    private QuorumCertificate _best;
    private QuorumCertificate? _ahead;

    // The view.
    private LeaderOrder _order;
    private View _view;
    private bool _changing;
    private View _target;
    private PeerMessage.ViewChange? _sentViewChange;
    private SuspectReason? _suspicion;
    private bool _equivocated; // the leader of this view, and everyone was told
    private PeerMessage.NewView? _newView;
    private PeerMessage.NewView? _pendingNewView;
    private PeerMessage.NewView? _sentNewView;
    private QuorumCertificate? _wantedBase;
    private uint _productiveAttempt;
    private readonly SortedDictionary<ulong, Block> _own = [];
    private readonly SortedDictionary<ulong, PeerMessage.PrePrepare> _proposals = [];
    private readonly SortedDictionary<ulong, Timestamp> _proposedAt = [];

    // Amnesia.
    private HashSet<ValidatorIndex>? _answered;
    private ulong _highestTerm;
    private ulong _voteFromTerm;
    private bool _votedSinceStart;
    private Timestamp? _caughtUpAt; // not long ago
    private ulong _closing; // the term being closed, plus one
    private readonly List<Timestamp> _termsClosed = [];

    // Checkpoints.
    private readonly CheckpointVotes _checkpoints = new();
    private readonly Queue<CheckpointCertificate> _newlyStable = new();
    private PeerMessage.Checkpoint? _ownCheckpoint;
    private Checkpoint? _signedCheckpoint; // the last one ever signed, by this process or before

    // Retransmission.
    private readonly EarlyMessages _early;
    private readonly Dictionary<ValidatorIndex, Timestamp> _answeredAt = [];
    private Timestamp _resendAt;
    private Timestamp _heartbeatAt;
    private Height _committedAtResend;
    private int _knownPeers = int.MaxValue - 1;

    /// <param name="order">Who leads the attempts of term 0.</param>
    /// <param name="keys">The place of this validator is the one whose key is among them; with none it follows the chain and signs nothing.</param>
    public Pbft(EpochSchedule epochs, Block genesis, LeaderOrder order, IKeyring keys)
    {
        _epochs = epochs;
        _keys = keys;
        _order = order;
        _chainContext = epochs.Current;
        _prepares = new VoteTally(CertificateKind.Prepare, _chainContext.Validators);
        _commits = new VoteTally(CertificateKind.Commit, _chainContext.Validators);
        _viewChanges = new ViewChangeBook(_chainContext);
        ParametersHash = Parameters.Hash();
        (_me, _signer) = FindMe();
        _pacemaker = new Pacemaker(Parameters);
        _held = new HeldBlocks(8 * Parameters.Window);
        _early = new EarlyMessages(2 * Parameters.Window + 2);
        _committed = _tip = genesis;
        _committedProof = _best = QuorumCertificate.ForGenesis(genesis.Digest);
        _recent[0] = genesis.Digest;
    }

    private ChainParameters Parameters => _chainContext.Parameters;

    /// <summary>Of those in force; worked out once an epoch.</summary>
    public Digest ParametersHash { get; private set; }

    private (ValidatorIndex, MessageSigner?) FindMe()
    {
        foreach (var index in _chainContext.Validators.Indices)
            if (_keys.Find(_chainContext.Validators[index].ConsensusKey) is { } key)
                return (index, new MessageSigner(_chainContext, index, key));
        return (ValidatorIndex.None, null);
    }

    /// <summary>This validator's place in the present set; <see cref="ValidatorIndex.None"/> when it has none.</summary>
    public ValidatorIndex Me => _me;

    private MessageSigner Signer => _signer ?? throw new InvariantViolation("only a member of the set signs");

    public View View => _view;

    public bool IsChangingView => _changing;

    public ValidatorIndex Leader => _order.Leader(_view.Attempt);

    /// <summary>
    /// The last block of the term is committed. Nothing more happens in this term; the owner executes and stores it and then calls
    /// <see cref="EnterTerm"/> (rule L5).
    /// </summary>
    public bool TermIsComplete => _committed.Height >= Parameters.LastHeight(_view.Term);

    public Block Committed => _committed;

    public QuorumCertificate CommittedProof => _committedProof;

    public Block Tip => _tip;

    /// <summary>Accepted blocks above the committed one, lowest first.</summary>
    public IEnumerable<Block> Accepted => _chain.Values;

    /// <summary>Digest of the NEW-VIEW the current view was entered with; zero for the first view.</summary>
    public Digest NewViewDigest => _newView is null ? default : Statements.NewViewDigest(_newView.Claims, _newView.Best);

    /// <summary>A commit certificate for a block beyond those held: the signal to catch up.</summary>
    public QuorumCertificate? Ahead => _ahead;

    /// <summary>Is this an uncommitted block whose bodies must be kept?</summary>
    public bool TryFindHeld(Digest block, [NotNullWhen(true)] out Block? held) => _held.TryFind(block, out held);

    /// <summary>All of them.</summary>
    public IEnumerable<Block> Held => _held.All;

    /// <summary>Set by the owner before each step: is anything waiting to be ordered?</summary>
    public bool WorkWaiting { get; set; }

    /// <summary>Set by the owner: validators this one is connected to, itself not counted.</summary>
    public int ConnectedPeers { get; set; } = int.MaxValue - 1;

    /// <summary>What is kept because of others, with the bound of each (protocol section 16, invariant I7).</summary>
    public IEnumerable<(string Name, int Size, int Bound)> Sizes
    {
        get
        {
            var window = Parameters.Window;
            yield return ("held blocks", _held.Count, 8 * window);
            yield return ("proposals", _proposals.Count, 2 * window);
            yield return ("heights with prepares", _prepares.Count, 2 * window);
            yield return ("heights with commits", _commits.Count, 2 * window);
            yield return ("early messages", _early.Count, NextEpoch.Validators.Places * (2 * window + 2));
            yield return ("accepted blocks", _chain.Count, 8 * window);
            yield return ("checkpoint votes", _checkpoints.Count, 2 * NextEpoch.Validators.Places);
            yield return ("recent digests", _recent.Count, 4 * window + 1);
        }
    }

    public void Receive(PeerMessage.Signed message, Timestamp now, Outbox outbox)
    {
        switch (message)
        {
            case PeerMessage.PrePrepare m:
                OnPrePrepare(m, now, outbox);
                break;
            case PeerMessage.Prepare m:
                if (m.View > _view) _early.Keep(m, m.View);
                else if (m.View == _view) OnVote(_prepares, StatementType.Prepare, m.Sender, m.Height, m.Digest, m.Signature, now, outbox);
                break;
            case PeerMessage.Commit m:
                if (m.View > _view) _early.Keep(m, m.View);
                else if (m.View == _view) OnVote(_commits, StatementType.Commit, m.Sender, m.Height, m.Digest, m.Signature, now, outbox);
                break;
            case PeerMessage.Suspect m:
                OnSuspect(m, now, outbox);
                break;
            case PeerMessage.Checkpoint m:
                OnCheckpoint(m, now, outbox);
                break;
            case PeerMessage.Handover m:
                if (m.View == _view && m.Sender == Leader && !_changing)
                    StartViewChange(_view.Next, "leader handed over", new Justification(_view, [], new SignedHandover(m.Sender, m.Signature)), outbox);
                break;
            case PeerMessage.ViewChange m:
                OnViewChange(m, now, outbox);
                break;
            case PeerMessage.NewView m:
                OnNewView(m, now, outbox);
                break;
            case PeerMessage.Heartbeat m:
                OnHeartbeat(m, now, outbox);
                break;
            case PeerMessage.Status m:
                OnStatus(m, now, outbox);
                break;
            default:
                throw Invariant.Unreachable(message);
        }
    }

    // ---- Normal case (protocol §5) ----------------------------------------------------------------------------

    private void OnPrePrepare(PeerMessage.PrePrepare m, Timestamp now, Outbox outbox)
    {
        var header = m.Block.Header;
        if (m.Block.Seal is { } seal) OnCommitCertificate(seal, now, outbox);
        if (header.View > _view)
        {
            _early.Keep(m, header.View);
            return;
        }

        if (header.View < _view || _changing || m.Sender != Leader) return;
        _pacemaker.LeaderHeard(now);
        if (header.Height <= _committed.Height || header.Height > _committed.Height.Plus(2UL * (ulong)Parameters.Window)) return;
        if (_proposals.TryGetValue(header.Height.Value, out var first))
        {
            if (first.Block.Digest == m.Block.Digest) return;
            // Two proposals for one height prove the fault; spreading both makes every honest validator see it.
            if (_equivocated) return;
            _equivocated = true;
            _accusations.Add(m.Sender, SignedVotes.Of(first), SignedVotes.Of(m));
            outbox.Notices.Add(new Notice.Equivocation(m.Sender, StatementType.PrePrepare, _view, header.Height));
            outbox.Broadcast(first);
            outbox.Broadcast(m);
            Suspect(SuspectReason.Equivocation, now, outbox);
            return;
        }

        _proposals[header.Height.Value] = m;
        _proposedAt[header.Height.Value] = now;
    }

    /// <summary>
    /// The next block of the current view that passed every check consensus can make, for the owner to check its content. Null
    /// when there is none or its time is not yet acceptable.
    /// </summary>
    public Block? NextCandidate(Timestamp now, Outbox outbox)
    {
        if (_changing || !MayVote || MissedView || !_proposals.TryGetValue(_tip.Height.Value + 1, out var proposal)) return null;
        if (_tip.Height.Value - _committed.Height.Value >= (ulong)Parameters.Window) return null;
        var block = proposal.Block;
        // Rule D3: on another branch than the one voted for in this view there is nothing to accept.
        if (VotedAlready is { } voted && voted.Height == block.Height && voted.Digest != block.Digest) return null;
        if (ProposalProblem(block) is { } problem)
        {
            Refuse(block, problem, now, outbox);
            return null;
        }

        // Rule N4: the only look at the local clock: failing it means "I do not vote now", never "invalid".
        var time = block.Header.Time;
        var latest = now.PlusMs(Parameters.LeaderSkewAheadMs);
        var afterParent = _tip.Header.Time.PlusMs(1);
        if (time > (latest > afterParent ? latest : afterParent) || time < now.PlusMs(-Parameters.LeaderSkewBehindMs)) return null;
        return block;
    }

    /// <summary>What is in force in the present term.</summary>
    public ChainContext Epoch => _chainContext;

    /// <summary>What is in force in the next term: decided before the present one began (rule S3).</summary>
    public ChainContext NextEpoch => _epochs.Decided(_view.Term + 1);

    /// <summary>Rules N1, N2, N3 and N8. Each fails for every honest validator or for none.</summary>
    private string? ProposalProblem(Block block)
    {
        var header = block.Header;
        if (header.Proposer != Leader) return "proposer is not the leader of the view";
        if (header.Height > Parameters.LastHeight(_view.Term)) return "the height is beyond the term";
        if (header.Parent != _tip.Digest) return "parent is not the block accepted before it";
        if (header.Time <= _tip.Header.Time) return "block time is not above the parent's";
        if (header.ChainId != _chainContext.ChainId || header.Epoch != _chainContext.Epoch) return "chain or epoch is another one";
        if (header.ValidatorsHash != _chainContext.Validators.Hash()) return "validator set hash is wrong";
        // Rule S3: the set of this term signs who leads the next one.
        if (header.NextValidatorsHash != NextEpoch.Validators.Hash()) return "hash of the next validator set is wrong";
        if (header.ParametersHash != ParametersHash) return "parameters hash is wrong";
        if (header.AppVersion != _chainContext.AppVersion) return "application version is not the agreed one";
        if (header.NewViewDigest != NewViewDigest) return "the block belongs to another NEW-VIEW";
        return SealProblem(block);
    }

    /// <summary>Rule N8: the seal commits an ancestor at most W below; only the first W blocks of the chain may go without.</summary>
    private string? SealProblem(Block block)
    {
        if (block.Seal is not { } seal)
            return block.Height.Value > (ulong)Parameters.Window ? "the seal is missing" : null;
        if (seal.Kind != CertificateKind.Commit || seal.Height >= block.Height || seal.Height.Value + (ulong)Parameters.Window < block.Height.Value)
            return "the seal is not a commit certificate of an ancestor within the window";
        var ancestor = _chain.TryGetValue(seal.Height.Value, out var accepted) ? accepted.Digest : _recent.GetValueOrDefault(seal.Height.Value);
        return ancestor == seal.Digest ? null : "the seal is for a block of another branch";
    }

    /// <summary>The owner found the candidate's content valid and holds every body: vote for it.</summary>
    public void Accept(BlockWithBodies candidate, Timestamp now, Outbox outbox)
    {
        var block = candidate.Block;
        Invariant.Holds(!_changing && block.Header.Parent == _tip.Digest, "a vote is for a child of the tip (rule N2)");
        Append(block);
        if (!_held.TryFind(block.Digest, out _)) Hold(candidate, outbox);
        VotePrepare(block, outbox);
        ReviewVotes(block.Height, now, outbox);
    }

    /// <summary>Rule T8: the oldest transaction of an accepted block was admitted here at this time. Of full blocks nothing is said: with more than fits, somebody waits.</summary>
    public void ReviewDelay(Block block, Timestamp waitsSince, Timestamp now, Outbox outbox)
    {
        if (_changing || _view.Attempt > 0 || Leader == _me || block.Header.IsHalfFull(Parameters) || !_pacemaker.TryMeasure(out var agreementMs)) return;
        if (_delay.Proposed(now.Since(waitsSince), _delay.AllowedMs(agreementMs, Parameters), now)) Suspect(SuspectReason.Slow, now, outbox);
    }

    /// <summary>The owner found the candidate's content invalid.</summary>
    public void Refuse(Block block, string reason, Timestamp now, Outbox outbox)
    {
        if (IsProven(_suspicion)) return;
        outbox.Notices.Add(new Notice.ProposalRefused(Leader, block.Height, reason));
        Suspect(SuspectReason.InvalidProposal, now, outbox);
    }

    private void Append(Block block)
    {
        _chain[block.Height.Value] = block;
        _tip = block;
    }

    private void Hold(BlockWithBodies block, Outbox outbox)
    {
        outbox.Records.Add(new DurableRecord.BlockHeld(block));
        _held.Add(block.Block, held => _chain.TryGetValue(held.Height.Value, out var own) && own.Digest == held.Digest);
    }

    /// <summary>The last PREPARE of the current view. After a restart the accepted chain can be shorter: blocks that came by catching up were not stored yet.</summary>
    private Guard.Vote? VotedAlready => _guard.Prepared is { } vote && vote.View == _view ? vote : null;

    /// <summary>Rule D3: up to the last vote of the view, which speaks for its ancestors, nothing is voted for again; the vote itself is repeated.</summary>
    private void VotePrepare(Block block, Outbox outbox)
    {
        if (VotedAlready is { } voted && voted.Height >= block.Height)
        {
            if (voted.Digest == block.Digest) outbox.Broadcast(Signer.Prepare(_view, block.Height, block.Digest));
            return;
        }

        _guard.Prepare(new Guard.Vote(_view, block.Height, block.Digest));
        _votedSinceStart = true;
        outbox.Records.Add(new DurableRecord.PrepareVote(_view, block.Height, block.Digest));
        outbox.Broadcast(Signer.Prepare(_view, block.Height, block.Digest));
    }

    private void OnVote(
        VoteTally tally, StatementType type, ValidatorIndex sender, Height height, Digest digest, Signature signature, Timestamp now, Outbox outbox)
    {
        if (height <= _committed.Height || height > _committed.Height.Plus(2UL * (ulong)Parameters.Window)) return;
        switch (tally.Add(sender, height, digest, signature))
        {
            case VoteTally.Outcome.Conflicting:
                var (other, otherSignature) = tally.Find(sender, height)!.Value;
                _accusations.Add(
                    sender, new SignedVote(type, _view, height, other, default, otherSignature), new SignedVote(type, _view, height, digest, default, signature));
                outbox.Notices.Add(new Notice.Equivocation(sender, type, _view, height));
                break;
            case VoteTally.Outcome.Added:
                ReviewVotes(height, now, outbox);
                break;
            case VoteTally.Outcome.Known:
                break;
        }
    }

    private void ReviewVotes(Height height, Timestamp now, Outbox outbox)
    {
        if (!_changing && MayVote && _chain.TryGetValue(height.Value, out var block) && !HasCommitted(height)
            && _prepares.TryCertify(_chainContext.Epoch, _view, height, block.Digest) is { } prepared)
            VoteCommit(block, prepared, outbox);
        // A commit quorum may be for a block this replica never accepted: it still commits, once the block is fetched.
        if (_commits.QuorumDigest(height) is { } digest
            && _commits.TryCertify(_chainContext.Epoch, _view, height, digest) is { } committed)
            OnCommitCertificate(committed, now, outbox);
    }

    /// <summary>COMMIT is cumulative, so a lower height may be skipped but never come later (rule N6).</summary>
    private bool HasCommitted(Height height) => _guard.Committed is { } last && last.View == _view && last.Height >= height;

    private void VoteCommit(Block block, QuorumCertificate prepared, Outbox outbox)
    {
        RaiseBest(prepared);
        _guard.Commit(new Guard.Vote(_view, block.Height, block.Digest));
        outbox.Records.Add(new DurableRecord.CommitVote(_view, block.Height, block.Digest, prepared));
        outbox.Broadcast(Signer.Commit(_view, block.Height, block.Digest));
    }

    /// <summary>A commit certificate of any view commits its block and every ancestor (rule N7).</summary>
    private void OnCommitCertificate(QuorumCertificate certificate, Timestamp now, Outbox outbox)
    {
        LookForForgottenVotes(certificate, outbox);
        if (_recent.TryGetValue(certificate.Height.Value, out var mine) && mine != certificate.Digest) Contradict(new Branch([], certificate));
        if (certificate.Height <= _committed.Height) return;
        // Rule L5: blocks of a later term can be held here already when they were lost as committed ones.
        if (certificate.Height <= Parameters.LastHeight(_view.Term) && _held.Path(_committed, certificate.Digest) is { } path)
        {
            RaiseBest(certificate);
            Commit(path, certificate, now);
            ReviewThroughput(path, now, outbox);
        }
        else if (_ahead is null || certificate.Height > _ahead.Height)
        {
            _ahead = certificate;
        }
    }

    /// <summary>
    /// Blocks fetched from a peer, linked to the committed one and ending in the certified block; the owner has checked that and
    /// every body. They are committed as they come.
    /// </summary>
    public void CatchUp(IReadOnlyList<Block> blocks, QuorumCertificate certificate, Timestamp now, Outbox outbox)
    {
        if (blocks.Count == 0 || certificate.Height <= _committed.Height) return;
        Invariant.Holds(blocks[0].Header.Parent == _committed.Digest && blocks[^1].Digest == certificate.Digest, "catch-up continues the chain");
        _caughtUpAt = now;
        outbox.Notices.Add(new Notice.CaughtUp(blocks[0].Height, blocks[^1].Height));
        foreach (var block in blocks)
            if (block.Seal is { } seal)
                LookForForgottenVotes(seal, outbox);
        LookForForgottenVotes(certificate, outbox);
        RaiseBest(certificate);
        Commit(blocks, certificate, now);
    }

    private void Commit(IReadOnlyList<Block> blocks, QuorumCertificate certificate, Timestamp now)
    {
        foreach (var block in blocks)
        {
            _decisions.Enqueue(new Decision(block, block.Height == certificate.Height ? certificate : null));
            _recent[block.Height.Value] = block.Digest;
            if (_proposedAt.Remove(block.Height.Value, out var at) && block.Header.Proposer != _me && block.Header.View == _view)
                _pacemaker.Measured(now.Since(at));
        }

        var last = blocks[^1];
        var wasOnChain = _chain.TryGetValue(last.Height.Value, out var own) && own.Digest == last.Digest;
        _committed = last;
        _committedProof = certificate;
        if (!wasOnChain) _chain.Clear();
        DropUpTo(last.Height);
        if (!wasOnChain) _tip = last;
        if (_ahead is { } ahead && ahead.Height <= last.Height) _ahead = null;
        if (certificate.View == _view) _productiveAttempt = _view.Attempt;
        if (_suspicion is SuspectReason.NoProgress or SuspectReason.Silent) _suspicion = null;
        _pacemaker.Committed(now);
    }

    /// <summary>Rule T6. Only the first leader of a term is judged: after a view change the network may be the cause.</summary>
    private void ReviewThroughput(List<Block> committed, Timestamp now, Outbox outbox)
    {
        foreach (var block in committed)
        {
            if (_changing || _view.Attempt > 0 || Leader == _me || block.Header.View != _view) continue;
            if (_demand.Committed(block.Header.TransactionCount, WorkWaiting, now)) Suspect(SuspectReason.Slow, now, outbox);
        }
    }

    private void DropUpTo(Height height)
    {
        _held.DropUpTo(height);
        _prepares.DropUpTo(height);
        _commits.DropUpTo(height);
        RemoveUpTo(_chain, height);
        RemoveUpTo(_own, height);
        RemoveUpTo(_proposals, height);
        RemoveUpTo(_proposedAt, height);
        if (height.Value > 4UL * (ulong)Parameters.Window) RemoveUpTo(_recent, height.Minus(4UL * (ulong)Parameters.Window));
    }

    private static void RemoveUpTo<T>(SortedDictionary<ulong, T> map, Height height)
    {
        var drop = new List<ulong>();
        foreach (var entry in map)
        {
            if (entry.Key > height.Value) break;
            drop.Add(entry.Key);
        }

        foreach (var key in drop) map.Remove(key);
    }

    public bool TryTakeDecision(out Decision? decision) => _decisions.TryDequeue(out decision);

    private void RaiseBest(QuorumCertificate certificate)
    {
        if (certificate.Rank > _best.Rank) _best = certificate;
    }

    // ---- Proposing --------------------------------------------------------------------------------------------

    /// <summary>The own proposals of this view above the committed block, lowest first; the last ones may not be accepted yet.</summary>
    public IEnumerable<Block> OwnProposals => _own.Values;

    /// <summary>The block a proposal of this replica would build on: its last proposal, as far as the blocks below it are known, or the tip.</summary>
    public Block ProposalParent
    {
        get
        {
            var parent = _tip;
            foreach (var own in _own.Values)
                if (own.Header.Parent == parent.Digest)
                    parent = own;
            return parent;
        }
    }

    /// <summary>
    /// Leads an active view and has a free slot in the window. With a certified block ahead nothing below it can be decided any more: a validator that lost its votes
    /// would only sign anew what it will find in the blocks that it is fetching (rule A3).
    /// </summary>
    public bool CanPropose =>
        !_changing && MayVote && !MissedView && _ahead is null && !MayHaveForgotten && Leader == _me && !HasProposedAbove && ProposalParent.Height < Parameters.LastHeight(_view.Term)
        && ProposalParent.Height.Value - _committed.Height.Value < (ulong)Parameters.Window;

    /// <summary>
    /// It has fetched blocks just now and has not voted since it started: it may be on its way to blocks that hold forgotten votes, and lead only in the past (rule A3). A resend period
    /// is long enough for the next ones, and costs nothing where there are none.
    /// </summary>
    private bool MayHaveForgotten => !_votedSinceStart && _caughtUpAt is not null;

    /// <summary>What this replica has proposed in this view is not known here any more (rule A5); others have it.</summary>
    private bool HasProposedAbove => _guard.Proposed is { } own && own.View == _view && own.Height > ProposalParent.Height;

    /// <summary>The chain has gone on in a view this replica has not entered yet; in its own view nothing can be decided any more (rule N10).</summary>
    private bool MissedView => _tip.Header.View > _view;

    /// <summary>True when nothing proposed or accepted waits for its commit.</summary>
    public bool NothingInFlight => ProposalParent.Height == _committed.Height;

    /// <summary>It is a candidate here at once, so that the leader's PREPARE becomes durable and leaves together with its proposal.</summary>
    public void Propose(Block block, Timestamp now, Outbox outbox)
    {
        Invariant.Holds(CanPropose && block.Header.Parent == ProposalParent.Digest, "a proposal extends the last one");
        _guard.Propose(new Guard.Vote(_view, block.Height, block.Digest));
        _own[block.Height.Value] = block;
        outbox.Records.Add(new DurableRecord.Proposed(block));
        var proposal = Signer.PrePrepare(block);
        outbox.Broadcast(proposal);
        if (_proposals.TryAdd(block.Height.Value, proposal)) _proposedAt[block.Height.Value] = now;
    }

    // ---- Leaving a view (protocol §7) -------------------------------------------------------------------------

    /// <summary>Suspect the leader but keep voting: only f+1 suspicions end a view (rule V2).</summary>
    public void Suspect(SuspectReason reason, Timestamp now, Outbox outbox)
    {
        if (!MayVote) return;
        // A proven fault stays the reason until the view ends; a mere suspicion gives way to it.
        if (_changing || IsProven(_suspicion) || (_suspicion is not null && !IsProven(reason))) return;
        _suspicion = reason;
        outbox.Notices.Add(new Notice.Suspected(_view, reason));
        outbox.Broadcast(Signer.Suspect(_view, reason));
        _resendAt = now.PlusMs(Parameters.ResendMs);
    }

    private static bool IsProven(SuspectReason? reason) => reason is SuspectReason.Equivocation or SuspectReason.InvalidProposal;

    /// <summary>The reason has gone away before enough others shared it: stop repeating it.</summary>
    public void Unsuspect(SuspectReason reason)
    {
        if (_suspicion == reason) _suspicion = null;
    }

    private void OnSuspect(PeerMessage.Suspect m, Timestamp now, Outbox outbox)
    {
        if (m.View != _view || _changing) return;
        var suspicions = _viewChanges.Suspect(new SignedSuspicion(m.Sender, m.Reason, m.Signature), now);
        if (suspicions.Length < _chainContext.Validators.OneHonest) return;
        StartViewChange(_view.Next, "suspected: " + Name(m.Reason), new Justification(_view, suspicions, null), outbox);
    }

    private static string Name(SuspectReason reason) => reason switch
    {
        SuspectReason.NoProgress => "no progress",
        SuspectReason.Silent => "silent",
        SuspectReason.Censorship => "censorship",
        SuspectReason.InvalidProposal => "invalid proposal",
        SuspectReason.Equivocation => "equivocation",
        SuspectReason.Slow => "slow",
    };

    private void StartViewChange(View target, string reason, Justification justification, Outbox outbox)
    {
        if (target <= _view || (_changing && target <= _target) || TermIsComplete || !MayVote) return;
        // A certificate of that view or a later one exists: a quorum is there already, and what is missing here is its NEW-VIEW.
        if (target <= _best.View) return;
        _changing = true;
        _target = target;
        _suspicion = null;
        _guard.ChangeView(target);
        if (_pendingNewView is { } pending && pending.View < target) _pendingNewView = null;
        outbox.Records.Add(new DurableRecord.ViewChangeSent(target));
        _sentViewChange = Signer.ViewChange(target, _best, _committed.Height, justification);
        outbox.Broadcast(_sentViewChange);
        _pacemaker.LeaveView(AttemptsSinceProgress(target));
        var suspectedBy = ImmutableArray.CreateBuilder<ValidatorIndex>();
        foreach (var suspicion in justification.Suspicions) suspectedBy.Add(suspicion.Sender);
        outbox.Notices.Add(new Notice.ViewChangeStarted(target, reason, suspectedBy.ToImmutable()));
    }

    private uint AttemptsSinceProgress(View view) => view.Attempt > _productiveAttempt ? view.Attempt - _productiveAttempt : 0;

    private void OnViewChange(PeerMessage.ViewChange m, Timestamp now, Outbox outbox)
    {
        if (m.View <= _view || m.View.Term != _view.Term || TermIsComplete)
        {
            if (m.Sender != _me && m.View.Term <= _view.Term && MayAnswer(m.Sender, now))
            {
                if (_newView is not null && m.View.Term == _view.Term) outbox.Send(m.Sender, _newView);
                if (m.Claim.Committed < _committed.Height) SayStatus(m.Sender, StatusKind.Answer, outbox);
            }

            return;
        }

        LookForForgottenVotes(m.Best, outbox);
        LookForDeniedVotes(m.View, new SignedClaim(m.Sender, m.Claim, m.Signature));
        _viewChanges.Keep(m);
        // Leaving is contagious when it is justified, so a Byzantine minority cannot pull one replica out alone (rule V3).
        if (!_changing && m.Justification.LeftView == _view && Justifies(m.Justification))
            StartViewChange(_view.Next, "followed " + _epochs.Name(m.Sender), m.Justification, outbox);
        var current = _changing ? _target : _view;
        if (_viewChanges.JoinTarget(current) is { } join)
            StartViewChange(join, "f+1 validators are ahead", Justification.None, outbox);
        ReviewViewChanges(now, outbox);
    }

    /// <summary>A certified branch without a block that is committed here: more than f validators lied, and nothing can be trusted any more (rule F1).</summary>
    public Branch? Contradiction => _contradiction;

    /// <summary>The branch has been checked: its certificate is genuine and its headers lead to it.</summary>
    public void Contradict(Branch other)
    {
        if (_contradiction is not null) return;
        _contradiction = other;
        // The views between the two branches were opened by claims that deny one of them.
        if (_newView is { } entered && other.Certificate.Kind == CertificateKind.Commit)
            foreach (var claim in entered.Claims)
                foreach (var (signer, signature) in other.Certificate.Signatures)
                    if (signer == claim.Sender)
                        _accusations.Add(signer, new SignedVote(
                            StatementType.Commit, other.Certificate.View, other.Certificate.Height, other.Certificate.Digest, default, signature), SignedVotes.Of(entered.View, claim));
    }

    /// <summary>The next contradiction found in what somebody signed (rule E1).</summary>
    public bool TryTakeAccusation([NotNullWhen(true)] out Misbehaviour? proof) => _accusations.TryTake(out proof);

    /// <summary>A claim below a COMMIT of the same validator that this replica holds, alone or in a certificate.</summary>
    private void LookForDeniedVotes(View view, SignedClaim signed)
    {
        if (view.Term != _view.Term) return;
        var claim = SignedVotes.Of(view, signed);
        foreach (var (signer, signature) in _committedProof.Signatures)
            if (signer == signed.Sender)
                _accusations.Add(signer, new SignedVote(StatementType.Commit, _committedProof.View, _committedProof.Height, _committedProof.Digest, default, signature), claim);
        for (var height = _committed.Height.Next; height <= _tip.Height; height = height.Next)
            if (_commits.Find(signed.Sender, height) is { } vote)
                _accusations.Add(signed.Sender, new SignedVote(StatementType.Commit, _view, height, vote.Digest, default, vote.Signature), claim);
    }

    private bool Justifies(Justification justification) =>
        justification.Handover?.Sender == Leader || justification.Suspicions.Length >= _chainContext.Validators.OneHonest;

    private void ReviewViewChanges(Timestamp now, Outbox outbox)
    {
        if (!_changing) return;
        // Whoever has moved on wanted this view too and will not say so again: without counting it, the last ones would wait for ever.
        if (_viewChanges.CountFrom(_target) < _chainContext.Validators.Quorum) return;
        _pacemaker.AwaitNewView(now);
        var messages = _viewChanges.For(_target);
        if (messages.Length < _chainContext.Validators.Quorum) return;
        if (_order.Leader(_target.Attempt) == _me) SendNewView(messages, outbox);
    }

    private void SendNewView(ImmutableArray<PeerMessage.ViewChange> messages, Outbox outbox)
    {
        if (_sentNewView?.View == _target) return;
        var best = messages[0].Best;
        var claims = ImmutableArray.CreateBuilder<SignedClaim>();
        for (var i = 0; i < _chainContext.Validators.Quorum; i++)
        {
            claims.Add(new SignedClaim(messages[i].Sender, messages[i].Claim, messages[i].Signature));
            if (messages[i].Best.Rank > best.Rank) best = messages[i].Best;
        }

        // The leader must be able to serve the block it makes everyone build on.
        if (MissingBlock(best) is not null)
        {
            _wantedBase = best;
            return;
        }

        _sentNewView = Signer.NewView(_target, claims.ToImmutable(), best);
        outbox.Records.Add(new DurableRecord.NewViewSent(_sentNewView));
        outbox.Broadcast(_sentNewView);
    }

    /// <summary>The uncommitted block needed next to enter or open a view, or null. The owner fetches it and calls <see cref="Supply"/>.</summary>
    public Digest? WantedBlock
    {
        get
        {
            if (_pendingNewView is { } pending && MissingBlock(pending.Best) is { } missing) return missing;
            return _changing && _wantedBase is { } wanted ? MissingBlock(wanted) : null;
        }
    }

    private Digest? MissingBlock(QuorumCertificate certificate) =>
        _held.FirstMissing(certificate.Digest, certificate.Height, _committed.Height);

    /// <summary>A block asked for with <see cref="WantedBlock"/>; its digest matches and every body is valid.</summary>
    public void Supply(BlockWithBodies block, Timestamp now, Outbox outbox)
    {
        if (block.Block.Digest != WantedBlock) return;
        Hold(block, outbox);
        TryEnterView(now, outbox);
        ReviewViewChanges(now, outbox);
    }

    private void OnNewView(PeerMessage.NewView m, Timestamp now, Outbox outbox)
    {
        foreach (var other in (ReadOnlySpan<PeerMessage.NewView?>)[_newView, _pendingNewView])
            if (other is not null && other.View == m.View && other.Sender == m.Sender)
                _accusations.Add(m.Sender, SignedVotes.Of(other), SignedVotes.Of(m));
        foreach (var claim in m.Claims) LookForDeniedVotes(m.View, claim);
        if (m.View.Term != _view.Term || m.View <= _view || (_changing && m.View < _target) || TermIsComplete) return;
        if (m.Sender != _order.Leader(m.View.Attempt)) return;
        if (_pendingNewView is { } pending && pending.View >= m.View) return;
        _pendingNewView = m;
        TryEnterView(now, outbox);
    }

    /// <summary>Enters the view of the pending NEW-VIEW once its base and all uncommitted ancestors are held (rule V5).</summary>
    private void TryEnterView(Timestamp now, Outbox outbox)
    {
        if (_pendingNewView is not { } message || MissingBlock(message.Best) is not null) return;
        var best = message.Best;
        var path = new List<Block>();
        if (best.Height > _committed.Height)
        {
            if (_held.Path(_committed, best.Digest) is not { } found)
            {
                Contradict(new Branch(_held.HeadersDownTo(best.Digest, _committed.Height), best));
                return;
            }

            path = found;
        }

        outbox.Records.Add(new DurableRecord.ViewEntered(message));
        SetView(message, path);
        RaiseBest(best);
        _pacemaker.EnterView(AttemptsSinceProgress(_view), now);
        _heartbeatAt = now;
        outbox.Notices.Add(new Notice.ViewEntered(_view, Leader, _tip.Height, "new view"));
        // Re-prepare the tip itself, never the lower heights: they are implied, and separate votes for them fork (rule V6).
        if (best.Kind == CertificateKind.Prepare && path.Count > 0 && MayVote) VotePrepare(_tip, outbox);
        if (best.Kind == CertificateKind.Commit) OnCommitCertificate(best, now, outbox);
        foreach (var early in _early.TakeFor(_view)) Receive(early, now, outbox);
    }

    private void SetView(PeerMessage.NewView message, List<Block> path)
    {
        _newView = message;
        ResetView(message.View);
        foreach (var block in path) Append(block);
    }

    private void ResetView(View view)
    {
        _view = view;
        _changing = false;
        _suspicion = null;
        _equivocated = false;
        _pendingNewView = null;
        _wantedBase = null;
        _chain.Clear();
        _proposals.Clear();
        _proposedAt.Clear();
        _own.Clear();
        _prepares.Clear();
        _commits.Clear();
        _viewChanges.Enter(_view);
        _tip = _committed;
    }

    /// <summary>
    /// Begins the term after the one whose last block is committed. The owner has executed that block and made it durable, so a vote
    /// of the new term never outlives the block it rests on (rule L5).
    /// </summary>
    public void EnterTerm(LeaderOrder order, Timestamp now, Outbox outbox)
    {
        StartTerm(order);
        _pacemaker.EnterTerm(Parameters, now);
        _demand.EnterTerm();
        _delay.EnterTerm();
        _accusations.Clear();
        _answeredAt.Clear();
        _heartbeatAt = now;
        outbox.Notices.Add(new Notice.ViewEntered(_view, Leader, _tip.Height, "new term"));
        if (_chainContext.Epoch != _lastEpoch)
        {
            _lastEpoch = _chainContext.Epoch;
            outbox.Notices.Add(new Notice.EpochEntered(_chainContext));
            // Rule S6: others can tell only of terms in which they had a vote.
            if (_answered is not null || _view.Term < _voteFromTerm) Quarantine("the validator set changed while this validator did not vote", outbox);
        }

        ReturnToSignedView();
        if (_changing && MayVote)
        {
            _pacemaker.LeaveView(AttemptsSinceProgress(_target));
            RepeatViewChange(outbox);
        }

        foreach (var early in _early.TakeFor(_view)) Receive(early, now, outbox);
    }

    private void StartTerm(LeaderOrder order)
    {
        Invariant.Holds(_committed.Height == Parameters.LastHeight(_view.Term), "a term begins after the last block of the one before");
        _order = order;
        _newView = null;
        ForgetNewViewBelow(_view.Term + 1);
        _sentViewChange = null;
        _productiveAttempt = 0;
        _epochs.Enter(_view.Term + 1);
        if (_epochs.Current.Epoch != _chainContext.Epoch) EnterEpoch(_epochs.Current);
        ResetView(new View(_view.Term + 1, 0));
    }

    private void EnterEpoch(ChainContext epoch)
    {
        _chainContext = epoch;
        _prepares = new VoteTally(CertificateKind.Prepare, epoch.Validators);
        _commits = new VoteTally(CertificateKind.Commit, epoch.Validators);
        _viewChanges = new ViewChangeBook(epoch);
        ParametersHash = Parameters.Hash();
        (_me, _signer) = FindMe();
    }

    // ---- Checkpoints (protocol §10) ---------------------------------------------------------------------------

    public bool TryTakeStable([NotNullWhen(true)] out CheckpointCertificate? certificate) => _newlyStable.TryDequeue(out certificate);

    /// <summary>The last stable checkpoint known.</summary>
    public CheckpointCertificate? Stable { get; private set; }

    /// <summary>The term is complete, and this is what the owner has after its last block (rule P1). Called before <see cref="EnterTerm"/>.</summary>
    public void TakeCheckpoint(Checkpoint checkpoint, Timestamp now, Outbox outbox)
    {
        Own = checkpoint;
        _checkpoints.DropBelow(checkpoint.Term);
        if (MayVote && !IsSigned(checkpoint.Term))
        {
            _signedCheckpoint = checkpoint;
            outbox.Records.Add(new DurableRecord.CheckpointSent(checkpoint));
        }

        // After a restart the same is said again; with other roots than were signed before, nothing is.
        _ownCheckpoint = MayVote && _signedCheckpoint == checkpoint ? Signer.Checkpoint(checkpoint) : null;
        if (_ownCheckpoint is not null) outbox.Broadcast(_ownCheckpoint);
        // The others were faster: what proves the snapshot that was taken just now is here already.
        if (Stable is { } stable && stable.Checkpoint == checkpoint) _newlyStable.Enqueue(stable);
        ReviewCheckpoint(checkpoint.Term, outbox);
    }

    private bool IsSigned(ulong term) => _signedCheckpoint is { } signed && signed.Term >= term;

    /// <summary>What the owner has computed for the last term that ended here.</summary>
    public Checkpoint? Own { get; private set; }

    private void OnCheckpoint(PeerMessage.Checkpoint m, Timestamp now, Outbox outbox)
    {
        var term = m.Content.Term;
        if (Stable is { } stable && term <= stable.Checkpoint.Term)
        {
            if (m.Sender != _me && MayAnswer(m.Sender, now)) outbox.Send(m.Sender, new PeerMessage.StableCheckpoint(stable));
            return;
        }

        if (term > _view.Term || term + 1 < _view.Term) return;
        if (_checkpoints.Add(m) is { } other) _accusations.Add(m.Sender, SignedVotes.Of(other), SignedVotes.Of(m));
        ReviewCheckpoint(term, outbox);
    }

    private void ReviewCheckpoint(ulong term, Outbox outbox)
    {
        if (_checkpoints.TryCertify(term, _epochs.Decided(term)) is { } certificate) Stabilise(certificate, outbox);
    }

    /// <summary>Q validators have signed the same; the certificate is genuine.</summary>
    public void Stabilise(CheckpointCertificate certificate, Outbox outbox)
    {
        if (Stable is { } before && certificate.Checkpoint.Term <= before.Checkpoint.Term) return;
        Stable = certificate;
        if (_ownCheckpoint is { } own && own.Content.Term <= certificate.Checkpoint.Term) _ownCheckpoint = null;
        _checkpoints.DropBelow(certificate.Checkpoint.Term + 1);
        _newlyStable.Enqueue(certificate);
        outbox.Notices.Add(new Notice.CheckpointStable(certificate.Checkpoint));
    }

    // ---- Time and retransmission (protocol §9) ----------------------------------------------------------------

    public void Tick(Timestamp now, Outbox outbox)
    {
        _pacemaker.Tick(now);
        if (_caughtUpAt is { } caughtUp && now.Since(caughtUp) >= Parameters.ResendMs) _caughtUpAt = null;
        // What was said while a peer was not there is lost to it, and what it said to us.
        if (ConnectedPeers > _knownPeers) SayStatus(null, StatusKind.Question, outbox);
        _knownPeers = ConnectedPeers;
        if (ConnectedPeers + 1 < _chainContext.Validators.Quorum || TermIsComplete)
        {
            _pacemaker.Suspend();
        }
        else if (_changing)
        {
            if (_pacemaker.NewViewExpired(now))
            {
                StartViewChange(_target.Next, "no NEW-VIEW in time", Justification.None, outbox);
            }

            ReviewViewChanges(now, outbox);
        }
        else
        {
            _pacemaker.Work(WorkWaiting || _tip.Height > _committed.Height || _proposals.Count > 0, now);
            if (_pacemaker.ProgressExpired(now) && _suspicion is null) Suspect(SuspectReason.NoProgress, now, outbox);
            if (_pacemaker.IdleExpired(now) && Leader != _me && _suspicion is null) Suspect(SuspectReason.Silent, now, outbox);
        }

        if (now >= _resendAt) Resend(now, outbox);
        if (!_changing && MayVote && Leader == _me && now >= _heartbeatAt)
        {
            _heartbeatAt = now.PlusMs(Parameters.IdleTimeoutMs / 5);
            outbox.Broadcast(Signer.Heartbeat(_view, _committedProof));
        }
    }

    private void Resend(Timestamp now, Outbox outbox)
    {
        _resendAt = now.PlusMs(Parameters.ResendMs);
        if (_changing && _sentViewChange is { } left) outbox.Broadcast(left);
        else if (_suspicion is { } reason) outbox.Broadcast(Signer.Suspect(_view, reason));
        var stuck = _changing || _best.View > _view || _suspicion is not null || _ahead is not null || _pendingNewView is not null
                    || (_tip.Height > _committed.Height && _committed.Height == _committedAtResend);
        if (!MayVote) SayStatus(null, StatusKind.Quarantined, outbox);
        else if (stuck) SayStatus(null, StatusKind.Question, outbox);
        if (_ownCheckpoint is { } checkpoint) outbox.Broadcast(checkpoint);
        _committedAtResend = _committed.Height;
    }

    private void OnHeartbeat(PeerMessage.Heartbeat m, Timestamp now, Outbox outbox)
    {
        OnCommitCertificate(m.Committed, now, outbox);
        if (m.View == _view && m.Sender == Leader)
        {
            _pacemaker.LeaderHeard(now);
            Unsuspect(SuspectReason.Silent);
        }

        // A leader of a view this replica has not entered: ask it for the NEW-VIEW.
        if (m.View > _view && m.Sender != _me && MayAnswer(m.Sender, now)) SayStatus(m.Sender, StatusKind.Question, outbox);
    }

    /// <summary>Gives the sender what it lacks: the view, the proposals, this replica's votes, the last commit certificate.</summary>
    private void OnStatus(PeerMessage.Status m, Timestamp now, Outbox outbox)
    {
        OnCommitCertificate(m.Committed, now, outbox);
        if (m.Best is { } best) LookForForgottenVotes(best, outbox);
        if (m.Sender == _me) return;
        if (m.Kind == StatusKind.Answer) NoteAnswer(m, outbox);
        if (_signer is null) return;
        if (m.Kind == StatusKind.Answer || !MayAnswer(m.Sender, now)) return;
        if (m.Kind == StatusKind.Quarantined && m.Committed.Height >= _committed.Height)
        {
            CloseTerm(now);
            SayStatus(m.Sender, StatusKind.Answer, outbox);
        }

        // The sender has proposals this replica missed: say so, and it sends them.
        if (m.View == _view && !_changing && m.Tip > _tip.Height) SayStatus(m.Sender, StatusKind.Question, outbox);
        if (m.View < _view && m.View.Term == _view.Term && _newView is not null) outbox.Send(m.Sender, _newView);
        if (_changing && _sentNewView?.View == _target) outbox.Send(m.Sender, _sentNewView);
        if (m.Committed.Height < _committed.Height) SayStatus(m.Sender, StatusKind.Answer, outbox);
        if (m.View != _view || _changing) return;
        foreach (var (height, proposal) in _proposals)
            if (height > m.Tip.Value)
                outbox.Send(m.Sender, proposal);
        if (_guard.Prepared is { } prepared && prepared.View == _view && prepared.Height > m.Committed.Height)
            outbox.Send(m.Sender, Signer.Prepare(_view, prepared.Height, prepared.Digest));
        if (_guard.Committed is { } committed && committed.View == _view && committed.Height > m.Committed.Height)
            outbox.Send(m.Sender, Signer.Commit(_view, committed.Height, committed.Digest));
    }

    /// <summary>To one, or to all. Nobody waits for a word of a process that is not of the set.</summary>
    private void SayStatus(ValidatorIndex? to, StatusKind kind, Outbox outbox)
    {
        if (_signer is null) return;
        var status = Signer.Status(_view, _tip.Height, kind, _committedProof, _best);
        if (to is { } peer) outbox.Send(peer, status);
        else outbox.Broadcast(status);
    }

    /// <summary>One answer per peer and resend period, so that nobody can make this replica talk without end.</summary>
    private bool MayAnswer(ValidatorIndex peer, Timestamp now)
    {
        if (_answeredAt.TryGetValue(peer, out var last) && now.Since(last) < Parameters.ResendMs / 2) return false;
        _answeredAt[peer] = now;
        return true;
    }

    /// <summary>A planned stop: a leader resigns instead of letting the others wait for a timer.</summary>
    public void HandOver(Outbox outbox)
    {
        if (!_changing && MayVote && Leader == _me && _chainContext.Validators.Count > 1) outbox.Broadcast(Signer.Handover(_view));
    }

    // ---- Amnesia (protocol §11) -------------------------------------------------------------------------------

    /// <summary>Knows what it has signed in this term. While false it follows the chain, serves others, and signs no vote (rules A1, A2, A5).</summary>
    public bool MayVote => _signer is not null && _answered is null && _view.Term >= _voteFromTerm && _view.Term >= _guard.View.Term;

    /// <summary>
    /// The record of own votes is lost or older than it was (rule A1). Votes matter only inside their term, and this validator can have
    /// voted in term T only after Q validators signed COMMITs in term T − 1. Any n − Q + f others contain an honest one of those, so the
    /// highest term t* among their certificates is at least T − 1, and from t* + 2 on nothing can have been forgotten.
    /// </summary>
    public void Quarantine(string why, Outbox outbox)
    {
        _answered = [];
        _highestTerm = 0;
        outbox.Records.Add(new DurableRecord.Quarantined());
        outbox.Notices.Add(new Notice.Quarantined(why));
    }

    private void NoteAnswer(PeerMessage.Status m, Outbox outbox)
    {
        if (_answered is null || !_chainContext.Validators.Contains(m.Sender)) return;
        _answered.Add(m.Sender);
        _highestTerm = Math.Max(_highestTerm, Math.Max(m.Committed.View.Term, m.Best?.View.Term ?? 0));
        var n = _chainContext.Validators.Count;
        if (_answered.Count < n - _chainContext.Validators.Quorum + Quorum.Faulty(n)) return;
        _answered = null;
        _voteFromTerm = Math.Max(_voteFromTerm, _highestTerm + 2);
        outbox.Records.Add(new DurableRecord.VoteFromTerm(_voteFromTerm));
        outbox.Notices.Add(new Notice.Abstaining(_voteFromTerm));
    }

    /// <summary>
    /// A certificate with a vote of this validator that it does not know of (rule A3): before its first vote since the start, its disk
    /// is an older one; later, another process signs with its key.
    /// </summary>
    private void LookForForgottenVotes(QuorumCertificate certificate, Outbox outbox)
    {
        if (!MayVote || certificate.Epoch != _chainContext.Epoch || certificate.View.Term < _voteFromTerm) return;
        var known = certificate.Kind == CertificateKind.Prepare ? _guard.Prepared : _guard.Committed;
        if (known is { } last && (last.View, last.Height).CompareTo((certificate.View, certificate.Height)) >= 0) return;
        foreach (var (signer, _) in certificate.Signatures)
        {
            if (signer != _me) continue;
            Invariant.Holds(!_votedSinceStart, "another process signs with this validator's key");
            Quarantine($"a certificate holds a vote of this validator for view {certificate.View} height {certificate.Height}, which it does not remember", outbox);
            return;
        }
    }

    /// <summary>Asked by a quarantined validator: an idle chain would keep it waiting for ever. Bounded, because empty blocks are not free.</summary>
    private void CloseTerm(Timestamp now)
    {
        if (_termsClosed.Count > 0 && now.Since(_termsClosed[0]) > 3_600_000) _termsClosed.RemoveAt(0);
        if (_closing == _view.Term + 1 || _termsClosed.Count >= 4) return;
        _closing = _view.Term + 1;
        _termsClosed.Add(now);
    }

    /// <summary>The leader may fill the rest of the term with empty blocks (rule A4).</summary>
    public bool MayProposeEmpty => _closing == _view.Term + 1;

    // ---- Snapshots --------------------------------------------------------------------------------------------

    /// <summary>The block a height was committed with, as far as it is remembered.</summary>
    public Digest? RecentDigest(Height height) => _recent.TryGetValue(height.Value, out var digest) ? digest : null;

    /// <summary>
    /// Goes on from the last block of a later term, whose state the owner has taken over. The term is complete now: <see cref="EnterTerm"/>
    /// (in service) or <see cref="RestoreTerm"/> (in recovery) comes next.
    /// </summary>
    public void Install(BlockHeader last, IEnumerable<(Height Height, Digest Block)> recent, QuorumCertificate commit)
    {
        Invariant.Holds(last.Height > _committed.Height && commit.Digest == last.Hash(), "a snapshot is of a later block, and its commit is here");
        _decisions.Clear();
        _recent.Clear();
        foreach (var (height, block) in recent) _recent[height.Value] = block;
        DropUpTo(last.Height);
        _held.DropUpTo(new Height(ulong.MaxValue));
        _committed = _tip = new Block(last, null, []);
        _committedProof = commit;
        RaiseBest(commit);
        if (_ahead is { } ahead && ahead.Height <= last.Height) _ahead = null;
        _epochs.Enter(commit.View.Term);
        EnterEpoch(_epochs.Current);
        ResetView(new View(commit.View.Term, 0));
        _newView = null;
        ForgetNewViewBelow(commit.View.Term);
        _sentViewChange = null;
    }

    /// <summary>One of a term that the chain has yet to reach again, after blocks were lost, is not to be signed a second time (rule A5).</summary>
    private void ForgetNewViewBelow(ulong term)
    {
        if (_sentNewView?.View.Term < term) _sentNewView = null;
    }

    // ---- Recovery (protocol §11) ------------------------------------------------------------------------------

    /// <summary>The last block of the own store, executed already.</summary>
    public void RestoreCommitted(Block block, QuorumCertificate certificate)
    {
        _recent[block.Height.Value] = block.Digest;
        DropUpTo(block.Height);
        _committed = _tip = block;
        _committedProof = certificate;
        RaiseBest(certificate);
    }

    /// <summary>The restored block is the last of its term.</summary>
    public void RestoreTerm(LeaderOrder order) => StartTerm(order);

    public void RestoreRecent(Height height, Digest digest) => _recent[height.Value] = digest;

    /// <summary>Feeds one record of the own log, in the order it was written. After the last one comes <see cref="Resume"/>.</summary>
    public void Restore(DurableRecord record)
    {
        switch (record)
        {
            case DurableRecord.Reset:
                break;
            case DurableRecord.Quarantined:
                _answered = [];
                break;
            case DurableRecord.VoteFromTerm r:
                (_answered, _voteFromTerm) = (null, r.Term);
                break;
            case DurableRecord.Proposed r:
                _guard.Propose(new Guard.Vote(r.Block.Header.View, r.Block.Height, r.Block.Digest));
                if (r.Block.Header.View == _view && r.Block.Height > _committed.Height) _own[r.Block.Height.Value] = r.Block;
                break;
            case DurableRecord.ProposedLast r:
                _guard.Propose(new Guard.Vote(r.View, r.Height, r.Digest));
                break;
            case DurableRecord.BlockHeld r:
                if (r.Block.Block.Height > _committed.Height) _held.Add(r.Block.Block, _ => false);
                break;
            case DurableRecord.PrepareVote r:
                _guard.Prepare(new Guard.Vote(r.View, r.Height, r.Digest));
                if (r.View == _view && _held.Path(_committed, r.Digest) is { } path)
                {
                    _chain.Clear();
                    _tip = _committed;
                    foreach (var block in path) Append(block);
                }

                break;
            case DurableRecord.CommitVote r:
                _guard.Commit(new Guard.Vote(r.View, r.Height, r.Digest));
                RaiseBest(r.Prepared);
                break;
            case DurableRecord.BestCertificate r:
                RaiseBest(r.Certificate);
                break;
            case DurableRecord.ViewChangeSent r:
                _guard.ChangeView(r.View);
                _changing = r.View > _view;
                _target = r.View;
                break;
            case DurableRecord.CheckpointSent r:
                _signedCheckpoint = r.Checkpoint;
                break;
            case DurableRecord.NewViewSent r:
                _sentNewView = r.Message;
                break;
            case DurableRecord.ViewEntered r:
                if (r.Message.View.Term != _view.Term) break;
                SetView(r.Message, _held.Path(_committed, r.Message.Best.Digest) ?? []);
                RaiseBest(r.Message.Best);
                break;
            default:
                throw Invariant.Unreachable(record);
        }
    }

    /// <summary>Starts, or starts again: says once more what was said last (the same bytes), and asks the others where they stand.</summary>
    public void Resume(Timestamp now, Outbox outbox)
    {
        _lastEpoch = _chainContext.Epoch;
        // Rule S6: a border may have been crossed just before the stop.
        if (_chainContext.Epoch > 0 && _answered is null && _voteFromTerm > _view.Term) Quarantine("the validator set changed while this validator did not vote", outbox);
        ReturnToSignedView();
        if (_guard.View.Term > _view.Term) outbox.Notices.Add(new Notice.Abstaining(_guard.View.Term));
        _pacemaker.EnterView(AttemptsSinceProgress(_changing ? _target : _view), now);
        if (!MayVote)
        {
            _changing = false;
        }
        else if (_changing)
        {
            RepeatViewChange(outbox);
        }
        else
        {
            foreach (var own in _own.Values) outbox.Broadcast(Signer.PrePrepare(own));
            if (_guard.Prepared is { } p && p.View == _view && p.Height > _committed.Height) outbox.Broadcast(Signer.Prepare(p.View, p.Height, p.Digest));
            if (_guard.Committed is { } c && c.View == _view && c.Height > _committed.Height) outbox.Broadcast(Signer.Commit(c.View, c.Height, c.Digest));
        }

        SayStatus(null, MayVote ? StatusKind.Question : StatusKind.Quarantined, outbox);
        _resendAt = now.PlusMs(Parameters.ResendMs);
        // The log may know a commit the block store had not written yet.
        if (_best.Kind == CertificateKind.Commit) OnCommitCertificate(_best, now, outbox);
    }

    /// <summary>
    /// Something was signed in a later view of this term than the one that is known to have begun: the way there is lost (rule A5). Below it
    /// nothing is signed any more; the others bring its NEW-VIEW, or go beyond it.
    /// </summary>
    private void ReturnToSignedView()
    {
        if (_guard.View.Term != _view.Term || _guard.View <= (_changing ? _target : _view)) return;
        _changing = true;
        _target = _guard.View;
    }

    private void RepeatViewChange(Outbox outbox)
    {
        if (_best.View < _target)
        {
            _sentViewChange = Signer.ViewChange(_target, _best, _committed.Height, Justification.None);
            outbox.Broadcast(_sentViewChange);
        }

        if (_sentNewView?.View == _target) outbox.Broadcast(_sentNewView);
    }

    /// <summary>The records from which <see cref="Restore"/> rebuilds exactly the present state; a log that starts over begins with them.</summary>
    public IEnumerable<DurableRecord> DurableState(Func<Block, BlockWithBodies> withBodies)
    {
        yield return new DurableRecord.BestCertificate(_best);
        foreach (var block in _held.All) yield return new DurableRecord.BlockHeld(withBodies(block));
        if (_newView is { } entered) yield return new DurableRecord.ViewEntered(entered);
        foreach (var own in _own.Values) yield return new DurableRecord.Proposed(own);
        if (_own.Count == 0 && _guard.Proposed is { } last) yield return new DurableRecord.ProposedLast(last.View, last.Height, last.Digest);
        if (_guard.Prepared is { } p) yield return new DurableRecord.PrepareVote(p.View, p.Height, p.Digest);
        if (_guard.Committed is { } c) yield return new DurableRecord.CommitVote(c.View, c.Height, c.Digest, _best);
        if (_guard.ViewChange > default(View)) yield return new DurableRecord.ViewChangeSent(_guard.ViewChange);
        if (_sentNewView is { } sent) yield return new DurableRecord.NewViewSent(sent);
        if (_signedCheckpoint is { } signed) yield return new DurableRecord.CheckpointSent(signed);
        if (_answered is not null) yield return new DurableRecord.Quarantined();
        else if (_voteFromTerm > 0) yield return new DurableRecord.VoteFromTerm(_voteFromTerm);
    }
}
