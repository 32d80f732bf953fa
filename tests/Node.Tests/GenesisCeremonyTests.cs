using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli;
using CyberMesh.Cli.Verbs;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Four parties begin a chain by hand, with the commands, and it works; what is changed on the way is noticed.</summary>
public sealed class GenesisCeremonyTests
{
    [Fact]
    public async Task Four_parties_make_a_genesis_that_each_has_signed_and_their_chain_commits()
    {
        using var directory = new TemporaryDirectory();
        using var keys = new Keys();
        string In(string name) => Path.Combine(directory.Path, name);
        var ports = Testnet.FreePorts(8);
        await File.WriteAllTextAsync(
            In("producers.json"), $$"""[{"name": "ids-1", "organisation": "party-1", "key": "{{keys.Producers[0].Key}}", "kinds": ["anomaly"], "profiles": ["v1", "v2"]}]""", TestContext.Current.CancellationToken);
        for (var i = 1; i <= 4; i++)
        {
            string[] producers = i == 1 ? ["--producers", In("producers.json")] : [];
            using var operatorKey = ProducerKey.Create(In($"operator-{i}.pem"));
            await RunAsync(ExitCode.Ok, [
                "genesis", "join", "--home", In($"v{i}"), "--chain", "four", "--name", $"party-{i}", "--address", $"127.0.0.1:{ports[i - 1]}", "--node-id", $"{i}", "--operator-key", operatorKey.PublicKey.ToString(),
                "--out", In($"{i}.join"), .. producers,
            ]);
        }

        string[] joins = [.. Enumerable.Range(1, 4).Select(i => In($"{i}.join"))];
        await RunAsync(ExitCode.Ok, ["genesis", "create", .. joins, "--time", "2026-01-01T00:00:00Z", "--parameters", WriteFile("parameters.json", """{"term_blocks": 64}"""), "--out", In("genesis.json")]);
        // Anybody makes the same of the same files, in any order.
        await RunAsync(ExitCode.Ok, ["genesis", "create", .. joins.Reverse(), "--time", "2026-01-01T00:00:00Z", "--parameters", In("parameters.json"), "--out", In("again.json")]);
        Assert.Equal(await File.ReadAllTextAsync(In("genesis.json"), TestContext.Current.CancellationToken), await File.ReadAllTextAsync(In("again.json"), TestContext.Current.CancellationToken));
        for (var i = 1; i <= 4; i++) await RunAsync(ExitCode.Ok, ["genesis", "sign", In("genesis.json"), "--home", In($"v{i}"), "--out", In($"{i}.sig")]);
        string[] signatures = [.. Enumerable.Range(1, 4).Select(i => In($"{i}.sig"))];
        var shown = await RunAsync(ExitCode.Ok, ["genesis", "show", In("genesis.json"), "--signatures", .. signatures]);
        foreach (var part in new[] { "signed by  4 of 4", "quorum     3 of 4; 1 may fail or lie", "operators  3 of 4 sign an order", "producer   ids-1 of party-1 for anomaly", "parameter  term_blocks = 64", $"hash       {GenesisFile.Load(In("genesis.json")).Chain.ChainId}" })
            Assert.Contains(part, shown, StringComparison.Ordinal);
        Assert.Contains("signed by  3 of 4", await RunAsync(ExitCode.VerificationFailed, ["genesis", "show", In("genesis.json"), "--signatures", .. signatures[..3]]), StringComparison.Ordinal);

        // What does not go together, or was changed on the way.
        var changed = (await File.ReadAllTextAsync(In("2.join"), TestContext.Current.CancellationToken)).Replace($"127.0.0.1:{ports[1]}", "203.0.113.1:8000", StringComparison.Ordinal);
        Assert.Contains("not signed with the consensus key it names", await RunAsync(ExitCode.Failure, ["genesis", "create", joins[0], WriteFile("bad.join", changed), "--out", In("x.json")]), StringComparison.Ordinal);
        Assert.Contains("do", await RunAsync(ExitCode.Failure, ["genesis", "create", joins[0], joins[0], "--out", In("x.json")]), StringComparison.Ordinal);
        await RunAsync(ExitCode.Ok, ["genesis", "create", .. joins[..3], "--out", In("three.json")]);
        Assert.Contains("does not name the keys", await RunAsync(ExitCode.Failure, ["genesis", "sign", In("three.json"), "--home", In("v4"), "--out", In("x.sig")]), StringComparison.Ordinal);
        Assert.Contains("is the genesis of another chain", await RunAsync(ExitCode.Failure, ["genesis", "sign", In("three.json"), "--home", In("v1"), "--out", In("x.sig")]), StringComparison.Ordinal);
        Assert.Contains("parties hold different files", await RunAsync(ExitCode.VerificationFailed, ["genesis", "show", In("three.json"), "--signatures", In("1.sig")]), StringComparison.Ordinal);
        Assert.Contains("is not signed by party-2", await RunAsync(
            ExitCode.VerificationFailed,
            ["genesis", "show", In("genesis.json"), "--signatures", WriteFile("x.sig", (await File.ReadAllTextAsync(In("1.sig"), TestContext.Current.CancellationToken)).Replace("party-1", "party-2", StringComparison.Ordinal))]), StringComparison.Ordinal);

        // And it runs: the addresses stand in genesis.
        using var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
        var nodes = new List<ValidatorNode>();
        try
        {
            for (var i = 1; i <= 4; i++)
            {
                var settings = Settings.Load(new SettingSources(Path.Combine(In($"v{i}"), "config.json"), new Dictionary<string, string> { ["KAFKA_BROKERS"] = broker.BootstrapServers }, Given: null));
                var local = Settings.Load(new SettingSources("/nowhere", new Dictionary<string, string>
                {
                    ["NODE_ID"] = settings.NodeId,
                    ["KAFKA_BROKERS"] = broker.BootstrapServers,
                    ["P2P_LISTEN_PORT"] = $"127.0.0.1:{ports[i - 1]}",
                    ["API_LISTEN_ADDR"] = $"127.0.0.1:{ports[i + 3]}",
                }));
                nodes.Add(new ValidatorNode(new ValidatorOptions(In($"v{i}"), GenesisFile.Load(Path.Combine(In($"v{i}"), "genesis.json")), local, TimeProvider.System, NullLogger.Instance)));
                await nodes[^1].StartAsync();
            }

            using var producer = KafkaClients.Producer(KafkaConnection.Plain(broker.BootstrapServers), "test", _ => { });
            producer.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
            producer.Flush(TimeSpan.FromSeconds(30));
            await Eventually.HoldsAsync(() => nodes.All(n => n.Projection.AlertCount() == 1), "their chain commits");
        }
        finally
        {
            foreach (var node in nodes) await node.DisposeAsync();
        }

        string WriteFile(string name, string content)
        {
            File.WriteAllText(In(name), content);
            return In(name);
        }

        static async Task<string> RunAsync(int expected, string[] arguments)
        {
            var (code, output) = await CliProcess.RunAsync(arguments);
            Assert.True(code == expected, $"{code}: {output}");
            return output;
        }
    }
}
