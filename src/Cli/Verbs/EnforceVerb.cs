using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Feedback;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

/// <summary>
/// A consumer of policies, as a firewall's would be: it obeys a quorum, by a file of keys, and neither a validator nor the broker. It changes no firewall;
/// it says what to block, or keeps a file that a firewall reads.
/// </summary>
internal static class EnforceVerb
{
    private enum Form
    {
        List,
        Nftables,
    }

    public static Command Create()
    {
        var brokers = new Option<string>("--brokers") { Description = "Kafka brokers (host:port,…).", Required = true };
        var policy = VerifyVerb.PolicyFile();
        var topic = new Option<string>("--topic") { Description = "Where policies are published.", DefaultValueFactory = _ => "control.policy.v1" };
        var dryRun = new Option<bool>("--dry-run") { Description = "Print what would be blocked, and each change." };
        var output = new Option<FileInfo?>("--out") { Description = "Keep this file: it is replaced at each change, and never half written." };
        var form = new Option<Form>("--format") { Description = "Of the file: list (one network per line) or nftables (a table with two sets, for 'nft -f').", DefaultValueFactory = _ => Form.List };
        var once = new Option<bool>("--once") { Description = "Stop when everything published so far has been read." };
        var command = new Command("enforce", "Follow the policies that a quorum has put in force, and say what to block until when.") { brokers, policy, topic, dryRun, output, form, once };
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            var file = parsed.GetValue(output)?.FullName;
            if (parsed.GetValue(dryRun) == (file is not null)) throw new UserError("say either --dry-run or --out FILE", "with --dry-run it prints, with --out it keeps a file");
            var enforcer = new Enforcer(file, parsed.GetValue(form));
            var verifier = new ControlVerifier(VerifyVerb.ReadPolicy(parsed.GetValue(policy)!), new Ed25519Verifier());
            Follow(KafkaConnection.FromEnvironment(parsed.GetValue(brokers)!), parsed.GetValue(topic)!, verifier, enforcer, parsed.GetValue(once), stop);
            return ExitCode.Ok;
        }, stop));
        return command;
    }

    private static void Follow(KafkaConnection connection, string topic, ControlVerifier verifier, Enforcer enforcer, bool once, CancellationToken stop)
    {
        // From the beginning: what is in force was published some time.
        foreach (var record in TopicReader.Follow(connection, topic, stop))
        {
            if (record is not null) enforcer.Take(verifier, record);
            else enforcer.Show();
            if (record is null && once) return;
        }
    }

    private sealed class Enforcer(string? file, Form form)
    {
        private readonly EnforcedPolicies _policies = new();
        private List<BlockedNetwork> _shown = [];
        private bool _hasShown;

        public void Take(ControlVerifier verifier, ConsumeResult<byte[]?, byte[]?> record)
        {
            var verified = verifier.Verify(record.Topic, record.Message.Value, record.Message.Headers, out var problem);
            if (verified is null) Console.Error.WriteLine($"not obeyed, {record.TopicPartitionOffset}: {problem}");
            else if (verified.Policy is { } policy) _policies.Apply(policy, TimeProvider.System.GetUtcNow());
        }

        /// <summary>What has changed since the last time; what has ended by itself too.</summary>
        public void Show()
        {
            var blocked = _policies.Blocked(TimeProvider.System.GetUtcNow());
            if (_hasShown && blocked.SequenceEqual(_shown)) return;
            if (file is null)
            {
                foreach (var gone in _shown.Except(blocked)) Console.WriteLine($"- {gone.Network} ({gone.Policy})");
                foreach (var added in blocked.Except(_shown)) Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"+ {added.Network} until {added.Until:yyyy-MM-dd'T'HH:mm:ss'Z'} ({added.Policy})"));
                if (blocked.Count == 0) Console.WriteLine("nothing is blocked");
            }
            else
            {
                var next = file + ".new";
                File.WriteAllText(next, form == Form.List ? List(blocked) : Nftables(blocked));
                File.Move(next, file, overwrite: true);
            }

            (_shown, _hasShown) = (blocked, true);
        }

        private static string List(List<BlockedNetwork> blocked) => string.Concat(blocked.Select(b => b.Network.ToString()).Distinct().Select(n => n + "\n"));

        /// <summary>Replaces the sets in one transaction; the timeouts end what nobody tells about any more.</summary>
        private static string Nftables(List<BlockedNetwork> blocked)
        {
            var text = new StringBuilder("table inet cybermesh\ndelete table inet cybermesh\ntable inet cybermesh {\n");
            foreach (var (set, type, isV4) in new[] { ("blocked4", "ipv4_addr", true), ("blocked6", "ipv6_addr", false) })
            {
                var elements = blocked.Where(b => b.Network.IsV4 == isV4).GroupBy(b => b.Network.ToString())
                    .Select(g => string.Create(CultureInfo.InvariantCulture, $"{g.Key} timeout {Math.Max(1, (long)(g.Max(b => b.Until) - TimeProvider.System.GetUtcNow()).TotalSeconds)}s")).ToArray();
                text.Append(CultureInfo.InvariantCulture, $"  set {set} {{\n    type {type}\n    flags interval, timeout\n    auto-merge\n");
                if (elements.Length > 0) text.Append(CultureInfo.InvariantCulture, $"    elements = {{ {string.Join(", ", elements)} }}\n");
                text.Append("  }\n");
            }

            return text.Append("  chain input {\n    type filter hook input priority -10\n    ip saddr @blocked4 drop\n    ip6 saddr @blocked6 drop\n  }\n"
                               + "  chain forward {\n    type filter hook forward priority -10\n    ip saddr @blocked4 drop\n    ip6 saddr @blocked6 drop\n    ip daddr @blocked4 drop\n    ip6 daddr @blocked6 drop\n  }\n}\n").ToString();
        }
    }
}
