using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Data.Common;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli.Chaos;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Projection;
using CyberMesh.Node.Storage;
using CyberMesh.Protos.Ai;
using Google.Protobuf;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>A PostgreSQL server, and the home of a validator that has decided on some of everything and was stopped.</summary>
public sealed class DatabaseFixture : IAsyncLifetime
{
    private TestCluster? _cluster;

    private readonly PostgresServer? _server = External is null ? new PostgresServer() : null;

    /// <summary>A server that is there already, which is neither stopped nor changed: its URL.</summary>
    public static string? External { get; } = Environment.GetEnvironmentVariable("TEST_DB_DSN") is { Length: > 0 } url ? url : null;

    /// <summary>Our own; tests that stop it or look into it are skipped with another one.</summary>
    internal PostgresServer Server => _server!;

    /// <summary>A schema nobody uses.</summary>
    internal static string NewSchema() => "t" + Guid.NewGuid().ToString("N")[..16];

    public string Home => _cluster!.Home(0);

    internal ProjectionSource Source { get; private set; } = null!;

    /// <summary>An alert that was disputed first.</summary>
    public string Expired { get; private set; } = "";

    /// <summary>Its last block.</summary>
    public Height Height { get; private set; }

    public async ValueTask InitializeAsync()
    {
        using var keys = new Keys();
        _cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, validators: 1, new ChainParameters { PolicyApprovals = 1, AlertsOpenMax = 601 });
        using var kafka = _cluster.Producer();
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var node = _cluster.Nodes[0];
        // The first profile does not cover the id.
        var odd = AnomalyEvent.Parser.ParseFrom(keys.Alpha.Anomaly(now, new Nonce(1), "a--1", 7));
        odd.Id = "a\0-1";
        var first = Publish("ai.anomalies.v1", AlertKind.Anomaly, odd.ToByteArray());
        Publish("ai.anomalies.v1", AlertKind.Anomaly, keys.Beta.Anomaly(now, new Nonce(2), "b-1", 7));
        for (ulong i = 0; i < 600; i++) Publish("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now, new Nonce(1000 + i), $"a-{i}", (byte)(1 + (i % 10))));
        var policy = Publish("ai.policy.v1", AlertKind.Policy, keys.Alpha.Block(now, new Nonce(4), "p-1", "203.0.113.7", 600));
        await Eventually.HoldsAsync(() => node.Projection.AlertCount() == 602 && node.Projection.Policy("p-1") is not null, "all of it is committed");
        Publish("ai.evidence.v1", AlertKind.Evidence, keys.Beta.Evidence(now, new Nonce(3), "e-1", [first, Digest.Sha256(DigestDomain.Change, [9])]));
        Publish("control.decisions.v1", AlertKind.Decision, keys.Analyst.Decide(_cluster.Genesis.Chain.ChainId, first, Ruling.FalsePositive, now, "a test").Encode());
        Expired = node.Projection.Alerts(ulong.MaxValue, 0, 1000).Last(a => a.Id.StartsWith("a-", StringComparison.Ordinal)).Digest;
        Assert.True(Digest.TryParse(Expired, out var oldest));
        Publish("control.decisions.v1", AlertKind.Decision, keys.Analyst.Decide(_cluster.Genesis.Chain.ChainId, oldest, Ruling.Dispute, now, "a doubt").Encode());
        Publish("control.decisions.v1", AlertKind.Decision, keys.Approver.Decide(_cluster.Genesis.Chain.ChainId, policy, Ruling.Approve, now).Encode());
        await Eventually.HoldsAsync(() => node.Projection.Policy("p-1")!.Status == "active" && node.Projection.Evidence("e-1") is not null && node.Projection.Alert("a\0-1")!.Status == "false_positive" && node.Projection.Alert(Expired)!.Status == "disputed", "and decided on");
        // No more of one organisation are open at a time: these close the first two.
        for (ulong i = 600; i < 602; i++) Publish("ai.anomalies.v1", AlertKind.Anomaly, keys.Alpha.Anomaly(now, new Nonce(1000 + i), $"a-{i}", 5));
        await Eventually.HoldsAsync(() => node.Projection.Alert(Expired)!.Status == "expired", "and closed");
        await Eventually.HoldsAsync(() => node.Projection.TransparencyLog.Checkpoint is not null, "the log is cosigned");
        await _cluster.KillAsync(0);

        var settings = Configuration.Settings.Load(Path.Combine(Home, "config.json"), new Dictionary<string, string>());
        using var reader = Reader();
        using var keyring = new Keyring(Home);
        var replica = Recovery.Run(_cluster.Genesis, keyring, settings, new Ed25519Verifier(), new SnapshotStore(Path.Combine(Home, "data", "snapshots")), reader, []);
        Source = new ProjectionSource(_cluster.Genesis, replica.Epochs, replica.Producers, "node 1");
        Height = reader.LastHeight();

        Digest Publish(string topic, AlertKind kind, byte[] record)
        {
            Assert.True(EnvelopeDecoder.TryDecode(kind, record, out var envelope, out var rejection), rejection?.Explanation);
            kafka.Produce(topic, new Message<byte[]?, byte[]?> { Value = record });
            return envelope.Digest;
        }
    }

    public BlockReader Reader() => LocalStore.OpenReader(Path.Combine(Home, "data"));

    internal Database Database(string schema, string parameters = "sslmode=disable", int? port = null) => new PostgresDatabase(Settings(schema, parameters, port), "test");

    internal PostgresSettings Settings(string schema, string parameters = "sslmode=disable", int? port = null)
    {
        var problems = new List<string>();
        var settings = PostgresSettings.Read(External ?? Server.Url(parameters, port), schema, 20, 2, TimeSpan.FromMinutes(30), TimeSpan.FromSeconds(5), false, false, problems);
        Assert.True(settings is not null, string.Join('\n', problems));
        return settings;
    }

    internal Projection.Projection Copy(Database database, BlockReader reader, int? atOnce = null, int roomBytes = 2 << 20) =>
        new(database, reader, Source, new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance) { AtOnce = atOnce ?? database.CopiedAtOnce, RoomBytes = roomBytes };

    /// <summary>What differs from the chain.</summary>
    internal List<string> Check(string schema)
    {
        using var database = Database(schema);
        return Check(database);
    }

    internal List<string> Check(Database database)
    {
        var found = new List<string>();
        using var reader = Reader();
        var check = new CopyCheck(database, reader, Source, TimeProvider.System, found.Add);
        check.Run();
        Assert.Equal((1UL, Height.Value), (check.Range.First.Value, check.Range.Last.Value));
        Assert.True(check.Rows > 800, "it looked at the rows");
        Assert.Equal(check.Differences, found.Count);
        return found;
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null) await _cluster.DisposeAsync();
        _server?.Dispose();
    }
}

/// <summary>The queryable copy on a real PostgreSQL, and what databases do at the worst moment.</summary>
public sealed class DatabaseTests(DatabaseFixture fixture) : IClassFixture<DatabaseFixture>
{
    private static void CopyAll(Projection.Projection copy)
    {
        while (copy.Copy())
        {
            // as much as fits into a transaction each
        }
    }

    [Fact]
    public void D3_a_server_and_a_file_answer_every_query_alike()
    {
        using var reader = fixture.Reader();
        using var other = fixture.Reader();
        using var file = fixture.Copy(new SqliteDatabase(Path.Combine(fixture.Home, "data", $"{DatabaseFixture.NewSchema()}.db")), other);
        using var server = fixture.Copy(fixture.Database(DatabaseFixture.NewSchema()), reader);
        CopyAll(file);
        CopyAll(server);
        Assert.Equal(fixture.Height, server.Height);
        Assert.Equal(604, server.AlertCount());
        var alert = server.Alert("a\0-1")!.Digest;
        var policy = server.Policy("p-1")!.Digest;
        Assert.Equal(2, server.EvidenceOf(alert).Count + server.Links(server.Evidence("e-1")!.Digest).Count(l => l.Alert is null));
        Same(p => p.Blocks(ulong.MaxValue, 1000));
        Same(p => p.Block(3));
        Same(p => p.Block(p.LatestBlock()!.Hash));
        Same(p => p.AllResults());
        Same(p => p.Alerts(ulong.MaxValue, 0, 1000));
        Same(p => p.Alerts(ulong.MaxValue, 0, 10, "false_positive"));
        Same(p => p.Alert("a\0-1"));
        Same(p => p.Transaction("a-17"));
        Same(p => p.AlertChanges(alert));
        Assert.Equal(["disputed", "expired"], server.AlertChanges(fixture.Expired).TakeLast(2).Select(c => c.Status));
        Same(p => p.AlertChanges(fixture.Expired));
        Same(p => p.Evidence("e-1"));
        Same(p => p.EvidenceOf(alert));
        Same(p => p.Policies(ulong.MaxValue, 0, 10, null));
        Same(p => p.PolicyChanges(policy));
        Same(p => p.Reputations().OrderBy(r => r.Key, StringComparer.Ordinal));
        Same(p => p.ReputationChanges("alpha-sensor", 10));
        var row = server.Transaction(alert)!;
        Assert.Equal("a\u2400-1", row.Id); // PostgreSQL has no text with U+0000

        void Same<T>(Func<Projection.Projection, T> query)
        {
            var expected = System.Text.Json.JsonSerializer.Serialize(query(file));
            Assert.True(expected.Length > 4, expected);
            Assert.Equal(expected, System.Text.Json.JsonSerializer.Serialize(query(server)));
        }
    }

    /// <summary>Page by page, for each choice of type, source, producer, organisation and status: what a look at all alerts finds.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Alerts_by_field_and_status_are_those_among_all(bool isServer)
    {
        using var reader = fixture.Reader();
        using var copy = fixture.Copy(isServer ? fixture.Database(DatabaseFixture.NewSchema()) : new SqliteDatabase(Path.Combine(fixture.Home, "data", $"{DatabaseFixture.NewSchema()}.db")), reader);
        CopyAll(copy);
        var all = copy.Alerts(ulong.MaxValue, 0, 1000);
        Assert.Equal(604, all.Count);
        string?[] Some(Func<AlertRow, string> value) => [null, "none such", .. all.Select(value).Distinct().Take(3)];
        var pages = 0;
        var choices =
            from status in new[] { null, "reported", "expired", "false_positive" }
            from type in Some(a => a.Type)
            from source in Some(a => a.Source)
            from producer in Some(a => a.Producer)
            from organisation in Some(a => a.Organisation)
            select (status, type, source, producer, organisation);
        foreach (var (status, type, source, producer, organisation) in choices)
        {
            var filter = AlertFilter.None with { Type = type, Source = source, Producer = producer, Organisation = organisation };
            var expected = all.Where(a => (status ?? a.Status) == a.Status && (type ?? a.Type) == a.Type && (source ?? a.Source) == a.Source && (producer ?? a.Producer) == a.Producer
                                          && (organisation ?? a.Organisation) == a.Organisation).ToArray();
            var found = new List<AlertRow>();
            while (true)
            {
                var page = found is [.., var last] ? copy.Alerts(last.Height, last.Index, 250, status, filter) : copy.Alerts(ulong.MaxValue, 0, 250, status, filter);
                pages++;
                found.AddRange(page);
                if (page.Count < 250) break;
            }

            Assert.Equal(expected, found);
        }

        Assert.True(pages > 400, $"{pages} pages");
    }

    /// <summary>No page reads what it does not show, but for what other conditions leave out: nothing is sorted, and no table read from its beginning.</summary>
    [Theory]
    [InlineData(null, null, null, "t by (height,position)<(?,?)" + Status)]
    [InlineData("reported", "t", "s", "s by status=? AND (height,position)<(?,?), t by height=? AND position=?")]
    [InlineData(null, "t", null, "of_type by field=? AND value=? AND height<?, t by height=?" + Status)]
    [InlineData("expired", null, null, "of_status by field=? AND value=? AND height<?, t by height=?" + Status)]
    [InlineData("expired", "t", "s", "of_type by field=? AND value=? AND height<?, of_source by field=? AND value=? AND height=?, of_status by field=? AND value=? AND height=?, t by height=?" + Status)]
    public void A_page_of_alerts_is_read_from_an_index(string? status, string? type, string? source, string expected)
    {
        var (sql, values) = Projection.Projection.AlertsQuery(ulong.MaxValue, 0, 100, status, AlertFilter.None with { Type = type, Source = source });
        Assert.Equal(expected, Plan(sql, [.. values.Select(v => v is int number ? (long)number : v)]));
    }

    private const string Status = ", s by height=? AND position=?";

    /// <summary>Nothing is read but the few rows that are sorted then.</summary>
    [Fact]
    public void A_transaction_is_found_by_the_key_of_its_digest_or_identifier()
    {
        const string ByKey = "k by key=?, t by height=? AND position=?";
        const string Sorted = ", USE TEMP B-TREE FOR ORDER BY";
        var queries = new[] { Projection.Projection.AlertQuery, Projection.Projection.TransactionQuery, Projection.Projection.AlertChangesQuery };
        object[] values = ["d", 1L, 2L];
        Assert.Equal(
            [ByKey + Status + Sorted, $"CO-ROUTINE found, COMPOUND QUERY, LEFT-MOST SUBQUERY, {ByKey}, UNION ALL, {ByKey}, SCAN found{Sorted}", $"{ByKey}, c by alert_height=? AND alert_position=?{Sorted}"],
            queries.Select(sql => Plan(sql, values)));

        using var server = fixture.Database(DatabaseFixture.NewSchema());
        if (server.Name == "CockroachDB") return; // its plans read differently
        using var reader = fixture.Reader();
        using var copy = fixture.Copy(server, reader);
        CopyAll(copy);
        using var connection = server.Open();
        server.Execute(connection, null, "SET enable_seqscan = off"); // of so few rows it would read them all
        foreach (var sql in queries)
        {
            var plan = string.Join('\n', server.Query(connection, null, r => r.GetString(0), "EXPLAIN " + sql, values));
            Assert.Contains("transaction_keys_pkey", plan, StringComparison.Ordinal);
            Assert.DoesNotContain("Seq Scan", plan, StringComparison.Ordinal);
        }
    }

    /// <summary>How SQLite reads tables, the outermost first: by which columns of a key or an index.</summary>
    private string Plan(string sql, params object[] values)
    {
        using var reader = fixture.Reader();
        using var file = new SqliteDatabase(Path.Combine(fixture.Home, "data", $"{DatabaseFixture.NewSchema()}.db"));
        using var copy = fixture.Copy(file, reader);
        CopyAll(copy);
        // SEARCH t USING INDEX sqlite_autoindex_alerts_1 (height=? AND position<?)
        return string.Join(", ", file.Query(r => r.GetString(3), "EXPLAIN QUERY PLAN " + sql, values).Select(step =>
            System.Text.RegularExpressions.Regex.Match(step, @"^SEARCH (\w+) USING .*?\((.*)\)") is { Success: true } search ? $"{search.Groups[1].Value} by {search.Groups[2].Value}" : step));
    }

    /// <summary>However much there is, a transaction of the database takes a bounded part of it, a block at least, and the next one goes on there.</summary>
    [Fact]
    public void D4_a_copy_in_small_transactions_is_the_same_as_in_one()
    {
        var schema = DatabaseFixture.NewSchema();
        using var reader = fixture.Reader();
        using var copy = fixture.Copy(fixture.Database(schema), reader, atOnce: 1);
        for (var height = 1UL; copy.Copy(); height++) Assert.Equal(height, copy.Height.Value);
        Assert.Equal(fixture.Height, copy.Height);
        Assert.Empty(fixture.Check(schema));
    }

    /// <summary>Bytes of blocks are overwritten when their rows are sent, and not before.</summary>
    /// <param name="roomBytes">For no block; for small ones, a few at a time; for most of them together.</param>
    [Theory]
    [InlineData(0)]
    [InlineData(2_000)]
    [InlineData(50_000)]
    public void D4_a_copy_whose_blocks_take_turns_in_their_room_is_the_same(int roomBytes)
    {
        using var reader = fixture.Reader();
        using var database = new SqliteDatabase(Path.Combine(fixture.Home, "data", $"{DatabaseFixture.NewSchema()}.db"));
        using var copy = fixture.Copy(database, reader, roomBytes: roomBytes);
        CopyAll(copy);
        Assert.Equal(fixture.Height, copy.Height);
        Assert.Empty(fixture.Check(database));
    }

    [Fact]
    public void The_producers_of_genesis_are_there_before_the_first_block()
    {
        using var reader = fixture.Reader();
        using var database = new SqliteDatabase(Path.Combine(fixture.Home, "data", $"{DatabaseFixture.NewSchema()}.db"));
        using var copy = new Projection.Projection(database, reader, fixture.Source, new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance) { Until = default };
        Assert.False(copy.Copy());
        Assert.Equal(fixture.Source.Genesis.Producers.All.Count(), database.Query(r => r.GetString(0), "SELECT key FROM producers").Count);
    }

    /// <summary>Who goes on remembers no place of an alert.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void D4_a_copy_that_others_go_on_with_is_the_same(bool isServer)
    {
        var (schema, file) = (DatabaseFixture.NewSchema(), Path.Combine(fixture.Home, "data", $"{DatabaseFixture.NewSchema()}.db"));
        Database Open() => isServer ? fixture.Database(schema) : new SqliteDatabase(file);
        using var reader = fixture.Reader();
        for (var height = 1UL; height <= fixture.Height.Value; height++)
        {
            using var copy = fixture.Copy(Open(), reader, atOnce: 1);
            Assert.True(copy.Copy());
            Assert.Equal(height, copy.Height.Value);
        }

        using var database = Open();
        Assert.Empty(fixture.Check(database));
    }

    [Fact]
    public void D2_every_row_changed_behind_our_back_is_named_and_a_rebuilt_copy_is_right()
    {
        var schema = DatabaseFixture.NewSchema();
        using var reader = fixture.Reader();
        using var copy = fixture.Copy(fixture.Database(schema), reader);
        CopyAll(copy);
        Assert.Empty(fixture.Check(schema));
        if (DatabaseFixture.External is not null) return;

        var victim = copy.Alert("a-5")!;
        fixture.Server.Execute(schema, $"UPDATE alerts SET severity = 1, producer = 'somebody else' WHERE digest = '{victim.Digest}'");
        fixture.Server.Execute(schema, "DELETE FROM policies");
        fixture.Server.Execute(schema, "UPDATE log_nodes SET hash = decode(repeat('00', 32), 'hex') WHERE level = 8 AND position = 0");
        fixture.Server.Execute(schema, "INSERT INTO alert_changes (height, event, digest, status, decided_by) VALUES (1, 99, 'x', 'confirmed', 'nobody')");
        fixture.Server.Execute(schema, "UPDATE producers SET organisation = 'other' WHERE name = 'analyst'");
        fixture.Server.Execute(schema, $"UPDATE alert_changes SET alert_height = 0 WHERE digest = '{fixture.Expired}' AND status = 'expired'");
        var found = fixture.Check(schema);
        Assert.Equal(7, found.Count);
        Assert.Contains(found, f => f.StartsWith("alert_changes height ", StringComparison.Ordinal) && f.Contains(": alert_height is 0, the chain says ", StringComparison.Ordinal));
        Assert.Contains($"alerts height {victim.Height}, position {victim.Index}: severity is 1, the chain says 6", found);
        Assert.Contains($"alerts height {victim.Height}, position {victim.Index}: producer is 'somebody else', the chain says 'alpha-sensor'", found);
        Assert.Contains(found, f => f.StartsWith("policies digest '", StringComparison.Ordinal) && f.EndsWith("': is missing", StringComparison.Ordinal));
        Assert.Contains(found, f => f.StartsWith("log_nodes level 8, position 0: hash is 0000", StringComparison.Ordinal));
        Assert.Contains("alert_changes height 1, event 99: does not follow from the chain", found);
        Assert.Contains(found, f => f.StartsWith("producers key '", StringComparison.Ordinal) && f.EndsWith("organisation is 'other', the chain says 'analyst'", StringComparison.Ordinal));

        using (var database = fixture.Database(schema)) new CopyAdmin(database, "test").Drop();
        using var again = fixture.Copy(fixture.Database(schema), reader);
        CopyAll(again);
        Assert.Empty(fixture.Check(schema));
    }

    /// <summary>Of an alert that was reported in one of the missing blocks, the place is known to nobody who has only the others.</summary>
    [Fact]
    public void D2_the_copy_is_checked_from_the_first_block_on_that_is_left()
    {
        var schema = DatabaseFixture.NewSchema();
        using var reader = fixture.Reader();
        using var copy = fixture.Copy(fixture.Database(schema), reader);
        CopyAll(copy);
        var first = copy.AlertChanges(fixture.Expired)[^1].Height;
        Assert.True(copy.Alert(fixture.Expired)!.Height < first, "it was reported before");

        var directory = Directory.CreateTempSubdirectory("cybermesh-test-");
        try
        {
            using (var source = new SqliteConnection($"Data Source={Path.Combine(fixture.Home, "data", "blocks.db")};Mode=ReadOnly;Pooling=False"))
            using (var rest = new SqliteConnection($"Data Source={Path.Combine(directory.FullName, "blocks.db")};Pooling=False"))
            {
                source.Open();
                rest.Open();
                source.BackupDatabase(rest);
                using var delete = rest.CreateCommand();
                delete.CommandText = $"DELETE FROM blocks WHERE height < {first}";
                Assert.True(delete.ExecuteNonQuery() > 0);
            }

            using var left = LocalStore.OpenReader(directory.FullName);
            using var database = fixture.Database(schema);
            var found = new List<string>();
            var check = new CopyCheck(database, left, fixture.Source, TimeProvider.System, found.Add);
            check.Run();
            Assert.Equal(first, check.Range.First.Value);
            Assert.Empty(found);

            using var connection = database.Open();
            database.Execute(connection, null, "UPDATE alert_changes SET alert_height = $1 WHERE status = 'expired'", (long)first);
            check.Run();
            Assert.Contains(found, f => f.StartsWith($"alert_changes height {first}, ", StringComparison.Ordinal) && f.Contains("alert_height is", StringComparison.Ordinal));
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task D2_a_connection_cut_at_the_commit_loses_and_doubles_nothing(int cutCommit)
    {
        Assert.SkipWhen(DatabaseFixture.External is not null, "needs a server of its own");
        await using var proxy = new FaultProxy(new IPEndPoint(IPAddress.Loopback, fixture.Server.Port));
        var (commits, failures) = (0, 0);
        // The server gets the commit and carries it out; that it did so never arrives.
        proxy.OnClientData = data => data.Span.IndexOf("COMMIT\0"u8) < 0 || Interlocked.Increment(ref commits) != cutCommit;
        var schema = DatabaseFixture.NewSchema();
        using var reader = fixture.Reader();
        foreach (var until in new[] { new Height(fixture.Height.Value / 2), fixture.Height })
        {
            using var copy = new Projection.Projection(
                fixture.Database(schema, port: proxy.EndPoint.Port), reader, fixture.Source, new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance)
            { Until = until };
            while (copy.Height != until)
            {
                try
                {
                    copy.Copy();
                }
                catch (DbException)
                {
                    failures++;
                }
            }
        }

        Assert.Equal(1, failures);
        Assert.True(commits > cutCommit, "it went on");
        Assert.Empty(fixture.Check(schema));
    }

    [Fact]
    public async Task D4_a_connection_cut_anywhere_is_a_database_that_is_away_and_no_more()
    {
        Assert.SkipWhen(DatabaseFixture.External is not null, "needs a server of its own");
        await using var proxy = new FaultProxy(new IPEndPoint(IPAddress.Loopback, fixture.Server.Port));
        var (messages, cutAt, schema) = (0, 1, "");
        proxy.OnClientData = _ => Interlocked.Increment(ref messages) != Volatile.Read(ref cutAt);
        // From the first message of the handshake, over the steps of the schema and the release of their lease, to the last commit. Steps and renewals of the
        // lease take turns, so that every fifth message meets both.
        for (; messages >= cutAt || cutAt == 1; cutAt += 5)
        {
            schema = DatabaseFixture.NewSchema();
            using var reader = fixture.Reader();
            using var copy = new Projection.Projection(
                fixture.Database(schema, port: proxy.EndPoint.Port), reader, fixture.Source, new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance);
            messages = 0;
            for (var tries = 0; copy.Height != fixture.Height; tries++)
            {
                copy.TryCopy();
                Assert.True(tries < 100, $"cut at message {cutAt}, it does not go on");
            }
        }

        Assert.True(cutAt > 100, $"only {cutAt} messages");
        Assert.Empty(fixture.Check(schema));
    }

    [Fact]
    public async Task D2_copies_that_meet_in_one_database_write_each_block_once()
    {
        var schema = DatabaseFixture.NewSchema();
        // Serializable: who loses gets 40001, at a statement or at the commit.
        var copies = Enumerable.Range(0, 4).Select(_ => Task.Run(() =>
        {
            using var reader = fixture.Reader();
            using var copy = fixture.Copy(fixture.Database(schema, "sslmode=disable&options=-c%20default_transaction_isolation%3Dserializable"), reader);
            CopyAll(copy);
            Assert.Equal(fixture.Height, copy.Height);
        }));
        await Task.WhenAll(copies);
        Assert.Empty(fixture.Check(schema));
    }

    [Fact]
    public async Task D2_any_number_of_nodes_migrates_at_once_and_each_step_is_taken_once()
    {
        for (var round = 0; round < 10; round++)
        {
            var schema = DatabaseFixture.NewSchema();
            await Task.WhenAll(Enumerable.Range(0, 4).Select(i => Task.Run(() =>
            {
                using var database = fixture.Database(schema);
                new CopyAdmin(database, $"node {i}").Migrate();
            })));
            using var looked = fixture.Database(schema);
            var status = new CopyAdmin(looked, "test").Status();
            Assert.Equal((Schema.Migrations.Length, 0), (status.Steps.Count, status.Missing.Count));
        }
    }

    [Fact]
    public async Task D4_tables_made_anew_under_those_who_copy_are_whole_and_filled_again()
    {
        var schema = DatabaseFixture.NewSchema();
        using var stop = new CancellationTokenSource();
        var copying = Enumerable.Range(0, 3).Select(i => Task.Run(() =>
        {
            using var reader = fixture.Reader();
            using var copy = fixture.Copy(fixture.Database(schema), reader);
            while (!stop.IsCancellationRequested)
                if (!copy.TryCopy())
                    Thread.Sleep(1);
        })).ToArray();
        using (var database = fixture.Database(schema))
            for (var round = 0; round < 20; round++)
            {
                new CopyAdmin(database, "operator").Drop();
                await Task.Delay(20 * round);
            }

        await stop.CancelAsync();
        await Task.WhenAll(copying);
        using (var reader = fixture.Reader())
        using (var copy = fixture.Copy(fixture.Database(schema), reader)) CopyAll(copy);
        Assert.Empty(fixture.Check(schema));
    }

    public static TheoryData<bool> Engines => [true, false];

    [Theory]
    [MemberData(nameof(Engines))]
    public void D2_a_step_that_was_cut_off_is_taken_again_and_what_does_not_fit_is_refused(bool onServer)
    {
        using var directory = new TemporaryDirectory();
        using Database database = onServer ? fixture.Database(DatabaseFixture.NewSchema()) : new SqliteDatabase(Path.Combine(directory.Path, "copy.db"));
        var first = new Migration(1, "one", 1, ["CREATE TABLE IF NOT EXISTS one (id INT8 PRIMARY KEY)", "CREATE TABLE IF NOT EXISTS two (id INT8 PRIMARY KEY)"]);
        var broken = first with { Statements = [first.Statements[0], "CREATE TABLE nonsense ("] };
        using var connection = database.Open();
        Assert.ThrowsAny<DbException>(() => new Migrator(database, connection, [broken], "a").Run());
        Migrator With(params Migration[] known) => new(database, connection, [.. known], "b");
        With(first).Run();
        Assert.Equal(first.Checksum, Assert.Single(With(first).Applied()).Checksum);

        // Another program's step of that number; one of a later program beside which we can write, and one beside which we cannot.
        Assert.Contains("is not the one", Assert.Throws<SchemaException>(With(new Migration(1, "one", 1, ["CREATE TABLE IF NOT EXISTS other (id INT8 PRIMARY KEY)"])).Run).Message, StringComparison.Ordinal);
        With(first, new Migration(2, "more", 1, ["ALTER TABLE one ADD COLUMN more TEXT"])).Run();
        With(first).Run();
        With(first, new Migration(2, "more", 1, ["ALTER TABLE one ADD COLUMN more TEXT"]), new Migration(3, "else", 3, ["DROP TABLE two"])).Run();
        Assert.Contains("upgrade cybermesh", Assert.Throws<SchemaException>(With(first).Run).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void D2_the_lease_of_a_process_that_died_expires()
    {
        Assert.SkipWhen(DatabaseFixture.External is not null, "needs a server of its own");
        var schema = DatabaseFixture.NewSchema();
        using var database = fixture.Database(schema);
        new CopyAdmin(database, "one").Migrate();
        fixture.Server.Execute(schema, "DELETE FROM schema_migrations");
        fixture.Server.Execute(schema, "INSERT INTO schema_lease (id, holder, expires_ms) VALUES (1, 'dead', CAST(extract(epoch FROM now()) * 1000 AS INT8) + 1500)");
        var clock = System.Diagnostics.Stopwatch.StartNew();
        new CopyAdmin(database, "two").Migrate();
        Assert.True(clock.ElapsedMilliseconds >= 1400, "it waited for the lease");
        Assert.Empty(new CopyAdmin(database, "two").Status().Missing);
    }

    [Fact]
    public void D2_another_chains_copy_is_left_alone()
    {
        var schema = DatabaseFixture.NewSchema();
        using var reader = fixture.Reader();
        using (var copy = fixture.Copy(fixture.Database(schema), reader)) CopyAll(copy);
        using var key = new Ed25519Signer([.. Enumerable.Repeat((byte)9, 32)]);
        var other = new Genesis("other", fixture.Source.Genesis.Time, [.. fixture.Source.Genesis.Chain.Validators.Members], [], fixture.Source.Genesis.Parameters);
        using var stranger = new Projection.Projection(
            fixture.Database(schema), reader, fixture.Source with { Genesis = other }, new CircuitBreaker("database", TimeProvider.System), TimeProvider.System, NullLogger.Instance);
        Assert.Contains("another chain", Assert.Throws<SchemaException>(() => stranger.Copy()).Message, StringComparison.Ordinal);
        Assert.Empty(fixture.Check(schema));
    }

    [Fact]
    public void D2_a_server_is_verified_as_libpq_would()
    {
        Assert.SkipWhen(DatabaseFixture.External is not null, "needs a server of its own");
        Opens("sslmode=disable");
        Opens("sslmode=require");
        Opens($"sslmode=require&sslrootcert={fixture.Server.RootCertificate}");
        Opens($"sslmode=verify-full&sslrootcert={fixture.Server.RootCertificate}");
        // Npgsql alone would take "require" for "do not verify".
        foreach (var mode in new[] { "require", "verify-ca", "verify-full" })
            Assert.ThrowsAny<DbException>(() => Opens($"sslmode={mode}&sslrootcert={fixture.Server.OtherCertificate}"));

        void Opens(string parameters)
        {
            using var database = fixture.Database("public", parameters);
            using var connection = database.Open();
            using var command = connection.CreateCommand();
            command.CommandText = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            Assert.Equal(!parameters.Contains("disable", StringComparison.Ordinal), command.ExecuteScalar());
        }
    }

    [Fact]
    public async Task D4_without_its_database_a_validator_goes_on_and_says_why_and_catches_up()
    {
        Assert.SkipWhen(DatabaseFixture.External is not null, "needs a server of its own");
        using var keys = new Keys();
        using var server = new PostgresServer();
        var environment = new Dictionary<string, string> { ["DB_DSN"] = server.Url(), ["DB_SCHEMA"] = "shared" };
        await using var cluster = await TestCluster.StartAsync(keys.Producers, TimeProvider.System, environment: environment);
        using var kafka = cluster.Producer();
        using var http = new HttpClient { BaseAddress = cluster.Nodes[1].ApiAddress };
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        await PublishAsync(100, 0);
        await Eventually.HoldsAsync(() => cluster.Nodes[2].Projection.AlertCount() == 100, "the four copy into one schema");

        server.StopImmediately();
        var before = cluster.Nodes[0].Status.Height.Value;
        await PublishAsync(100, 1000);
        await Eventually.HoldsAsync(() => cluster.Nodes.All(n => n.Status.Height.Value > before && n.Metrics.TransactionsAccepted.Value >= 200), "consensus does not care");
        await Eventually.HoldsAsync(() => HealthAsync().Result["status"]!.ToString() == "degraded", "it is seen");
        var circuit = (await HealthAsync())["components"]!["circuits"]!.AsArray().Single(c => (string)c!["dependency"]! == "database")!;
        Assert.NotEqual("closed", (string)circuit["state"]!);
        Assert.Contains("127.0.0.1", (string)circuit["reason"]!, StringComparison.Ordinal);
        Assert.DoesNotContain(PostgresServer.Password, (string)circuit["reason"]!, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await http.GetAsync("/v1/alerts")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("/state")).StatusCode);

        server.Start();
        await Eventually.HoldsAsync(() => HealthAsync().Result["status"]!.ToString() == "ok", "it is well again");
        await Eventually.HoldsAsync(() => cluster.Nodes[1].Projection.AlertCount() == 200, "what it missed is there");
        var home = cluster.Home(3);
        (string, string)[] variables = [.. environment.Select(e => (e.Key, e.Value))];
        var verified = await CliProcess.RunAsync(["db", "verify", "--home", home], variables);
        Assert.True(verified.Code == 0, verified.Output);
        Assert.Contains("ok: ", verified.Output, StringComparison.Ordinal);
        server.Execute("shared", "UPDATE alerts SET severity = 2 WHERE severity = 7");
        verified = await CliProcess.RunAsync(["db", "verify", "--home", home], variables);
        Assert.Equal(5, verified.Code);
        Assert.Contains("severity is 2, the chain says 7", verified.Output, StringComparison.Ordinal);
        Assert.Equal(1, (await CliProcess.RunAsync(["db", "rebuild", "--home", home], variables)).Code);
        var rebuilt = await CliProcess.RunAsync(["db", "rebuild", "--home", home, "--yes"], variables);
        Assert.True(rebuilt.Code == 0, rebuilt.Output);
        // Three validators were at it meanwhile.
        await Eventually.HoldsAsync(() => HealthAsync().Result["status"]!.ToString() == "ok", "nobody minds");
        Assert.Equal(0, (await CliProcess.RunAsync(["db", "verify", "--home", home], variables)).Code);
        var status = await CliProcess.RunAsync(["db", "status", "--home", home], variables);
        Assert.Contains("schema     1 the copy of the chain", status.Output, StringComparison.Ordinal);
        Assert.Contains("node 4: 0 blocks to publish", status.Output, StringComparison.Ordinal);
        server.StopImmediately();
        Assert.Equal(3, (await CliProcess.RunAsync(["db", "status", "--home", home], variables)).Code);

        async Task PublishAsync(ulong count, ulong from)
        {
            for (var i = from; i < from + count; i++) kafka.Produce("ai.anomalies.v1", new Message<byte[]?, byte[]?> { Value = keys.Alpha.Anomaly(now, new Nonce(i + 1), $"a-{i}", 7) });
            kafka.Flush(TimeSpan.FromSeconds(20));
            await Task.Yield();
        }

        async Task<JsonNode> HealthAsync() => JsonNode.Parse(await http.GetStringAsync("/health"))!;
    }
}

public sealed class DatabaseSettingsTests
{
    private static List<string> Problems(string url, bool tls = false, bool mustVerify = false, string schema = "cybermesh")
    {
        var problems = new List<string>();
        var settings = PostgresSettings.Read(url, schema, 50, 10, TimeSpan.FromMinutes(30), TimeSpan.FromSeconds(5), tls, mustVerify, problems);
        Assert.Equal(problems.Count == 0, settings is not null);
        Assert.DoesNotContain(problems, p => p.Contains("secret", StringComparison.Ordinal));
        return problems;
    }

    [Theory]
    [InlineData("mysql://u:secret@h/d", "must begin with postgresql://")]
    [InlineData("postgresql://h/d", "names no user")]
    [InlineData("postgresql://u:secret@h", "names no database")]
    [InlineData("postgresql://u:secret@/d", "names no host")]
    [InlineData("postgresql://u:secret@h:0/d", "a port is a number")]
    [InlineData("postgresql://u:secret@a:1,b:x/d", "host 'b:x'")]
    [InlineData("postgresql://u:secret@h/d?sslmode=yes", "must be one of disable")]
    [InlineData("postgresql://u:secret@h/d?sslrootcert=/nowhere/root.crt", "does not exist")]
    [InlineData("postgresql://u:secret@h/d?sslrotcert=x", "known are sslmode")]
    [InlineData("postgresql://u:secret@h/d?password=secret", "password=…")]
    public void D2_what_is_wrong_with_a_url_is_said_with_its_fix_and_without_its_password(string url, string expected) =>
        Assert.Contains(expected, Assert.Single(Problems(url)), StringComparison.Ordinal);

    [Fact]
    public void D2_contradictions_are_refused()
    {
        Assert.Empty(Problems("postgresql://u:p%40ss@[::1]:26257/d?sslmode=disable&connect_timeout=3"));
        Assert.Empty(Problems("postgres://u@a:1,b/d"));
        Assert.Empty(Problems("postgresql://u@db.example/d", tls: true));
        Assert.Contains("DB_TLS is true", Assert.Single(Problems("postgresql://u@h/d?sslmode=disable", tls: true)), StringComparison.Ordinal);
        Assert.Contains("does not verify", Assert.Single(Problems("postgresql://u@h/d?sslmode=require", mustVerify: true)), StringComparison.Ordinal);
        Assert.Empty(Problems("postgresql://u@localhost/d", mustVerify: true));
        Assert.Contains("DB_SCHEMA", Assert.Single(Problems("postgresql://u@h/d", schema: "a; DROP TABLE x")), StringComparison.Ordinal);
    }

    [Fact]
    public void D2_settings_of_a_server_need_its_url()
    {
        using var directory = new TemporaryDirectory();
        var file = Path.Combine(directory.Path, "dsn");
        File.WriteAllText(file, "postgresql://u:p@h/d\n");
        var values = new Dictionary<string, string> { ["NODE_ID"] = "1", ["KAFKA_BROKERS"] = "b:9092", ["DB_MAX_OPEN"] = "5", ["DB_MAX_IDLE"] = "2" };
        Assert.Contains("DB_MAX_OPEN is set, but DB_DSN is not", Assert.Throws<UserError>(() => Settings.Load("none", values)).Message, StringComparison.Ordinal);
        values["DB_DSN_FILE"] = file;
        Assert.Equal("cybermesh", Settings.Load("none", values).Database!.Schema);
        values["DB_DSN"] = "postgresql://u:p@h/d";
        Assert.Contains("keep one", Assert.Throws<UserError>(() => Settings.Load("none", values)).Message, StringComparison.Ordinal);
    }

    /// <summary>Words of SQL that SQLite, PostgreSQL and CockroachDB do not have in common.</summary>
    private static readonly string[] Uncommon =
    [
        "SERIAL", "AUTOINCREMENT", "TRIGGER", "SEQUENCE", "LISTEN", "NOTIFY", "ADVISORY", "SKIP LOCKED", "USING HASH", "UPSERT", "INSERT OR", "REPLACE INTO", "WITHOUT ROWID", "PRAGMA",
        "JSONB", "ROWID", "ILIKE", "GLOB ", "BLOB", "DATETIME", "COPY ", "UNLOGGED", "TABLESPACE", "FOR SHARE", "MERGE INTO", "LATERAL", "GENERATED", "strftime", "unixepoch", "nextval",
    ];

    private static IEnumerable<string> Offences(string source) =>
        from System.Text.RegularExpressions.Match literal in System.Text.RegularExpressions.Regex.Matches(source, "\"\"\"[\\s\\S]*?\"\"\"|\"(?:[^\"\\\\\n]|\\\\.)*\"")
        from word in Uncommon
        where System.Text.RegularExpressions.Regex.IsMatch(literal.Value, $@"(?<![\w'-]){System.Text.RegularExpressions.Regex.Escape(word.Trim())}(?!\w)") && literal.Value.Contains(' ', StringComparison.Ordinal)
        select $"{word}: {literal.Value}";

    [Fact]
    public void D2_sql_keeps_to_what_the_engines_have_in_common()
    {
        Assert.Single(Offences("x(\"INSERT OR IGNORE INTO t VALUES (1)\")"));
        Assert.Single(Offences("x(\"\"\"\nCREATE TABLE t (id SERIAL PRIMARY KEY)\n\"\"\")"));
        var files = Directory.GetFiles(Path.Combine(Paths.Root, "src/Node/Projection"), "*.cs").Where(f => Path.GetFileName(f) is not ("SqliteDatabase.cs" or "PostgresDatabase.cs")).ToArray();
        Assert.True(files.Length > 8);
        Assert.Empty(files.SelectMany(f => Offences(File.ReadAllText(f)).Select(o => $"{Path.GetFileName(f)}: {o}")));
    }
}
