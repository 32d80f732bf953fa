using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>
/// Scenarios as text: commands with the whole transcript of what they lead to, in the manner of etcd-io/raft. They are the protocol by
/// example. CYBERMESH_WRITE_SCENARIOS=DIR writes the transcripts anew, to be reviewed by eye.
/// </summary>
public sealed class ScenarioTests
{
    public static TheoryData<string> Files() => [.. Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "Scenarios"), "*.txt").Select(f => Path.GetFileName(f)).Order()];

    [Theory]
    [MemberData(nameof(Files))]
    public void The_transcript_is_the_expected_one(string file)
    {
        var expected = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Scenarios", file));
        var run = new Scenario();
        var actual = new StringBuilder();
        foreach (var line in expected.Split('\n').Where(l => l.StartsWith('#') || l.StartsWith('>')))
        {
            actual.Append(line).Append('\n');
            if (line.StartsWith('>')) actual.Append(run.Execute(line[1..].Trim()));
        }

        if (Environment.GetEnvironmentVariable("CYBERMESH_WRITE_SCENARIOS") is { } directory) File.WriteAllText(Path.Combine(directory, file), actual.ToString());
        Assert.Equal(expected, actual.ToString());
    }
}

/// <summary>Four validators without content to order: what they say to one another, line by line.</summary>
internal sealed class Scenario
{
    private const int TickMs = 50;

    private readonly Samples _samples = new();
    private readonly Node[] _nodes;
    private readonly Queue<(Node From, Node To, PeerMessage.Signed Message)> _queue = new();
    private readonly Dictionary<Digest, string> _names = [];
    private readonly StringBuilder _transcript = new();
    private Timestamp _now;
    private string _dropped = "";

    private sealed class Node(int number)
    {
        public int Number { get; } = number;
        public string Name => $"v{Number + 1}";
        public Pbft? Pbft { get; set; }
        public string LastLine { get; set; } = "";
        public bool Cut { get; set; }
        public Outbox Outbox { get; } = new();
        public List<DurableRecord> Log { get; } = [];
        public List<(Block Block, QuorumCertificate? Certificate)> Blocks { get; } = [];
    }

    public Scenario()
    {
        _now = _samples.Genesis.Time.PlusMs(1000);
        _names[_samples.Genesis.Block.Digest] = "genesis";
        _nodes = [.. Enumerable.Range(0, 4).Select(i => new Node(i))];
        foreach (var node in _nodes) Start(node);
        Deliver();
        _transcript.Clear();
    }

    public string Execute(string command)
    {
        _transcript.Clear();
        var words = command.Split(' ');
        switch (words[0])
        {
            case "propose": Propose(Find(words[1])); break;
            case "deliver": Deliver(); break;
            case "cut": Find(words[1]).Cut = true; break;
            case "join": Find(words[1]).Cut = false; break;
            case "drop": _dropped = words[1]; break;
            case "pass": _dropped = ""; break;
            case "crash": Find(words[1]).Pbft = null; break;
            case "restart": Start(Find(words[1])); break;
            case "lose-log": Find(words[1]).Log.Clear(); break;
            case "wait": Wait(int.Parse(words[1], CultureInfo.InvariantCulture), words.Length > 3 ? [Find(words[3])] : words.Length > 2 ? _nodes : []); break;
            case "state": State(); break;
            default: throw new ArgumentException("unknown command " + command);
        }

        return _transcript.ToString();
    }

    private Node Find(string name) => _nodes.Single(n => n.Name == name);

    /// <summary>What a validator merely says again is left out.</summary>
    private void Line(Node node, string what)
    {
        if (node.LastLine != what) _transcript.Append(CultureInfo.InvariantCulture, $"{node.Name} {what}\n");
        node.LastLine = what;
    }

    private void Start(Node node)
    {
        node.Pbft = _samples.NewPbft(node.Number);
        foreach (var (block, certificate) in node.Blocks)
        {
            if (certificate is null) node.Pbft.RestoreRecent(block.Height, block.Digest);
            else node.Pbft.RestoreCommitted(block, certificate);
        }

        foreach (var record in node.Log) node.Pbft.Restore(record);
        if (node.Log.Count == 0 && node.Blocks.Count > 0) node.Pbft.Quarantine("its log is gone", node.Outbox);
        node.Pbft.Resume(_now, node.Outbox);
        Drain(node);
    }

    private void Propose(Node node)
    {
        var pbft = node.Pbft!;
        if (!pbft.CanPropose)
        {
            Line(node, "may not propose");
            return;
        }

        var parent = pbft.ProposalParent;
        var block = new Block(
            parent.Header with
            {
                View = pbft.View,
                Height = parent.Height.Next,
                Parent = parent.Digest,
                Time = parent.Header.Time.PlusMs(1),
                Proposer = new ValidatorIndex((ushort)node.Number),
                NewViewDigest = pbft.NewViewDigest,
            },
            null, []);
        _names[block.Digest] = $"b{_names.Count}";
        _now = _now.PlusMs(10);
        pbft.Propose(block, _now, node.Outbox);
        Drain(node);
    }

    private void Deliver()
    {
        while (_queue.TryDequeue(out var next))
        {
            if (next.From != next.To && (next.From.Cut || next.To.Cut || Describe(next.Message).Split(' ')[0] == _dropped)) continue;
            next.To.Pbft?.Receive(next.Message, _now, next.To.Outbox);
            Drain(next.To);
            foreach (var node in _nodes) Fetch(node);
        }
    }

    private void Wait(int ms, Node[] withWork)
    {
        for (var passed = 0; passed < ms; passed += TickMs)
        {
            _now = _now.PlusMs(TickMs);
            foreach (var node in _nodes)
            {
                if (node.Pbft is null) continue;
                node.Pbft.WorkWaiting = withWork.Contains(node);
                node.Pbft.Tick(_now, node.Outbox);
                Drain(node);
            }

            Deliver();
        }
    }

    private void State()
    {
        foreach (var node in _nodes)
            Line(node, node.Pbft is not { } p ? "is down" :
                $"view {p.View}{(p.IsChangingView ? " (leaving)" : "")}, leader v{p.Leader.Value + 1}, tip {Name(p.Tip.Digest)}, committed {Name(p.Committed.Digest)}{(p.MayVote ? "" : ", abstains")}");
    }

    private string Name(Digest digest) => _names.GetValueOrDefault(digest, "?");

    private void Drain(Node node)
    {
        for (var pbft = node.Pbft; pbft is not null;)
        {
            while (pbft.TryTakeDecision(out var decision))
            {
                node.Blocks.Add((decision!.Block, decision.Certificate));
                Line(node, $"decides {Name(decision.Block.Digest)}");
            }

            if (pbft.NextCandidate(pbft.Tip.Header.Time.PlusMs(1), node.Outbox) is not { } block) break;
            pbft.Accept(new BlockWithBodies(block, []), _now, node.Outbox);
        }

        node.Log.AddRange(node.Outbox.Records);
        foreach (var outgoing in node.Outbox.Messages)
        {
            if (outgoing.Message is not PeerMessage.Signed message) continue;
            // Signs of life, and votes and proposals sent again to one that lacks them, would drown the rest.
            var repeated = outgoing.To is not null && message is (PeerMessage.Prepare or PeerMessage.Commit or PeerMessage.PrePrepare);
            if (message is not (PeerMessage.Heartbeat or PeerMessage.Status) && !repeated) Line(node, $"→ {(outgoing.To is { } one ? $"v{one.Value + 1}" : "all")} {Describe(message)}");
            foreach (var to in _nodes)
                if (outgoing.To is null || outgoing.To.Value.Value == to.Number)
                    _queue.Enqueue((node, to, message));
        }

        foreach (var notice in node.Outbox.Notices)
            if (notice is Notice.ViewEntered entered)
                Line(node, $"enters view {entered.View}, leader v{entered.Leader.Value + 1}");
            else if (notice is Notice.Quarantined or Notice.Abstaining)
                Line(node, notice is Notice.Abstaining a ? $"votes again from term {a.UntilTerm}" : "is quarantined");
        node.Outbox.Messages.Clear();
        node.Outbox.Records.Clear();
        node.Outbox.Notices.Clear();
    }

    private void Fetch(Node node)
    {
        if (node.Pbft is not { } pbft || node.Cut) return;
        foreach (var peer in _nodes)
        {
            if (peer == node || peer.Cut || peer.Pbft is null) continue;
            if (pbft.WantedBlock is { } wanted && peer.Pbft.TryFindHeld(wanted, out var held)) pbft.Supply(new BlockWithBodies(held, []), _now, node.Outbox);
            if (pbft.Ahead is { } ahead && peer.Blocks.FindIndex(b => b.Block.Digest == ahead.Digest) is >= 0 and var last)
            {
                Line(node, $"catches up to {Name(ahead.Digest)}");
                pbft.CatchUp([.. peer.Blocks.Take(last + 1).Skip((int)pbft.Committed.Height.Value).Select(b => b.Block)], ahead, _now, node.Outbox);
            }

            Drain(node);
        }
    }

    private string Describe(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m => $"PRE-PREPARE {m.Block.Header.View} {Name(m.Block.Digest)} on {Name(m.Block.Header.Parent)}",
        PeerMessage.Prepare m => $"PREPARE {m.View} {Name(m.Digest)}",
        PeerMessage.Commit m => $"COMMIT {m.View} {Name(m.Digest)}",
        PeerMessage.Suspect m => $"SUSPECT {m.View} ({m.Reason})",
        PeerMessage.ViewChange m => $"VIEW-CHANGE {m.View}, best: {m.Best.Kind} {m.Best.View} {Name(m.Best.Digest)}",
        PeerMessage.NewView m => $"NEW-VIEW {m.View} by {string.Join(' ', m.Claims.Select(c => $"v{c.Sender.Value + 1}"))}, base: {m.Best.Kind} {m.Best.View} {Name(m.Best.Digest)}",
        PeerMessage.Handover m => $"HANDOVER {m.View}",
        _ => message.GetType().Name,
    };
}
