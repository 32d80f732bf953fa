using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>What the rounds of a scenario are.</summary>
public enum TwinsRounds
{
    /// <summary>A slice of time with a leader and a partition.</summary>
    Views,

    /// <summary>The phases of one view led by the twin and of the change to the next: pre-prepare, prepare, commit, view-change, new-view. Each has a partition.</summary>
    Phases,
}

/// <summary>
/// Twins (Bano et al., 2020): one identity run by two unmodified instances, all scenarios of a size enumerated. Honest instances
/// are interchangeable, and so are the halves of a twin, so one scenario of each orbit is run.
/// </summary>
public static class Twins
{
    private const int Validators = 4;

    /// <summary>After so many the rest need not be run.</summary>
    private const int ViolationsMax = 3;

    public sealed record Outcome(long Scenarios, long Forks, long Proven, ImmutableArray<string> Violations);

    /// <summary>A round: who leads, and which instances form the second group (bit per instance, instance 0 in the first).</summary>
    internal readonly record struct Round(int Leader, int Group);

    /// <param name="twins">Identities with two instances each: f are tolerated, f + 1 are not.</param>
    public static Outcome Run(TwinsRounds kind, int rounds, int twins = 1, int limit = int.MaxValue)
    {
        var setup = new TwinsSetup(Validators, twins);
        long scenarios = 0, forks = 0, proven = 0;
        var violations = new List<string>();
        Parallel.ForEach(Enumerate(kind, rounds, twins).Take(limit), (scenario, state) =>
        {
            var run = new TwinsRun(kind, setup, scenario);
            string? problem;
            try
            {
                problem = run.Play();
            }
            catch (InvariantViolation violation)
            {
                problem = "an honest instance stopped: " + violation.Message;
            }

            Interlocked.Increment(ref scenarios);
            if (run.Forked) Interlocked.Increment(ref forks);
            if (run.Proven) Interlocked.Increment(ref proven);
            if (problem is null) return;
            if (violations.Count >= ViolationsMax) state.Stop();
            lock (violations) violations.Add($"{string.Join(' ', scenario.Select(r => $"v{r.Leader}/{r.Group:b}"))}: {problem}");
        });
        return new Outcome(scenarios, forks, proven, [.. violations]);
    }

    /// <summary>One scenario of each orbit: the lexicographically least under all renamings.</summary>
    internal static IEnumerable<Round[]> Enumerate(TwinsRounds kind, int rounds, int twins)
    {
        var instances = Validators + twins;
        var groups = 1 << (instances - 1);
        var leaders = kind == TwinsRounds.Views ? Validators : 1;
        var choices = leaders * groups;
        var renamings = Renamings(twins).Select(r => Enumerable.Range(0, choices).Select(c => Rename(c, r, twins, groups)).ToArray()).ToArray();
        var scenario = new int[rounds];
        var total = (long)Math.Pow(choices, rounds);
        for (long number = 0; number < total; number++)
        {
            var rest = number;
            for (var i = rounds - 1; i >= 0; i--)
            {
                scenario[i] = (int)(rest % choices);
                rest /= choices;
            }

            if (IsLeast(scenario, renamings)) yield return [.. scenario.Select(c => new Round(c / groups, (c % groups) << 1))];
        }
    }

    private static bool IsLeast(int[] scenario, int[][] renamings)
    {
        foreach (var renaming in renamings)
        {
            foreach (var choice in scenario)
            {
                var renamed = renaming[choice];
                if (renamed < choice) return false;
                if (renamed > choice) break;
            }
        }

        return true;
    }

    /// <summary>Instances 2t and 2t + 1 are the halves of twin t; the rest is honest. Halves swap, twins swap, honest ones permute.</summary>
    private static IEnumerable<int[]> Renamings(int twins)
    {
        var honest = Enumerable.Range(2 * twins, Validators - twins).ToArray();
        foreach (var order in Permutations(Enumerable.Range(0, twins).ToArray()))
            for (var swaps = 0; swaps < 1 << twins; swaps++)
                foreach (var permuted in Permutations(honest))
                    yield return [.. order.SelectMany((t, i) => (swaps >> i & 1) == 0 ? new[] { 2 * t, 2 * t + 1 } : [2 * t + 1, 2 * t]), .. permuted];
    }

    private static IEnumerable<int[]> Permutations(int[] items)
    {
        if (items.Length <= 1) return [items];
        return items.SelectMany((item, i) => Permutations([.. items.Where((_, j) => j != i)]).Select(rest => (int[])[item, .. rest]));
    }

    private static int Rename(int choice, int[] renaming, int twins, int groups)
    {
        var (leader, group) = (choice / groups, (choice % groups) << 1);
        var renamedGroup = 0;
        for (var i = 0; i < renaming.Length; i++)
            if ((group >> i & 1) != 0)
                renamedGroup |= 1 << renaming[i];
        // Which of the two groups is called the second does not matter.
        if ((renamedGroup & 1) != 0) renamedGroup = ~renamedGroup & ((1 << renaming.Length) - 1);
        var first = leader < twins ? 2 * leader : leader + twins;
        var renamedLeader = renaming[first] < 2 * twins ? renaming[first] / 2 : renaming[first] - twins;
        return renamedLeader * groups + (renamedGroup >> 1);
    }
}

/// <summary>What all scenarios share: the keys and the genesis.</summary>
internal sealed class TwinsSetup
{
    public TwinsSetup(int validators, int twins)
    {
        Twins = twins;
        // Signatures count only where proofs are to be checked; without them a scenario runs ten times faster.
        Signers = [.. Enumerable.Range(0, validators).Select(i => twins > Quorum.Faulty(validators) ? Signatures.NewSigner($"validator {i}") : new NoSigner(i)).OrderBy(s => s.PublicKey)];
        PublicKey Role(int i, byte role) => PublicKey.From([.. Enumerable.Repeat(role, 31), (byte)i]);
        Genesis = new Genesis(
            "twins", Timestamp.FromSeconds(1_790_000_000),
            Signers.Select((s, i) => new Validator($"v{i}", s.PublicKey, Role(i, 200), Role(i, 201), Role(i, 202))), [],
            new ChainParameters { TermBlocks = 100_000, ResendMs = 250, IdleTimeoutMs = 600_000 });
    }

    public int Twins { get; }
    public StubSignatures Signatures { get; } = new();
    public ImmutableArray<ISigner> Signers { get; }
    public Genesis Genesis { get; }

    private sealed class NoSigner(int number) : ISigner
    {
        public PublicKey PublicKey { get; } = PublicKey.From([.. Enumerable.Repeat((byte)(number + 1), 32)]);

        public Signature Sign(ReadOnlySpan<byte> message) => default;
    }
}

/// <summary>One scenario: the instances on one thread, messages delivered at once within a group and lost between groups.</summary>
internal sealed class TwinsRun
{
    private const int TickMs = 100;
    private const int RoundMs = 1_500;
    private const int HeightMax = 6;
    private const int MessagesMax = 200_000;

    private readonly TwinsRounds _kind;
    private readonly int _twins;
    private readonly Twins.Round[] _scenario;
    private readonly StubSignatures _signatures;
    private readonly Genesis _genesis;
    private readonly Instance[] _instances;
    private readonly Queue<(Instance To, PeerMessage.Signed Message)> _queue = new();
    private readonly Dictionary<ulong, Digest> _decided = [];
    private Timestamp _now;
    private int _round;
    private int _messages;

    private sealed class Instance(int number, ValidatorIndex identity, bool honest, Pbft pbft)
    {
        public int Number { get; } = number;
        public ValidatorIndex Identity { get; } = identity;
        public bool Honest { get; } = honest;
        public Pbft Pbft { get; } = pbft;
        public Outbox Outbox { get; } = new();
        public List<Block> Chain { get; } = [];
        public bool Stopped { get; set; }
        public View? ProposedIn { get; set; }
        public List<Misbehaviour> Accusations { get; } = [];
    }

    public TwinsRun(TwinsRounds kind, TwinsSetup setup, Twins.Round[] scenario)
    {
        (_kind, _twins, _scenario, _signatures, _genesis) = (kind, setup.Twins, scenario, setup.Signatures, setup.Genesis);
        _now = _genesis.Time.PlusMs(1000);
        var validators = _genesis.Chain.Validators.Count;
        var order = new LeaderOrder([.. scenario.Select(r => Index(r.Leader)), .. Enumerable.Range(1, 8).Select(i => Index(i % validators))]);
        _instances = [.. Enumerable.Range(0, validators + _twins).Select(i =>
        {
            var identity = i < 2 * _twins ? i / 2 : i - _twins;
            return new Instance(i, Index(identity), i >= 2 * _twins, new Pbft(new EpochSchedule(_genesis.Chain), _genesis.Block, order, new SingleKey(setup.Signers[identity])));
        })];
    }

    public bool Forked { get; private set; }

    /// <summary>An honest instance has a proof that names at least f + 1 validators.</summary>
    public bool Proven { get; private set; }

    private static ValidatorIndex Index(int identity) => new((ushort)identity);

    /// <summary>Plays the rounds, then lets everybody talk to everybody. Null, or what was violated.</summary>
    public string? Play()
    {
        foreach (var instance in _instances) Do(instance, i => i.Pbft.Resume(_now, i.Outbox));
        var slices = _kind == TwinsRounds.Views ? _scenario.Length : 1;
        for (_round = 0; _round < slices; _round++) Pass(_kind == TwinsRounds.Views ? RoundMs : 2 * RoundMs);
        _round = int.MaxValue;
        Pass(RoundMs);
        if (_twins > Quorum.Faulty(_genesis.Chain.Validators.Count)) return Forked ? Convict() : null;
        if (Forked) return "two honest instances decided different blocks";
        for (var i = 0; i < 20 && !Live(); i++) Pass(RoundMs);
        return Live() ? null : "no block was decided by all honest instances after everything healed";
    }

    private bool Live() => _instances.All(i => !i.Honest || (i.Pbft.Committed.Height.Value > 0 && i.Pbft.Committed.Height == _instances.Last().Pbft.Committed.Height));

    private void Pass(int ms)
    {
        for (var passed = 0; passed < ms; passed += TickMs)
        {
            _now = _now.PlusMs(TickMs);
            foreach (var instance in _instances)
                Do(instance, i =>
                {
                    i.Pbft.WorkWaiting = i.Pbft.Tip.Height.Value < HeightMax;
                    i.Pbft.Tick(_now, i.Outbox);
                });
            while (_queue.TryDequeue(out var next))
            {
                Invariant.Holds(++_messages < MessagesMax, "no message storm");
                Do(next.To, i => i.Pbft.Receive(next.Message, _now, i.Outbox));
            }

            foreach (var instance in _instances) Fetch(instance);
        }
    }

    private static bool IsUp(Instance instance) => !instance.Stopped && instance.Pbft.Contradiction is null;

    private void Do(Instance instance, Action<Instance> input)
    {
        if (!IsUp(instance)) return;
        try
        {
            input(instance);
            while (Decide(instance) || Vote(instance) || Propose(instance))
            {
            }
        }
        catch (InvariantViolation) when (!instance.Honest)
        {
            // One half has seen what the other signed, and stops.
            instance.Stopped = true;
        }

        foreach (var outgoing in instance.Outbox.Messages)
            if (outgoing.Message is PeerMessage.Signed message)
                foreach (var to in _instances)
                    if (outgoing.To is null ? to == instance || to.Identity != instance.Identity : to.Identity == outgoing.To)
                        if (to == instance || Connected(instance.Number, to.Number, message))
                            _queue.Enqueue((to, message));
        instance.Outbox.Messages.Clear();
        instance.Outbox.Records.Clear();
        instance.Outbox.Notices.Clear();
    }

    private bool Connected(int from, int to, PeerMessage message)
    {
        if (_round == int.MaxValue) return true;
        var round = _kind == TwinsRounds.Views ? _round : Phase(message);
        if (round >= _scenario.Length) return true;
        var group = _scenario[round].Group;
        return (group >> from & 1) == (group >> to & 1);
    }

    private static int Phase(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m => m.Block.Header.View.Attempt == 0 ? 0 : int.MaxValue,
        PeerMessage.Prepare m => m.View.Attempt == 0 ? 1 : int.MaxValue,
        PeerMessage.Commit m => m.View.Attempt == 0 ? 2 : int.MaxValue,
        PeerMessage.NewView => 4,
        _ => 3,
    };

    private static bool Vote(Instance instance)
    {
        if (instance.Pbft.NextCandidate(instance.Pbft.Tip.Header.Time.PlusMs(1), instance.Outbox) is not { } block) return false;
        instance.Pbft.Accept(new BlockWithBodies(block, []), block.Header.Time, instance.Outbox);
        return true;
    }

    private bool Decide(Instance instance)
    {
        if (!instance.Pbft.TryTakeDecision(out var decision)) return false;
        instance.Chain.Add(decision!.Block);
        if (instance.Honest && !_decided.TryAdd(decision.Block.Height.Value, decision.Block.Digest) && _decided[decision.Block.Height.Value] != decision.Block.Digest) Forked = true;
        return true;
    }

    /// <summary>Each instance proposes one block in each view it leads; the halves of a twin propose different ones.</summary>
    private bool Propose(Instance instance)
    {
        var pbft = instance.Pbft;
        if (!pbft.CanPropose || instance.ProposedIn == pbft.View || pbft.ProposalParent.Height.Value >= HeightMax) return false;
        instance.ProposedIn = pbft.View;
        var parent = pbft.ProposalParent;
        pbft.Propose(
            new Block(
                parent.Header with
                {
                    View = pbft.View,
                    Height = parent.Height.Next,
                    Parent = parent.Digest,
                    Time = parent.Header.Time.PlusMs(1 + instance.Number),
                    Proposer = instance.Identity,
                    SealDigest = default,
                    NewViewDigest = pbft.NewViewDigest,
                },
                null, []),
            _now, instance.Outbox);
        return true;
    }

    /// <summary>Blocks that an instance lacks come from any instance it is connected to, as from a peer that serves them.</summary>
    private void Fetch(Instance instance)
    {
        foreach (var peer in _instances)
        {
            if (peer == instance || !Connected(peer.Number, instance.Number, new PeerMessage.GetProposal(default))) continue;
            for (var tries = 0; tries < HeightMax && IsUp(instance) && instance.Pbft.WantedBlock is { } wanted && Find(peer, wanted) is { } block; tries++)
                Do(instance, i => i.Pbft.Supply(new BlockWithBodies(block, []), _now, i.Outbox));
            if (!IsUp(instance) || instance.Pbft.Ahead is not { } ahead) continue;
            var from = (int)instance.Pbft.Committed.Height.Value;
            if (peer.Chain.Count < (int)ahead.Height.Value || peer.Chain[(int)ahead.Height.Value - 1].Digest != ahead.Digest) continue;
            var blocks = peer.Chain.GetRange(from, (int)ahead.Height.Value - from);
            if (blocks[0].Header.Parent == instance.Pbft.Committed.Digest) Do(instance, i => i.Pbft.CatchUp(blocks, ahead, _now, i.Outbox));
            else instance.Pbft.Contradict(new Branch([.. blocks.Select(b => b.Header)], ahead));
        }
    }

    private static Block? Find(Instance peer, Digest digest) =>
        peer.Pbft.TryFindHeld(digest, out var held) ? held : peer.Chain.Find(b => b.Digest == digest);

    /// <summary>With f + 1 twins a fork must be seen and proven (rule F1): null when it was, or when nobody honest has seen both sides.</summary>
    private string? Convict()
    {
        foreach (var instance in _instances)
        {
            if (!instance.Honest || instance.Pbft.Contradiction is not { } other) continue;
            while (instance.Pbft.TryTakeAccusation(out var accusation)) instance.Accusations.Add(accusation);
            var height = other.Headers.IsEmpty ? other.Certificate.Height : other.Headers[0].Height.Minus(1);
            var headers = instance.Chain.Where(b => b.Height >= height).Select(b => b.Header);
            var proof = new ForkProof(height, new Branch([.. headers], instance.Pbft.CommittedProof), other, [.. instance.Accusations]);
            if (!proof.TryVerify(new EpochSchedule(_genesis.Chain), _genesis.Block.Digest, _signatures, out var verdict, out var problem)) return "the proof does not hold: " + problem;
            if (verdict.Culprits.Any(c => c.Value >= _twins)) return "the proof names an honest validator";
            Proven |= verdict.Culprits.Length >= _genesis.Chain.Validators.OneHonest;
        }

        return Proven ? null : "the fork was not proven";
    }
}
