using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Telemetry;
using CyberMesh.Simulator;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Cli.Demo;

/// <summary>n whole validators in one process, each with its own home, ports and consumer group, and the faults the demo can put between them.</summary>
internal sealed class DemoCluster : IAsyncDisposable
{
    private readonly string[] _homes;
    private readonly string _brokers;
    private readonly Genesis _genesis;
    private readonly ValidatorIndex? _liar;
    private readonly Strategy _lies;
    private readonly ValidatorNode?[] _nodes;
    private readonly ConcurrentDictionary<Digest, long> _committedAtMs = new();

    public DemoCluster(string directory, int validators, int apiPort, string brokers, IReadOnlyList<Producer> producers, Strategy lies)
    {
        _brokers = brokers;
        int[] apiPorts = apiPort == 0 ? Testnet.FreePorts(validators) : [.. Enumerable.Range(apiPort, validators)];
        _homes = Testnet.Generate(directory, Testnet.FreePorts(validators), apiPorts, producers, brokers, TimeProvider.System);
        _genesis = GenesisFile.Load(Path.Combine(_homes[0], "genesis.json"));
        // The liar leads the first view, where lying does most harm.
        _lies = lies;
        _liar = lies == Strategy.None ? null : new ValidatorIndex(0);
        _nodes = new ValidatorNode?[validators];
    }

    private const int CommitsMax = 10_000;

    /// <summary>When each of the last blocks was stored, by any validator, and who proposed it.</summary>
    private readonly Queue<(long AtMs, Height Height, ValidatorIndex Proposer)> _commits = new();

    public PartitionSwitch Partition { get; } = new();

    /// <summary>Home number of the lying validator; its word counts for nothing in the final account.</summary>
    public int? LiarNumber { get; private set; }

    public int Count => _nodes.Length;

    public ValidatorNode? this[int number] => _nodes[number];

    public IEnumerable<ValidatorNode> Running => _nodes.OfType<ValidatorNode>();

    /// <summary>When a transaction was first stored in a block by any validator (Environment.TickCount64).</summary>
    public IReadOnlyDictionary<Digest, long> CommittedAtMs => _committedAtMs;

    /// <summary>How long each death of a leader kept the others from their next block.</summary>
    public List<long> RecoveriesMs { get; } = [];

    /// <summary>When the first block above a height was stored that is not of this validator (Environment.TickCount64); null when none was, or it is long ago.</summary>
    public long? FirstCommitOfOthers(ValidatorIndex index, Height above)
    {
        lock (_commits)
            foreach (var (atMs, height, proposer) in _commits)
                if (height > above && proposer != index)
                    return atMs;
        return null;
    }

    public async Task StartAllAsync()
    {
        for (var i = 0; i < _nodes.Length; i++) await StartAsync(i);
    }

    public async Task StartAsync(int number)
    {
        var settings = Settings.Load(Path.Combine(_homes[number], "config.json"), new Dictionary<string, string> { ["KAFKA_CONSUMER_SESSION_TIMEOUT"] = "1500ms" });
        var log = new StreamWriter(Path.Combine(_homes[number], "validator.log"), append: true);
        var logger = new LineLogProvider(log, TimeProvider.System, LogLevel.Information).CreateLogger("");
        var node = new ValidatorNode(new ValidatorOptions(
            _homes[number], _genesis, settings, TimeProvider.System, logger, (mesh, me, signer) =>
            {
                if (me == _liar) LiarNumber = number;
                var liar = me == _liar ? new Liar(_genesis.Chain, _genesis.Block.Digest, me, signer, _lies) : null;
                return new FaultTransport(mesh, me, _nodes.Length, Partition, liar);
            },
            Committed));
        _nodes[number] = node;
        await node.StartAsync();
    }

    /// <summary>Ends a validator as a crash would.</summary>
    public async Task KillAsync(int number)
    {
        var node = _nodes[number]!;
        _nodes[number] = null;
        await node.KillAsync();
        await node.DisposeAsync();
    }

    /// <summary>The validator most others believe to lead.</summary>
    public int LeaderNumber()
    {
        var leader = Running.GroupBy(n => n.Status.Leader).OrderByDescending(g => g.Count()).First().Key;
        return Array.FindIndex(_nodes, n => n?.Index == leader);
    }

    private void Committed(IReadOnlyList<CommittedBlock> run)
    {
        var now = Environment.TickCount64;
        lock (_commits)
        {
            foreach (var committed in run) _commits.Enqueue((now, committed.Block.Height, committed.Block.Header.Proposer));
            while (_commits.Count > CommitsMax) _commits.Dequeue();
        }

        foreach (var committed in run)
            foreach (var receipt in committed.Receipts)
                if (receipt.Accepted && !receipt.Kind.IsControl())
                    _committedAtMs.TryAdd(receipt.Transaction, now);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var node in Running) await node.KillAsync();
        foreach (var node in Running) await node.DisposeAsync();
    }
}
