using System.Collections.Generic;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Simulator;

/// <summary>One simulated validator: its process (if it runs), its disk and its clock.</summary>
internal sealed class Node(int number, ISigner signer, Liar? liar) : IKeyring
{
    public int Number { get; } = number;

    /// <summary>Its keys, the newest last.</summary>
    public List<ISigner> Keys { get; } = [signer];

    /// <summary>Its keys for the log, of all its identities.</summary>
    public List<ISigner> LogKeys { get; } = [];

    public ISigner? Find(PublicKey key) => Keys.Find(k => k.PublicKey == key) ?? LogKeys.Find(k => k.PublicKey == key);

    /// <summary>Checks what this validator is about to say, with the validator sets it knows.</summary>
    public PeerAuthenticator? Authenticator { get; set; }

    public Liar? Liar { get; } = liar;
    public SimulatedDisk Disk { get; } = new();
    public Effects Effects { get; } = new();
    public Replica? Replica { get; set; }

    /// <summary>Goes up with every start: events of an earlier life are dropped.</summary>
    public int Life { get; set; }

    /// <summary>Down for good: it is one of the f that never heal.</summary>
    public bool Gone { get; set; }

    public long PausedUntilMs { get; set; }

    /// <summary>What waits for a node that stands still, in order.</summary>
    public Queue<System.Action> Deferred { get; } = new();

    public long SlowDiskUntilMs { get; set; }
    public int SlowDiskMs { get; set; }
    public long FailingDiskUntilMs { get; set; }
    public int FailingPercent { get; set; }
    public long DurableAtMs { get; set; }
    public long StoredAtMs { get; set; }

    public int ClockOffsetMs { get; set; }
    public int DriftPerMille { get; set; }
    public Timestamp LastNow { get; set; }

    /// <summary>Handed to the disk and not known to be synced, oldest first.</summary>
    public LinkedList<LogBatch> PendingLog { get; } = new();

    public LinkedList<CommittedBlock[]> PendingBlocks { get; } = new();

    /// <summary>Images of the disk at earlier times, for faults that bring one back.</summary>
    public List<(long AtMs, SimulatedDisk.Image Image)> Images { get; } = [];

    /// <summary>What Kafka would still deliver: published and not yet seen decided by this node.</summary>
    public Queue<Verified<AlertEnvelope>> Inbox { get; } = new();

    public HashSet<Digest> Decided { get; } = [];

    public int EventsSinceSizes { get; set; }

    /// <summary>Writes to log and block store so far: the points at which a crash can fall.</summary>
    public int Writes { get; set; }
}

/// <summary>One batch on its way to the log, with what may happen once it is there.</summary>
internal sealed record LogBatch(
    Core.Consensus.DurableRecord[] Records, Core.Consensus.Outgoing[] Messages, CommittedBlock[] Decided,
    TakenSnapshot[] Snapshots, Core.Chain.CheckpointCertificate[] Stable, (Core.Chain.CheckpointCertificate Certificate, TakenSnapshot Taken)? Installed);
