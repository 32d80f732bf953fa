using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>A message to one validator, or to all including the sender itself when <paramref name="To"/> is null.</summary>
public readonly record struct Outgoing(ValidatorIndex? To, PeerMessage Message);

/// <summary>A structured fact for logs and metrics: Core has no logger.</summary>
public abstract record Notice
{
    private Notice() { }

    public sealed record Suspected(View View, SuspectReason Reason) : Notice;

    public sealed record ViewChangeStarted(View Target, string Reason, ImmutableArray<ValidatorIndex> SuspectedBy) : Notice;

    public sealed record ViewEntered(View View, ValidatorIndex Leader, Height Base, string Reason) : Notice;

    /// <summary>A validator signed two different statements for one slot. Both are known to this replica.</summary>
    public sealed record Equivocation(ValidatorIndex Offender, StatementType Type, View View, Height Height) : Notice;

    /// <summary>A proof against a validator, on its way into a block.</summary>
    public sealed record Misbehaved(Misbehaviour Proof) : Notice;

    public sealed record ProposalRefused(ValidatorIndex Leader, Height Height, string Reason) : Notice;

    /// <summary>The state of these heights came as a snapshot.</summary>
    public sealed record SnapshotInstalled(Height From, Height To) : Notice;

    public sealed record CaughtUp(Height From, Height To) : Notice;

    /// <summary>Q validators have signed the same checkpoint (rule P2).</summary>
    public sealed record CheckpointStable(Checkpoint Checkpoint) : Notice;

    /// <summary>Another validator set, or other parameters, from this term on.</summary>
    public sealed record EpochEntered(ChainContext Epoch) : Notice;

    /// <summary>From this block on the chain follows rules that this program does not know (rule S7).</summary>
    public sealed record UpgradeAhead(uint Version, Height From) : Notice;

    /// <summary>This validator does not know what it has signed (rule A1).</summary>
    public sealed record Quarantined(string Why) : Notice;

    /// <summary>It votes again from this term on (rule A2).</summary>
    public sealed record Abstaining(ulong UntilTerm) : Notice;

    public sealed record BodiesRequested(Height Height, int Count, ValidatorIndex From) : Notice;
}

/// <summary>
/// What a step wants done, in this order: make <see cref="Records"/> durable, then send <see cref="Messages"/> (also to oneself:
/// an own vote counts only once it is durable).
/// </summary>
public class Outbox
{
    public List<DurableRecord> Records { get; } = [];
    public List<Outgoing> Messages { get; } = [];
    public List<Notice> Notices { get; } = [];

    public void Broadcast(PeerMessage message) => Messages.Add(new Outgoing(null, message));

    public void Send(ValidatorIndex to, PeerMessage message) => Messages.Add(new Outgoing(to, message));
}
