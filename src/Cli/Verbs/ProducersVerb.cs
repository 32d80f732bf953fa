using System;
using System.CommandLine;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;

namespace CyberMesh.Cli.Verbs;

/// <summary>Orders that change the trust store: producers, analysts and approvers (docs/state-machine.md, rows PR6 to PR9).</summary>
internal static class ProducersVerb
{
    private static readonly string[] Kinds = ["anomaly", "evidence", "policy", "verdict", "approval"];

    public static Command Create() => new("producers", "Read and change the trust store of a running network: producers, analysts and approvers.")
    {
        ListVerbs.Producers(), ListVerbs.Show("a producer", "/v1/producers"), Add(), Rotate(), Revoke(),
    };

    private static Option<string> Name() => new("--name") { Description = "Name in the trust store.", Required = true };

    private static Option<string> Key() => new("--key") { Description = "Public key, 64 hex digits, as 'keys generate' prints it.", Required = true };

    private static PublicKey Parse(string hex) =>
        PublicKey.TryParse(hex, out var key) ? key : throw new UserError($"--key {hex} is not a public key", "give 64 hex digits, as 'cybermesh keys generate' prints them");

    private static Command Add()
    {
        var options = new OrderOptions();
        var (name, key) = (Name(), Key());
        var organisation = new Option<string>("--organisation") { Description = "Who runs it.", Required = true };
        var kinds = new Option<string[]>("--kinds") { Description = "What it may sign.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => Kinds[..3] }.AcceptOnlyFromAmong(Kinds);
        var profiles = new Option<string[]>("--profiles") { Description = "Signing profiles.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => ["v1"] }.AcceptOnlyFromAmong("v1", "v2");
        var quota = new Option<uint>("--quota") { Description = "Messages per second.", DefaultValueFactory = _ => 1000 };
        var command = new Command("add", "Write an order that trusts a key, or gives a known one new terms.") { name, key, organisation, kinds, profiles, quota };
        options.AddTo(command);
        command.SetAction((parsed, stop) =>
        {
            var producer = new Producer(
                Parse(parsed.GetValue(key)!), parsed.GetValue(name)!, parsed.GetValue(organisation)!,
                parsed.GetValue(kinds)!.Aggregate(AlertKinds.None, (all, kind) => all | Enum.Parse<AlertKinds>(kind, ignoreCase: true)),
                parsed.GetValue(profiles)!.Aggregate(SigningProfiles.None, (all, profile) => all | Enum.Parse<SigningProfiles>(profile, ignoreCase: true)),
                parsed.GetValue(quota), default, null, false);
            return producer.Problem() is { } problem
                ? throw new UserError(problem, "correct the options")
                : options.WriteAsync(parsed, new Change.PutProducer(producer), stop);
        });
        return command;
    }

    private static Command Rotate()
    {
        var options = new OrderOptions();
        var (name, key) = (Name(), Key());
        var overlap = new Option<uint>("--overlap") { Description = "Blocks for which the old key works beside the new one.", DefaultValueFactory = _ => 1000 };
        var command = new Command("rotate", "Write an order that gives a producer a new key; its standing stays.") { name, key, overlap };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.RotateProducer(parsed.GetValue(name)!, Parse(parsed.GetValue(key)!), parsed.GetValue(overlap)), stop));
        return command;
    }

    private static Command Revoke()
    {
        var options = new OrderOptions();
        var name = Name();
        var command = new Command("revoke", "Write an order after which no key of this name is heard.") { name };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.RevokeProducer(parsed.GetValue(name)!), stop));
        return command;
    }
}
