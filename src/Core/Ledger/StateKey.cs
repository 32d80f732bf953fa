using System;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>A key of the state as people write it, for those tables that outsiders have questions about: <c>alert:DIGEST</c> and the like.</summary>
public sealed class StateKey
{
    /// <summary>What can be asked for.</summary>
    public const string Forms = "alert:DIGEST, evidence:DIGEST, policy:DIGEST, producer:KEY, reputation:NAME, log";

    private readonly string _text;
    private readonly byte[] _bytes;

    private StateKey(string table, string text, ReadOnlySpan<byte> bytes)
    {
        Table = table;
        _text = text;
        _bytes = bytes.ToArray();
    }

    internal string Table { get; }
    internal Digest Digest { get; private init; }
    internal PublicKey Key { get; private init; }
    internal string Name { get; private init; } = "";

    /// <summary>The key in the tree (docs/wire-format.md, "The state").</summary>
    public ReadOnlyMemory<byte> Bytes => _bytes;

    public override string ToString() => _text;

    public static StateKey OfPolicy(Digest transaction) => TryParse("policy:" + transaction, out var key) ? key : throw Invariant.Unreachable(transaction);

    public static bool TryParse(string text, [NotNullWhen(true)] out StateKey? key)
    {
        key = null;
        Span<byte> bytes = stackalloc byte[Limits.StateKeyBytesMax];
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        var (table, name) = colon < 0 ? (text, "") : (text[..colon], text[(colon + 1)..]);
        switch (table)
        {
            case "alert" or "evidence" or "policy" when Digest.TryParse(name, out var digest):
                var kind = table switch { "alert" => AlertKind.Anomaly, "evidence" => AlertKind.Evidence, _ => AlertKind.Policy };
                key = new StateKey(table, text, StateKeys.Transaction(bytes[..StateKeys.TransactionLength], kind, digest)) { Digest = digest };
                break;
            case "producer" when PublicKey.TryParse(name, out var producer):
                key = new StateKey(table, text, StateKeys.Producer(bytes[..StateKeys.ProducerLength], producer)) { Key = producer };
                break;
            case "reputation" when name.Length is > 0 and <= Limits.NameBytesMax:
                key = new StateKey(table, text, StateKeys.Standing(bytes[..StateKeys.StandingLength], name)) { Name = name };
                break;
            case "log" when colon < 0:
                key = new StateKey(table, text, StateKeys.Log);
                break;
        }

        return key is not null;
    }

    /// <summary>What a value under this key says, in a sentence; null when the bytes are no such value.</summary>
    public string? Describe(ReadOnlySpan<byte> value)
    {
        var reader = new CanonicalReader(value);
        var says = Table switch
        {
            "alert" => AlertBook.ReadAlert(ref reader, Digest) is { } a
                ? Say($"alert {a.Origin.Id} of {a.Origin.Producer} ({a.Organisation}), block {a.Origin.Height}, severity {a.Severity}: {a.Status}{(a.DecidedBy.Length > 0 ? " by " + a.DecidedBy : "")}, {a.EvidenceCount} pieces of evidence")
                : null,
            "evidence" => EvidenceBook.ReadEvidence(ref reader, Digest) is { } e
                ? Say($"evidence {e.Origin.Id} of {e.Origin.Producer} ({e.Organisation}), block {e.Origin.Height}: {e.References} references, {e.Dangling} of them dangling, custody {(e.CustodyVerified ? "verified" : "not verified")}")
                : null,
            "policy" => PolicyBook.ReadHead(ref reader) is { } p && reader.Digest() is { } parameters
                ? Say($"policy {p.Id} of {p.Producer}, block {p.Height}: {p.Status} until {p.Until}, approved by {p.Approvals.Count}, params with SHA-256 {parameters}")
                : null,
            "producer" => Chain.Producer.Read(ref reader) is { } p
                ? Say($"a key of {p.Name} ({p.Organisation}) for {p.Kinds}, from block {p.ValidFrom}{(p.ValidTo is { } end ? " to " + end : "")}{(p.Revoked ? ", revoked" : "")}")
                : null,
            "reputation" => ReputationBook.ReadStanding(ref reader) is var s ? Say($"{Name} has a reputation of {s.Reputation}, {s.Accepted} messages accepted and {s.Rejected} rejected") : null,
            _ => (reader.UInt64(), reader.Digest(), reader.Height(), reader.Time()) is var (size, root, _, _) ? Say($"the log has {size} entries and the root {root}") : null,
        };
        return reader.Finish(out _) ? says : null;
    }

    private static string Say(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    /// <summary>What it means that nothing stands under this key.</summary>
    public string DescribeAbsence() => Table switch
    {
        "alert" => "nothing has happened to this alert since it was reported, or it is no open alert",
        "evidence" => "this is no evidence, or the state has let it go",
        "policy" => "this policy is not proposed and not in force",
        "producer" => "this key is of no producer",
        "reputation" => "nothing of this name has been in a block: the reputation is the one everybody begins with",
        _ => "there is no log yet",
    };
}
