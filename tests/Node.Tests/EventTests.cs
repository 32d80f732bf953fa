using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class EventTests
{
    private static async Task<List<(string Event, ulong Id, JsonNode Data)>> ReadAsync(HttpClient http, string? lastId, int count)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/events");
        if (lastId is not null) request.Headers.Add("Last-Event-ID", lastId);
        using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal("text/event-stream", answer.Content.Headers.ContentType!.MediaType);
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync());
        var events = new List<(string, ulong, JsonNode)>();
        var (name, id) = ("", 0UL);
        while (events.Count < count && await lines.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(120)) is { } line)
        {
            if (line.StartsWith("event: ", StringComparison.Ordinal)) name = line[7..];
            else if (line.StartsWith("id: ", StringComparison.Ordinal)) id = ulong.Parse(line[4..], System.Globalization.CultureInfo.InvariantCulture);
            else if (line.StartsWith("data: ", StringComparison.Ordinal)) events.Add((name, id, JsonNode.Parse(line[6..])!));
        }

        return events;
    }

    [Fact]
    public async Task Blocks_stream_in_order_and_a_client_that_was_cut_off_misses_none()
    {
        using var keys = new Keys();
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System);
        using var kafka = cluster.Producer();
        using var http = new HttpClient { BaseAddress = cluster.Nodes[1].ApiAddress, Timeout = TimeSpan.FromMinutes(5) };
        await PublishAsync(1);
        // From the first block on, then from the middle.
        var all = await ReadAsync(http, "0", 1);
        Assert.Equal(("block", 1UL, 1UL), (all[0].Event, all[0].Id, (ulong)all[0].Data["block"]!["height"]!));
        var live = ReadAsync(http, "1", 6);
        var others = Enumerable.Range(0, 50).Select(_ => ReadAsync(http, "0", 7)).ToArray();
        for (var i = 0; i < 12 && !live.IsCompleted; i++) await PublishAsync(1);
        var events = await live;
        Assert.Equal([2UL, 3, 4, 5, 6, 7], events.Select(e => e.Id));
        foreach (var other in others) Assert.Equal([1UL, 2, 3, 4, 5, 6, 7], (await other).Select(e => e.Id));
        // What a block says stands under its height as well.
        var block = JsonNode.Parse(await http.GetStringAsync("/blocks/3", TestContext.Current.CancellationToken))!;
        var third = events.Single(e => e.Id == 3).Data;
        Assert.Equal(block["block"]!.ToJsonString(), third["block"]!.ToJsonString());
        Assert.Equal(block["transactions"]!.ToJsonString(), third["transactions"]!.ToJsonString());
        Assert.Contains(all.Concat(events), e => e.Data["alerts"]!.AsArray().Any(a => (string)a!["producer"]! == "alpha-sensor"));

        foreach (var bad in new[] { "x", "-1", "18446744073709551615" })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/events");
            request.Headers.Add("Last-Event-ID", bad);
            Assert.Equal(HttpStatusCode.BadRequest, (await http.SendAsync(request, TestContext.Current.CancellationToken)).StatusCode);
        }

        async Task PublishAsync(int count)
        {
            var before = cluster.Nodes[1].Projection.AlertCount();
            for (var i = 0; i < count; i++) kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(DateTimeOffset.UtcNow.ToUnixTimeSeconds()) });
            kafka.Flush(TimeSpan.FromSeconds(30));
            await Eventually.HoldsAsync(() => cluster.Nodes[1].Projection.AlertCount() >= before + count, "it is committed");
        }
    }
}
