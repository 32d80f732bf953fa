using System;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Alerts;

/// <summary>
/// What the params of a policy say, as existing producers write them (docs/wire-format.md, "Params of a policy"). They are what the producer signs
/// under profile v1, so everything a policy does hangs on them and not on the unsigned fields beside them.
/// </summary>
/// <param name="Targets">From target.ips and target.cidrs, in their order.</param>
/// <param name="TtlSeconds">guardrails.ttl_seconds; null when it is missing.</param>
/// <param name="RollbackOf">Id of a policy in force that this one replaces.</param>
/// <param name="Answers">The alert's transaction the policy answers.</param>
public sealed record PolicyParams(
    string Action, string RuleType, string PolicyId, ImmutableArray<IpPrefix> Targets, long? TtlSeconds, bool RequiresAck, string? RollbackOf, Digest? Answers)
{
    private static readonly ImmutableArray<string> Actions = ["add", "apply", "remove", "update", "enable", "disable", "drop", "reject", "rate_limit"];
    private static readonly ImmutableArray<string> RuleTypes = ["threshold", "blacklist", "whitelist", "feature_flag", "rate_limit", "model_param", "block"];

    /// <summary>Consumers of the control topic know this action and rule type.</summary>
    public bool IsSupported => Actions.Contains(Action) && RuleTypes.Contains(RuleType);

    /// <summary>It acts on networks, so it must name them.</summary>
    public bool NeedsTargets => RuleType is "block" or "blacklist" or "rate_limit" || Action is "drop" or "reject" or "rate_limit";

    public static bool TryRead(ReadOnlySpan<byte> json, [NotNullWhen(true)] out PolicyParams? parameters, [NotNullWhen(false)] out string? problem)
    {
        parameters = null;
        if (json.Length is 0 or > Limits.PolicyParamsBytesMax)
        {
            problem = $"params have {json.Length} bytes; a policy that is to be enforced has 1 to {Limits.PolicyParamsBytesMax}";
            return false;
        }

        var found = new PolicyParams("", "", "", [], null, false, null, null);
        problem = StrictJson.Read(json, "params", ref found, Take);
        if (problem is null) parameters = found;
        return problem is null;
    }

    private static string? Take(ref PolicyParams found, ReadOnlySpan<string?> path, ref Utf8JsonReader value)
    {
        if (value.TokenType == JsonTokenType.Null && path is not ["target", "ips" or "cidrs", null]) return null;
        switch (path)
        {
            case ["target" or "guardrails"]:
                return value.TokenType == JsonTokenType.StartObject ? null : path[0] + " is no object";
            case ["target", "ips" or "cidrs"]:
                return value.TokenType == JsonTokenType.StartArray ? null : $"target.{path[1]} is no array";
            case ["target", "ips" or "cidrs", null]:
                if (found.Targets.Length == Limits.PolicyTargetsMax) return $"more than {Limits.PolicyTargetsMax} targets";
                if (value.TokenType != JsonTokenType.String || !IpPrefix.TryParse(value.GetString()!, out var network))
                    return $"target.{path[1]} holds something that is no IPv4 or IPv6 network";
                found = found with { Targets = found.Targets.Add(network) };
                return null;
            case ["guardrails", "ttl_seconds"]:
                if (value.TokenType != JsonTokenType.Number || !value.TryGetInt64(out var seconds)) return "guardrails.ttl_seconds is no whole number";
                found = found with { TtlSeconds = seconds };
                return null;
            case ["guardrails", "requires_ack"]:
                found = found with { RequiresAck = value.TokenType == JsonTokenType.True };
                return null;
            case ["action" or "rule_type" or "policy_id" or "rollback_policy_id" or "alert"]:
                return value.TokenType == JsonTokenType.String ? TakeText(path[0]!, value.GetString()!, ref found) : path[0] + " is no text";
            default:
                return null;
        }
    }

    private static string? TakeText(string name, string text, ref PolicyParams found)
    {
        if (name == "alert" && !Digest.TryParse(text, out _)) return "alert is no transaction digest of 64 hex digits";
        found = name switch
        {
            "action" => found with { Action = text },
            "rule_type" => found with { RuleType = text },
            "policy_id" => found with { PolicyId = text },
            "rollback_policy_id" => found with { RollbackOf = text },
            "alert" when Digest.TryParse(text, out var alert) => found with { Answers = alert },
            _ => throw Invariant.Unreachable(name),
        };
        return null;
    }
}
