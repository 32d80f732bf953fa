using System;
using System.Collections.Generic;
using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Linq;

namespace CyberMesh.Cli;

/// <summary>One line for each command as somebody would type it; shown below its help, and read by the tests.</summary>
internal static class Examples
{
    private const string Http = "--url http://127.0.0.1:8443";
    private const string Signed = "--genesis net/v1/genesis.json --brokers 127.0.0.1:9092";
    private const string Order = "--genesis net/v1/genesis.json --api http://127.0.0.1:8443 --operator net/operator-1.pem";

    /// <summary>By the words of the command.</summary>
    public static readonly IReadOnlyDictionary<string, string> All = new Dictionary<string, string>
    {
        ["demo"] = "--duration 30s --fault crash",
        ["testnet"] = "--validators 4 --out net --brokers 127.0.0.1:9092",
        ["start"] = "--home net/v1 --env-file validator.env --set LOG_LEVEL=debug",
        ["broker"] = "--port 9092",
        ["producer run"] = "--format eve --input eve.json --key sensor.pem --brokers 127.0.0.1:9092 --position eve.position --follow",
        ["keys generate"] = "--out sensor.pem",
        ["keys show"] = "net/v1/identity.key --passphrase-file passphrase",
        ["keys import"] = "--seed seed.hex --out sensor.pem",
        ["keys encrypt"] = "net/v1/identity.key --passphrase-file passphrase",
        ["keys decrypt"] = "net/v1/identity.key --key-file encryption.key",
        ["signer"] = "--home v1-keys --socket v1-keys/signer.sock --passphrase-file passphrase",
        ["config validate"] = "--home net/v1 --env-file validator.env",
        ["config show"] = "--home net/v1 --effective --origin",
        ["config env"] = "",
        ["doctor"] = "--home net/v1 --fix-permissions",
        ["genesis join"] = "--home v1 --chain prod --name acme --address v1.acme.example:8000 --node-id 1 --producers producers.json --out acme.join",
        ["genesis create"] = "acme.join bolt.join cask.join dune.join --time 2026-12-01T00:00:00Z --out genesis.json",
        ["genesis sign"] = "genesis.json --home v1 --out acme.sig",
        ["genesis show"] = "genesis.json --signatures acme.sig bolt.sig cask.sig dune.sig",
        ["check"] = "alert.record --topic ai.anomalies.v1 --genesis net/v1/genesis.json",
        ["evidence verify"] = "fork.proof --genesis net/v1/genesis.json",
        ["trust export"] = "--genesis net/v1/genesis.json",
        ["proof get"] = $"ALERT-ID {Http} --file alert.tlog-proof --message alert.record",
        ["proof state"] = $"alert:DIGEST {Http} --file alert.block-proof",
        ["verify"] = "alert.tlog-proof --policy trust.policy --message alert.record",
        ["audit"] = $"{Http} --policy trust.policy --dir audit",
        ["validators list"] = Http,
        ["validators prepare"] = "--home net/v5 --genesis net/v1/genesis.json --name v5 --address 127.0.0.1:26654 --node-id 5",
        ["validators propose-add"] = $"--validator net/v5/validator.json {Order} --out add.order",
        ["validators propose-remove"] = $"--name v4 {Order} --out remove.order",
        ["validators rotate-key"] = $"--home net/v2 --name v2 --address 127.0.0.1:26651 {Order} --out rotate.order",
        ["validators propose-parameters"] = $"--parameters parameters.json {Order} --out parameters.order",
        ["validators propose-upgrade"] = $"--version-number 2 {Order} --out upgrade.order",
        ["validators sign"] = "add.order --genesis net/v1/genesis.json --operator net/operator-2.pem",
        ["validators show"] = "add.order --genesis net/v1/genesis.json",
        ["validators submit"] = $"add.order {Signed}",
        ["observer prepare"] = "--home net/o1 --genesis net/v1/genesis.json --peers 127.0.0.1:26650",
        ["producers list"] = Http,
        ["producers show"] = $"producer {Http}",
        ["producers add"] = $"--name ids-7 --organisation gamma --key {Zeros} {Order} --out add.order",
        ["producers rotate"] = $"--name ids-7 --key {Zeros} --overlap 1000 {Order} --out rotate.order",
        ["producers revoke"] = $"--name ids-7 {Order} --out revoke.order",
        ["alerts list"] = $"--status corroborated --limit 10 {Http}",
        ["alerts show"] = $"ALERT-ID {Http}",
        ["alerts watch"] = $"{Http} -o json",
        ["alerts confirm"] = $"ALERT-ID --key net/analyst.pem {Signed} --note \"seen by us too\"",
        ["alerts dispute"] = $"ALERT-ID --key net/analyst.pem {Signed}",
        ["alerts false-positive"] = $"ALERT-ID --key net/analyst.pem {Signed} --note \"a scanner of our own\"",
        ["policies list"] = $"--status active {Http}",
        ["policies show"] = $"POLICY-ID {Http}",
        ["policies approve"] = $"POLICY-ID --key net/approver-1.pem {Signed}",
        ["policies reject"] = $"POLICY-ID --key net/approver-1.pem {Signed}",
        ["policies revoke"] = $"POLICY-ID --key net/approver-1.pem {Signed}",
        ["policies propose"] = "--params policy.json --key net/producer.pem --brokers 127.0.0.1:9092",
        ["policies halt"] = $"{Order} --out halt.order",
        ["policies resume"] = $"{Order} --out resume.order",
        ["orders sign"] = "halt.order --genesis net/v1/genesis.json --operator net/operator-2.pem",
        ["orders show"] = "halt.order --genesis net/v1/genesis.json",
        ["orders submit"] = $"halt.order {Signed}",
        ["control read"] = $"control.policy.v1 {Signed} --count 10 --wait 60",
        ["enforce"] = "--dry-run --brokers 127.0.0.1:9092 --policy trust.policy",
        ["dlq list"] = "--brokers 127.0.0.1:9092 --limit 20",
        ["dlq show"] = "NAME --brokers 127.0.0.1:9092",
        ["dlq replay"] = "--code unknown_producer --brokers 127.0.0.1:9092",
        ["db migrate"] = "--home net/v1",
        ["db status"] = "--home net/v1",
        ["db verify"] = "--home net/v1",
        ["db rebuild"] = "--home net/v1 --yes",
        ["data inspect"] = "--home net/v1",
        ["data verify"] = "--home net/v1",
        ["data compact"] = "--home net/v1",
        ["data export"] = "--home net/v1 --from 1 --to 1000 --out blocks.ndjson",
        ["status"] = $"--watch {Http}",
        ["blocks list"] = $"--limit 10 {Http}",
        ["blocks show"] = $"latest {Http}",
        ["audit-log verify"] = "--dir net/v1/data/audit --genesis net/v1/genesis.json",
        ["webhooks list"] = "--home net/v1",
        ["webhooks replay"] = "soc --home net/v1",
        ["completions"] = "bash",
        ["simulate"] = "--seeds 100",
        ["chaos"] = "--duration 2m --seed 1",
        ["bench verify"] = "--keys 16 --size 512",
        ["bench ledger"] = "--alerts 100000",
        ["bench mempool"] = "--transactions 100000",
        ["bench ingest"] = "--rate 5000 --duration 10s",
        ["bench mesh"] = "--json",
        ["bench projection"] = "--alerts 50000",
        ["bench all"] = "",
        ["bench consensus"] = "--validators 4 --size 512 --saturate --duration 30s",
        ["bench faults"] = "--only silent --duration 5s",
        ["bench pipeline"] = "--validators 4 --saturate --duration 60s",
        ["bench api"] = "--streams 100 --requests 50 --duration 10s",
    };

    private const string Zeros = "0000000000000000000000000000000000000000000000000000000000000000";

    /// <summary>Adds them to the help of all commands below.</summary>
    public static RootCommand AddTo(RootCommand root)
    {
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpWithExample((HelpAction)help.Action!);
        return root;
    }

    /// <summary>The words with which a command is called.</summary>
    public static string NameOf(Command command) => string.Join(' ', Ancestors(command).Reverse().Skip(1).Select(c => c.Name));

    private static IEnumerable<Command> Ancestors(Command command)
    {
        for (Command? c = command; c is not null; c = c.Parents.OfType<Command>().FirstOrDefault()) yield return c;
    }

    private sealed class HelpWithExample(HelpAction help) : SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            var code = help.Invoke(parseResult);
            if (All.TryGetValue(NameOf(parseResult.CommandResult.Command), out var example))
                parseResult.InvocationConfiguration.Output.WriteLine($"Example:\n  cybermesh {NameOf(parseResult.CommandResult.Command)} {example}".TrimEnd() + Environment.NewLine);
            return code;
        }
    }
}
