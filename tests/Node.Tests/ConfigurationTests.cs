using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using CyberMesh.Cli;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Where settings stand, what is said about them, and the paper about them.</summary>
public sealed class ConfigurationTests
{
    [Fact]
    public void The_paper_is_made_of_the_catalog()
    {
        var path = Path.Combine(Paths.Root, "docs/configuration.md");
        const string Mark = "<!-- made of SettingCatalog; CYBERMESH_WRITE_GOLDEN=1 makes it anew -->\n\n";
        var text = File.ReadAllText(path);
        var made = text[..(text.IndexOf(Mark, StringComparison.Ordinal) + Mark.Length)] + SettingCatalog.Table();
        if (Environment.GetEnvironmentVariable("CYBERMESH_WRITE_GOLDEN") is not null) File.WriteAllText(path, made);
        Assert.Equal(made, text);
        Assert.Equal(SettingCatalog.All.Length, SettingCatalog.All.Select(d => d.Name).Distinct().Count());
    }

    [Fact]
    public void Every_name_of_the_catalog_may_be_set_to_its_default()
    {
        var values = SettingCatalog.All.Where(d => d.Default.Length > 0 && !d.Name.StartsWith("DB_", StringComparison.Ordinal)).ToDictionary(d => d.Name, d => d.Default);
        (values["NODE_ID"], values["KAFKA_BROKERS"]) = ("1", "b:9092");
        Settings.Load("/nowhere", values);
        Assert.All(SettingCatalog.All, d => Assert.True(SettingCatalog.IsOurs(d.Name)));
        Assert.Null(SettingCatalog.Nearest("SOMETHING_ELSE_ENTIRELY"));
    }

    [Fact]
    public async Task Each_problem_names_its_place_and_secrets_are_never_shown()
    {
        using var directory = new TemporaryDirectory();
        var (config, variables) = (Path.Combine(directory.Path, "config.json"), Path.Combine(directory.Path, "more.env"));
        await File.WriteAllTextAsync(config, "{\n  \"NODE_ID\": 1,\n  \"KAFKA_BROKER\": \"b:9092\",\n  \"MEMPOOL_MAX_TXS\": \"many\"\n}\n", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(variables, "# a comment\nexport KAFKA_BROKERS='b:9092'\nDB_DSN=postgresql://u:geheim@h/d\nSALT=\"old\"\nP2P_BOOTSTRAP_PEERS=nowhere\n", TestContext.Current.CancellationToken);
        string[] where = ["--home", directory.Path, "--env-file", variables, "--set", "LOG_LEVEL=loud"];
        var (code, output) = await CliProcess.RunAsync(["config", "validate", .. where], [("TLS_CERT_FILE", "x")]);
        Assert.Equal(ExitCode.Failure, code);
        foreach (var part in new[]
                 {
                     "KAFKA_BROKER (in config.json, line 3) is not a setting; did you mean KAFKA_BROKERS?", "MEMPOOL_MAX_TXS is 'many'; it must be a whole number from 1 to 1000000 (config.json, line 4)",
                     "(more.env, line 5)", "LOG_LEVEL is 'loud'; it must be one of trace, debug, info, warn, error (the command line)", "TLS_CERT_FILE (in the environment) is not a setting; did you mean TLS_CERT_PATH?", "warning: SALT is set and has no effect", "5 problem(s)",
                 })
            Assert.Contains(part, output, StringComparison.Ordinal);
        (_, output) = await CliProcess.RunAsync(["config", "show", "--effective", "--origin", .. where]);
        foreach (var part in new[] { "NODE_ID=1  # config.json, line 2", "DB_DSN=(hidden)  # more.env, line 3", "KAFKA_BROKERS=b:9092  # more.env, line 2", "KAFKA_DLQ_TOPIC=ai.dlq.v1  # default", "SALT=(hidden)" })
            Assert.Contains(part, output, StringComparison.Ordinal);
        Assert.DoesNotContain("geheim", output, StringComparison.Ordinal);

        // The template, filled in, is good.
        await File.WriteAllTextAsync(config, "{}", TestContext.Current.CancellationToken);
        var template = (await CliProcess.RunAsync("config", "env")).Output;
        await File.WriteAllTextAsync(variables, template.Replace("#NODE_ID=", "NODE_ID=validator-0", StringComparison.Ordinal).Replace("#KAFKA_BROKERS=", "KAFKA_BROKERS=b:1", StringComparison.Ordinal), TestContext.Current.CancellationToken);
        (code, output) = await CliProcess.RunAsync("config", "validate", "--home", directory.Path, "--env-file", variables);
        Assert.True(code == ExitCode.Ok, output);
    }

    [Theory]
    [InlineData("[]", "line 1: it begins with something else")]
    [InlineData("{\n\"NODE_ID\": null}", "line 2: the value of NODE_ID is neither")]
    [InlineData("{\n\"NODE_ID\": \"1\",\n\"NODE_ID\": \"1\"}", "line 3: NODE_ID stands there twice")]
    [InlineData("{\"NODE_ID\": \"1\"} x", "line 1")]
    [InlineData("{\"NODE_ID\"", "line 1")]
    public void A_file_that_is_no_object_of_settings_is_refused_with_its_line(string content, string says)
    {
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "config.json");
        File.WriteAllText(path, content);
        Assert.Contains(says, Assert.Throws<UserError>(() => Settings.Load(path, new Dictionary<string, string>())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_event_is_one_object_for_programs_and_one_line_for_people()
    {
        foreach (var asJson in new[] { true, false })
        {
            using var writer = new StringWriter();
            using var provider = new LineLogProvider(writer, TimeProvider.System, LogLevel.Information, asJson);
            var logger = provider.CreateLogger("");
            Log.BlockCommitted(logger, 7, 3, 1, "2/1", "v\u202e1\n", "ab");
            logger.LogError(new InvalidOperationException("line one\nline two"), "it failed with {Count}", 5);
            var lines = writer.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(2, lines.Length);
            if (!asJson) continue;
            var committed = JsonNode.Parse(lines[0])!;
            Assert.Equal(("info", "block_committed", 7), ((string)committed["level"]!, (string)committed["event"]!, (int)committed["height"]!));
            Assert.Equal((5, "it failed with 5"), ((int)JsonNode.Parse(lines[1])!["count"]!, (string)JsonNode.Parse(lines[1])!["message"]!));
            Assert.Contains("line two", (string)JsonNode.Parse(lines[1])!["exception"]!, StringComparison.Ordinal);
        }
    }
}
