using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;
using Microsoft.Data.Sqlite;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>What a validator keeps, what it lets go, and what its operators can see of it.</summary>
public sealed class DataTests
{
    [Fact]
    public async Task D1_bodies_expire_headers_and_proofs_stay_and_damage_is_named()
    {
        using var keys = new Keys();
        var shifted = new ShiftedTime(DateTimeOffset.UtcNow.AddHours(-2));
        await using var cluster = await TestCluster.StartAsync(keys.Producers, shifted, validators: 1, new ChainParameters { TermBlocks = 8, SnapshotTerms = 1 });
        using var kafka = cluster.Producer();
        var node = cluster.Nodes[0];
        for (var i = 0UL; node.Status.Height.Value < 90; i++)
        {
            kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(shifted.GetUtcNow().ToUnixTimeSeconds(), new Nonce(i + 1), $"a-{i}", 7) });
            kafka.Flush(TimeSpan.FromSeconds(10));
            await Task.Delay(20);
        }

        await Eventually.HoldsAsync(() => node.Projection.Height.Value >= 90 && node.Projection.TransparencyLog.Checkpoint is not null, "the copy is level");
        await cluster.KillAsync(0);
        var home = cluster.Home(0);
        var last = Stored(r => r.LastHeight());
        await CheckAsync(0, $"ok: {last} blocks (0 without messages)", "data", "verify");

        // Two hours later, on a validator that keeps messages for one.
        cluster.Time = TimeProvider.System;
        await cluster.StartAsync(0, ("RETENTION_BODIES", "1h"));
        node = cluster.Nodes[0];
        await Eventually.HoldsAsync(() => node.Metrics.BlocksPruned.Value > 20, "old bodies go");
        using (var http = new HttpClient { BaseAddress = node.ApiAddress })
        {
            Assert.Equal(HttpStatusCode.Gone, (await http.GetAsync("/v1/messages/a-0")).StatusCode);
            Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/v1/alerts/a-0")).StatusCode);
            Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/v1/proofs/a-0")).StatusCode);
            Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/v1/block-proofs/a-0")).StatusCode);
        }

        using (var reader = LocalStore.OpenReader(Path.Combine(home, "data")))
        {
            Assert.Null(reader.Serve(new Height(1), new Height(10)));
            Assert.NotNull(reader.Serve(new Height(80), new Height(89)));
        }

        await CheckAsync(0, "not checked: the vote log is in use", "data", "verify");
        await CheckAsync(1, "the blocks below", "db", "rebuild", "--yes");
        await CheckAsync(0, "rows are what blocks", "db", "verify");
        await cluster.KillAsync(0);
        await cluster.StartAsync(0);
        await cluster.KillAsync(0);
        await CheckAsync(0, "blocks     ", "data", "compact");
        await CheckAsync(0, "with their messages from ", "data", "inspect");
        var file = Path.Combine(home, "export");
        await CheckAsync(0, "90 blocks", "data", "export", "--out", file, "--to", "90");
        var lines = (await File.ReadAllLinesAsync(file)).Select(l => JsonNode.Parse(l)!).ToArray();
        Assert.Equal(Enumerable.Range(1, 90), lines.Select(l => (int)l["height"]!));
        Assert.Null(lines[0]["transactions"]![0]!["message"]);
        Assert.Contains(lines, l => l["transactions"]!.AsArray().Any(t => t!["message"] is not null));
        Assert.True(CyberMesh.Core.Proofs.CertifiedHeader.TryDecode(Convert.FromBase64String((string)lines[3]["certified_header"]!), out var certified));
        Assert.Equal((string)lines[3]["hash"]!, certified.Header.Hash().ToString());

        // Each kind of damage is found and named.
        Damage("UPDATE blocks SET payload = (SELECT payload FROM blocks WHERE height = 60) WHERE height = 61");
        await CheckAsync(5, "failed: block 60 follows block 60", "data", "verify");
        Restore();
        Damage("DELETE FROM blocks WHERE height = 40");
        await CheckAsync(5, "failed: block 41 follows block 39: there is a hole", "data", "verify");
        Restore();
        Damage("UPDATE blocks SET state_root = zeroblob(32) WHERE height = 50");
        await CheckAsync(5, "names another state after block 50", "data", "verify");
        Restore();
        Damage("UPDATE blocks SET results = x'' WHERE height = (SELECT max(height) FROM blocks WHERE height < 70 AND length(results) > 0)");
        await CheckAsync(5, "results for", "data", "verify");
        Restore();
        File.SetUnixFileMode(Path.Combine(home, "data"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.OtherRead);
        await CheckAsync(5, "chmod go-rwx", "data", "verify");
        Assert.Contains("open to other users", (await Assert.ThrowsAsync<UserError>(() => cluster.StartAsync(0))).Message, StringComparison.Ordinal);
        File.SetUnixFileMode(Path.Combine(home, "data"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        await CheckAsync(0, "0 problems", "data", "verify");

        async Task CheckAsync(int expected, string says, params string[] arguments)
        {
            var (code, output) = await CliProcess.RunAsync([.. arguments, "--home", home]);
            Assert.True(code == expected && output.Contains(says, StringComparison.Ordinal), $"{string.Join(' ', arguments)} ended with {code}:\n{output}");
        }

        T Stored<T>(Func<BlockReader, T> query)
        {
            using var reader = LocalStore.OpenReader(Path.Combine(home, "data"));
            return query(reader);
        }

        void Damage(string sql)
        {
            var path = Path.Combine(home, "data", "blocks.db");
            if (!File.Exists(path + ".kept")) File.Copy(path, path + ".kept");
            using var blocks = new SqliteConnection($"Data Source={path};Pooling=False");
            blocks.Open();
            using var command = blocks.CreateCommand();
#pragma warning disable CA2100 // of this test
            command.CommandText = sql;
#pragma warning restore CA2100
            Assert.Equal(1, command.ExecuteNonQuery());
        }

        void Restore()
        {
            foreach (var suffix in new[] { "-wal", "-shm" }) File.Delete(Path.Combine(home, "data", "blocks.db" + suffix));
            File.Copy(Path.Combine(home, "data", "blocks.db.kept"), Path.Combine(home, "data", "blocks.db"), overwrite: true);
        }
    }
}
