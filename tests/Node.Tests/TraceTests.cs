using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Text;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using CyberMesh.Core.Alerts;
using Google.Protobuf;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class TraceTests
{
    /// <summary>A collector that keeps what it is sent.</summary>
    private sealed class Collector : IAsyncDisposable
    {
        private readonly WebApplication _app;

        private Collector(WebApplication app) => _app = app;

        public ConcurrentBag<byte[]> Bodies { get; } = [];

        public Uri Address => new(_app.Urls.First());

        public static async Task<Collector> StartAsync()
        {
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
            var collector = new Collector(builder.Build());
            collector._app.MapPost("/v1/traces", async (HttpRequest request) =>
            {
                using var body = new MemoryStream();
                await request.Body.CopyToAsync(body);
                collector.Bodies.Add(body.ToArray());
                return Results.Ok();
            });
            await collector._app.StartAsync();
            return collector;
        }

        public bool Has(byte[] trace, string span) => Bodies.Any(body => body.AsSpan().IndexOf(trace) >= 0 && body.AsSpan().IndexOf(Encoding.UTF8.GetBytes(span)) >= 0);

        public ValueTask DisposeAsync() => _app.DisposeAsync();
    }

    /// <summary>One alert whose producer wants it followed: its way through every validator, from poll to publish, is one trace, and the commit record says so.</summary>
    [Fact]
    public async Task An_alert_is_followed_from_poll_to_publish()
    {
        await using var collector = await Collector.StartAsync();
        using var key = new Ed25519Signer([.. Enumerable.Repeat((byte)3, 32)]);
        await using var cluster = await TestCluster.StartAsync(
            [Cli.Verbs.Testnet.Trusted(key.PublicKey, "sensor", "alpha")], TimeProvider.System,
            environment: new Dictionary<string, string> { ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.Address.ToString(), ["OTEL_TRACES_SAMPLER_ARG"] = "0" });
        using var producer = KafkaClients.Producer(KafkaConnection.Plain(cluster.Brokers), "test", _ => { });
        var signer = new AlertSigner(key, SigningProfile.V1, TimeProvider.System);
        const string trace = "0af7651916cd43dd8448eb211c80319c";
        var unfollowed = Guid.NewGuid().ToString("N");
        foreach (var (id, flag) in new[] { (trace, "01"), (unfollowed, "00") })
            producer.Produce(cluster.Topic("ai.anomalies.v1"), new Message<byte[]?, byte[]?>
            {
                Value = signer.Anomaly(new Detection("scan", "10.0.0.1", 5, 0.5, "m", """{"severity":5,"confidence":0.5}""")).ToByteArray(),
                Headers = new Headers { { "traceparent", Encoding.ASCII.GetBytes($"00-{id}-b7ad6b7169203331-{flag}") } },
            });
        producer.Flush(TimeSpan.FromSeconds(10));

        var commits = await cluster.ReadAsync("control.commits.v1", records => records.Any(r => Parent(r) is not null));
        Assert.Contains(commits, record => Parent(record)?.Contains(trace, StringComparison.Ordinal) == true);
        foreach (var span in new[] { "receive", "verify", "agree", "publish" })
            await Eventually.HoldsAsync(() => collector.Has(Convert.FromHexString(trace), span), $"the collector has the span {span}");
        for (var i = 1; i <= 4; i++)
        {
            var node = $"node {i}";
            await Eventually.HoldsAsync(() => collector.Has(Convert.FromHexString(trace), node), $"{node} tells of it");
        }

        Assert.DoesNotContain(collector.Bodies, body => body.AsSpan().IndexOf(Convert.FromHexString(unfollowed)) >= 0);

        static string? Parent(ConsumeResult<byte[]?, byte[]?> record) => record.Message.Headers.TryGetLastBytes("traceparent", out var bytes) ? Encoding.ASCII.GetString(bytes) : null;
    }
}
