using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Telemetry;

/// <summary>Turns the notices of Core into log lines and counters.</summary>
internal sealed class NoticeLog(EpochSchedule epochs, Metrics metrics, ViewHistory views, ILogger logger)
{
    public void Write(Notice notice)
    {
        switch (notice)
        {
            case Notice.Suspected n:
                metrics.Suspicions.Increment();
                Log.Suspected(logger, n.View.ToString(), n.Reason.ToString());
                break;
            case Notice.ViewChangeStarted n:
                metrics.ViewChanges.Increment();
                var by = n.SuspectedBy.IsEmpty ? "nobody here" : string.Join(", ", n.SuspectedBy.Select(Name));
                Log.ViewChange(logger, n.Target.ToString(), n.Reason, by);
                views.Add(n.Target, n.Reason, [.. n.SuspectedBy.Select(Name)]);
                break;
            case Notice.ViewEntered n:
                metrics.ViewsEntered.Increment();
                Log.ViewEntered(logger, n.View.ToString(), Name(n.Leader), n.Base.Value);
                break;
            case Notice.Equivocation n:
                metrics.Equivocations.Increment();
                Log.Equivocation(logger, Name(n.Offender), n.Type.ToString(), n.View.ToString(), n.Height.Value);
                break;
            case Notice.Misbehaved n:
                Log.Misbehaved(logger, Name(n.Proof.Offender), n.Proof.Kind.ToString(), n.Proof.First.View.ToString(), n.Proof.First.Height.Value);
                break;
            case Notice.ProposalRefused n:
                metrics.ProposalsRefused.Increment();
                Log.ProposalRefused(logger, Name(n.Leader), n.Height.Value, n.Reason);
                break;
            case Notice.CaughtUp n:
                Log.CaughtUp(logger, n.From.Value, n.To.Value);
                break;
            case Notice.Quarantined n:
                Log.Quarantined(logger, n.Why);
                break;
            case Notice.SnapshotInstalled n:
                Log.SnapshotInstalled(logger, n.From.Value, n.To.Value);
                break;
            case Notice.CheckpointStable n:
                Log.CheckpointStable(logger, n.Checkpoint.Term, n.Checkpoint.Height.Value);
                break;
            case Notice.EpochEntered n:
                Log.EpochEntered(logger, n.Epoch.Epoch, n.Epoch.Validators.Count, string.Join(", ", n.Epoch.Validators.Members.Select(m => m.Name)));
                break;
            case Notice.UpgradeAhead n:
                Log.UpgradeAhead(logger, n.Version, n.From.Value);
                break;
            case Notice.Abstaining n:
                Log.Abstaining(logger, n.UntilTerm);
                break;
            case Notice.BodiesRequested n:
                metrics.BodiesRequested.Add(n.Count);
                Log.BodiesRequested(logger, Name(n.From), n.Count, n.Height.Value);
                break;
            default:
                throw Invariant.Unreachable(notice);
        }
    }

    private string Name(ValidatorIndex index) => epochs.Name(index);
}
