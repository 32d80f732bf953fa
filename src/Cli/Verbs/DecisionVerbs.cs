using System;
using System.Buffers.Binary;
using System.CommandLine;
using System.IO;
using System.Net;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What analysts say of alerts and approvers of policies: signed here, decided by the chain (docs/state-machine.md).</summary>
internal static class DecisionVerbs
{
    public static Command Alerts() => new("alerts", "Read alerts, and give verdicts on them as an analyst of the trust store.")
    {
        ListVerbs.List("alerts", "/v1/alerts", "alerts", ListVerbs.AlertLine),
        ListVerbs.Show("an alert", "/v1/alerts"),
        ListVerbs.Watch(),
        Decide("confirm", "The alert is right.", Ruling.Confirm, AlertKind.Anomaly),
        Decide("dispute", "The alert is doubtful.", Ruling.Dispute, AlertKind.Anomaly),
        Decide("false-positive", "The alert is wrong.", Ruling.FalsePositive, AlertKind.Anomaly),
    };

    public static Command Policies() => new("policies", "Read, propose, approve, revoke and stop policies.")
    {
        ListVerbs.List("policies", "/v1/policies", "policies", ListVerbs.PolicyLine),
        ListVerbs.Show("a policy", "/v1/policies"),
        Decide("approve", "Approve a policy, as an approver of the trust store.", Ruling.Approve, AlertKind.Policy),
        Decide("reject", "Refuse a policy that is not in force yet, as an approver of the trust store.", Ruling.Revoke, AlertKind.Policy, wanted: "proposed"),
        Decide("revoke", "Revoke a policy, as an approver of the trust store.", Ruling.Revoke, AlertKind.Policy),
        Propose(),
        Halt("halt", "Write an order that ends all policies and lets in no new ones.", halted: true),
        Halt("resume", "Write an order that accepts policies again.", halted: false),
    };

    private static Command Halt(string name, string description, bool halted)
    {
        var options = new OrderOptions();
        var command = new Command(name, description);
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.HaltPolicies(halted), stop));
        return command;
    }

    private static Option<FileInfo> Key() => new("--key") { Description = "The signer's key file.", Required = true };

    /// <param name="wanted">The only status of the subject in which it makes sense.</param>
    private static Command Decide(string name, string description, Ruling ruling, AlertKind kind, string? wanted = null)
    {
        var id = new Argument<string>("id") { Description = "Id or transaction digest." };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var (key, url, handIn) = (Key(), ValidatorClient.UrlOption(), new HandIn("control.decisions.v1", "decision"));
        var note = new Option<string>("--note") { Description = "For people, on the record for good.", DefaultValueFactory = _ => "" };
        var command = new Command(name, description) { id, genesis, key, url, note };
        handIn.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            var subject = await FindAsync(parsed.GetValue(url)!, parsed.GetValue(id)!, kind, stop);
            if (wanted is not null) await ExpectStatusAsync(parsed.GetValue(url)!, subject, wanted, stop);
            using var signer = ProducerKey.Load(parsed.GetValue(key)!.FullName);
            var text = parsed.GetValue(note)!;
            if (System.Text.Encoding.UTF8.GetByteCount(text) > Core.Encoding.Limits.NoteBytesMax) throw new UserError($"the note is longer than {Core.Encoding.Limits.NoteBytesMax} bytes", "shorten it");
            var decision = Decision.Sign(
                GenesisFile.Load(parsed.GetValue(genesis)!.FullName).Chain.ChainId, subject, ruling, DateTimeOffset.UtcNow.ToUnixTimeSeconds(),
                new Nonce(BinaryPrimitives.ReadUInt128BigEndian(RandomNumberGenerator.GetBytes(16))), text, signer);
            await handIn.SendAsync(parsed, parsed.GetValue(url), decision.Encode(), stop);
            Console.WriteLine($"published {ruling.Name()} of {subject} by {signer.PublicKey}");
            return ExitCode.Ok;
        });
        return command;
    }

    /// <summary>
    /// The transaction digest of an alert or policy. What is signed must not hang on what a validator says: the message itself is fetched, and has to
    /// be the one that was asked for.
    /// </summary>
    private static async Task<Digest> FindAsync(string url, string id, AlertKind kind, CancellationToken stop)
    {
        using var validator = new ValidatorClient(url);
        var record = await validator.ReadAsync("/v1/messages/" + Uri.EscapeDataString(id), stop);
        if (!EnvelopeDecoder.TryDecode(kind, record, out var envelope, out _)) throw new UserError($"{id} is no {kind.Name()}", "give the id or the transaction digest of one");
        return envelope.Id == id || envelope.Digest.ToString() == id
            ? envelope.Digest
            : throw new UserError($"{url} answers with another message than {id}", "ask another validator, and find out what is wrong with this one");
    }

    /// <exception cref="RefusedError">It has another one (exit code 8).</exception>
    private static async Task ExpectStatusAsync(string url, Digest policy, string wanted, CancellationToken stop)
    {
        using var validator = new ValidatorClient(url);
        var status = (string?)(await validator.ReadJsonAsync($"/v1/policies/{policy}", stop))["status"];
        if (status != wanted) throw new RefusedError(HttpStatusCode.Conflict, $"the policy is {status}", status == "active" ? "'policies revoke' ends one that is in force" : "nothing is left to refuse");
    }

    private static Command Propose()
    {
        var (key, handIn) = (Key(), new HandIn("ai.policy.v1", null));
        var file = new Option<FileInfo>("--params") { Description = "JSON file: action, rule_type, target, guardrails (docs/wire-format.md). A missing policy_id is made up.", Required = true };
        var command = new Command("propose", "Sign a policy and publish it, as a producer of the trust store.") { key, file };
        handIn.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            using var signer = ProducerKey.Load(parsed.GetValue(key)!.FullName);
            var policy = PolicySigner.Sign(parsed.GetValue(file)!, signer, TimeProvider.System);
            await handIn.SendAsync(parsed, null, policy.Record, stop);
            Console.WriteLine($"proposed policy {policy.Id}");
            return ExitCode.Ok;
        });
        return command;
    }
}
