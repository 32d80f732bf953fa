using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Core.Replica;

/// <summary>
/// One deterministic node: mempool, consensus and ledger. Every input is a method with the time as an argument; everything it
/// wants done comes back in <see cref="Effects"/>. Not thread-safe: one loop owns it.
/// </summary>
public sealed class Replica
{
    /// <summary>After this many stored blocks the consensus log starts over with the present state.</summary>
    private const ulong LogResetInterval = 64;

    /// <summary>Without transactions for so long, a chain counts as at rest.</summary>
    private const int RestMs = 1000;

    /// <summary>From so many snapshots or terms behind on, but at least one snapshot, the newest one is asked for; below that blocks are as fast and leave no hole in the history.</summary>
    private const int SnapshotsBehind = 4;

    private const int TermsBehind = 32;

    /// <summary>A peer that seems to be in a later term is believed for this long without being heard again.</summary>
    private const long BeyondMs = 2_000;

    private readonly Genesis _genesis;
    private readonly IKeyring _keys;
    private readonly Mempool.Mempool _pool;
    private readonly uint _poolRate;
    private readonly uint _newestVersion;
    private readonly Pbft _pbft;
    private readonly SnapshotFetch _snapshot;
    private readonly Cosigner _cosigner;
    private Ledger.Ledger _ledger;
    private readonly BodyFetch _fetch;
    private readonly TransactionsOfBlocks _accepted;
    private readonly TransactionsOfBlocks _proposed;
    private readonly PeerRotation _blockPeers;
    private readonly PeerRotation _proposalPeers;

    /// <summary>Bodies of held (uncommitted) blocks.</summary>
    private readonly Dictionary<Digest, ImmutableArray<AlertEnvelope>> _bodies = [];

    /// <summary>State roots after the last blocks; headers refer to them (deferred root).</summary>
    private readonly SortedDictionary<ulong, Digest> _roots = [];

    /// <summary>The states whose roots headers are going to name: what proofs are made of.</summary>
    private readonly SortedDictionary<ulong, StateTree> _states = [];

    /// <summary>Committed blocks not reported stored yet, and the last few for peers that ask for a body.</summary>
    private readonly SortedDictionary<ulong, CommittedBlock> _recent = [];

    /// <summary>The last proof against each validator, for the case that the chain forks.</summary>
    private readonly SortedDictionary<ValidatorIndex, Misbehaviour> _proofs = [];

    private Height _stored;
    private Height _logResetAt;
    private View _transactionTimersView;
    private Timestamp _transactionTimersFrom;
    private Timestamp _announceAgainAt;

    /// <summary>Until then somebody is taken to be in a term whose validators are not known here yet: blocks are asked for, nothing else follows from it.</summary>
    private Timestamp _beyondUntil;

    /// <summary>The last block with transactions, or with the end of a policy.</summary>
    private (Height Height, Timestamp Time) _changed;

    private ulong _beyondTerm;

    private Timestamp _readyAt;

    /// <summary>The last block whose content was found to be sound.</summary>
    private Digest _sound;

    /// <param name="keys">This validator is the member whose consensus key is among them, now and after each change of the set.</param>
    /// <param name="poolRate">Messages per second of any one producer, however large its quota.</param>
    /// <param name="newestVersion">The newest rules this program knows.</param>
    public Replica(Genesis genesis, IKeyring keys, int poolTransactionsMax = 1000, int poolBytesMax = 10 << 20, uint poolRate = 1000, uint newestVersion = ChainContext.NewestVersion)
    {
        _newestVersion = newestVersion;
        _poolRate = poolRate;
        _genesis = genesis;
        _keys = keys;
        _pool = new Mempool.Mempool(poolTransactionsMax, poolBytesMax);
        _ledger = genesis.NewLedger();
        _pbft = new Pbft(Epochs, genesis.Block, _ledger.Leaders.Order, keys);
        _fetch = new BodyFetch(Epochs);
        _accepted = new TransactionsOfBlocks(_pool);
        _proposed = new TransactionsOfBlocks(_pool);
        _snapshot = new SnapshotFetch(Epochs);
        _cosigner = new Cosigner(Epochs, keys);
        _blockPeers = new PeerRotation(Epochs, 500);
        _proposalPeers = new PeerRotation(Epochs, 150);
        RememberRoot(default);
    }

    private ChainParameters Parameters => _pbft.Epoch.Parameters;

    /// <summary>This validator's place; <see cref="ValidatorIndex.None"/> while it is not of the set.</summary>
    public ValidatorIndex Me => _pbft.Me;

    /// <summary>Always the same object, shared with the receive loops.</summary>
    public EpochSchedule Epochs => _ledger.Governance.Epochs;

    /// <summary>The trust store; always the same object, shared with the receive loops.</summary>
    public ProducerRegistry Producers => _ledger.Producers;

    public Governance Governance => _ledger.Governance;

    public Height Height => _ledger.Height;
    public Timestamp BlockTime => _ledger.Time;
    public Digest StateRoot => _roots[_ledger.Height.Value];
    public View View => _pbft.View;
    public bool IsChangingView => _pbft.IsChangingView;
    public ValidatorIndex Leader => _pbft.Leader;
    public int PoolCount => _pool.Count;
    public int PoolBytes => _pool.Bytes;
    public int StateEntries => _ledger.StateEntries;
    public Block Committed => _pbft.Committed;
    public LeaderScores Leaders => _ledger.Leaders;
    public bool MayVote => _pbft.MayVote;
    public bool IsCatchingUp => _pbft.Ahead is not null;

    /// <summary>What is kept because of others, with the bound of each (protocol section 16, invariant I7).</summary>
    public IEnumerable<(string Name, int Size, int Bound)> Sizes
    {
        get
        {
            foreach (var size in _pbft.Sizes) yield return size;
            yield return ("bodies of held blocks", _bodies.Count, 16 * Parameters.Window + 1);
            yield return ("state roots", _roots.Count, 4 * Parameters.Window + 1);
            yield return ("states", _states.Count, 4 * Parameters.Window + 1);
            yield return ("chunks of a snapshot", _snapshot.ChunkCount, Limits.SnapshotChunksMax);
            yield return ("cosignatures", _cosigner.Count, Cosigner.KeptPerValidator * _pbft.NextEpoch.Validators.Places);
            yield return ("fetched bodies", _fetch.Count, Parameters.BlockTransactionsMax);
        }
    }

    // ---- Inputs -----------------------------------------------------------------------------------------------

    /// <summary>Offers a message from Kafka. Only <see cref="AdmissionKind.Rejected"/> is final without a block.</summary>
    public Admission Submit(Verified<AlertEnvelope> alert, Timestamp now, Effects effects)
    {
        var admission = Admit(alert, AllowanceOf(alert.Value), now, effects);
        if (admission.Kind == AdmissionKind.Admitted) Advance(now, effects);
        return admission;
    }

    /// <param name="allowance">What its producer may have admitted per second (rule M1); null for what is taken from other validators.</param>
    private Admission Admit(Verified<AlertEnvelope> alert, uint? allowance, Timestamp now, Effects effects)
    {
        var envelope = alert.Value;
        if (_pool.Contains(envelope.Digest)) return new Admission(AdmissionKind.Waiting);
        if (_ledger.HasDecided(envelope.Digest)) return new Admission(AdmissionKind.Committed);
        if (_ledger.Check(envelope, now > _ledger.Time ? now : _ledger.Time) is { } rejection) return new Admission(AdmissionKind.Rejected, rejection);
        var kind = _pool.Add(alert, allowance, now, effects.Evicted);
        if (kind == AdmissionKind.Admitted)
        {
            _fetch.Arrived(envelope.Digest);
            _accepted.Arrived(envelope.Digest);
            _proposed.Arrived(envelope.Digest);
        }

        return new Admission(kind);
    }

    private uint? AllowanceOf(AlertEnvelope envelope) =>
        envelope.Kind.IsControl() ? null : Math.Min(_poolRate, Producers.TryFind(envelope.Producer, out var producer) ? producer.QuotaPerSecond : 0);

    public void Receive(ValidatorIndex from, Verified<Incoming> incoming, Timestamp now, Effects effects)
    {
        if (IsFrozen) return;
        switch (incoming.Value.Message)
        {
            // Rule A1: an answer counts only from its signer's own connection, or an old one, replayed, could end a quarantine too early.
            case PeerMessage.Status m when m.Sender != from:
                break;
            case PeerMessage.Signed m:
                _pbft.Receive(m, now, effects);
                break;
            case PeerMessage.Beyond m:
                _beyondTerm = now < _beyondUntil ? Math.Max(_beyondTerm, m.Term) : m.Term;
                _beyondUntil = now.PlusMs(BeyondMs);
                break;
            case PeerMessage.GetSnapshot m:
                if (from != Me) effects.SnapshotRequests.Add(new SnapshotRequest(from, m.Above, null));
                break;
            case PeerMessage.GetChunk m:
                if (from != Me) effects.SnapshotRequests.Add(new SnapshotRequest(from, m.Height, m.Index));
                break;
            case PeerMessage.SnapshotOffer m:
                if (IsFar(m.Certificate.Checkpoint.Term)) _snapshot.Take(from, m, Me, _ledger.Height, now, effects);
                break;
            case PeerMessage.Chunk m:
                if (_snapshot.Take(from, m, Me, _ledger.Height, now, effects) is { } snapshot) Install(snapshot, now, effects);
                break;
            case PeerMessage.Cosignature m:
                _cosigner.Receive(m, now, effects);
                break;
            case PeerMessage.StableCheckpoint m:
                _pbft.Stabilise(m.Certificate, effects);
                break;
            case PeerMessage.GetTransactions m:
                SendTransactions(from, m, effects);
                break;
            case PeerMessage.Transactions:
                OnTransactions(incoming.Value.Bodies, now, effects);
                break;
            case PeerMessage.Announcement m:
                OnAnnouncement(from, m, effects);
                break;
            case PeerMessage.GetProposal m:
                SendProposal(from, m.Block, effects);
                break;
            case PeerMessage.Proposal m:
                OnProposal(m.Block, incoming.Value.Bodies, now, effects);
                break;
            case PeerMessage.GetBlocks m:
                if (from != Me) effects.BlockRequests.Add(new BlockRequest(from, m.From, Parameters.LastHeight(Parameters.TermOf(m.From))));
                break;
            case PeerMessage.Blocks m:
                OnBlocks(from, m, incoming.Value.Bodies, now, effects);
                break;
            default:
                throw Invariant.Unreachable(incoming.Value.Message);
        }

        Advance(now, effects);
    }

    /// <summary>The host says how many validators it is connected to; below a quorum no timer runs.</summary>
    public int ConnectedPeers { set => _pbft.ConnectedPeers = value; }

    /// <summary>Deadlines live inside; the host only supplies time, every few milliseconds.</summary>
    public void Tick(Timestamp now, Effects effects)
    {
        if (IsFrozen) return;
        _pbft.WorkWaiting = _pool.Count > 0;
        _pbft.Tick(now, effects);
        CheckTransactionTimers(now, effects);
        SayReady(now, effects);
        Advance(now, effects);
        _cosigner.Tick(now, effects);
        RequestSnapshot(now, effects);
        RequestBlocks(now, effects);
    }

    /// <summary>The host has made all blocks up to here durable in the block store.</summary>
    public void Stored(Height height, Timestamp now, Effects effects)
    {
        _stored = height;
        TrimRecent();
        if (_pbft.TermIsComplete && height >= _pbft.Committed.Height && !IsFrozen)
        {
            _pbft.TakeCheckpoint(TakeCheckpoint(effects), now, effects);
            MustKnow(_pbft.View.Term + 1);
            if (Epochs.Latest is { AppVersion: var version } && version > _newestVersion) effects.Notices.Add(new Notice.UpgradeAhead(version, Parameters.LastHeight(Epochs.LatestFrom - 1).Next));
            _pbft.EnterTerm(_ledger.Leaders.Order, now, effects);
            Advance(now, effects);
        }

        if (height.Value < _logResetAt.Value + LogResetInterval) return;
        _logResetAt = height;
        effects.Records.Add(new DurableRecord.Reset());
        foreach (var (at, block) in _recent)
            if (at > height.Value)
                effects.Records.Add(new DurableRecord.BlockHeld(block.ToBlockWithBodies()));
        foreach (var record in _pbft.DurableState(WithBodies)) effects.Records.Add(record);
    }

    /// <summary>Rule S7: a term whose rules are unknown is not entered. What is stored stays, for a program that knows them.</summary>
    private void MustKnow(ulong term)
    {
        var version = Epochs.Decided(term).AppVersion;
        if (version > _newestVersion) throw new UpgradeNeededException(version, _newestVersion, Parameters.LastHeight(term - 1).Next);
    }

    /// <summary>Rule P1: after the last block of a term, with a snapshot every few terms.</summary>
    private Checkpoint TakeCheckpoint(Effects effects)
    {
        var (term, last) = (_pbft.View.Term, _pbft.Committed);
        var checkpoint = new Checkpoint(term, last.Height, last.Digest, StateRoot, default);
        if ((term + 1) % (ulong)Parameters.SnapshotTerms != 0) return checkpoint;
        var recent = ImmutableArray.CreateBuilder<(Height, Digest, Digest)>();
        for (var height = last.Height.Minus((ulong)Parameters.Window - 1); height <= last.Height; height = height.Next)
            if (_pbft.RecentDigest(height) is { } block)
                recent.Add((height, block, RootAt(height)));
        var snapshot = _ledger.TakeSnapshot(new SnapshotHead(last.Header, recent.ToImmutable()));
        checkpoint = checkpoint with { SnapshotRoot = snapshot.Root };
        effects.Snapshots.Add(new TakenSnapshot(checkpoint, _pbft.CommittedProof, snapshot));
        return checkpoint;
    }

    /// <summary>A planned stop.</summary>
    public void HandOver(Effects effects) => _pbft.HandOver(effects);

    // ---- Snapshots --------------------------------------------------------------------------------------------

    private void RequestSnapshot(Timestamp now, Effects effects)
    {
        if (!_pbft.TermIsComplete && (_snapshot.Offer is not null || (now < _beyondUntil && IsFar(_beyondTerm)))) _snapshot.Ask(Me, _ledger.Height, now, effects);
    }

    private bool IsFar(ulong term) => term >= _pbft.View.Term + (ulong)Math.Max(Parameters.SnapshotTerms, Math.Min(SnapshotsBehind * Parameters.SnapshotTerms, TermsBehind));

    /// <summary>Every chunk is the certified one. If they do not make up the certified state, Q validators have signed nonsense, and blocks remain.</summary>
    private void Install(Snapshot snapshot, Timestamp now, Effects effects)
    {
        var offer = _snapshot.Offer!;
        _snapshot.Drop();
        var from = _ledger.Height.Next;
        if (_pbft.TermIsComplete || !TryInstall(offer.Certificate.Checkpoint, offer.Committed, snapshot)) return;
        _cosigner.Restore(_ledger.LogEnd, _ledger.Log, now);
        effects.Installed = (offer.Certificate, new TakenSnapshot(offer.Certificate.Checkpoint, offer.Committed, snapshot));
        effects.Notices.Add(new Notice.SnapshotInstalled(from, _ledger.Height));
    }

    private bool TryInstall(Checkpoint checkpoint, QuorumCertificate commit, Snapshot snapshot)
    {
        if (!Ledger.Ledger.TryRead(_genesis.Chain, _genesis.Producers, _genesis.Time, snapshot.Chunks.AsSpan(), checkpoint.StateRoot, out var ledger, out var head)
            || head!.Last.Hash() != checkpoint.Block || head.Last.Height <= _ledger.Height) return false;
        var (epochs, producers) = (Epochs, Producers);
        _ledger = ledger!;
        _ledger.Share(epochs, producers);
        _roots.Clear();
        _states.Clear();
        foreach (var (height, _, root) in head.Recent) _roots[height.Value] = root;
        RememberRoot(_ledger.Height);
        _changed = _ledger.LogEnd;
        _recent.Clear();
        _bodies.Clear();
        _fetch.Clear();
        var waiting = new List<Digest>();
        foreach (var entry in _pool.OldestFirst()) waiting.Add(entry.Alert.Digest);
        foreach (var digest in waiting)
            if (_ledger.HasDecided(digest))
                _pool.Remove(digest);
        var blocks = new List<(Height, Digest)>();
        foreach (var (height, block, _) in head.Recent) blocks.Add((height, block));
        _pbft.Install(head.Last, blocks, commit);
        return true;
    }

    /// <summary>The newest snapshot of the own store, before any block; false when its bytes are not what they were.</summary>
    public bool TryRestore(Checkpoint checkpoint, QuorumCertificate commit, Snapshot snapshot)
    {
        if (!TryInstall(checkpoint, commit, snapshot)) return false;
        MustKnow(checkpoint.Term + 1);
        _stored = _logResetAt = _ledger.Height;
        _pbft.RestoreTerm(_ledger.Leaders.Order);
        return true;
    }

    // ---- Recovery ---------------------------------------------------------------------------------------------

    /// <summary>Executes one block of the own store again, in height order, before anything else is fed.</summary>
    public (ImmutableArray<Receipt> Receipts, ImmutableArray<LedgerEvent> Events) Replay(Block block, ImmutableArray<AlertEnvelope> bodies, QuorumCertificate? certificate)
    {
        var executed = _ledger.Apply(block, bodies.AsSpan());
        RememberRoot(block.Height);
        NoteChange(block, executed.Events);
        if (certificate is not null) _pbft.RestoreCommitted(block, certificate);
        else _pbft.RestoreRecent(block.Height, block.Digest);
        if (_pbft.TermIsComplete)
        {
            MustKnow(_pbft.View.Term + 1);
            _pbft.RestoreTerm(_ledger.Leaders.Order);
        }

        _stored = _logResetAt = block.Height;
        return executed;
    }

    /// <summary>Feeds one record of the own consensus log, after the blocks.</summary>
    public void Restore(DurableRecord record, EnvelopeAuthenticator authenticator)
    {
        if (record is DurableRecord.BlockHeld { Block: var held })
        {
            if (held.Block.Height <= _ledger.Height) return;
            var bodies = ImmutableArray.CreateBuilder<AlertEnvelope>(held.Bodies.Length);
            foreach (var body in held.Bodies)
            {
                var decoded = EnvelopeDecoder.TryDecodeBody(body, out var envelope, out _);
                Invariant.Holds(decoded, "a held body decodes");
                bodies.Add(authenticator.Recovered(envelope!).Value);
            }

            _bodies[held.Block.Digest] = bodies.MoveToImmutable();
        }

        _pbft.Restore(record);
    }

    /// <summary>The host found that votes were lost (no log, a damaged one, or an older one than was written); called before <see cref="Resume"/>.</summary>
    public void Quarantine(string why, Effects effects) => _pbft.Quarantine(why, effects);

    /// <summary>Starts, or goes on after recovery.</summary>
    public void Resume(Timestamp now, Effects effects)
    {
        _transactionTimersFrom = now;
        _cosigner.Restore(_ledger.LogEnd, _ledger.Log, now);
        _pbft.Resume(now, effects);
        Advance(now, effects);
    }

    // ---- One step ---------------------------------------------------------------------------------------------

    private void Advance(Timestamp now, Effects effects)
    {
        if (IsFrozen) return;
        if (_pbft.Contradiction is { } other)
        {
            Freeze(other, effects);
            return;
        }

        while (_pbft.TryTakeStable(out var certificate)) effects.Stable.Add(certificate);
        if (_pbft.Stable is { } stable && _pbft.Own is { } own && stable.Checkpoint.Term == own.Term && stable.Checkpoint != own)
        {
            Diverge(own.Height, stable.Checkpoint.StateRoot, effects);
            return;
        }

        var progressed = true;
        while (progressed && !IsFrozen) progressed = Execute(now, effects) || Vote(now, effects) || Accuse(now, effects) || Propose(now, effects);
        DropForgottenBodies();
        RequestProposal(now, effects);
    }

    /// <summary>Contradictions become ordinary transactions (rule E1), brought to the leader at once.</summary>
    private bool Accuse(Timestamp now, Effects effects)
    {
        if (!_pbft.TryTakeAccusation(out var proof)) return false;
        effects.Notices.Add(new Notice.Misbehaved(proof));
        _proofs[proof.Offender] = proof;
        BringToLeader(AlertEnvelope.Of(proof), now, effects);
        return true;
    }

    /// <summary>A transaction of this validator's own making; should the message get lost, rule T4 brings it again.</summary>
    private void BringToLeader(AlertEnvelope envelope, Timestamp now, Effects effects)
    {
        if (Admit(new Verified<AlertEnvelope>(envelope), null, now, effects).Kind == AdmissionKind.Admitted && _pbft.Leader != Me)
            effects.Send(_pbft.Leader, new PeerMessage.Transactions([envelope.Body]));
    }

    /// <summary>An open order waits for a key this validator holds, and it has caught up with the order: it takes part from the border on (rule S2).</summary>
    private void SayReady(Timestamp now, Effects effects)
    {
        if (now < _readyAt || Governance.Awaited is not { } awaited) return;
        _readyAt = now.PlusMs(Parameters.ResendMs);
        if (_pbft.Ahead is not null || _keys.Find(awaited) is not { } key) return;
        BringToLeader(AlertEnvelope.Of(Readiness.Sign(Governance.Open!.Digest(), key)), now, effects);
    }

    /// <summary>A fork was seen and proven (rule F1), or the state is not the certified one (P3); this replica does nothing any more.</summary>
    public bool IsFrozen { get; private set; }

    private void Freeze(Branch other, Effects effects)
    {
        IsFrozen = true;
        while (_pbft.TryTakeAccusation(out var proof)) _proofs[proof.Offender] = proof;
        // The other branch tells the block at its lowest header's parent, or only at its certificate.
        var height = other.Headers.IsEmpty ? other.Certificate.Height : other.Headers[0].Height.Minus(1);
        var headers = ImmutableArray.CreateBuilder<BlockHeader>();
        foreach (var (at, block) in _recent)
            if (at >= height.Value && at <= _pbft.Committed.Height.Value)
                headers.Add(block.Block.Header);
        effects.Fork = new ForkProof(height, new Branch(headers.ToImmutable(), _pbft.CommittedProof), other, [.. _proofs.Values]);
    }

    /// <summary>A quorum computed another state from the same blocks (rule P3).</summary>
    private void Diverge(Height height, Digest certified, Effects effects)
    {
        IsFrozen = true;
        effects.Divergence = new Divergence(height, certified, RootAt(height), [.. _recent.Values]);
    }

    private bool Execute(Timestamp now, Effects effects)
    {
        if (!_pbft.TryTakeDecision(out var decision)) return false;
        var block = decision!.Block;
        Invariant.Holds(_bodies.Remove(block.Digest, out var bodies), "bodies of a committed block are held");
        if (block.Header.StateRoot != RootAt(block.Header.RootHeight))
        {
            Diverge(block.Header.RootHeight, block.Header.StateRoot, effects);
            return true;
        }

        var (receipts, events) = _ledger.Apply(block, bodies.AsSpan());
        RememberRoot(block.Height);
        foreach (var receipt in receipts) _pool.Remove(receipt.Transaction);
        GiveUpRivals(bodies, effects);
        var committed = new CommittedBlock(block, decision.Certificate, bodies, receipts, events, StateRoot);
        _recent[block.Height.Value] = committed;
        effects.Decided.Add(committed);
        NoteChange(block, events);
        if (!bodies.IsEmpty) _cosigner.Executed(_ledger.LogEnd, _ledger.Log, now, effects);
        return true;
    }

    private void NoteChange(Block block, ImmutableArray<LedgerEvent> events)
    {
        var changed = !block.Transactions.IsEmpty;
        foreach (var told in events) changed |= told is LedgerEvent.PolicyChanged;
        if (changed) _changed = (block.Height, block.Header.Time);
    }

    /// <summary>Rule T7: who waits with a nonce that a block has just used waits in vain, and would have the leader suspected.</summary>
    private void GiveUpRivals(ImmutableArray<AlertEnvelope> bodies, Effects effects)
    {
        var hopeless = new List<Refusal>();
        foreach (var body in bodies)
            foreach (var entry in _pool.WithNonce(body.Producer, body.Nonce))
                if (IsHopeless(entry, out var refusal) && !hopeless.Contains(refusal))
                    hopeless.Add(refusal);
        GiveUp(hopeless, effects);
    }

    private bool Vote(Timestamp now, Effects effects)
    {
        if (_pbft.NextCandidate(now, effects) is not { } block) return false;
        if (_fetch.Awaits(block.Digest))
        {
            _fetch.Ask(block, Me, now, effects);
            return false;
        }

        // Once is enough: its ancestors stay the same while it is the next, decided or not.
        if (_sound != block.Digest && ContentProblem(block) is { } problem)
        {
            _pbft.Refuse(block, problem, now, effects);
            return false;
        }

        _sound = block.Digest;

        if (!TryCollectBodies(block, now, effects, out var bodies, out var waitsSince)) return false;
        long bytes = 0;
        foreach (var body in bodies) bytes += body.BodyLength;
        if (bytes != block.Header.BodyBytes || bytes > Parameters.BlockBytesMax)
        {
            _pbft.Refuse(block, "body size is wrong or beyond the limit", now, effects);
            return false;
        }

        _bodies[block.Digest] = bodies;
        _fetch.Clear();
        _pbft.Accept(new BlockWithBodies(block, CommittedBlock.BodiesOf(bodies.AsSpan())), now, effects);
        if (waitsSince < now) _pbft.ReviewDelay(block, waitsSince, now, effects);
        return true;
    }

    /// <summary>Rules N5 (deferred state root) and N9 (no transaction twice in the chain): the same for all honest validators.</summary>
    private string? ContentProblem(Block block)
    {
        var header = block.Header;
        if (header.RootHeight != block.Height.Minus((ulong)Parameters.RootDistance)) return "the state root is of the wrong height";
        if (header.StateRoot != RootAt(header.RootHeight)) return "the state root is not the one this validator computed";
        if (block.Transactions.Length > Parameters.BlockTransactionsMax) return "too many transactions";
        _accepted.Follow(_pbft.Accepted);
        var seen = new HashSet<Digest>(block.Transactions.Length);
        foreach (var digest in block.Transactions)
            if (!seen.Add(digest) || _accepted.Contains(digest) || _ledger.HasDecided(digest))
                return "a transaction is in the chain already";
        return null;
    }

    /// <param name="waitsSince">Since when the oldest of them has waited here; now, when none has.</param>
    private bool TryCollectBodies(Block block, Timestamp now, Effects effects, out ImmutableArray<AlertEnvelope> bodies, out Timestamp waitsSince)
    {
        var found = ImmutableArray.CreateBuilder<AlertEnvelope>(block.Transactions.Length);
        var missing = ImmutableArray.CreateBuilder<Digest>();
        waitsSince = now;
        foreach (var digest in block.Transactions)
        {
            if (_pool.TryFind(digest, out var waiting))
            {
                found.Add(waiting.Alert);
                if (waiting.AdmittedAt < waitsSince) waitsSince = waiting.AdmittedAt;
            }
            else if (_fetch.TryFind(digest, out var fetched)) found.Add(fetched!);
            else missing.Add(digest);
        }

        bodies = missing.Count == 0 ? found.ToImmutable() : [];
        if (missing.Count == 0) return true;
        _fetch.Want(block, missing.ToImmutable(), now);
        _fetch.Ask(block, Me, now, effects);
        return false;
    }

    private bool Propose(Timestamp now, Effects effects)
    {
        if (!_pbft.CanPropose || (_pool.Count == 0 && !MayProposeEmpty(now))) return false;
        // Own proposals that have not come back from the log yet are on their way too.
        _accepted.Follow(_pbft.Accepted);
        _proposed.Follow(_pbft.OwnProposals);
        if (_pool.OldestFree is not { } oldest ? !(MayProposeEmpty(now) && _pbft.NothingInFlight) : !IsDue(oldest, now)) return false;
        var parent = _pbft.ProposalParent;
        var (transactions, bytes) = SelectTransactions();
        var height = parent.Height.Next;
        var rootHeight = height.Minus((ulong)Parameters.RootDistance);
        var afterParent = parent.Header.Time.PlusMs(1);
        var seal = _pbft.CommittedProof.Height.Value == 0 ? null : _pbft.CommittedProof;
        _pbft.Propose(
            new Block(
                new BlockHeader
                {
                    ChainId = _genesis.Chain.ChainId,
                    Epoch = _pbft.Epoch.Epoch,
                    View = _pbft.View,
                    Height = height,
                    Parent = parent.Digest,
                    Time = now > afterParent ? now : afterParent,
                    Proposer = Me,
                    TransactionRoot = MerkleTree.Root(transactions.AsSpan()),
                    TransactionCount = (uint)transactions.Length,
                    BodyBytes = (uint)bytes,
                    SealDigest = seal?.Hash() ?? default,
                    RootHeight = rootHeight,
                    StateRoot = RootAt(rootHeight),
                    ValidatorsHash = _pbft.Epoch.Validators.Hash(),
                    NextValidatorsHash = _pbft.NextEpoch.Validators.Hash(),
                    ParametersHash = _pbft.ParametersHash,
                    NewViewDigest = _pbft.NewViewDigest,
                    AppVersion = _pbft.Epoch.AppVersion,
                },
                seal, transactions),
            now, effects);
        return true;
    }

    /// <summary>With a block in flight the next one waits a little for company; alone it goes at once (protocol §6).</summary>
    private bool IsDue(Mempool.Mempool.Entry oldest, Timestamp now) =>
        _pbft.NothingInFlight || _pool.FreeCount >= Parameters.BlockTransactionsMax || _pool.FreeBytes >= Parameters.BlockBytesMax / 2 || now.Since(oldest.AdmittedAt) >= Parameters.BatchDelayMs;

    /// <summary>
    /// Rule N11. A quarantined validator, or a decided change, waits for the end of the term (rules A4 and S3); a policy has lasted its time, and only
    /// a block ends it; or nothing has come for a while, and no header names the newest state yet.
    /// </summary>
    private bool MayProposeEmpty(Timestamp now) =>
        _pbft.MayProposeEmpty || Governance.AwaitsBorder(_pbft.View.Term) || (_ledger.NextPolicyEnd is { } end && end <= now)
        || (_changed.Height > _pbft.Committed.Header.RootHeight && now.Since(_changed.Time) >= RestMs);

    private (ImmutableArray<Digest> Transactions, int Bytes) SelectTransactions()
    {
        var selected = _pool.Select(Parameters.BlockTransactionsMax, Parameters.BlockBytesMax);
        var chosen = ImmutableArray.CreateBuilder<Digest>(selected.Count);
        var bytes = 0;
        foreach (var envelope in selected)
        {
            chosen.Add(envelope.Digest);
            bytes += envelope.BodyLength;
        }

        return (chosen.MoveToImmutable(), bytes);
    }

    private Digest RootAt(Height height) => _roots.TryGetValue(height.Value, out var root) ? root : default;

    private void RememberRoot(Height height)
    {
        _roots[height.Value] = _ledger.StateRoot();
        _states[height.Value] = _ledger.CopyTree();
        if (height.Value <= 4UL * (ulong)Parameters.Window) return;
        _roots.Remove(height.Value - 4UL * (ulong)Parameters.Window);
        _states.Remove(height.Value - 4UL * (ulong)Parameters.Window);
    }

    /// <summary>
    /// What the state after a recent block held under a key. Null when that state is not kept any more, or when what stands there has changed
    /// since: a later header will name it.
    /// </summary>
    public BlockClaim.State? Prove(StateKey key, Height height)
    {
        if (!_states.TryGetValue(height.Value, out var state)) return null;
        var claim = new BlockClaim.State(key.Bytes, _ledger.ValueOf(key), state.Prove(key.Bytes.Span));
        return claim.IsShownBy(state.Root()) ? claim : null;
    }

    // ---- Transactions of peers --------------------------------------------------------------------------------

    /// <summary>From the pool, or else from the blocks that are accepted or committed a short while ago, each of which is gone through once.</summary>
    private void SendTransactions(ValidatorIndex to, PeerMessage.GetTransactions request, Effects effects)
    {
        var bodies = ImmutableArray.CreateBuilder<ReadOnlyMemory<byte>>();
        var bytes = 0;
        var left = new HashSet<Digest>();
        foreach (var digest in request.Digests)
        {
            if (!_pool.TryFind(digest, out var waiting)) left.Add(digest);
            else if (!Give(waiting.Alert)) break;
        }

        foreach (var block in _pbft.Accepted)
            if (_bodies.TryGetValue(block.Digest, out var held))
                GiveAll(held);
        foreach (var (_, block) in _recent) GiveAll(block.Bodies);
        if (bodies.Count > 0) effects.Send(to, new PeerMessage.Transactions(bodies.ToImmutable()));

        void GiveAll(ImmutableArray<AlertEnvelope> envelopes)
        {
            if (left.Count == 0) return;
            foreach (var envelope in envelopes)
                if (left.Remove(envelope.Digest))
                    Give(envelope);
        }

        bool Give(AlertEnvelope envelope)
        {
            if (bytes + envelope.BodyLength > Limits.AnswerBytesTarget) return false;
            bytes += envelope.BodyLength;
            bodies.Add(envelope.Body);
            return true;
        }
    }

    /// <summary>Bodies that were asked for, or what a validator made itself: whoever brings them, their signers are known.</summary>
    private void OnTransactions(ImmutableArray<AlertEnvelope> envelopes, Timestamp now, Effects effects)
    {
        foreach (var envelope in envelopes)
        {
            _fetch.Receive(envelope);
            Admit(new Verified<AlertEnvelope>(envelope), null, now, effects);
        }
    }

    /// <summary>Rule T4: what a peer has waited for, and this validator never got, is fetched from it.</summary>
    private void OnAnnouncement(ValidatorIndex from, PeerMessage.Announcement message, Effects effects)
    {
        var wanted = ImmutableArray.CreateBuilder<Digest>();
        foreach (var digest in message.Digests)
            if (!_pool.Contains(digest) && !_ledger.HasDecided(digest))
                wanted.Add(digest);
        if (wanted.Count > 0) effects.Send(from, new PeerMessage.GetTransactions(wanted.ToImmutable()));
    }

    /// <summary>
    /// Rule T4: a transaction waiting for T_tx is announced to all, who fetch it if they lack it; after twice that, the leader is suspected of
    /// censorship. Rule T7: not for one that no block can accept any more, because another message took its nonce, its time is over or its key is gone.
    /// </summary>
    private void CheckTransactionTimers(Timestamp now, Effects effects)
    {
        if (_pbft.IsChangingView || _transactionTimersView != _pbft.View)
        {
            _transactionTimersView = _pbft.View;
            _transactionTimersFrom = now;
        }

        if (now >= _announceAgainAt)
        {
            _announceAgainAt = now.PlusMs(Parameters.TransactionTimeoutMs);
            _pool.AnnounceAgain();
        }

        var hopeless = new List<Refusal>();
        var announced = ImmutableArray.CreateBuilder<Digest>();
        while (hopeless.Count + announced.Count < Limits.AnnouncedMax && _pool.ToAnnounce is { } entry && now.Since(entry.AdmittedAt) >= Parameters.TransactionTimeoutMs)
        {
            _pool.Announced();
            if (IsHopeless(entry, out var refusal)) hopeless.Add(refusal);
            else announced.Add(entry.Alert.Digest);
        }

        GiveUp(hopeless, effects);
        if (announced.Count > 0) effects.Broadcast(new PeerMessage.Announcement(announced.ToImmutable()));
        if (_pool.Oldest is { } late && WaitedMs(late) >= 2L * Parameters.TransactionTimeoutMs && !IsHopeless(late, out _)) _pbft.Suspect(SuspectReason.Censorship, now, effects);
        else _pbft.Unsuspect(SuspectReason.Censorship);

        long WaitedMs(Mempool.Mempool.Entry entry) => now.Since(entry.AdmittedAt > _transactionTimersFrom ? entry.AdmittedAt : _transactionTimersFrom);
    }

    private bool IsHopeless(Mempool.Mempool.Entry entry, [NotNullWhen(true)] out Refusal? refusal)
    {
        var envelope = entry.Alert;
        // Block time only grows, so what it has left behind is gone for good; what it has not reached yet may still come.
        refusal = _ledger.Check(envelope, _ledger.Time) is { Reason: not RejectionReason.FutureTimestamp } rejection ? new Refusal(envelope.Digest, envelope.Kind, rejection) : null;
        return refusal is not null;
    }

    private void GiveUp(List<Refusal> hopeless, Effects effects)
    {
        foreach (var refusal in hopeless) _pool.Remove(refusal.Transaction);
        effects.Refused.AddRange(hopeless);
    }

    // ---- Blocks of peers --------------------------------------------------------------------------------------

    private void RequestProposal(Timestamp now, Effects effects)
    {
        if (_pbft.WantedBlock is not { } wanted) _proposalPeers.Reset();
        else if (_proposalPeers.TryNext(Me, now, out var peer)) effects.Send(peer, new PeerMessage.GetProposal(wanted));
    }

    private void SendProposal(ValidatorIndex to, Digest digest, Effects effects)
    {
        if (_bodies.TryGetValue(digest, out var bodies) && _pbft.TryFindHeld(digest, out var block))
        {
            effects.Send(to, new PeerMessage.Proposal(new BlockWithBodies(block!, CommittedBlock.BodiesOf(bodies.AsSpan()))));
            return;
        }

        foreach (var (_, committed) in _recent)
            if (committed.Block.Digest == digest)
                effects.Send(to, new PeerMessage.Proposal(committed.ToBlockWithBodies()));
    }

    private void OnProposal(BlockWithBodies block, ImmutableArray<AlertEnvelope> bodies, Timestamp now, Effects effects)
    {
        if (_pbft.WantedBlock != block.Block.Digest || !Matches(block.Block, bodies.AsSpan())) return;
        _bodies[block.Block.Digest] = bodies;
        _proposalPeers.Answered();
        _pbft.Supply(block, now, effects);
    }

    private void RequestBlocks(Timestamp now, Effects effects)
    {
        // Far behind, blocks wait a little for a snapshot.
        var bySnapshot = _snapshot.Offer is not null || (now < _beyondUntil && IsFar(_beyondTerm) && !_snapshot.IsFutile);
        if ((_pbft.Ahead is null && now >= _beyondUntil) || _pbft.TermIsComplete || bySnapshot) _blockPeers.Reset();
        else if (_blockPeers.TryNext(Me, now, out var peer)) effects.Send(peer, new PeerMessage.GetBlocks(_ledger.Height.Next));
    }

    /// <summary>
    /// Rule C1: a run of blocks is taken only when it links to the committed block, every body is the one its digest names, and a
    /// commit certificate covers the last block. What a peer merely claims counts for nothing.
    /// </summary>
    private void OnBlocks(ValidatorIndex from, PeerMessage.Blocks message, ImmutableArray<AlertEnvelope> bodies, Timestamp now, Effects effects)
    {
        if (_blockPeers.Asked != from || message.Items.IsEmpty || _pbft.TermIsComplete) return;
        if (message.Certificate.Height > Parameters.LastHeight(_pbft.View.Term)) return;
        var parent = _pbft.Committed;
        var blocks = new List<Block>();
        int taken = 0, skipped = 0;
        foreach (var item in message.Items)
        {
            var block = item.Block;
            if (block.Height <= _pbft.Committed.Height)
            {
                // Committed meanwhile by other means.
                skipped += block.Transactions.Length;
                taken = skipped;
                continue;
            }

            if (block.Header.Parent != parent.Digest || block.Height != parent.Height.Next)
            {
                LookForFork(message, now, effects);
                return;
            }

            if (bodies.Length - taken < block.Transactions.Length || !Matches(block, bodies.AsSpan(taken, block.Transactions.Length))) return;
            taken += block.Transactions.Length;
            blocks.Add(block);
            parent = block;
        }

        if (blocks.Count == 0 || taken != bodies.Length || parent.Digest != message.Certificate.Digest || parent.Height != message.Certificate.Height) return;
        taken = skipped;
        foreach (var block in blocks)
        {
            _bodies[block.Digest] = bodies.Slice(taken, block.Transactions.Length);
            taken += block.Transactions.Length;
        }

        _blockPeers.Answered();
        _pbft.CatchUp(blocks, message.Certificate, now, effects);
    }

    /// <summary>A run that does not continue the committed block: a lie, unless it links up to its certificate without it.</summary>
    private void LookForFork(PeerMessage.Blocks message, Timestamp now, Effects effects)
    {
        var headers = ImmutableArray.CreateBuilder<BlockHeader>();
        foreach (var item in message.Items)
            if (item.Block.Height > _pbft.Committed.Height)
                headers.Add(item.Block.Header);
        var branch = new Branch(headers.ToImmutable(), message.Certificate);
        if (headers.Count == 0 || !branch.IsLinked() || branch.DigestAt(_pbft.Committed.Height) is not { } digest || digest == _pbft.Committed.Digest) return;
        _pbft.Contradict(branch);
        Advance(now, effects);
    }

    private static bool Matches(Block block, ReadOnlySpan<AlertEnvelope> bodies)
    {
        if (bodies.Length != block.Transactions.Length) return false;
        for (var i = 0; i < bodies.Length; i++)
            if (bodies[i].Digest != block.Transactions[i])
                return false;
        return true;
    }

    // ---- Memory -----------------------------------------------------------------------------------------------

    private BlockWithBodies WithBodies(Block block) => new(block, CommittedBlock.BodiesOf(_bodies[block.Digest].AsSpan()));

    private void DropForgottenBodies()
    {
        if (_bodies.Count <= 8 * Parameters.Window) return;
        var kept = new List<(Digest, ImmutableArray<AlertEnvelope>)>();
        foreach (var block in _pbft.Held)
            if (_bodies.TryGetValue(block.Digest, out var bodies))
                kept.Add((block.Digest, bodies));
        _bodies.Clear();
        foreach (var (digest, bodies) in kept) _bodies[digest] = bodies;
    }

    private void TrimRecent()
    {
        var keep = 2UL * (ulong)Parameters.Window;
        while (_recent.Count > 0)
        {
            var oldest = OldestRecent();
            if (oldest > _stored.Value || oldest + keep > _ledger.Height.Value) return;
            _recent.Remove(oldest);
        }
    }

    private ulong OldestRecent()
    {
        foreach (var entry in _recent) return entry.Key;
        throw new InvariantViolation("not empty");
    }
}
