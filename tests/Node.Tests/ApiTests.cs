using System;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Sensors;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class ApiTests
{
    [Fact]
    public async Task Every_route_answers_and_bad_requests_get_problem_details()
    {
        using var key = new Ed25519Signer(new byte[32]);
        var producer = new Producer(key.PublicKey, "sensor", "org", AlertKinds.All, SigningProfiles.V2, 1000, default, null, false);
        await using var cluster = await TestCluster.StartAsync([producer], TimeProvider.System);
        var signer = new AlertSigner(key, SigningProfile.V2, TimeProvider.System);
        var alert = signer.Anomaly(new Detection("scan", "10.0.0.1", 5, 0.5, "m", """{"severity":5,"confidence":0.5}"""));
        using (var kafka = cluster.Producer())
        {
            kafka.Produce("ai.anomalies.v1", new() { Value = alert.ToByteArray() });
            kafka.Flush(TimeSpan.FromSeconds(20));
        }

        var node = cluster.Nodes[2];
        await Eventually.HoldsAsync(() => node.Projection.AlertCount() == 1, "the alert is committed");
        using var http = new HttpClient { BaseAddress = node.ApiAddress };
        async Task<JsonNode> Get(string path) => JsonNode.Parse(await http.GetStringAsync(path))!;

        var one = await Get($"/v1/alerts/{alert.Id}");
        Assert.Equal((alert.Id, "scan", 5, 0.5m, "sensor"), ((string)one["id"]!, (string)one["type"]!, (int)one["severity"]!, (decimal)one["confidence"]!, (string)one["producer"]!));
        Assert.Equal(one.ToJsonString(), (await Get($"/v1/alerts/{one["digest"]}")).ToJsonString());
        Assert.Single((await Get("/v1/alerts"))["alerts"]!.AsArray());
        var block = await Get($"/blocks/{one["height"]}");
        Assert.Equal("accepted", (string)block["transactions"]![0]!["result"]!);
        Assert.Equal(block.ToJsonString(), (await Get($"/blocks/{block["block"]!["hash"]}")).ToJsonString());
        Assert.Equal(block["transactions"]!.ToJsonString(), (await Get($"/v1/blocks/{one["height"]}/transactions"))["transactions"]!.ToJsonString());
        await Eventually.HoldsAsync(() => http.GetAsync($"/v1/blocks/{one["height"]}/certificate").GetAwaiter().GetResult().IsSuccessStatusCode, "it is certified here");
        var certificate = await Get($"/v1/blocks/{one["height"]}/certificate");
        Assert.Equal(3, certificate["signatures"]!.AsArray().Select(s => (string)s!["validator"]!).Distinct().Count());
        Assert.True((ulong)certificate["certified_height"]! >= (ulong)certificate["height"]!);
        var latest = (await Get("/blocks/latest"))["block"]!; // empty blocks may follow until a header names the newest state (N11)
        Assert.Equal((string)latest["hash"]!, (string)(await Get($"/blocks/{latest["height"]}"))["block"]!["hash"]!);
        Assert.NotEmpty((await Get("/blocks?limit=1"))["blocks"]!.AsArray());
        var state = await Get("/state");
        Assert.Equal(64, ((string)state["state_root"]!).Length);
        Assert.Equal(4, (await Get("/validators"))["validators"]!.AsArray().Count);
        Assert.Equal("ok", (string)(await Get("/health"))["status"]!);
        var metrics = await http.GetStringAsync("/metrics");
        Assert.Contains("cybermesh_transactions_total{result=\"accepted\"} 1", metrics, StringComparison.Ordinal);

        await Eventually.HoldsAsync(() => http.GetAsync("/health/ready").GetAwaiter().GetResult().IsSuccessStatusCode, "it is ready");

        // The old routes stay at the root, and everything stands under /v1 as well.
        foreach (var path in new[] { "/blocks/1", "/blocks?limit=2&before=2", "/health/live", "/health/startup", "/health/ready" })
            Assert.Equal(await http.GetStringAsync(path), await http.GetStringAsync("/v1" + path));
        foreach (var path in new[] { "/health", "/state", "/validators", "/metrics" }) Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/v1" + path)).StatusCode);
        Assert.Equal("""{"status":"ready","reasons":[]}""", await http.GetStringAsync("/health/ready"));

        var transaction = await Get($"/v1/transactions/{alert.Id}");
        Assert.Equal(((string)one["digest"]!, "accepted", "anomaly"), ((string)transaction["digest"]!, (string)transaction["result"]!, (string)transaction["kind"]!));
        foreach (var list in new[] { "misbehaviour", "orders" }) Assert.Empty((await Get("/v1/" + list))[list]!.AsArray());
        Assert.NotNull((await Get("/v1/views"))["seen"]!.AsArray()); // a busy machine may have changed them

        var day = DateTimeOffset.UtcNow;
        foreach (var (filter, found) in new[]
                 {
                     ("type=scan", 1), ("type=other", 0), ("source=10.0.0.1", 1), ("source=10.0.0.2", 0), ("producer=sensor", 1), ("producer=s", 0), ("organisation=org", 1), ("organisation=Org", 0),
                     ("severity_min=5", 1), ("severity_min=6", 0), ($"since={day.AddHours(-1):yyyy-MM-ddTHH:mm:ssZ}", 1), ($"since={day.AddHours(1):yyyy-MM-ddTHH:mm:ssZ}", 0),
                     ($"until={day.AddHours(1):yyyy-MM-ddTHH:mm:ssZ}", 1), ($"until={day.AddHours(-1):yyyy-MM-ddTHH:mm:ssZ}", 0), ("type=scan&producer=sensor&severity_min=1&status=reported", 1),
                     ("type=scan&producer=other", 0), ("source=%27%20OR%201%3D1%20--", 0), ("text=SCAN", 1), ("text=10.0.0", 1), ("text=nothing+of+it", 0), ("text=scan&type=other", 0),
                 })
            Assert.True((await Get("/v1/alerts?" + filter))["alerts"]!.AsArray().Count == found, filter);

        // A block never changes, so whoever has it need not ask again; the latest is another one soon.
        var immutable = await http.GetAsync($"/v1/blocks/{one["height"]}");
        Assert.Equal("\"" + block["block"]!["hash"] + "\"", immutable.Headers.ETag!.Tag);
        Assert.Contains("immutable", immutable.Headers.GetValues("Cache-Control").Single(), StringComparison.Ordinal);
        using (var again = new HttpRequestMessage(HttpMethod.Get, $"/v1/blocks/{one["height"]}"))
        {
            again.Headers.IfNoneMatch.Add(immutable.Headers.ETag!);
            Assert.Equal(HttpStatusCode.NotModified, (await http.SendAsync(again)).StatusCode);
        }

        Assert.True((await http.GetAsync("/v1/blocks/latest")).Headers.CacheControl!.NoCache);
        Assert.Empty((await Get("/v1/evidence"))["evidence"]!.AsArray());

        // The description is the committed one: whoever changes a route sees it in the review.
        var committed = System.IO.Path.Combine(Paths.Root, "docs/openapi.json");
        var described = (await Get("/v1/openapi.json")).ToJsonString(new() { WriteIndented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }) + "\n";
        if (Environment.GetEnvironmentVariable("CYBERMESH_WRITE_GOLDEN") is not null) await System.IO.File.WriteAllTextAsync(committed, described);
        Assert.Equal(await System.IO.File.ReadAllTextAsync(committed), described);
        Assert.StartsWith("3.1", (string)JsonNode.Parse(described)!["openapi"]!, StringComparison.Ordinal);
        var operations = JsonNode.Parse(described)!["paths"]!.AsObject().Select(p => p.Key).ToHashSet();
        Assert.All(node.Api.Routes.Where(r => r.Method == "GET" && !r.Route.Contains("documentName", StringComparison.Ordinal)), r => Assert.Contains(r.Route.Replace("**", "", StringComparison.Ordinal), operations));

        // OCSF 1.4, Detection Finding: the required attributes, and ours on their scales.
        var finding = (await Get("/v1/alerts?format=ocsf"))["alerts"]![0]!;
        Assert.Equal((2, 2004, 1, 200401), ((int)finding["category_uid"]!, (int)finding["class_uid"]!, (int)finding["activity_id"]!, (int)finding["type_uid"]!));
        Assert.Equal((3, 1, 50), ((int)finding["severity_id"]!, (int)finding["status_id"]!, (int)finding["confidence_score"]!));
        Assert.Equal((alert.Id, (string)one["digest"]!, "CyberMesh"), ((string)finding["finding_info"]!["uid"]!, (string)finding["metadata"]!["uid"]!, (string)finding["metadata"]!["product"]!["name"]!));
        Assert.Equal((2, "10.0.0.1"), ((int)finding["observables"]![0]!["type_id"]!, (string)finding["observables"]![0]!["value"]!));
        Assert.Equal(DateTimeOffset.Parse((string)one["time"]!, System.Globalization.CultureInfo.InvariantCulture).ToUnixTimeMilliseconds(), (long)finding["time"]!);

        // What the state machine knows.
        Assert.Equal("reported", (string)one["status"]!);
        Assert.Single((await Get("/v1/alerts?status=reported"))["alerts"]!.AsArray());
        Assert.Empty((await Get("/v1/alerts?status=confirmed"))["alerts"]!.AsArray());
        Assert.Empty((await Get("/v1/policies"))["policies"]!.AsArray());
        var sensor = Assert.Single((await Get("/v1/producers"))["producers"]!.AsArray())!;
        Assert.Equal(("sensor", "org", 500), ((string)sensor["name"]!, (string)sensor["organisation"]!, (int)sensor["reputation"]!));
        Assert.Equal(key.PublicKey.ToString(), (string)sensor["keys"]![0]!["key"]!);

        // The log: one entry, its hash, a proof of it, and the message.
        await Eventually.HoldsAsync(() => node.Projection.TransparencyLog.Checkpoint is not null, "the log is cosigned");
        Assert.True(SignedNote.TryParse(await http.GetByteArrayAsync("/checkpoint"), out var checkpoint));
        Assert.Equal(4, checkpoint.Signatures.Length);
        var bundle = await http.GetByteArrayAsync("/tile/entries/000.p/1");
        Assert.Equal([0, LogEntry.Size], bundle[..2]);
        Assert.Equal(LogEntry.LeafHash(bundle.AsSpan(2)).ToArray(), await http.GetByteArrayAsync("/tile/0/000.p/1"));
        Assert.True(LogProof.TryParse(await http.GetByteArrayAsync($"/v1/proofs/{alert.Id}"), out var proof, out _));
        Assert.Equal(bundle[2..], proof.Extra.ToArray());
        Assert.Equal(alert.ToByteArray(), await http.GetByteArrayAsync($"/v1/messages/{one["digest"]}"));

        foreach (var (path, status, code) in new[]
                 {
                     ("/v1/proofs/nothing", HttpStatusCode.NotFound, "transaction_not_found"), ("/v1/messages/nothing", HttpStatusCode.NotFound, "transaction_not_found"),
                     ("/tile/0/001", HttpStatusCode.NotFound, "tile_not_found"), ("/tile/entries/000.p/2", HttpStatusCode.NotFound, "tile_not_found"),
                     ("/tile/1/x999/999", HttpStatusCode.NotFound, "tile_not_found"), ("/tile/nothing", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/nothing", HttpStatusCode.NotFound, "not_found"), ("/blocks/999999", HttpStatusCode.NotFound, "block_not_found"),
                     ("/blocks/xyz", HttpStatusCode.BadRequest, "bad_parameter"), ("/blocks/18446744073709551615", HttpStatusCode.NotFound, "block_not_found"),
                     ("/blocks/-1", HttpStatusCode.BadRequest, "bad_parameter"), ("/blocks?limit=0", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/blocks?limit=100000", HttpStatusCode.BadRequest, "bad_parameter"), ("/blocks?before=x", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/v1/alerts?text=", HttpStatusCode.BadRequest, "bad_parameter"), ("/blocks/999999/certificate", HttpStatusCode.NotFound, "block_not_found"), ("/blocks/x/transactions", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/v1/alerts?cursor=zz", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/alerts?cursor=6f", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/v1/alerts?status=nothing", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/policies?status=reported", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/v1/policies?cursor=zz", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/policies/nothing", HttpStatusCode.NotFound, "policy_not_found"),
                     ("/v1/evidence/nothing", HttpStatusCode.NotFound, "evidence_not_found"), ("/v1/producers/nothing", HttpStatusCode.NotFound, "producer_not_found"),
                     ("/v1/alerts/%27;--", HttpStatusCode.NotFound, "alert_not_found"), ("/v1/transactions/nothing", HttpStatusCode.NotFound, "transaction_not_found"),
                     ("/v1/alerts?format=xml", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/alerts?severity_min=11", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/alerts?severity_min=x", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/v1/alerts?since=yesterday", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/views?before=x", HttpStatusCode.BadRequest, "bad_parameter"),
                     ("/v1/misbehaviour?cursor=zz", HttpStatusCode.BadRequest, "bad_parameter"), ("/v1/orders?limit=501", HttpStatusCode.BadRequest, "bad_parameter"),
                 })
        {
            var answer = await http.GetAsync(path);
            Assert.True(status == answer.StatusCode, $"{path}: {answer.StatusCode}");
            Assert.Equal("application/problem+json", answer.Content.Headers.ContentType?.MediaType);
            var problem = JsonNode.Parse(await answer.Content.ReadAsStringAsync())!;
            Assert.Equal(code, (string)problem["code"]!);
            Assert.NotEmpty((string)problem["hint"]!);
        }

        Assert.Equal(HttpStatusCode.MethodNotAllowed, (await http.PostAsync("/state", null)).StatusCode);
        Assert.False((await http.GetAsync("/state")).Headers.Contains("Server"));
    }
}
