using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The walk in docs/api.md, run as it stands there.</summary>
public sealed class WalkTests
{
    [Fact]
    public async Task Every_line_of_the_walk_works_and_every_route_is_on_it()
    {
        var section = (await File.ReadAllTextAsync(Path.Combine(Paths.Root, "docs/api.md"), TestContext.Current.CancellationToken)).Split("## A walk")[1];
        var lines = section.Split("```")[1].Split('\n', StringSplitOptions.RemoveEmptyEntries);
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        var token = new string('t', 40);
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, environment: new Dictionary<string, string> { ["API_BEARER_TOKENS"] = $"a:admin:{token}", ["API_WRITES"] = "true" });
        using var kafka = cluster.Producer();
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var alert = Publish("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now));
        var evidence = Publish("ai.evidence.v1", AlertKind.Evidence, keys.Alpha.Evidence(now, keys.Alpha.NextNonce(), "evidence-1", [alert.Digest]));
        var policy = Publish("ai.policy.v1", AlertKind.Policy, keys.Alpha.Block(now, keys.Alpha.NextNonce(), Guid.NewGuid().ToString(), "198.51.100.0/24", 600));
        kafka.Flush(TimeSpan.FromSeconds(30));
        var node = cluster.Nodes[0];
        await Eventually.HoldsAsync(() => new[] { alert, evidence, policy }.All(e => node.Projection.Transaction(e.Digest.ToString())?.Result == "accepted"), "all are committed");
        await File.WriteAllBytesAsync(Path.Combine(directory.Path, "verdict"), keys.Analyst.Decide(cluster.Genesis.Chain.ChainId, alert.Digest, Ruling.Confirm, now).Encode(), TestContext.Current.CancellationToken);

        // Line by line, so that a failure names its line.
        var asked = lines.Where(l => l.Contains("$URL", StringComparison.Ordinal)).ToArray();
        foreach (var line in asked)
        {
            var start = new ProcessStartInfo("bash") { WorkingDirectory = directory.Path, RedirectStandardError = true, RedirectStandardOutput = true, ArgumentList = { "-c", lines[0] + "\n" + line } };
            foreach (var (name, value) in new[]
                     {
                         ("URL", node.ApiAddress.ToString().TrimEnd('/')), ("TOKEN", token), ("ALERT", alert.Digest.ToString()), ("EVIDENCE", evidence.Digest.ToString()), ("POLICY", policy.Digest.ToString()),
                         ("PRODUCER", keys.Alpha.Signer.PublicKey.ToString()),
                     })
                start.Environment[name] = value;
            using var process = Process.Start(start)!;
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120));
            var (output, error) = (process.StandardOutput.ReadToEndAsync(limit.Token), process.StandardError.ReadToEndAsync(limit.Token));
            await process.WaitForExitAsync(limit.Token);
            Assert.True(process.ExitCode == 0, $"{line}\n{await output}{await error}");
            Assert.True((await output).Length > 0 || line.Contains("--output", StringComparison.Ordinal) || line.Contains("/feeds/", StringComparison.Ordinal), $"{line}: no answer");
        }

        var walked = asked.Select(l => Regex.Match(l, @"\$URL([^?""]*)").Groups[1].Value).ToArray();
        foreach (var (method, route, _) in node.Api.Routes.Where(r => r.Method.Length > 0))
        {
            // What stands at the root and under /v1 is one route.
            var pattern = "^(/v1)?" + Regex.Replace(Regex.Escape(Regex.Replace(route, "^/v1", "")), @"\\\{[^}]*}", ".+") + "$";
            Assert.True(walked.Any(path => Regex.IsMatch(Regex.Replace(path, "^/v1", ""), pattern)), $"{method} {route} is not on the walk");
        }

        AlertEnvelope Publish(string topic, AlertKind kind, byte[] record)
        {
            kafka.Produce(topic, new Message<byte[]?, byte[]?> { Value = record });
            return EnvelopeDecoder.TryDecode(kind, record, out var envelope, out _) ? envelope : throw new InvalidOperationException("the test made a bad message");
        }
    }
}
