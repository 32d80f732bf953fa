using System;
using System.Buffers;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>A policy that is proposed or in force.</summary>
internal sealed class OpenPolicy
{
    public required Digest Digest { get; init; }
    public required string Id { get; init; }
    public required string Producer { get; init; }
    public required Height Height { get; init; }
    public required PolicyParams Content { get; init; }
    public required ReadOnlyMemory<byte> Params { get; init; }

    public PolicyStatus Status { get; set; } = PolicyStatus.Proposed;

    /// <summary>End of the wait for approval, or of the time in force.</summary>
    public Timestamp Until { get; set; }

    /// <summary>Who has approved it, by name.</summary>
    public SortedSet<string> Approvals { get; } = new(StringComparer.Ordinal);

    /// <summary>Who wants it revoked.</summary>
    public SortedSet<string> Revocations { get; } = new(StringComparer.Ordinal);
}

/// <summary>What the state says of a policy besides its params.</summary>
internal sealed record PolicyHead(string Id, string Producer, Height Height, PolicyStatus Status, Timestamp Until, List<string> Approvals, List<string> Revocations);

/// <summary>
/// Policies from proposal to end, and everything that keeps one from doing harm (docs/state-machine.md, rows P1 to P17): approvals, time to live,
/// the never-block list, the widest network, caps, no duplicates, the switch that ends all of them.
/// </summary>
internal sealed class PolicyBook(StateTree tree, AlertBook alerts, List<LedgerEvent> events)
{
    private const long MinuteMs = 60_000;

    private readonly SortedDictionary<Digest, OpenPolicy> _open = [];
    private readonly SortedSet<(Timestamp Until, Digest Policy)> _ends = [];
    private readonly Dictionary<string, Digest> _ids = new(StringComparer.Ordinal);
    /// <summary>How many open policies do the same; two only while one replaces the other.</summary>
    private readonly Dictionary<string, int> _effects = new(StringComparer.Ordinal);

    /// <summary>When policies came into force within the last minute before the last one did, oldest first.</summary>
    private readonly List<Timestamp> _activations = [];

    private int _inThisBlock;

    /// <summary>The operators have stopped all policies.</summary>
    public bool IsHalted { get; private set; }

    public int Count => _open.Count;

    /// <summary>When the first of them ends; null when there is none. Block time has to reach it, traffic or not.</summary>
    public Timestamp? NextEnd => _ends.Count == 0 ? null : _ends.Min.Until;

    // ---- Proposals --------------------------------------------------------------------------------------------

    /// <summary>Why a proposal is refused; null and what it says when it is not.</summary>
    public Rejection? Check(AlertEnvelope envelope, ChainParameters parameters, out PolicyParams? content)
    {
        content = null;
        if (IsHalted) return new Rejection(RejectionReason.PoliciesHalted, "the operators have stopped all policies");
        var policy = (AlertContent.Policy)envelope.Content;
        if (!PolicyParams.TryRead(policy.Params.Span, out var read, out var problem)) return new Rejection(RejectionReason.PolicyMalformed, problem);
        if (read.Action != policy.Action || read.RuleType != policy.Rule || read.PolicyId != envelope.Id)
            return new Rejection(RejectionReason.PolicyMismatch, "params do not repeat action, rule_type and policy_id as they stand in the message");
        if (!read.IsSupported) return new Rejection(RejectionReason.PolicyUnsupported, $"no enforcer knows action {read.Action} with rule type {read.RuleType}");
        if (read.TtlSeconds is not { } ttl || ttl < 1 || ttl > parameters.PolicyTtlMaxSeconds)
            return new Rejection(RejectionReason.TtlOutOfRange, $"guardrails.ttl_seconds must be 1 to {parameters.PolicyTtlMaxSeconds}");
        var refused = CheckTargets(read, parameters) ?? CheckPlace(envelope.Id, read);
        if (refused is null) content = read;
        return refused;
    }

    private static Rejection? CheckTargets(PolicyParams content, ChainParameters parameters)
    {
        if (content.NeedsTargets && content.Targets.IsEmpty) return new Rejection(RejectionReason.TargetMissing, "the policy acts on networks and names none");
        // To allow a network is no harm to it.
        if (content.RuleType == "whitelist") return null;
        foreach (var target in content.Targets)
        {
            var min = target.IsV4 ? parameters.PolicyPrefixMinV4 : parameters.PolicyPrefixMinV6;
            if (target.Length < min) return new Rejection(RejectionReason.PrefixTooWide, $"{target} is wider than /{min}");
            if ((NeverBlockList.Always.Find(target) ?? parameters.NeverBlock.Find(target)) is { } network)
                return new Rejection(RejectionReason.NeverBlock, $"{target} touches {network}, which no policy may");
        }

        return null;
    }

    private Rejection? CheckPlace(string id, PolicyParams content)
    {
        if (_ids.ContainsKey(id)) return new Rejection(RejectionReason.DuplicatePolicy, $"there is an open policy {id}");
        if (_open.Count == Limits.PoliciesOpenMax) return new Rejection(RejectionReason.PolicyCap, $"{Limits.PoliciesOpenMax} policies are open");
        var replaced = content.RollbackOf is { } other ? FindActive(other) : null;
        if (content.RollbackOf is not null && replaced is null) return new Rejection(RejectionReason.RollbackUnknown, $"no policy {content.RollbackOf} is in force");
        var same = _effects.GetValueOrDefault(EffectOf(content)) - (replaced is not null && EffectOf(replaced.Content) == EffectOf(content) ? 1 : 0);
        return same > 0 ? new Rejection(RejectionReason.DuplicatePolicy, "an open policy does the same to the same networks") : null;
    }

    private OpenPolicy? FindActive(string id) =>
        _ids.TryGetValue(id, out var digest) && _open[digest] is { Status: PolicyStatus.Active } policy ? policy : null;

    /// <summary>Two policies with one effect are duplicates, whatever their order of targets or their time to live.</summary>
    private static string EffectOf(PolicyParams content)
    {
        // Without networks only the settings themselves tell two policies apart.
        if (content.Targets.IsEmpty) return $"{content.Action} {content.RuleType} of {content.PolicyId}";
        var targets = new SortedSet<string>(StringComparer.Ordinal);
        foreach (var target in content.Targets) targets.Add(target.ToString());
        return $"{content.Action} {content.RuleType} {string.Join(' ', targets)}";
    }

    public void Propose(OpenPolicy policy, ChainParameters parameters, Timestamp time)
    {
        policy.Until = time.PlusMs(parameters.PolicyProposalMs);
        Insert(policy);
        Tell(policy, policy.Producer);
        if (parameters.AutoApproveSeverity > 0 && MayActivate(policy, parameters, time) is null
            && policy.Content.Answers is { } answered && alerts.Find(answered) is { Status: AlertStatus.Corroborated or AlertStatus.Confirmed } alert
            && alert.Severity >= parameters.AutoApproveSeverity)
            Activate(policy, time, "alert " + answered);
        Write(policy);
    }

    // ---- Approvals --------------------------------------------------------------------------------------------

    /// <summary>Why an approver's ruling changes nothing; null when it does.</summary>
    public Rejection? Check(Digest subject, Ruling ruling, string approver, ChainParameters parameters, Timestamp time)
    {
        if (!_open.TryGetValue(subject, out var policy)) return new Rejection(RejectionReason.UnknownSubject, "no open policy has this transaction digest");
        if (ruling == Ruling.Approve && policy.Status == PolicyStatus.Active) return new Rejection(RejectionReason.NoEffect, "the policy is in force already");
        var votes = ruling == Ruling.Approve ? policy.Approvals : policy.Revocations;
        if (votes.Contains(approver)) return new Rejection(RejectionReason.AlreadyDecided, $"{approver} has said so already");
        return ruling == Ruling.Approve && votes.Count + 1 >= parameters.PolicyApprovals ? MayActivate(policy, parameters, time) : null;
    }

    public void Decide(Digest subject, Ruling ruling, string approver, ChainParameters parameters, Timestamp time)
    {
        var policy = _open[subject];
        var votes = ruling == Ruling.Approve ? policy.Approvals : policy.Revocations;
        votes.Add(approver);
        if (votes.Count < parameters.PolicyApprovals)
        {
            Write(policy);
            return;
        }

        var names = string.Join(", ", votes);
        if (ruling == Ruling.Revoke)
        {
            End(policy, PolicyStatus.Revoked, names);
            return;
        }

        Activate(policy, time, names);
        Write(policy);
    }

    /// <summary>What has changed since the proposal, and how many have come into force lately.</summary>
    private Rejection? MayActivate(OpenPolicy policy, ChainParameters parameters, Timestamp time)
    {
        var lately = 0;
        foreach (var at in _activations)
            if (time.Since(at) < MinuteMs)
                lately++;
        if (_inThisBlock >= parameters.PoliciesPerBlockMax || lately >= parameters.PoliciesPerMinuteMax)
            return new Rejection(RejectionReason.PolicyCap, $"{_inThisBlock} policies have come into force in this block and {lately} in the last minute; approve it again later");
        return CheckTargets(policy.Content, parameters);
    }

    private void Activate(OpenPolicy policy, Timestamp time, string by)
    {
        _ends.Remove((policy.Until, policy.Digest));
        policy.Status = PolicyStatus.Active;
        policy.Until = time.PlusMs(1000 * policy.Content.TtlSeconds!.Value);
        _ends.Add((policy.Until, policy.Digest));
        _inThisBlock++;
        _activations.RemoveAll(at => time.Since(at) >= MinuteMs);
        _activations.Add(time);
        WriteSwitch();
        Tell(policy, by);
        // What it names may have ended since it was proposed.
        if (policy.Content.RollbackOf is { } other && FindActive(other) is { } replaced) End(replaced, PolicyStatus.Revoked, "policy " + policy.Id);
    }

    // ---- Ends -------------------------------------------------------------------------------------------------

    /// <summary>A new block begins: what has lasted its time ends.</summary>
    public void Expire(Timestamp time)
    {
        _inThisBlock = 0;
        while (_ends.Count > 0 && _ends.Min is var (until, digest) && until <= time) End(_open[digest], PolicyStatus.Expired, "");
    }

    private void End(OpenPolicy policy, PolicyStatus status, string by)
    {
        _open.Remove(policy.Digest);
        _ends.Remove((policy.Until, policy.Digest));
        _ids.Remove(policy.Id);
        var effect = EffectOf(policy.Content);
        if (--_effects[effect] == 0) _effects.Remove(effect);
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        tree.Remove(StateKeys.Transaction(key, AlertKind.Policy, policy.Digest));
        var wasActive = policy.Status == PolicyStatus.Active;
        policy.Status = status;
        Tell(policy, by, wasActive);
    }

    /// <summary>The operators' switch: on, it ends every policy and lets in no new one.</summary>
    public void Halt(bool halted)
    {
        IsHalted = halted;
        if (halted)
            foreach (var policy in ImmutableArray.CreateRange(_open.Values))
                End(policy, PolicyStatus.Revoked, "the operators");
        WriteSwitch();
    }

    private void Tell(OpenPolicy policy, string by, bool wasActive = false)
    {
        // Enforcers need the content of what begins and of what they have to end.
        var content = policy.Status == PolicyStatus.Active || wasActive ? policy.Params : default;
        events.Add(new LedgerEvent.PolicyChanged(
            policy.Digest, policy.Id, policy.Status, policy.Until, by, policy.Content.Action, policy.Content.RuleType, policy.Content.RollbackOf ?? "", policy.Content.RequiresAck, content));
    }

    // ---- State ------------------------------------------------------------------------------------------------

    private void Insert(OpenPolicy policy)
    {
        _open.Add(policy.Digest, policy);
        _ends.Add((policy.Until, policy.Digest));
        _ids.Add(policy.Id, policy.Digest);
        var effect = EffectOf(policy.Content);
        _effects[effect] = _effects.GetValueOrDefault(effect) + 1;
    }

    private void Write(OpenPolicy policy)
    {
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        tree.Set(StateKeys.Transaction(key, AlertKind.Policy, policy.Digest), ValueOf(policy));
    }

    public void WriteSwitch()
    {
        var buffer = new ArrayBufferWriter<byte>(64);
        WriteSwitch(new CanonicalWriter(buffer));
        tree.Set(StateKeys.Policies, buffer.WrittenSpan);
    }

    private void WriteSwitch(CanonicalWriter writer)
    {
        writer.UInt8(IsHalted ? (byte)1 : (byte)0);
        writer.Count(_activations.Count);
        foreach (var at in _activations) writer.Time(at);
    }

    /// <summary>The bytes under a policy's key in the state, for a proof; null when it is not open.</summary>
    public byte[]? ValueOf(Digest transaction) => _open.TryGetValue(transaction, out var policy) ? ValueOf(policy) : null;

    private static byte[] ValueOf(OpenPolicy policy)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        var writer = new CanonicalWriter(buffer);
        WriteHead(writer, policy);
        writer.Digest(Digest.Sha256(policy.Params.Span));
        return buffer.WrittenSpan.ToArray();
    }

    private static void WriteHead(CanonicalWriter writer, OpenPolicy policy)
    {
        writer.Text(policy.Id);
        writer.Text(policy.Producer);
        writer.Height(policy.Height);
        writer.UInt8((byte)policy.Status);
        writer.Time(policy.Until);
        WriteNames(writer, policy.Approvals);
        WriteNames(writer, policy.Revocations);
    }

    private static void WriteNames(CanonicalWriter writer, SortedSet<string> names)
    {
        writer.Count(names.Count);
        foreach (var name in names) writer.Text(name);
    }

    /// <summary>All, by digest.</summary>
    internal void Write(SnapshotWriter output)
    {
        var writer = output.Items;
        WriteSwitch(writer);
        writer.Count(_open.Count);
        foreach (var policy in _open.Values)
        {
            writer.Digest(policy.Digest);
            WriteHead(writer, policy);
            writer.Bytes(policy.Params.Span);
            output.EndItem();
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        var halted = reader.UInt8();
        for (var left = reader.Count(10_000, 8); left > 0; left--) _activations.Add(reader.Time());
        IsHalted = halted == 1;
        if (halted > 1) reader.Fail(DecodeError.NotCanonical);
        for (var left = reader.Count(Limits.PoliciesOpenMax, 60); left > 0 && reader.Error == DecodeError.None; left--)
        {
            var digest = reader.Digest();
            if (ReadHead(ref reader) is not { } head) return;
            var json = reader.Bytes(Limits.PolicyParamsBytesMax);
            if (!PolicyParams.TryRead(json, out var content, out _) || content.TtlSeconds is null || _ids.ContainsKey(head.Id) || _open.ContainsKey(digest))
            {
                reader.Fail(DecodeError.NotCanonical);
                return;
            }

            var policy = new OpenPolicy { Digest = digest, Id = head.Id, Producer = head.Producer, Height = head.Height, Content = content, Params = json, Status = head.Status, Until = head.Until };
            policy.Approvals.UnionWith(head.Approvals);
            policy.Revocations.UnionWith(head.Revocations);
            Insert(policy);
        }
    }

    /// <summary>What <see cref="WriteHead"/> wrote; null, and the reader failed, when it is none.</summary>
    internal static PolicyHead? ReadHead(ref CanonicalReader reader)
    {
        var (id, producer, height, status, until) = (reader.Text(Limits.IdBytesMax), reader.Text(Limits.NameBytesMax), reader.Height(), reader.UInt8(), reader.Time());
        var (approvals, revocations) = (ReadNames(ref reader), ReadNames(ref reader));
        if (status is (byte)PolicyStatus.Proposed or (byte)PolicyStatus.Active) return new PolicyHead(id, producer, height, (PolicyStatus)status, until, approvals, revocations);
        reader.Fail(DecodeError.NotCanonical);
        return null;
    }

    private static List<string> ReadNames(ref CanonicalReader reader)
    {
        var names = new List<string>();
        for (var left = reader.Count(Limits.ProducersMax, 4); left > 0; left--) names.Add(reader.Text(Limits.NameBytesMax));
        return names;
    }
}
