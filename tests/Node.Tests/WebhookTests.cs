using System;
using System.Collections.Concurrent;
using System.IO;
using System.Linq;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class WebhookTests
{
    /// <summary>Takes messages, or does not.</summary>
    private sealed class Receiver : IDisposable
    {
        private readonly HttpListener _listener = new();

        public Receiver()
        {
            Address = $"http://127.0.0.1:{Testnet.FreePorts(1)[0]}/";
            _listener.Prefixes.Add(Address);
            _listener.Start();
            _ = RunAsync();
        }

        public string Address { get; }

        public volatile int Status = 200;

        public ConcurrentQueue<(string Id, string Timestamp, string Signature, string Body)> Messages { get; } = new();

        private async Task RunAsync()
        {
            try
            {
                while (true)
                {
                    var context = await _listener.GetContextAsync();
                    using var reader = new StreamReader(context.Request.InputStream, Encoding.UTF8);
                    var body = await reader.ReadToEndAsync();
                    var headers = context.Request.Headers;
                    if (Status == 200) Messages.Enqueue((headers["webhook-id"]!, headers["webhook-timestamp"]!, headers["webhook-signature"]!, body));
                    context.Response.StatusCode = Status;
                    context.Response.Close();
                }
            }
            catch (Exception problem) when (problem is HttpListenerException or ObjectDisposedException)
            {
                // the end
            }
        }

        public void Dispose() => _listener.Close();
    }

    [Fact]
    public async Task Hooks_are_told_once_in_order_signed_and_what_they_do_not_take_is_kept_and_sent_again()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        using var receiver = new Receiver();
        var secret = RandomNumberGenerator.GetBytes(32);
        var (secretFile, hooks) = (Path.Combine(directory.Path, "secret"), Path.Combine(directory.Path, "hooks.json"));
        await File.WriteAllTextAsync(secretFile, "whsec_" + Convert.ToBase64String(secret) + "\n", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(
            hooks, $$"""[{"name":"soc","url":"{{receiver.Address}}","secret_file":"{{secretFile}}","events":["alert.reported","alert.confirmed","policy.active"],"severity_min":5}]""", TestContext.Current.CancellationToken);
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, parameters: new ChainParameters { PolicyApprovals = 1 });
        await cluster.KillAsync(0);
        await cluster.StartAsync(0, ("WEBHOOKS_FILE", hooks));
        using var kafka = cluster.Producer();
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var alert = await PublishAsync("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now, severity: 5));
        await PublishAsync("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now, severity: 4)); // below what is wanted
        var policy = await PublishAsync("ai.policy.v1", AlertKind.Policy, keys.Alpha.Block(now, keys.Alpha.NextNonce(), Guid.NewGuid().ToString(), "198.51.100.7", 600));
        await PublishAsync("control.decisions.v1", AlertKind.Decision, keys.Analyst.Decide(cluster.Genesis.Chain.ChainId, alert.Digest, Ruling.Confirm, now).Encode());
        await PublishAsync("control.decisions.v1", AlertKind.Decision, keys.Approver.Decide(cluster.Genesis.Chain.ChainId, policy.Digest, Ruling.Approve, now).Encode());
        await Eventually.HoldsAsync(() => receiver.Messages.Count >= 3, "three messages come");
        var messages = receiver.Messages.ToArray();
        Assert.Equal(["alert.reported", "alert.confirmed", "policy.active"], messages.Select(m => (string)JsonNode.Parse(m.Body)!["type"]!));
        Assert.Equal([alert.Digest.ToString(), alert.Digest.ToString(), policy.Digest.ToString()], messages.Select(m => (string)JsonNode.Parse(m.Body)!["data"]!["digest"]!));
        Assert.Equal(3, messages.Select(m => m.Id).Distinct().Count());
        // Standard Webhooks 1.0: HMAC-SHA256 over id, time and body.
        foreach (var (id, timestamp, signature, body) in messages)
            Assert.Equal("v1," + Convert.ToBase64String(HMACSHA256.HashData(secret, Encoding.UTF8.GetBytes($"{id}.{timestamp}.{body}"))), signature);

        // Down: the message is tried again; and over a restart nothing is forgotten and nothing told twice.
        receiver.Status = 500;
        var second = await PublishAsync("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now, severity: 9));
        await Task.Delay(500, TestContext.Current.CancellationToken);
        await cluster.KillAsync(0);
        receiver.Status = 200;
        await cluster.StartAsync(0, ("WEBHOOKS_FILE", hooks));
        await Eventually.HoldsAsync(() => receiver.Messages.Count >= 4, "it comes after all");
        Assert.Equal(second.Digest.ToString(), (string)JsonNode.Parse(receiver.Messages.Last().Body)!["data"]!["digest"]!);
        Assert.Equal(4, receiver.Messages.Count);

        // Dead messages are listed and sent again by hand.
        var dead = new Api.Webhooks.DeadMessages(Path.Combine(cluster.Home(0), "data", "webhooks"), "soc");
        dead.Add(new Api.Webhooks.DeadMessage("7-0", DateTimeOffset.UtcNow, "it answers 500", """{"type":"x"}"""));
        (string, string)[] environment = [("WEBHOOKS_FILE", hooks)];
        Assert.Contains("7-0", (await CliProcess.RunAsync(["webhooks", "list", "--home", cluster.Home(0)], environment)).Output, StringComparison.Ordinal);
        receiver.Status = 503;
        var (code, output) = await CliProcess.RunAsync(["webhooks", "replay", "soc", "--home", cluster.Home(0)], environment);
        Assert.Equal((ExitCode.Failure, true), (code, output.Contains("0 taken, 1 not", StringComparison.Ordinal)));
        Assert.Equal("it answers 503", Assert.Single(dead.All).Reason);
        receiver.Status = 200;
        (code, output) = await CliProcess.RunAsync(["webhooks", "replay", "soc", "--home", cluster.Home(0)], environment);
        Assert.Equal((ExitCode.Ok, true), (code, output.Contains("1 taken, 0 not", StringComparison.Ordinal)));
        Assert.Equal("7-0", receiver.Messages.Last().Id);
        Assert.Empty(dead.All);

        async Task<AlertEnvelope> PublishAsync(string topic, AlertKind kind, byte[] record)
        {
            var envelope = EnvelopeDecoder.TryDecode(kind, record, out var decoded, out _) ? decoded : throw new InvalidOperationException("the test made a bad message");
            kafka.Produce(topic, new Message<byte[]?, byte[]?> { Value = record });
            kafka.Flush(TimeSpan.FromSeconds(30));
            await Eventually.HoldsAsync(() => cluster.Nodes[0].Projection.Transaction(envelope.Digest.ToString()) is not null, "it is committed");
            return envelope;
        }
    }

    [Fact]
    public async Task A_hook_that_takes_nothing_fills_the_dead_list_and_not_the_way_of_the_next_message()
    {
        using var keys = new Keys();
        using var directory = new TemporaryDirectory();
        using var receiver = new Receiver { Status = 500 };
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.UtcNow);
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System);
        using var kafka = cluster.Producer();
        var hook = new Api.Webhooks.Webhook("soc", new Uri(receiver.Address), [.. new byte[32]], Api.Webhooks.Webhook.Types, 1);
        using var sender = new Api.Webhooks.WebhookSender(TimeProvider.System);
        var delivery = new Api.Webhooks.WebhookDelivery(hook, cluster.Nodes[0].Projection, sender, directory.Path, time, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        using var stop = new System.Threading.CancellationTokenSource();
        var run = delivery.RunAsync(stop.Token);
        for (var i = 0; i < 3; i++) kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
        kafka.Flush(TimeSpan.FromSeconds(30));
        var dead = new Api.Webhooks.DeadMessages(directory.Path, "soc");
        await Eventually.HoldsAsync(() =>
        {
            time.Advance(TimeSpan.FromMinutes(1));
            return dead.All.Count() == 3;
        }, "all three are on the dead list");
        Assert.True(delivery.IsFailing);
        receiver.Status = 200;
        kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
        await Eventually.HoldsAsync(() => delivery.Delivered == 1, "the next one is taken");
        Assert.False(delivery.IsFailing);
        await stop.CancelAsync();
        await run;
    }

    [Theory]
    [InlineData("cannot be read", """{"name":"x"}""")]
    [InlineData("cannot be read", """[{"name":"x","colour":"red"}]""")]
    [InlineData("a hook named 'X Y'", """[{"name":"X Y","url":"https://h.example","secret_file":"SECRET"}]""")]
    [InlineData("names x twice", """[{"name":"x","url":"https://h.example","secret_file":"SECRET"},{"name":"x","url":"https://h.example","secret_file":"SECRET"}]""")]
    [InlineData("the url of webhook x is 'http://h.example'", """[{"name":"x","url":"http://h.example","secret_file":"SECRET"}]""")]
    [InlineData("secret_file of webhook x", """[{"name":"x","url":"https://h.example"}]""")]
    [InlineData("secret_file of webhook x", """[{"name":"x","url":"https://h.example","secret_file":"/etc/hostname"}]""")]
    [InlineData("webhook x wants 'alert.lost'", """[{"name":"x","url":"https://h.example","secret_file":"SECRET","events":["alert.lost"]}]""")]
    [InlineData("severity_min of webhook x is 11", """[{"name":"x","url":"https://h.example","secret_file":"SECRET","severity_min":11}]""")]
    public void A_bad_file_of_hooks_is_refused_with_the_reason(string expected, string json)
    {
        using var directory = new TemporaryDirectory();
        var (secret, hooks) = (Path.Combine(directory.Path, "secret"), Path.Combine(directory.Path, "hooks.json"));
        File.WriteAllText(secret, "whsec_" + Convert.ToBase64String(new byte[32]));
        File.WriteAllText(hooks, json.Replace("SECRET", secret, StringComparison.Ordinal));
        SettingsRefusal.Expect(expected, "WEBHOOKS_FILE=" + hooks);
    }
}
