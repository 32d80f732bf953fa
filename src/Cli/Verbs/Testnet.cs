using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using CyberMesh.Core.Chain;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>Home directories for a network on one machine: identity, genesis, config, and a producer's key.</summary>
internal static class Testnet
{
    public const string ProducerKeyFile = "producer.pem";

    /// <summary>Who is in the trust store: two organisations, each with a sensor and an approver, one with an analyst.</summary>
    private static readonly (string File, string Name, string Organisation, AlertKinds Kinds)[] TrustedKeys =
    [
        (ProducerKeyFile, "producer", "alpha", AlertKinds.All),
        ("producer-2.pem", "producer-2", "beta", AlertKinds.All),
        ("analyst.pem", "analyst", "beta", AlertKinds.Verdict),
        ("approver-1.pem", "approver-1", "alpha", AlertKinds.Approval),
        ("approver-2.pem", "approver-2", "beta", AlertKinds.Approval),
    ];

    private const int OperatorCount = 3;
    private const int OperatorThreshold = 2;

    public static string OperatorKeyFile(int number) => $"operator-{number}.pem";

    /// <param name="meshPorts">One per validator.</param>
    /// <param name="producers">Their keys stand in the trust store.</param>
    /// <param name="withAddresses">Genesis says where the validators are; otherwise only their settings do.</param>
    /// <param name="hosts">Machine of each; without them all are on this one, for nobody else.</param>
    public static string[] Generate(
        string directory, IReadOnlyList<int> meshPorts, IReadOnlyList<int> apiPorts, IReadOnlyList<Producer> producers, string? brokers, TimeProvider time,
        ChainParameters? parameters = null, bool withAddresses = true, IReadOnlyList<string>? hosts = null)
    {
        string AddressOf(int i) => $"{hosts?[i] ?? "127.0.0.1"}:{meshPorts[i]}";
        var homes = meshPorts.Select((_, i) => Path.Combine(directory, $"v{i + 1}")).ToArray();
        foreach (var home in homes)
        {
            if (File.Exists(Path.Combine(home, Identity.FileName)))
                throw new UserError($"{home} holds an identity already", "choose another --out, or remove that directory if nothing needs it");
            Directory.CreateDirectory(home, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        var validators = new List<Validator>();
        for (var i = 0; i < homes.Length; i++)
        {
            using var identity = Identity.Create(Path.Combine(homes[i], Identity.FileName));
            validators.Add(identity.ToValidator($"v{i + 1}", withAddresses ? AddressOf(i) : ""));
        }

        var operatorKeys = new List<Core.Primitives.PublicKey>();
        for (var i = 1; i <= OperatorCount; i++)
        {
            using var key = ProducerKey.Create(Path.Combine(directory, OperatorKeyFile(i)));
            operatorKeys.Add(key.PublicKey);
        }

        var operators = Operators.From(OperatorThreshold, operatorKeys);

        // One moment for all: genesis must be the same on every validator to the byte.
        var genesisTime = DateTimeOffset.FromUnixTimeMilliseconds(time.GetUtcNow().ToUnixTimeMilliseconds());
        for (var i = 0; i < homes.Length; i++)
        {
            GenesisFile.Save(Path.Combine(homes[i], "genesis.json"), "testnet", genesisTime, validators, producers, parameters ?? new ChainParameters(), operators);
            WriteConfig(
                homes[i], i + 1, hosts is null ? AddressOf(i) : $":{meshPorts[i]}", Enumerable.Range(0, homes.Length).Where(j => j != i).Select(AddressOf),
                hosts is null ? $"127.0.0.1:{apiPorts[i]}" : $":{apiPorts[i]}", brokers, advertise: hosts is null ? null : AddressOf(i));
        }

        return homes;
    }

    /// <summary>Makes their keys in a directory; entries for the trust store.</summary>
    public static List<Producer> MakeTrustedKeys(string directory)
    {
        var producers = new List<Producer>();
        foreach (var (file, name, organisation, kinds) in TrustedKeys)
        {
            using var key = ProducerKey.Create(Path.Combine(directory, file));
            producers.Add(Trusted(key.PublicKey, name, organisation, kinds));
        }

        return producers;
    }

    public static Producer Trusted(Core.Primitives.PublicKey key, string name, string organisation, AlertKinds kinds = AlertKinds.All) =>
        new(key, name, organisation, kinds, SigningProfiles.V1 | SigningProfiles.V2, 1000, default, null, false);

    /// <summary>The settings a validator needs to start; all others have defaults.</summary>
    public static void WriteConfig(string home, int number, string mesh, IEnumerable<string> peers, string api, string? brokers, bool isObserver = false, string? advertise = null)
    {
        var config = new Dictionary<string, string>
        {
            ["NODE_ID"] = number.ToString(CultureInfo.InvariantCulture),
            ["P2P_LISTEN_PORT"] = mesh,
            ["P2P_BOOTSTRAP_PEERS"] = string.Join(',', peers),
            ["API_LISTEN_ADDR"] = api,
        };
        if (brokers is not null) config["KAFKA_BROKERS"] = brokers;
        if (isObserver) config["NODE_ROLE"] = "observer";
        if (advertise is not null) config["P2P_ADVERTISE"] = advertise;
        File.WriteAllText(Path.Combine(home, "config.json"), JsonSerializer.Serialize(config, JsonSerializerOptions.Web) + "\n");
    }

    private static readonly HashSet<int> HandedOut = [];

    /// <summary>
    /// Ports nobody listens on at this moment, each handed out once. From below the range the system takes outgoing ports from, so
    /// that no connection takes one before its validator listens.
    /// </summary>
    public static int[] FreePorts(int count)
    {
        var ports = new List<int>();
        lock (HandedOut)
        {
            for (var attempts = 0; ports.Count < count; attempts++)
            {
                if (attempts > 10_000) throw new UserError("no free ports were found", "stop what listens on ports 10000 to 32000");
                var port = Random.Shared.Next(10_000, 32_000);
                if (IsFree(port) && HandedOut.Add(port)) ports.Add(port);
            }
        }

        return [.. ports];
    }

    public static bool IsFree(int port)
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Loopback, port);
            listener.Start();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}

internal static class TestnetVerb
{
    public static Command Create()
    {
        var validators = new Option<int>("--validators") { Description = "How many validators.", DefaultValueFactory = _ => 4 };
        var output = new Option<DirectoryInfo>("--out") { Description = "Where to put the home directories.", Required = true };
        var basePort = new Option<int>("--base-port") { Description = "Mesh port of the first validator; 0 picks free ports.", DefaultValueFactory = _ => 26650 };
        var apiPort = new Option<int>("--api-port") { Description = "HTTP port of the first validator; 0 picks free ports.", DefaultValueFactory = _ => 8443 };
        var brokers = new Option<string?>("--brokers") { Description = "Kafka brokers to put into each config; otherwise set KAFKA_BROKERS at start." };
        var hosts = new Option<string?>("--hosts") { Description = "Names of the machines, separated by commas, when each validator has its own: all use --base-port and --api-port there, for everybody." };
        var keep = new Option<bool>("--keep") { Description = "Leave a network that is there already as it is." };
        var trust = new Option<string[]>("--trust") { Description = "Public key (hex) of a further producer to trust for all kinds.", AllowMultipleArgumentsPerToken = true };
        var command = new Command("testnet", "Write N home directories (identity, genesis, config) for a network on this machine.")
        {
            validators, output, basePort, apiPort, brokers, hosts, keep, trust,
        };
        command.SetAction(parsed =>
        {
            var n = parsed.GetValue(validators);
            if (n is < 1 or > 64) throw new UserError($"--validators is {n}", "choose 1 to 64");
            var directory = parsed.GetValue(output)!.FullName;
            if (parsed.GetValue(keep) && File.Exists(Path.Combine(directory, "v1", Identity.FileName)))
            {
                Console.WriteLine($"{directory} holds a network already; it is left as it is");
                return ExitCode.Ok;
            }

            var machines = parsed.GetValue(hosts)?.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
            if (machines is not null && machines.Length != n) throw new UserError($"--hosts names {machines.Length} machines for {n} validators", "name one for each");
            Directory.CreateDirectory(directory);
            var producers = Testnet.MakeTrustedKeys(directory);
            foreach (var hex in parsed.GetValue(trust) ?? [])
            {
                if (!Core.Primitives.PublicKey.TryParse(hex, out var trusted)) throw new UserError($"--trust {hex} is not a public key", "give 64 hex digits, as 'cybermesh keys generate' prints them");
                producers.Add(Testnet.Trusted(trusted, $"trusted-{producers.Count + 1}", "testnet"));
            }

            var homes = Testnet.Generate(
                directory, Ports(parsed.GetValue(basePort), n, machines is not null), Ports(parsed.GetValue(apiPort), n, machines is not null), producers, parsed.GetValue(brokers), TimeProvider.System, hosts: machines);
            foreach (var home in homes) Console.WriteLine(home);
            foreach (var producer in producers) Console.WriteLine($"trusted: {producer.Name} of {producer.Organisation} for {string.Join(", ", producer.Kinds.Names())} ({producer.Key})");
            Console.WriteLine($"producer key: {Path.Combine(directory, Testnet.ProducerKeyFile)}; the others stand beside it");
            Console.WriteLine($"operator keys: {Path.Combine(directory, Testnet.OperatorKeyFile(1))} and two more; two of them together change the validator set");
            Console.WriteLine($"start one with: KAFKA_BROKERS=HOST:PORT ./cybermesh start --home {homes[0]}");
            return ExitCode.Ok;
        });
        return command;
    }

    private static int[] Ports(int first, int count, bool same) => first == 0 ? Testnet.FreePorts(count) : [.. Enumerable.Range(0, count).Select(i => same ? first : first + i)];
}
