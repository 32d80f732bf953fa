using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using CyberMesh.Node.Configuration;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Files for deployments name things of the program; they are held against it. No engine runs here: their own tools check the rest (docs/testing.md).</summary>
public sealed partial class DeploymentTests
{
    private static string Read(string path) => File.ReadAllText(Path.Combine(Paths.Root, path));

    [GeneratedRegex(@"\b(cybermesh|process|dotnet)_[a-z0-9_]+\b")]
    private static partial Regex MetricName();

    [GeneratedRegex(@"^\s+runbook: docs/runbook\.md#(\S+)$", RegexOptions.Multiline)]
    private static partial Regex RunbookPage();

    [GeneratedRegex(@"^\s*(?:- )?([A-Z][A-Z0-9]*_[A-Z0-9_]+)[=:]", RegexOptions.Multiline)]
    private static partial Regex VariableName();

    [GeneratedRegex(@"path: (/health/[a-z]+)")]
    private static partial Regex ProbePath();

    [Fact]
    public async Task Metrics_are_what_the_paper_the_rules_and_the_dashboard_say()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        var (secret, hooks) = (Path.Combine(directory.Path, "secret"), Path.Combine(directory.Path, "hooks.json"));
        await File.WriteAllTextAsync(secret, "whsec_" + Convert.ToBase64String(new byte[32]), TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(hooks, $$"""[{"name":"soc","url":"http://127.0.0.1:1","secret_file":"{{secret}}"}]""", TestContext.Current.CancellationToken);
        WriteCertificate(directory.Path);
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System);
        await cluster.KillAsync(0);
        await cluster.StartAsync(0, ("WEBHOOKS_FILE", hooks), ("TLS_CERT_PATH", Path.Combine(directory.Path, "tls.pem")), ("TLS_KEY_PATH", Path.Combine(directory.Path, "tls.key")));
        var metrics = cluster.Nodes[0].Metrics;

        const string Mark = "<!-- made of what a validator serves; CYBERMESH_WRITE_GOLDEN=1 makes it anew -->\n\n";
        var paper = Read("docs/metrics.md");
        var made = paper[..(paper.IndexOf(Mark, StringComparison.Ordinal) + Mark.Length)] + metrics.Table();
        if (Environment.GetEnvironmentVariable("CYBERMESH_WRITE_GOLDEN") is not null) await File.WriteAllTextAsync(Path.Combine(Paths.Root, "docs/metrics.md"), made, TestContext.Current.CancellationToken);
        Assert.Equal(made, paper);

        // As a server reads them: each name declared once, counters end in _total, and nothing else does.
        var text = metrics.Render();
        var declared = text.Split('\n').Where(l => l.StartsWith("# TYPE ", StringComparison.Ordinal)).Select(l => l.Split(' ')).ToDictionary(l => l[2], l => l[3]);
        Assert.All(declared, d => Assert.Equal(d.Value == "counter", d.Key.EndsWith("_total", StringComparison.Ordinal)));
        Assert.All(text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(l => l[0] != '#'), l => Assert.Matches("^[a-z_]+(\\{[a-z]+=\"[^\"]*\"[^}]*\\})? [0-9.E+-]+$", l));

        foreach (var file in new[] { "deploy/prometheus/rules.yml", "deploy/grafana/cybermesh.json" })
            foreach (var name in MetricName().Matches(Read(file)).Select(m => Regex.Replace(m.Value, "_(bucket|sum|count)$", "")).Distinct())
                Assert.True(declared.ContainsKey(name), $"{file} asks for {name}, which no validator serves");
    }

    private static void WriteCertificate(string directory)
    {
        using var key = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256);
        using var certificate = new System.Security.Cryptography.X509Certificates.CertificateRequest("CN=127.0.0.1", key, System.Security.Cryptography.HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(Path.Combine(directory, "tls.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(directory, "tls.key"), key.ExportPkcs8PrivateKeyPem());
    }

    [Fact]
    public void Every_rule_leads_to_a_page_of_the_runbook()
    {
        var pages = Read("docs/runbook.md").Split('\n').Where(l => l.StartsWith("## ", StringComparison.Ordinal)).Select(l => l[3..].ToLowerInvariant().Replace(' ', '-').Replace(",", "", StringComparison.Ordinal)).ToHashSet();
        var named = RunbookPage().Matches(Read("deploy/prometheus/rules.yml")).Select(m => m.Groups[1].Value).ToList();
        Assert.Equal(Regex.Count(Read("deploy/prometheus/rules.yml"), "- alert: "), named.Count);
        Assert.All(named, page => Assert.Contains(page, pages));
    }

    [Fact]
    public void The_dashboard_is_one_and_every_panel_asks_for_something()
    {
        var panels = JsonNode.Parse(Read("deploy/grafana/cybermesh.json"))!["panels"]!.AsArray();
        Assert.True(panels.Count >= 10);
        Assert.All(panels, p => Assert.NotEmpty(p!["targets"]!.AsArray().Select(t => (string)t!["expr"]!)));
    }

    /// <summary>Settings in deployments are settings of the program, and go together.</summary>
    [Theory]
    [InlineData("deploy/kubernetes/base/kustomization.yaml")]
    [InlineData("deploy/kubernetes/lab/kustomization.yaml")]
    [InlineData("deploy/compose.yaml")]
    public void Settings_of_deployments_are_known(string file)
    {
        // Kafka's own container has variables of its own.
        var names = VariableName().Matches(Read(file)).Select(m => m.Groups[1].Value).Where(n => !n.StartsWith("KAFKA_", StringComparison.Ordinal) || SettingCatalog.Find(n) is not null).Where(n => n.Split('_')[0] is not ("GF" or "CLUSTER")).Distinct().ToList();
        Assert.NotEmpty(names);
        Assert.All(names, name => Assert.NotNull(SettingCatalog.Find(name)));
    }

    [Fact]
    public void The_settings_of_the_kubernetes_base_and_lab_are_accepted()
    {
        using var directory = new TemporaryDirectory();
        WriteCertificate(directory.Path);
        var tokens = Path.Combine(directory.Path, "tokens");
        File.WriteAllText(tokens, "prometheus:viewer:" + new string('x', 40));
        var settings = Literals("deploy/kubernetes/base/kustomization.yaml");
        (settings["NODE_ID"], settings["TLS_CERT_PATH"], settings["TLS_KEY_PATH"], settings["API_BEARER_TOKENS_FILE"]) = ("cybermesh-0", Path.Combine(directory.Path, "tls.pem"), Path.Combine(directory.Path, "tls.key"), tokens);
        Assert.False(Settings.Load("/nowhere", settings).Api.IsOpen);
        foreach (var (name, value) in Literals("deploy/kubernetes/lab/kustomization.yaml")) settings[name] = value;
        Assert.True(Settings.Load("/nowhere", settings).Api.IsOpen);

        static Dictionary<string, string> Literals(string file) => Read(file).Split('\n').Where(l => l.StartsWith("      - ", StringComparison.Ordinal) && l.Contains('=', StringComparison.Ordinal))
            .Select(l => l.Trim()[2..].Split('=', 2)).ToDictionary(p => p[0], p => p[1]);
    }

    [Fact]
    public async Task Probes_ask_for_routes_that_there_are()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System);
        var routes = cluster.Nodes[0].Api.Routes.Select(r => r.Route).ToHashSet();
        var probes = ProbePath().Matches(Read("deploy/kubernetes/base/statefulset.yaml")).Select(m => m.Groups[1].Value).ToList();
        Assert.Equal(["/health/startup", "/health/live", "/health/ready"], probes);
        Assert.All(probes, probe => Assert.Contains(probe, routes));
    }

    /// <summary>What a validator may do on its machine, as testing.md §4 of the design lists it, and its signer less.</summary>
    [Theory]
    [InlineData("cybermesh", "AF_INET AF_INET6 AF_UNIX")]
    [InlineData("cybermesh-signer", "AF_UNIX")]
    public async Task The_units_are_hardened(string name, string families)
    {
        var unit = Read($"deploy/systemd/{name}.service").Split('\n').ToHashSet();
        foreach (var line in new[]
                 {
                     "NoNewPrivileges=yes", "ProtectSystem=strict", $"ReadWritePaths=/var/lib/{name}", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectProc=invisible",
                     $"RestrictAddressFamilies={families}", "RestrictNamespaces=yes", "LockPersonality=yes", "SystemCallFilter=@system-service", "CapabilityBoundingSet=", "UMask=0077", "LimitCORE=0", $"User={name}",
                 })
            Assert.Contains(line, unit);
        Assert.DoesNotContain(unit, line => line.StartsWith("MemoryDenyWriteExecute=", StringComparison.Ordinal));

        // The command is one: it fails for what is not there, and not for a word that is unknown.
        using var directory = new TemporaryDirectory();
        var command = unit.Single(line => line.StartsWith("ExecStart=", StringComparison.Ordinal)).Split(' ')[1..];
        var (code, output) = await CliProcess.RunAsync([.. command.Select(word => word.StartsWith('/') ? directory.Path + word : word)]);
        Assert.True(code == 1 && !output.Contains("Usage", StringComparison.Ordinal), output);
    }

    [Fact]
    public void The_image_has_no_root_no_shell_and_no_secrets()
    {
        var lines = Read("deploy/Dockerfile").Split('\n');
        var last = Array.FindLastIndex(lines, l => l.StartsWith("FROM ", StringComparison.Ordinal));
        Assert.Contains("chiseled", lines[last], StringComparison.Ordinal);
        Assert.Contains(lines[last..], l => l.StartsWith("USER 1654", StringComparison.Ordinal));
        foreach (var secret in new[] { "*.key", "*.pem", "*.env" }) Assert.Contains(secret, Read(".dockerignore").Split('\n'));
        Assert.Contains(Read("global.json").Split('"')[5][..6], lines[Array.FindIndex(lines, l => l.StartsWith("FROM ", StringComparison.Ordinal))], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Homes_for_machines_of_their_own_name_them()
    {
        using var directory = new TemporaryDirectory();
        string[] testnet = ["testnet", "--validators", "4", "--out", Path.Combine(directory.Path, "net"), "--hosts", "a,b,c,d", "--base-port", "8000", "--api-port", "8443", "--keep"];
        Assert.Equal(0, (await CliProcess.RunAsync(testnet)).Code);
        var config = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(directory.Path, "net", "v2", "config.json"), TestContext.Current.CancellationToken))!;
        Assert.Equal((":8000", "a:8000,c:8000,d:8000", "b:8000", ":8443"), ((string)config["P2P_LISTEN_PORT"]!, (string)config["P2P_BOOTSTRAP_PEERS"]!, (string)config["P2P_ADVERTISE"]!, (string)config["API_LISTEN_ADDR"]!));
        Assert.Equal(["a:8000", "b:8000", "c:8000", "d:8000"], Hosting.GenesisFile.Load(Path.Combine(directory.Path, "net", "v1", "genesis.json")).Chain.Validators.Members.Select(v => v.Address).Order());
        Assert.Contains("it is left as it is", (await CliProcess.RunAsync(testnet)).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bash")]
    [InlineData("zsh")]
    [InlineData("fish")]
    [InlineData("powershell")]
    public async Task Shells_complete_what_the_program_suggests(string shell)
    {
        Assert.Contains("[suggest:", (await CliProcess.RunAsync("completions", shell)).Output, StringComparison.Ordinal);
        Assert.Contains("validate", (await CliProcess.RunAsync("[suggest:17]", "cybermesh config ")).Output, StringComparison.Ordinal);
    }
}
