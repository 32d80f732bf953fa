using System.Buffers;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>Parameters equal on all validators; part of genesis, their digest stands in every header. Defaults and reasons: docs/protocol.md.</summary>
public sealed record ChainParameters
{
    /// <summary>W: how many blocks may be proposed beyond the last committed one.</summary>
    public int Window { get; init; } = 8;

    /// <summary>D: a header carries the state root of the block this many heights below. At most W, so that it is always known.</summary>
    public int RootDistance { get; init; } = 8;

    /// <summary>R: blocks in a term. At its end the leader order is computed anew from what the chain recorded.</summary>
    public int TermBlocks { get; init; } = 128;

    /// <summary>Every so many terms the state is kept as a snapshot: a pass over all of it, 0.7 s for a million open alerts, in which nothing is decided.</summary>
    public int SnapshotTerms { get; init; } = 32;

    public int BlockTransactionsMax { get; init; } = 2000;
    public int BlockBytesMax { get; init; } = 1 << 20;

    /// <summary>How long the oldest waiting transaction waits for company while a block is in flight.</summary>
    public int BatchDelayMs { get; init; } = 20;

    public int ProgressTimeoutMinMs { get; init; } = 500;
    public int ProgressTimeoutMaxMs { get; init; } = 5_000;
    public int TimeoutCapMs { get; init; } = 60_000;
    public int IdleTimeoutMs { get; init; } = 2_000;

    /// <summary>T_tx: after this long in the pool a transaction is announced to all; after twice as long the leader is suspected.</summary>
    public int TransactionTimeoutMs { get; init; } = 2_000;

    public int ResendMs { get; init; } = 250;

    /// <summary>How far a proposed block's time may lie ahead of a validator's clock.</summary>
    public int LeaderSkewAheadMs { get; init; } = 2_000;

    /// <summary>How far a proposed block's time may lie behind a validator's clock.</summary>
    public int LeaderSkewBehindMs { get; init; } = 5_000;

    /// <summary>A message is rejected when its time is this far ahead of block time.</summary>
    public long AlertAheadMs { get; init; } = 5 * 60_000;

    /// <summary>maxAlertAge: a message older than this against block time is rejected; also how long nonces are kept.</summary>
    public long AlertAgeMaxMs { get; init; } = 60 * 60_000;

    /// <summary>k: alerts of one correlation key from so many organisations corroborate one another.</summary>
    public int CorroborationOrganisations { get; init; } = 2;

    /// <summary>How far apart, in block time, alerts that corroborate one another may be committed.</summary>
    public long CorroborationWindowMs { get; init; } = 10 * 60_000;

    /// <summary>How long an alert or a piece of evidence is open to corroboration, links and verdicts; after that it is in the log alone.</summary>
    public long AlertOpenMs { get; init; } = 7L * 24 * 3600_000;

    /// <summary>Open alerts, and open pieces of evidence, of one organisation; the oldest makes room. One organisation cannot push out another's.</summary>
    public int AlertsOpenMax { get; init; } = 200_000;

    /// <summary>Below this reputation a producer corroborates nothing and proposes no policies.</summary>
    public int ReputationMin { get; init; } = 100;

    /// <summary>m: approvers that must agree before a policy is in force, or revoked.</summary>
    public int PolicyApprovals { get; init; } = 2;

    /// <summary>A corroborated or confirmed alert of this severity or more puts a policy that answers it in force at once; 0 for never.</summary>
    public int AutoApproveSeverity { get; init; }

    /// <summary>The longest a policy may be in force.</summary>
    public int PolicyTtlMaxSeconds { get; init; } = 24 * 3600;

    /// <summary>How long a proposal waits for its approvers.</summary>
    public long PolicyProposalMs { get; init; } = 24L * 3600_000;

    /// <summary>Policies that may come into force in one block.</summary>
    public int PoliciesPerBlockMax { get; init; } = 10;

    /// <summary>Policies that may come into force in one minute of block time.</summary>
    public int PoliciesPerMinuteMax { get; init; } = 60;

    /// <summary>The widest IPv4 network a policy may name, as the length of its prefix.</summary>
    public int PolicyPrefixMinV4 { get; init; } = 24;

    /// <summary>The widest IPv6 network a policy may name.</summary>
    public int PolicyPrefixMinV6 { get; init; } = 64;

    /// <summary>Networks no policy may touch, besides those that never may (<see cref="NeverBlockList.Always"/>).</summary>
    public NeverBlockList NeverBlock { get; init; } = NeverBlockList.Empty;

    /// <summary>The term a block belongs to. Term t holds the heights t·R + 1 to (t + 1)·R; genesis counts to term 0.</summary>
    public ulong TermOf(Height height) => height.Minus(1).Value / (ulong)TermBlocks;

    /// <summary>The last block of a term; the highest there can be for a term that somebody has only made up.</summary>
    public Height LastHeight(ulong term) => new(term < ulong.MaxValue / (ulong)TermBlocks ? (term + 1) * (ulong)TermBlocks : ulong.MaxValue);

    public Digest Hash()
    {
        var buffer = new ArrayBufferWriter<byte>();
        Write(new CanonicalWriter(buffer));
        return Digest.Sha256(DigestDomain.Parameters, buffer.WrittenSpan);
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.UInt32((uint)Window);
        writer.UInt32((uint)RootDistance);
        writer.UInt32((uint)TermBlocks);
        writer.UInt32((uint)SnapshotTerms);
        writer.UInt32((uint)BlockTransactionsMax);
        writer.UInt32((uint)BlockBytesMax);
        writer.UInt32((uint)BatchDelayMs);
        writer.UInt32((uint)ProgressTimeoutMinMs);
        writer.UInt32((uint)ProgressTimeoutMaxMs);
        writer.UInt32((uint)TimeoutCapMs);
        writer.UInt32((uint)IdleTimeoutMs);
        writer.UInt32((uint)TransactionTimeoutMs);
        writer.UInt32((uint)ResendMs);
        writer.UInt32((uint)LeaderSkewAheadMs);
        writer.UInt32((uint)LeaderSkewBehindMs);
        writer.Int64(AlertAheadMs);
        writer.Int64(AlertAgeMaxMs);
        writer.UInt32((uint)CorroborationOrganisations);
        writer.Int64(CorroborationWindowMs);
        writer.Int64(AlertOpenMs);
        writer.UInt32((uint)AlertsOpenMax);
        writer.UInt32((uint)ReputationMin);
        writer.UInt32((uint)PolicyApprovals);
        writer.UInt32((uint)AutoApproveSeverity);
        writer.UInt32((uint)PolicyTtlMaxSeconds);
        writer.Int64(PolicyProposalMs);
        writer.UInt32((uint)PoliciesPerBlockMax);
        writer.UInt32((uint)PoliciesPerMinuteMax);
        writer.UInt32((uint)PolicyPrefixMinV4);
        writer.UInt32((uint)PolicyPrefixMinV6);
        NeverBlock.Write(writer);
    }

    internal static ChainParameters Read(ref CanonicalReader reader) => new()
    {
        Window = reader.Int32(),
        RootDistance = reader.Int32(),
        TermBlocks = reader.Int32(),
        SnapshotTerms = reader.Int32(),
        BlockTransactionsMax = reader.Int32(),
        BlockBytesMax = reader.Int32(),
        BatchDelayMs = reader.Int32(),
        ProgressTimeoutMinMs = reader.Int32(),
        ProgressTimeoutMaxMs = reader.Int32(),
        TimeoutCapMs = reader.Int32(),
        IdleTimeoutMs = reader.Int32(),
        TransactionTimeoutMs = reader.Int32(),
        ResendMs = reader.Int32(),
        LeaderSkewAheadMs = reader.Int32(),
        LeaderSkewBehindMs = reader.Int32(),
        AlertAheadMs = reader.Int64(),
        AlertAgeMaxMs = reader.Int64(),
        CorroborationOrganisations = reader.Int32(),
        CorroborationWindowMs = reader.Int64(),
        AlertOpenMs = reader.Int64(),
        AlertsOpenMax = reader.Int32(),
        ReputationMin = reader.Int32(),
        PolicyApprovals = reader.Int32(),
        AutoApproveSeverity = reader.Int32(),
        PolicyTtlMaxSeconds = reader.Int32(),
        PolicyProposalMs = reader.Int64(),
        PoliciesPerBlockMax = reader.Int32(),
        PoliciesPerMinuteMax = reader.Int32(),
        PolicyPrefixMinV4 = reader.Int32(),
        PolicyPrefixMinV6 = reader.Int32(),
        NeverBlock = NeverBlockList.Read(ref reader),
    };

    /// <summary>
    /// May these replace the others on a running chain? Heights and terms hang on some, and longer-lived alerts would outlive the nonces
    /// that keep them from being replayed.
    /// </summary>
    public bool MayFollow(ChainParameters before) =>
        (Window, RootDistance, TermBlocks, AlertAheadMs, AlertAgeMaxMs)
        == (before.Window, before.RootDistance, before.TermBlocks, before.AlertAheadMs, before.AlertAgeMaxMs);

    /// <summary>The first parameter outside its range, as a sentence for the operator; null when all are sound.</summary>
    public string? Problem()
    {
        if (Window is < 1 or > Limits.WindowMax) return $"window is {Window}; it must be 1 to {Limits.WindowMax}";
        if (RootDistance < 1 || RootDistance > Window) return $"root_distance is {RootDistance}; it must be 1 to window ({Window})";
        if (TermBlocks is < 4 or > 100_000) return $"term_blocks is {TermBlocks}; it must be 4 to 100000";
        if (SnapshotTerms is < 1 or > 100_000) return $"snapshot_terms is {SnapshotTerms}; it must be 1 to 100000";
        if (BlockTransactionsMax is < 1 or > Limits.BlockTransactionsMax)
            return $"block_transactions_max is {BlockTransactionsMax}; it must be 1 to {Limits.BlockTransactionsMax}";
        if (BlockBytesMax is < Limits.RecordBytesMax or > Limits.BlockBodyBytesMax)
            return $"block_bytes_max is {BlockBytesMax}; it must be {Limits.RecordBytesMax} to {Limits.BlockBodyBytesMax}";
        if (BatchDelayMs is < 0 or > 1000) return $"batch_delay_ms is {BatchDelayMs}; it must be 0 to 1000";
        if (ProgressTimeoutMinMs is < 50 or > 60_000) return $"progress_timeout_min_ms is {ProgressTimeoutMinMs}; it must be 50 to 60000";
        if (ProgressTimeoutMaxMs < ProgressTimeoutMinMs) return "progress_timeout_max_ms is below progress_timeout_min_ms";
        if (TimeoutCapMs < ProgressTimeoutMaxMs) return "timeout_cap_ms is below progress_timeout_max_ms";
        if (IdleTimeoutMs < 100) return $"idle_timeout_ms is {IdleTimeoutMs}; it must be at least 100";
        if (TransactionTimeoutMs < 100) return $"transaction_timeout_ms is {TransactionTimeoutMs}; it must be at least 100";
        if (ResendMs < 20) return $"resend_ms is {ResendMs}; it must be at least 20";
        if (LeaderSkewAheadMs < 0 || LeaderSkewBehindMs < 0) return "leader skews must not be negative";
        if (AlertAheadMs < 0) return "alert_ahead_ms must not be negative";
        return AlertAgeMaxMs < 15 * 60_000
            ? $"alert_age_max_ms is {AlertAgeMaxMs}; nonces must be kept for at least 15 minutes (900000)"
            : StateProblem();
    }

    /// <summary>Of the parameters of docs/state-machine.md.</summary>
    private string? StateProblem()
    {
        if (CorroborationOrganisations is < 2 or > 64) return $"corroboration_organisations is {CorroborationOrganisations}; it must be 2 to 64";
        if (CorroborationWindowMs < 1000 || CorroborationWindowMs > AlertOpenMs) return $"corroboration_window_ms is {CorroborationWindowMs}; it must be 1000 to alert_open_ms ({AlertOpenMs})";
        if (AlertOpenMs > 366L * 24 * 3600_000) return $"alert_open_ms is {AlertOpenMs}; it must be at most a year";
        if (AlertsOpenMax is < 1 or > 10_000_000) return $"alerts_open_max is {AlertsOpenMax}; it must be 1 to 10000000";
        if (ReputationMin is < 0 or > 1000) return $"reputation_min is {ReputationMin}; it must be 0 to 1000";
        if (PolicyApprovals is < 1 or > 64) return $"policy_approvals is {PolicyApprovals}; it must be 1 to 64";
        if (AutoApproveSeverity is < 0 or > 10) return $"auto_approve_severity is {AutoApproveSeverity}; it must be 1 to 10, or 0 for never";
        if (PolicyTtlMaxSeconds is < 1 or > 366 * 24 * 3600) return $"policy_ttl_max_seconds is {PolicyTtlMaxSeconds}; it must be 1 to a year";
        if (PolicyProposalMs is < 1000 or > 366L * 24 * 3600_000) return $"policy_proposal_ms is {PolicyProposalMs}; it must be 1000 to a year";
        if (PoliciesPerBlockMax is < 1 or > 10_000) return $"policies_per_block_max is {PoliciesPerBlockMax}; it must be 1 to 10000";
        if (PoliciesPerMinuteMax is < 1 or > 10_000) return $"policies_per_minute_max is {PoliciesPerMinuteMax}; it must be 1 to 10000";
        if (PolicyPrefixMinV4 is < 8 or > 32) return $"policy_prefix_min_v4 is {PolicyPrefixMinV4}; it must be 8 to 32";
        return PolicyPrefixMinV6 is < 16 or > 128 ? $"policy_prefix_min_v6 is {PolicyPrefixMinV6}; it must be 16 to 128" : null;
    }
}
