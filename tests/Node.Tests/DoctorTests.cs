using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using CyberMesh.Cli;
using CyberMesh.Cli.Doctor;
using CyberMesh.Cli.Verbs;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Ingest;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>A validator that is wrong in one way each: the doctor finds it, and says what helps.</summary>
public sealed class DoctorTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly Dictionary<string, string> _settings = new() { ["KAFKA_BROKERS"] = "127.0.0.1:1" };
    private readonly List<IDisposable> _held = [];
    private string _home = "";

    private string In(string name) => Path.Combine(_home, name);

    private async Task<List<Finding>> ExamineAsync(bool offline, bool repair = false)
    {
        var patient = new Patient(_home, new SettingSources(In("config.json"), _settings), TimeProvider.System);
        var findings = new List<Finding>();
        await foreach (var finding in DoctorVerb.ExamineAsync(patient, repair, offline, TestContext.Current.CancellationToken)) findings.Add(finding);
        return findings;
    }

    private void Generate(int validators = 4, bool withAddresses = true)
    {
        var ports = Testnet.FreePorts(2 * validators);
        _home = Testnet.Generate(_directory.Path, ports[..validators], ports[validators..], [], null, TimeProvider.System, withAddresses: withAddresses)[0];
    }

    private void Configure(string name, string? value)
    {
        var config = JsonNode.Parse(File.ReadAllText(In("config.json")))!;
        if (value is null) config.AsObject().Remove(name);
        else config[name] = value;
        File.WriteAllText(In("config.json"), config.ToJsonString());
    }

    private string Configured(string name) => (string)JsonNode.Parse(File.ReadAllText(In("config.json")))![name]!;

    private TcpListener Listen(int port = 0)
    {
        var listener = new TcpListener(IPAddress.Loopback, port);
        listener.Start();
        _held.Add(listener);
        return listener;
    }

    private void WriteCertificate(int daysLeft)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = new CertificateRequest("CN=api.example", key, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-100), DateTimeOffset.UtcNow.AddDays(daysLeft));
        File.WriteAllText(In("tls.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(In("tls.key"), key.ExportPkcs8PrivateKeyPem());
        File.SetUnixFileMode(In("tls.key"), UnixFileMode.UserRead | UnixFileMode.UserWrite);
        Configure("TLS_CERT_PATH", In("tls.pem"));
        Configure("TLS_KEY_PATH", In("tls.key"));
    }

    private static UnixFileMode Everybody => UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;

    /// <summary>What is done to the home, what is found, what helps, and whether other machines are asked.</summary>
    private static readonly Dictionary<string, (Action<DoctorTests> Spoil, string What, string Fix, bool Offline)> Cases = new()
    {
        ["no brokers"] = (t => t._settings.Clear(), "KAFKA_BROKERS is not set", "config show", true),
        ["a misspelled setting"] = (t => t.Configure("P2P_LISTENPORT", "1"), "did you mean P2P_LISTEN_PORT?", "correct it", true),
        ["a setting with two values"] = (t => t._settings["P2P_LISTEN_PORT"] = "1", "config.json, line 1 and '1' in the environment", "correct it", true),
        ["a broken config.json"] = (t => File.WriteAllText(t.In("config.json"), "{\n\"NODE_ID\" 1}"), "line 2", "correct it", true),
        ["a setting without effect"] = (t => t._settings["SALT"] = "x", "SALT is set and has no effect", "remove it", true),
        ["no identity"] = (t => File.Delete(t.In(Identity.FileName)), "identity.key does not exist", "restore it from the backup", true),
        ["a readable identity"] = (t => File.SetUnixFileMode(t.In(Identity.FileName), Everybody), "is open to other users", "chmod go-rwx", true),
        ["a damaged identity"] = (t => File.WriteAllText(t.In(Identity.FileName), "zz"), "is not an identity", "restore it from a backup", true),
        ["an identity of nobody"] = (t =>
        {
            File.Delete(t.In(Identity.FileName));
            Identity.Create(t.In(Identity.FileName)).Dispose();
        }, "genesis does not name", "validators propose-add", true),
        ["an old identity"] = (t => File.SetLastWriteTimeUtc(t.In(Identity.FileName), DateTime.UtcNow.AddDays(-80)), "80 days old; 10 days are left", "rotate them", true),
        ["a validator as observer"] = (t =>
        {
            t._settings.Clear();
            t.Configure("NODE_ROLE", "observer");
        }, "this identity is a validator's", "observer prepare", true),
        ["no genesis"] = (t => File.Delete(t.In("genesis.json")), "genesis.json does not exist", "copy genesis.json from the other validators", true),
        ["a damaged genesis"] = (t => File.WriteAllText(t.In("genesis.json"), File.ReadAllText(t.In("genesis.json")).Replace("\"control_key\": \"", "\"control_key\": \"zz", StringComparison.Ordinal)), "is not 64 hex digits", "correct it on every validator alike", true),
        ["a genesis of tomorrow"] = (t => File.WriteAllText(t.In("genesis.json"), File.ReadAllText(t.In("genesis.json")).Replace("\"time\": \"20", "\"time\": \"21", StringComparison.Ordinal)), "genesis lies in the future", "set the clock", true),
        ["a wrong quorum"] = (t => t.Configure("QUORUM_SIZE", "2"), "QUORUM_SIZE is 2, but 4 validators need 3", "remove it", true),
        ["a wrong topology"] = (t => t.Configure("CLUSTER_TOPOLOGY", "validator:7"), "CLUSTER_TOPOLOGY says 7", "remove it", true),
        ["lost data"] = (t => File.WriteAllText(t.In("votes.mark"), "7"), "its data directory is gone", "put the newest data directory back", true),
        ["a fork"] = (t => File.WriteAllText(t.In("fork.proof"), "x"), "the chain has forked", "evidence verify", true),
        ["a divergence"] = (t => File.WriteAllText(t.In("divergence-20260101T000000Z.json"), "{}"), "once computed another state", "look at memory and disk", true),
        ["readable data"] = (t => Directory.CreateDirectory(t.In("data"), Everybody | UnixFileMode.GroupWrite), "is open to other users", "chmod go-rwx", true),
        ["a readable secret"] = (t =>
        {
            File.WriteAllText(t.In("tokens"), "a:admin:" + new string('x', 40));
            File.SetUnixFileMode(t.In("tokens"), Everybody);
            t.Configure("API_BEARER_TOKENS_FILE", t.In("tokens"));
        }, "tokens is open to other users", "chmod go-rwx", true),
        ["an expired certificate"] = (t => t.WriteCertificate(-3), "expired 3 days ago", "renew it", true),
        ["a certificate about to expire"] = (t => t.WriteCertificate(10), "expires in 10 days", "renew it", true),
        ["a port in use"] = (t => t.Configure("API_LISTEN_ADDR", "127.0.0.1:" + ((IPEndPoint)t.Listen().LocalEndpoint).Port), "in use", "stop what listens there", true),
        ["one port twice"] = (t => t.Configure("API_LISTEN_ADDR", t.Configured("P2P_LISTEN_PORT")), "are both port", "a port of its own", true),
        ["an address of another machine"] = (t => t.Configure("P2P_LISTEN_PORT", "192.0.2.1:8000"), "192.0.2.1:8000", "this machine has no such address", true),
        ["an address nobody is told"] = (t => t.Configure("P2P_LISTEN_PORT", "0.0.0.0:" + Testnet.FreePorts(1)[0]), "the others are not told where this validator is", "P2P_ADVERTISE", true),
        ["itself as a peer"] = (t => t.Configure("P2P_BOOTSTRAP_PEERS", t.Configured("P2P_LISTEN_PORT")), "names this validator itself", "remove it", false),
        ["a peer that nobody is"] = (t => t.Configure("P2P_BOOTSTRAP_PEERS", "127.0.0.1:1"), "nobody answers at 127.0.0.1:1", "is it started", false),
        ["a peer that is somebody else"] = (t =>
        {
            var listener = t.Listen();
            t.Configure("P2P_BOOTSTRAP_PEERS", listener.LocalEndpoint.ToString());
            _ = Task.Run(async () =>
            {
                using var client = await listener.AcceptTcpClientAsync();
                await client.GetStream().WriteAsync("HTTP/1.1 400\r\n\r\n"u8.ToArray());
            });
        }, "is no validator of this genesis", "both have the same genesis", false),
        ["too few for a quorum"] = (_ => { }, "that is no quorum of 3", "fine while the others are not started", false),
        ["no broker"] = (_ => { }, "127.0.0.1:1 does not serve us", "check KAFKA_BROKERS", false),
        ["TLS to a broker without"] = (t =>
        {
            var broker = new EmbeddedBroker(BrokerVerb.DefaultTopics.Split(','));
            t._held.Add(broker);
            (t._settings["KAFKA_BROKERS"], t._settings["KAFKA_TLS_ENABLED"]) = (broker.BootstrapServers, "true");
        }, "does not serve us", "check KAFKA_TLS_ENABLED", false),
        ["a topic that is not there"] = (t =>
        {
            var broker = new EmbeddedBroker(["control.orders.v1"]);
            t._held.Add(broker);
            t._settings["KAFKA_BROKERS"] = broker.BootstrapServers;
        }, "topic ai.anomalies.v1 (read) is not there", "kafka-topics.sh --create --topic ai.anomalies.v1", false),
        ["no database"] = (t => t.Configure("DB_DSN", "postgresql://u:p@127.0.0.1:1/d"), "127.0.0.1:1", "check DB_DSN", false),
    };

    public static TheoryData<string> Names => [.. Cases.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task What_is_wrong_is_found_with_what_helps(string name)
    {
        var (spoil, what, fix, offline) = Cases[name];
        Generate();
        spoil(this);
        var findings = await ExamineAsync(offline);
        Assert.Contains(findings, f => f.Verdict != Verdict.Ok && f.What.Contains(what, StringComparison.OrdinalIgnoreCase) && f.Fix.Contains(fix, StringComparison.Ordinal));
        Assert.All(findings.Where(f => f.Verdict != Verdict.Ok), f => Assert.NotEmpty(f.Fix));
    }

    [Theory]
    [InlineData(3, "3 validators tolerate 0", "at least four")]
    [InlineData(6, "6 validators tolerate 1 that fail or lie; a quorum is 4; 4 would tolerate as many", "run 7")]
    public async Task The_arithmetic_of_the_quorum_is_said(int validators, string what, string fix)
    {
        Generate(validators);
        Assert.Contains(await ExamineAsync(offline: true), f => f.Verdict == Verdict.Warning && f.What.Contains(what, StringComparison.Ordinal) && f.Fix.Contains(fix, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_sound_home_has_no_errors_and_permissions_are_repaired()
    {
        Generate();
        Assert.DoesNotContain(await ExamineAsync(offline: true), f => f.Verdict == Verdict.Error);
        File.SetUnixFileMode(In(Identity.FileName), Everybody);
        Assert.DoesNotContain(await ExamineAsync(offline: true, repair: true), f => f.Verdict == Verdict.Error);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(In(Identity.FileName)));
        Configure("KAFKA_BROKERS", "127.0.0.1:1");
        var (code, output) = await CliProcess.RunAsync("doctor", "--home", _home, "--offline", "--json");
        Assert.True(code == ExitCode.Ok, output);
        Assert.All(output.Split('\n', StringSplitOptions.RemoveEmptyEntries), line => Assert.NotNull(JsonNode.Parse(line)!["verdict"]));
    }

    [Fact]
    public async Task A_running_validator_is_recognized_and_its_peers_answer()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System);
        _home = cluster.Home(1);
        _settings["KAFKA_BROKERS"] = cluster.Broker.BootstrapServers;
        Configure("P2P_BOOTSTRAP_PEERS", string.Join(',', cluster.Nodes.Where((_, i) => i != 1).Select(n => n.MeshEndPoint)));
        Configure("KAFKA_BROKERS", null);
        var findings = await ExamineAsync(offline: false);
        Assert.Equal(3, findings.Count(f => f is { Verdict: Verdict.Ok, Area: "peers" }));
        Assert.Contains(findings, f => f is { Verdict: Verdict.Ok, Area: "ports" } && f.What.Contains("which runs", StringComparison.Ordinal));
        Assert.Equal(3, cluster.Nodes[1].ConnectedPeers.Length);
    }

    public void Dispose()
    {
        foreach (var held in _held) held.Dispose();
        _directory.Dispose();
    }
}
