using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Simulator;

/// <summary>A message of a liar, and how long it holds it back.</summary>
public readonly record struct Lie(Outgoing Message, int DelayMs = 0);

/// <summary>
/// A Byzantine validator: takes what its honest replica would send and sends something else, properly signed. Used by the
/// simulator and by the demo's <c>--fault liar</c>.
/// </summary>
/// <param name="pairs">Which two blocks belong together; shared by all liars that collude.</param>
public sealed class Liar(
    ChainContext chain, Digest genesis, ValidatorIndex me, ISigner signer, Strategy strategy, ulong seed = 0, Dictionary<Digest, Digest>? pairs = null)
{
    private const int RememberedMessages = 64;

    private readonly MessageSigner _signer = new(chain, me, signer);
    private readonly Prng _prng = new(seed, $"liar {me}");
    private readonly Dictionary<Digest, Digest> _pairs = pairs ?? [];
    private readonly List<PeerMessage> _said = [];
    private readonly SortedDictionary<ValidatorIndex, PeerMessage.ViewChange> _heard = [];
    private readonly ValidatorIndex _victim = new((ushort)((me.Value + 1) % chain.Validators.Count));

    /// <summary>What it hears: claims of others, from which it can make a second NEW-VIEW.</summary>
    public void Observe(PeerMessage message)
    {
        if (message is PeerMessage.ViewChange m) _heard[m.Sender] = m;
    }

    /// <summary>What it sends instead of <paramref name="message"/>.</summary>
    public IEnumerable<Lie> Distort(Outgoing message)
    {
        var how = strategy == Strategy.Mixed ? (Strategy)_prng.Between((int)Strategy.SilentLeader, (int)Strategy.BadSignatures) : strategy;
        foreach (var lie in Distort(message, how)) yield return lie;
        if (message.To is not null || message.Message is not PeerMessage.Signed) yield break;
        if (_said.Count == RememberedMessages) _said.RemoveAt(_prng.Below(RememberedMessages));
        _said.Add(message.Message);
    }

    private IEnumerable<Lie> Distort(Outgoing message, Strategy how)
    {
        var toMe = message.To == me;
        switch (how)
        {
            case Strategy.Silent:
            case Strategy.SilentLeader when message.Message is PeerMessage.PrePrepare or PeerMessage.Heartbeat:
            case Strategy.HeartbeatOnly when message.Message is PeerMessage.PrePrepare:
            case Strategy.WithholdVotes when message.Message is PeerMessage.Prepare or PeerMessage.Commit:
            case Strategy.Censor when message.Message is PeerMessage.PrePrepare p && Censored(p.Block):
                return [];
            case Strategy.SlowLeader when message.Message is PeerMessage.PrePrepare:
                return [new Lie(message, 450)];
            case Strategy.LateVotes when message.Message is PeerMessage.Prepare or PeerMessage.Commit:
                return [new Lie(message, _prng.Between(50, 1500))];
            case Strategy.Equivocate when message.To is null && Twin(message.Message) is { } twin:
                return Split(message.Message, twin);
            case Strategy.DoubleVote when message.To is null && message.Message is PeerMessage.Prepare or PeerMessage.Commit:
                return Split(message.Message, Twin(message.Message)!);
            case Strategy.Collude when message.To is null && CollusiveTwin(message.Message) is { } twin:
                return Split(message.Message, twin);
            case Strategy.Understate or Strategy.Collude when message.Message is PeerMessage.ViewChange:
                return [new Lie(message with { Message = Twin(message.Message)! })];
            case Strategy.Understate when message.Message is PeerMessage.NewView m:
                return [new Lie(message with { Message = _signer.NewView(m.View, m.Claims, QuorumCertificate.ForGenesis(genesis)) })];
            case Strategy.TwoNewViews when message.To is null && message.Message is PeerMessage.NewView m:
                return Split(m, OtherNewView(m));
            case Strategy.SelectiveVotes when message.To is null && message.Message is PeerMessage.Prepare or PeerMessage.Commit:
                return Only(message.Message, i => i == me.Value || i % 2 == 0);
            case Strategy.StarveOne when message.To is null:
                return Only(message.Message, i => i != _victim.Value);
            case Strategy.StarveOne when message.To == _victim:
                return [];
            case Strategy.InvalidProposals when message.Message is PeerMessage.PrePrepare m:
                return [new Lie(message with { Message = _signer.PrePrepare(Broken(m.Block)) })];
            case Strategy.SuspectSpam when ViewOf(message.Message) is { } view:
                return [new Lie(message), new Lie(new Outgoing(null, _signer.Suspect(view, (SuspectReason)_prng.Between(1, 6))))];
            case Strategy.ViewChangeSpam when ViewOf(message.Message) is { } view && _prng.Chance(20):
                var far = new View(view.Term, view.Attempt + (uint)_prng.Pick<int>([1, 2, 100, 60_000]));
                return [new Lie(message), new Lie(new Outgoing(null, _signer.ViewChange(far, QuorumCertificate.ForGenesis(genesis), default, Justification.None)))];
            case Strategy.HandoverSpam when message.Message is PeerMessage.PrePrepare m:
                return [new Lie(message), new Lie(new Outgoing(null, _signer.Handover(m.Block.Header.View)))];
            case Strategy.Replay when _said.Count > 0:
                return [new Lie(message), new Lie(new Outgoing(null, _said[_prng.Below(_said.Count)]))];
            case Strategy.PoisonCatchUp when message.Message is PeerMessage.Blocks m:
                return _prng.Below(3) switch
                {
                    0 => [],
                    1 => [new Lie(message with { Message = m with { Items = m.Items.RemoveAt(_prng.Below(m.Items.Length)) } })],
                    _ => [new Lie(message with { Message = m with { Items = m.Items.SetItem(0, m.Items[0] with { Block = Broken(m.Items[0].Block) }) } })],
                };
            case Strategy.PoisonCatchUp when message.Message is PeerMessage.Chunk m:
                var poisoned = m.Bytes.ToArray();
                poisoned[_prng.Below(poisoned.Length)] ^= 1;
                return _prng.Chance(30) ? [] : [new Lie(message with { Message = m with { Bytes = poisoned } })];
            case Strategy.PoisonCatchUp when message.Message is PeerMessage.SnapshotOffer m:
                return [new Lie(message with { Message = m with { Chunks = m.Chunks.SetItem(0, m.Committed.Digest) } }), .. _prng.Chance(50) ? [new Lie(message)] : Array.Empty<Lie>()];
            case Strategy.LyingStatus when message.Message is PeerMessage.Status m:
                var claimed = _signer.Status(new View(m.View.Term + 7, 3), m.Tip.Plus(1000), (StatusKind)_prng.Below(3), m.Committed, m.Committed);
                return [new Lie(message with { Message = claimed })];
            case Strategy.Mutate when message.To is null && _prng.Chance(30) && Mutated(message.Message) is { } mutated:
                return [new Lie(message), new Lie(new Outgoing(null, mutated))];
            case Strategy.BadSignatures when !toMe && _prng.Chance(30) && message.Message is PeerMessage.Prepare m:
                return [new Lie(message with { Message = m with { Digest = Other(m.Digest) } })];
            default:
                return [new Lie(message)];
        }
    }

    private static bool Censored(Block block)
    {
        foreach (var transaction in block.Transactions)
            if (transaction.ToArray()[0] < 40)
                return true;
        return false;
    }

    /// <summary>Itself gets what it said; the odd ones get the other message. A vote that is for the odd ones' block already goes to them as it is.</summary>
    private IEnumerable<Lie> Split(PeerMessage said, PeerMessage twin)
    {
        var isForOdd = strategy == Strategy.Collude && me.Value % 2 == 1 && said is not PeerMessage.PrePrepare;
        for (var i = 0; i < chain.Validators.Count; i++)
        {
            var to = new ValidatorIndex((ushort)i);
            yield return new Lie(new Outgoing(to, to == me || i % 2 == 1 == isForOdd ? said : twin));
        }
    }

    private IEnumerable<Lie> Only(PeerMessage message, Func<int, bool> chosen)
    {
        for (var i = 0; i < chain.Validators.Count; i++)
            if (chosen(i))
                yield return new Lie(new Outgoing(new ValidatorIndex((ushort)i), message));
    }

    private static View? ViewOf(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m => m.Block.Header.View,
        PeerMessage.Prepare m => m.View,
        PeerMessage.Commit m => m.View,
        PeerMessage.Heartbeat m => m.View,
        _ => null,
    };

    /// <summary>Another message for the same slot, or null when this kind is passed on as it is.</summary>
    private PeerMessage? Twin(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m => _signer.PrePrepare(With(m.Block, m.Block.Header with { Time = m.Block.Header.Time.PlusMs(1) })),
        PeerMessage.Prepare m => _signer.Prepare(m.View, m.Height, Other(m.Digest)),
        PeerMessage.Commit m => _signer.Commit(m.View, m.Height, Other(m.Digest)),
        // Understate: claim to know nothing but genesis.
        PeerMessage.ViewChange m => _signer.ViewChange(m.View, QuorumCertificate.ForGenesis(genesis), default, m.Justification),
        _ => null,
    };

    /// <summary>The other half of a pair of blocks, or the vote for it.</summary>
    private PeerMessage? CollusiveTwin(PeerMessage message)
    {
        switch (message)
        {
            case PeerMessage.PrePrepare m:
                var other = (PeerMessage.PrePrepare)Twin(m)!;
                if (_pairs.TryGetValue(m.Block.Header.Parent, out var parent)) other = _signer.PrePrepare(With(m.Block, other.Block.Header with { Parent = parent }));
                (_pairs[m.Block.Digest], _pairs[other.Block.Digest]) = (other.Block.Digest, m.Block.Digest);
                return other;
            case PeerMessage.Prepare m when _pairs.TryGetValue(m.Digest, out var digest):
                return _signer.Prepare(m.View, m.Height, digest);
            case PeerMessage.Commit m when _pairs.TryGetValue(m.Digest, out var digest):
                return _signer.Commit(m.View, m.Height, digest);
            default:
                return null;
        }
    }

    /// <summary>As genuine as the first: the last Q claims instead of the first Q, if there are more than Q.</summary>
    private PeerMessage.NewView OtherNewView(PeerMessage.NewView message)
    {
        var claims = ImmutableArray.CreateBuilder<SignedClaim>();
        QuorumCertificate? best = null;
        foreach (var heard in _heard.Values.Reverse())
        {
            if (heard.View != message.View || claims.Count == chain.Validators.Quorum) continue;
            claims.Insert(0, new SignedClaim(heard.Sender, heard.Claim, heard.Signature));
            if (best is null || heard.Best.Rank > best.Rank) best = heard.Best;
        }

        return claims.Count < chain.Validators.Quorum ? message : _signer.NewView(message.View, claims.ToImmutable(), best!);
    }

    /// <summary>A block that breaks one rule, its digest right.</summary>
    private Block Broken(Block block)
    {
        var header = block.Header;
        return _prng.Below(8) switch
        {
            0 => With(block, header with { StateRoot = Other(header.StateRoot) }),
            1 => With(block, header with { Parent = Other(header.Parent) }),
            2 => With(block, header with { Time = header.Time.PlusMs(600_000) }),
            3 => With(block, header with { Height = header.Height.Plus((ulong)_prng.Between(1, 20)) }),
            4 => With(block, header with { BodyBytes = header.BodyBytes + 1 }),
            5 => With(block, header with { ValidatorsHash = Other(header.ValidatorsHash) }),
            6 => With(block, header with { Epoch = header.Epoch + 1 }),
            _ => new Block(
                header with { TransactionCount = header.TransactionCount * 2, TransactionRoot = MerkleTree.Root([.. block.Transactions, .. block.Transactions]) },
                block.Seal, [.. block.Transactions, .. block.Transactions]),
        };
    }

    /// <summary>Small-scope mutation: one field moved by a little, signed again.</summary>
    private PeerMessage? Mutated(PeerMessage message)
    {
        var next = _prng.Chance(50);
        return message switch
        {
            PeerMessage.PrePrepare m => _signer.PrePrepare(Broken(m.Block)),
            PeerMessage.Prepare m => _prng.Below(4) switch
            {
                0 => _signer.Prepare(m.View, next ? m.Height.Next : m.Height.Minus(1), m.Digest),
                1 => _signer.Prepare(next ? m.View.Next : new View(m.View.Term + 1, 0), m.Height, m.Digest),
                2 => _signer.Commit(m.View, m.Height, m.Digest),
                _ => _signer.Prepare(m.View, m.Height, default),
            },
            PeerMessage.Commit m => _prng.Below(4) switch
            {
                0 => _signer.Commit(m.View, next ? m.Height.Next : m.Height.Minus(1), m.Digest),
                1 => _signer.Commit(next ? m.View.Next : new View(m.View.Term + 1, 0), m.Height, m.Digest),
                2 => _signer.Prepare(m.View, m.Height.Next, m.Digest),
                _ => _signer.Commit(m.View, m.Height, default),
            },
            PeerMessage.ViewChange m => _signer.ViewChange(next ? m.View.Next : m.View, m.Best, next ? m.Claim.Committed : default, Justification.None),
            PeerMessage.NewView m => _signer.NewView(next ? m.View.Next : m.View, m.Claims.RemoveAt(0), m.Best),
            PeerMessage.Suspect m => _signer.Suspect(m.View.Next, m.Reason),
            _ => null,
        };
    }

    private static Block With(Block block, BlockHeader header) => new(header, block.Seal, block.Transactions);

    private static Digest Other(Digest digest) => Digest.Sha256(digest.ToArray());
}
