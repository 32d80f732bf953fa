using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using Confluent.Kafka.Admin;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Simulator;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace CyberMesh.Node.Tests;

internal static class Paths
{
    public static string Root { get; } = FindRoot();

    public static string Program { get; } = Path.Combine(
        Root, "src/Cli/bin", AppContext.BaseDirectory.Contains("/Release/", StringComparison.Ordinal) ? "Release" : "Debug", "net10.0/cybermesh.dll");

    /// <summary>Signed messages of an independent producer; beside the checkout, not part of it.</summary>
    public static string Vectors
    {
        get
        {
            var path = Path.Combine(Root, "../shared/vectors");
            Assert.SkipUnless(Directory.Exists(path), "the shared vectors are not beside this checkout");
            return path;
        }
    }

    private static string FindRoot()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "CyberMesh.slnx"))) directory = directory.Parent;
        return directory?.FullName ?? throw new InvalidOperationException("the tests run inside the repository");
    }
}

/// <summary>The program as a process of its own.</summary>
internal sealed class CliProcess : IDisposable
{
    private readonly Process _process;
    private readonly List<string> _output = [];

    private CliProcess(Process process)
    {
        _process = process;
        _process.OutputDataReceived += (_, e) => Add(e.Data);
        _process.ErrorDataReceived += (_, e) => Add(e.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public static CliProcess Start(string[] arguments, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Paths.Program);
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        foreach (var (name, value) in environment) start.Environment[name] = value;
        return new CliProcess(Process.Start(start)!);
    }

    /// <summary>Runs to the end and returns exit code and everything printed.</summary>
    public static Task<(int Code, string Output)> RunAsync(params string[] arguments) => RunAsync(arguments, []);

    public static async Task<(int Code, string Output)> RunAsync(string[] arguments, (string Name, string Value)[] environment)
    {
        using var cli = Start(arguments, environment);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(150));
        await cli._process.WaitForExitAsync(limit.Token);
        return (cli._process.ExitCode, cli.Output);
    }

    public string Output
    {
        get
        {
            lock (_output) return string.Join('\n', _output);
        }
    }

    public async Task<string> LineAsync(string containing)
    {
        for (var i = 0; i < 600; i++)
        {
            lock (_output)
                if (_output.FirstOrDefault(l => l.Contains(containing, StringComparison.Ordinal)) is { } line)
                    return line;
            if (_process.HasExited) break;
            await Task.Delay(50);
        }

        throw new InvalidOperationException($"'{containing}' was not printed:\n{Output}");
    }

    /// <summary>SIGKILL.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    /// <summary>SIGTERM; true when it has ended in time.</summary>
    public async Task<bool> TerminateAsync(TimeSpan patience)
    {
        using var kill = Process.Start("kill", [_process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
        try
        {
            await _process.WaitForExitAsync().WaitAsync(patience);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    public bool HasExited => _process.HasExited;

    private void Add(string? line)
    {
        if (line is null) return;
        lock (_output) _output.Add(line);
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.Dispose();
    }
}

internal static class Eventually
{
    /// <summary>Polls until the condition holds; a generous limit, because the machine is shared.</summary>
    public static async Task HoldsAsync(Func<bool> condition, string what, int seconds = 180)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(seconds), what + " did not happen");
            await Task.Delay(50);
        }
    }
}

/// <summary>A directory that goes away.</summary>
internal sealed class TemporaryDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("cybermesh-test-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

/// <summary>The system clock, shifted.</summary>
internal sealed class ShiftedTime(DateTimeOffset start) : TimeProvider
{
    private readonly TimeSpan _shift = start - DateTimeOffset.UtcNow;

    public override DateTimeOffset GetUtcNow() => DateTimeOffset.UtcNow + _shift;
}

/// <summary>Two producers, an analyst and an approver.</summary>
internal sealed class Keys : IDisposable
{
    private readonly Ed25519Signer[] _signers = [.. Enumerable.Range(1, 4).Select(i => new Ed25519Signer([.. Enumerable.Repeat((byte)i, 32)]))];

    public AlertFactory Alpha => field ??= new AlertFactory(_signers[0]);
    public AlertFactory Beta => field ??= new AlertFactory(_signers[1], SigningProfile.V2);
    public AlertFactory Analyst => field ??= new AlertFactory(_signers[2]);
    public AlertFactory Approver => field ??= new AlertFactory(_signers[3]);

    public Producer[] Producers =>
    [
        Entry(Alpha, "alpha-sensor", AlertKinds.All), Entry(Beta, "beta-sensor", AlertKinds.All), Entry(Analyst, "analyst", AlertKinds.Verdict),
        Entry(Approver, "approver", AlertKinds.Approval),
    ];

    private static Producer Entry(AlertFactory key, string name, AlertKinds kinds) =>
        new(key.Signer.PublicKey, name, name.Split('-')[0], kinds, SigningProfiles.V1 | SigningProfiles.V2, 1000, default, null, false);

    public void Dispose()
    {
        foreach (var signer in _signers) signer.Dispose();
    }
}

/// <summary>Validators and a broker in this process; with TEST_KAFKA_BROKERS set, the brokers named there, with topics of the cluster's own.</summary>
internal sealed class TestCluster : IAsyncDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly List<ValidatorNode> _nodes = [];
    private Dictionary<string, string> _environment = [];

    private static readonly string? External = Environment.GetEnvironmentVariable("TEST_KAFKA_BROKERS");

    private readonly EmbeddedBroker? _broker = External is null ? new(BrokerVerb.DefaultTopics.Split(',')) : null;
    private readonly string _prefix = External is null ? "" : $"cybermesh-test-{Guid.NewGuid():N}.";

    /// <summary>For what only a broker of our own does; elsewhere the test is left out.</summary>
    public EmbeddedBroker Broker
    {
        get
        {
            Assert.SkipWhen(_broker is null, "needs a broker of its own");
            return _broker!;
        }
    }

    public string Brokers => External ?? _broker!.BootstrapServers;

    /// <summary>Its name where others use the brokers too.</summary>
    public string Topic(string name) => _prefix + name;

    public Genesis Genesis { get; private set; } = null!;

    /// <summary>The clock of validators that start from now on.</summary>
    public TimeProvider Time { get; set; } = TimeProvider.System;

    public IReadOnlyList<ValidatorNode> Nodes => _nodes;

    public string Home(int number) => Path.Combine(_directory.Path, $"v{number + 1}");

    public static async Task<TestCluster> StartAsync(IReadOnlyList<Producer> producers, TimeProvider time, int validators = 4, ChainParameters? parameters = null, IReadOnlyDictionary<string, string>? environment = null)
    {
        var cluster = new TestCluster();
        var homes = Testnet.Generate(
            cluster._directory.Path, Testnet.FreePorts(validators), Testnet.FreePorts(validators), producers, cluster.Brokers, time, parameters);
        cluster.Genesis = GenesisFile.Load(Path.Combine(homes[0], "genesis.json"));
        cluster.Time = time;
        cluster._environment = new Dictionary<string, string>(environment ?? cluster._environment) { ["KAFKA_CONSUMER_SESSION_TIMEOUT"] = cluster._broker is null ? "6s" : "1500ms" };
        if (cluster._broker is null) await cluster.UseExternalAsync();
        for (var i = 0; i < validators; i++)
        {
            cluster._nodes.Add(null!);
            await cluster.StartAsync(i);
        }

        return cluster;
    }

    private async Task UseExternalAsync()
    {
        using var admin = new AdminClientBuilder(new AdminClientConfig { BootstrapServers = Brokers }).Build();
        var topics = BrokerVerb.DefaultTopics.Split(',').Select(Topic).ToArray();
        try
        {
            await admin.CreateTopicsAsync(topics.Select(name => new TopicSpecification { Name = name, NumPartitions = 4, ReplicationFactor = 1 }), new CreateTopicsOptions { RequestTimeout = TimeSpan.FromSeconds(3) });
        }
        catch (KafkaException)
        {
            // 'cybermesh broker' knows no administration and makes topics when they are asked for.
            foreach (var name in topics) admin.GetMetadata(name, TimeSpan.FromSeconds(10));
        }

        _environment["KAFKA_CONSUMER_GROUP_ID"] = _prefix + "group";
        _environment["KAFKA_INPUT_TOPICS"] = string.Join(',', new[] { "ai.anomalies.v1", "ai.evidence.v1", "ai.policy.v1" }.Select(Topic));
        foreach (var (setting, name) in new[]
                 {
                     ("KAFKA_ORDERS_TOPIC", "control.orders.v1"), ("KAFKA_DECISIONS_TOPIC", "control.decisions.v1"), ("CONTROL_COMMITS_TOPIC", "control.commits.v1"),
                     ("CONTROL_POLICY_TOPIC", "control.policy.v1"), ("CONTROL_REPUTATION_TOPIC", "control.reputation.v1"), ("KAFKA_DLQ_TOPIC", "ai.dlq.v1"),
                 })
            _environment[setting] = Topic(name);
    }

    /// <param name="more">Settings of this one alone.</param>
    public async Task StartAsync(int number, params (string Name, string Value)[] more)
    {
        var environment = new Dictionary<string, string>(_environment);
        foreach (var (name, value) in more) environment[name] = value;
        var settings = Settings.Load(Path.Combine(Home(number), "config.json"), environment);
        _nodes[number] = new ValidatorNode(new ValidatorOptions(Home(number), Genesis, settings, Time, NullLogger.Instance));
        await _nodes[number].StartAsync();
    }

    /// <summary>Ends a validator as a crash would; <see cref="StartAsync(int, ValueTuple{string, string}[])"/> brings it back.</summary>
    public async Task KillAsync(int number) => await _nodes[number].DisposeAsync();

    public TestProducer Producer() => new(KafkaClients.Producer(KafkaConnection.Plain(Brokers), "test", _ => { }), Topic);

    /// <summary>Reads a topic from its start until <paramref name="enough"/> says so.</summary>
    public async Task<List<ConsumeResult<byte[]?, byte[]?>>> ReadAsync(string topic, Func<List<ConsumeResult<byte[]?, byte[]?>>, bool> enough)
    {
        using var consumer = new ConsumerBuilder<byte[]?, byte[]?>(KafkaClients.Consumer(KafkaConnection.Plain(Brokers), "test-" + Guid.NewGuid(), AutoOffsetReset.Earliest, 6000))
            .SetLogHandler((_, _) => { }).SetErrorHandler((_, _) => { }).Build();
        consumer.Subscribe(Topic(topic));
        var records = new List<ConsumeResult<byte[]?, byte[]?>>();
        var limit = Stopwatch.StartNew();
        while (!enough(records) && limit.Elapsed < TimeSpan.FromSeconds(120))
        {
            if (consumer.Consume(TimeSpan.FromMilliseconds(50)) is { } record) records.Add(record);
            await Task.Yield();
        }

        consumer.Close();
        return records;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var node in _nodes) await node.DisposeAsync();
        _broker?.Dispose();
        _directory.Dispose();
    }
}

/// <summary>Publishes to the topics of one cluster.</summary>
internal sealed class TestProducer(IProducer<byte[]?, byte[]?> kafka, Func<string, string> topic) : IDisposable
{
    public void Produce(string name, Message<byte[]?, byte[]?> message) => kafka.Produce(topic(name), message);

    public void Produce(TopicPartition partition, Message<byte[]?, byte[]?> message) => kafka.Produce(new TopicPartition(topic(partition.Topic), partition.Partition), message);

    public void Flush(TimeSpan limit) => kafka.Flush(limit);

    public void Dispose() => kafka.Dispose();
}

/// <summary>Settings that contradict one another, or are wrong.</summary>
internal static class SettingsRefusal
{
    /// <summary>The settings, with what every validator needs, are refused for this one reason, and nothing secret is said.</summary>
    public static void Expect(string reason, params string[] settings)
    {
        var values = new Dictionary<string, string> { ["NODE_ID"] = "1", ["KAFKA_BROKERS"] = "b:9092" };
        foreach (var setting in settings) values[setting.Split('=')[0]] = setting[(setting.IndexOf('=', StringComparison.Ordinal) + 1)..];
        var message = Assert.Throws<UserError>(() => Settings.Load("/nowhere/config.json", values)).Message;
        Assert.Contains(reason, message, StringComparison.Ordinal);
        Assert.Contains("1 problem(s)", message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret0", message, StringComparison.Ordinal);
        Assert.DoesNotContain("secretpassword", message, StringComparison.Ordinal);
    }
}
