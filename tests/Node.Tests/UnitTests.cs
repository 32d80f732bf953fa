using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Api;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Feedback;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using CyberMesh.Node.Storage;
using Microsoft.Extensions.Logging.Abstractions;
using Google.Protobuf;
using Microsoft.Data.Sqlite;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class CryptoTests
{
    private sealed class AcceptsEverything : ISignatureVerifier
    {
        public bool Verify(Core.Primitives.PublicKey key, ReadOnlySpan<byte> message, Signature signature) => true;
    }

    [Fact]
    public void The_library_follows_the_signature_rule_of_the_protocol()
    {
        Assert.Equal("XXXVXXXXXXXX", VerdictTable.Expected);
        VerdictTable.Check(new Ed25519Verifier());
        Assert.Throws<InvariantViolation>(() => VerdictTable.Check(new AcceptsEverything()));
    }

    /// <summary>The 145 cases of Project Wycheproof: altered and truncated signatures, S beyond the order, other keys, special values of R and S.</summary>
    [Fact]
    public void Every_case_of_wycheproof_gets_its_verdict()
    {
        var verifier = new Ed25519Verifier();
        var cases = File.ReadLines(Path.Combine(AppContext.BaseDirectory, "Vectors", "ed25519-wycheproof.txt")).Where(line => line[0] != '#').ToArray();
        Assert.Equal(145, cases.Length);
        foreach (var line in cases)
        {
            var fields = line.Split(' ', 6);
            byte[] Bytes(int field) => fields[field] == "-" ? [] : Convert.FromHexString(fields[field]);
            // A signature of another length never comes to the verifier: its type has 64 bytes.
            var accepted = Bytes(4).Length == Signature.Size && verifier.Verify(Core.Primitives.PublicKey.From(Bytes(2)), Bytes(3), Signature.From(Bytes(4)));
            Assert.True(accepted == (fields[1] == "valid"), line);
        }
    }

    /// <summary>RFC 8032, section 7.1, test 2.</summary>
    [Fact]
    public void Signatures_are_those_of_rfc_8032()
    {
        using var signer = new Ed25519Signer(Convert.FromHexString("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
        Assert.Equal("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", signer.PublicKey.ToString());
        var signature = signer.Sign([0x72]);
        Assert.Equal(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00", signature.ToString());
        Assert.True(new Ed25519Verifier().Verify(signer.PublicKey, [0x72], signature));
        Assert.False(new Ed25519Verifier().Verify(signer.PublicKey, [0x73], signature));
    }

    [Fact]
    public void A_key_file_others_can_read_is_refused_and_none_is_overwritten()
    {
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "key.pem");
        using var created = ProducerKey.Create(path);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        using (var loaded = ProducerKey.Load(path)) Assert.Equal(created.PublicKey, loaded.PublicKey);
        Assert.Contains("exists already", Assert.Throws<UserError>(() => ProducerKey.Create(path)).Message, StringComparison.Ordinal);
        File.SetUnixFileMode(path, File.GetUnixFileMode(path) | UnixFileMode.OtherRead);
        Assert.Contains("chmod 600", Assert.Throws<UserError>(() => ProducerKey.Load(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_role_has_a_key_of_its_own_and_the_file_is_the_whole_identity()
    {
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, Identity.FileName);
        using var created = Identity.Create(path);
        using var loaded = Identity.Load(path);
        Assert.Equal(created.ToValidator("v"), loaded.ToValidator("v"));
        var v = created.ToValidator("v");
        Assert.Equal(4, new[] { v.ConsensusKey, v.ControlKey, v.CosignerKey, v.LogKey }.Distinct().Count());
        File.WriteAllText(path, "not hex");
        Assert.Throws<UserError>(() => Identity.Load(path));
    }

    [Fact]
    public void Producers_of_both_profiles_are_verified_with_real_signatures()
    {
        using var key = new Ed25519Signer(new byte[32]);
        foreach (var profile in new[] { SigningProfile.V1, SigningProfile.V2 })
        {
            var record = new AlertSigner(key, profile, TimeProvider.System).Anomaly(new Detection("t", "s", 3, 0.25, "m", """{"severity":3,"confidence":0.25}""")).ToByteArray();
            Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out var rejection), rejection?.Explanation);
            Assert.True(new EnvelopeAuthenticator(new Ed25519Verifier()).TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out _));
            Assert.Equal(profile, envelope.Profile);
        }
    }
}

public sealed class StorageTests
{
    private static readonly Digest Chain = Digest.Sha256([1]);

    private static string Mark(TemporaryDirectory directory) => Path.Combine(directory.Path, "votes.mark");

    private static DurableRecord Vote(ulong height) => new DurableRecord.PrepareVote(default, new Height(height), Chain);

    [Fact]
    public void D1_records_are_there_again_after_the_file_is_opened_again()
    {
        using var directory = new TemporaryDirectory();
        using (var store = LocalStore.Open(directory.Path, Chain, Mark(directory)))
        {
            Assert.Empty(store.ReadLog().Records);
            store.AppendLog([Vote(1), Vote(2)]);
            store.AppendLog([new DurableRecord.Reset(), Vote(3)]);
            store.AppendLog([Vote(4)]);
        }

        using var again = LocalStore.Open(directory.Path, Chain, Mark(directory));
        Assert.Equal([new DurableRecord.Reset(), Vote(3), Vote(4)], again.ReadLog().Records);
        again.AppendLog([Vote(5)]);
    }

    [Theory]
    [InlineData("UPDATE log SET payload = x'0400' WHERE lsn = 2")]
    [InlineData("DELETE FROM log WHERE lsn = 2")]
    [InlineData("UPDATE log SET hash = zeroblob(32) WHERE lsn = 3")]
    [InlineData("DELETE FROM log WHERE lsn = 3")]
    [InlineData("DELETE FROM log")]
    public void A_damaged_or_shortened_log_is_never_voted_from(string damage)
    {
        using var directory = new TemporaryDirectory();
        using (var store = LocalStore.Open(directory.Path, Chain, Mark(directory)))
        {
            store.AppendLog([Vote(1), Vote(2), Vote(3)]);
            store.AppendBlocks([], default, _ => null);
        }

        using (var votes = new SqliteConnection($"Data Source={Path.Combine(directory.Path, "votes.db")};Pooling=False"))
        {
            votes.Open();
            using var command = votes.CreateCommand();
            command.CommandText = damage;
            command.ExecuteNonQuery();
        }

        using var again = LocalStore.Open(directory.Path, Chain, Mark(directory));
        var log = again.ReadLog();
        Assert.NotNull(log.Loss);
        Assert.Empty(log.Records);
        // The log that starts over is a sound one.
        again.AppendLog([new DurableRecord.Quarantined()]);
    }

    [Fact]
    public void A_directory_that_vanished_or_went_back_in_time_is_noticed_by_the_mark_beside_the_key()
    {
        using var directory = new TemporaryDirectory();
        var data = Path.Combine(directory.Path, "data");
        using (var store = LocalStore.Open(data, Chain, Mark(directory))) store.AppendLog([Vote(1), new DurableRecord.Reset(), Vote(2)]);
        Directory.Delete(data, recursive: true);
        using (var store = LocalStore.Open(data, Chain, Mark(directory)))
        {
            Assert.Contains("was written once", store.ReadLog().Loss, StringComparison.Ordinal);
            store.AppendLog([new DurableRecord.Quarantined()]);
        }

        using (var store = LocalStore.Open(data, Chain, Mark(directory)))
        {
            Assert.Equal([new DurableRecord.Quarantined()], store.ReadLog().Records);
            store.AppendLog([Vote(3)]);
        }

        File.WriteAllText(Path.Combine(data, "votes.db"), "this is no database, whatever its name says");
        File.Delete(Path.Combine(data, "votes.db-wal"));
        using var broken = LocalStore.Open(data, Chain, Mark(directory));
        Assert.NotNull(broken.ReadLog().Loss);
    }

    [Fact]
    public void One_directory_belongs_to_one_process_and_one_chain()
    {
        using var directory = new TemporaryDirectory();
        using (LocalStore.Open(directory.Path, Chain, Mark(directory)))
            Assert.Contains("another process", Assert.Throws<UserError>(() => LocalStore.Open(directory.Path, Chain, Mark(directory))).Message, StringComparison.Ordinal);
        Assert.Contains("another chain", Assert.Throws<UserError>(() => LocalStore.Open(directory.Path, Digest.Sha256([2]), Mark(directory))).Message, StringComparison.Ordinal);
    }
}

public sealed class DeadLetterDutyTests
{
    /// <summary>Found by the chaos run: two validators read two copies in different order, and both copies became dead letters.</summary>
    [Theory]
    [InlineData(true, true, 0)]
    [InlineData(false, true, 0)]
    [InlineData(true, false, 1)]
    [InlineData(false, false, 1)]
    public void Of_two_copies_one_dead_letter_is_enough_whichever_it_names(bool refusedFirst, bool namesOriginal, int open)
    {
        using var broker = new EmbeddedBroker(["dlq"]);
        using var producer = KafkaClients.Producer(KafkaConnection.Plain(broker.BootstrapServers), "test", _ => { });
        var (original, copy, done) = (new TopicPartitionOffset("t", 0, 5), new TopicPartitionOffset("t", 1, 9), new List<TopicPartitionOffset>());
        var (bytes, digest) = (new byte[] { 1, 2, 3 }, Digest.Sha256([7]));
        var duty = new DeadLetterDuty(
            producer, "dlq", "v1", new CircuitBreaker("kafka", TimeProvider.System), done.Add, place => place == original,
            asked => asked == digest ? original : null, TimeProvider.System, new Telemetry.Metrics(), NullLogger.Instance);
        var replayed = new Rejection(RejectionReason.ReplayedNonce, "a copy");
        var refused = new KafkaRecord(copy, null, bytes, DateTime.UtcNow);
        // What another validator writes that takes the other one for the copy; or about a record nobody here knows.
        var named = refused with { Place = namesOriginal ? original : new TopicPartitionOffset("t", 2, 4) };
        var letter = new ConsumeResult<byte[]?, byte[]?> { TopicPartitionOffset = new TopicPartitionOffset("dlq", 0, 1), Message = DeadLetters.ToMessage(named, replayed, "v2", digest) };
        if (refusedFirst) duty.Refuse(refused, digest, replayed, 1);
        duty.Read(letter);
        if (!refusedFirst) duty.Refuse(refused, digest, replayed, 1);
        Assert.Equal(open, duty.Count);
        Assert.Equal(open == 0, done.Contains(copy));
        if (namesOriginal) Assert.Contains(letter.TopicPartitionOffset, done);
    }
}

public sealed class StoreVersionTests
{
    [Fact]
    public void A_store_of_the_version_before_is_taken_over_and_one_of_another_is_refused()
    {
        using var directory = new TemporaryDirectory();
        var chain = Digest.Sha256("chain"u8);
        var mark = Path.Combine(directory.Path, "mark");
        LocalStore.Open(directory.Path, chain, mark).Dispose();
        Change("ALTER TABLE outbox DROP COLUMN delay_ms; ALTER TABLE outbox DROP COLUMN due_ms; DROP INDEX blocks_with_bodies; ALTER TABLE blocks DROP COLUMN pruned; INSERT INTO outbox (height) VALUES (7); UPDATE meta SET value = x'02000000' WHERE name = 'version';"
            + "CREATE TABLE transactions (digest BLOB NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL, result INTEGER NOT NULL, PRIMARY KEY (digest, height)) WITHOUT ROWID;"
            + "CREATE TABLE sources (digest BLOB PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, record_offset INTEGER NOT NULL) WITHOUT ROWID;"
            + $"INSERT INTO transactions VALUES (x'{chain}', 3, 0, 7), (x'{chain}', 4, 0, 0); INSERT INTO sources VALUES (x'{chain}', 'old', 2, 5)");
        using (var store = LocalStore.Open(directory.Path, chain, mark))
        using (var reader = store.OpenReader())
        {
            Assert.Equal(RejectionReason.None, reader.FindResult(chain));
            Assert.Null(reader.FindResult(Digest.Sha256("another"u8)));
            Assert.Equal(new SourcePosition("old", 2, 5), reader.SourceOf(chain));
            Assert.Equal([true, false, true], reader.NoteSources([(chain, new("old", 2, 5), false), (chain, new("old", 2, 6), false), (Digest.Sha256("another"u8), new("new", 1, 1), false)]));
            Assert.Equal([(new Height(7), true)], reader.Outbox(DateTimeOffset.UtcNow, DateTimeOffset.UtcNow, 10));
            Assert.Equal((1L, new Height(7)), reader.OutboxState());
        }

        Change("UPDATE meta SET value = x'63000000' WHERE name = 'version'");
        Assert.Contains("another version", Assert.Throws<UserError>(() => LocalStore.Open(directory.Path, chain, mark)).Message, StringComparison.Ordinal);

        void Change(string sql)
        {
            using var blocks = new SqliteConnection($"Data Source={Path.Combine(directory.Path, "blocks.db")};Pooling=False");
            blocks.Open();
            using var command = blocks.CreateCommand();
            command.CommandText = sql;
            command.ExecuteNonQuery();
        }
    }

    [Fact]
    public void F1_others_blocks_are_due_after_their_time_and_after_an_outage_once_more()
    {
        using var directory = new TemporaryDirectory();
        using var store = LocalStore.Open(directory.Path, Digest.Sha256("chain"u8), Path.Combine(directory.Path, "mark"));
        using var reader = store.OpenReader();
        var start = DateTimeOffset.UnixEpoch.AddYears(56);
        using (var blocks = new SqliteConnection($"Data Source={Path.Combine(directory.Path, "blocks.db")};Pooling=False"))
        {
            blocks.Open();
            using var command = blocks.CreateCommand();
            command.CommandText = $"INSERT INTO outbox (height, delay_ms, due_ms) VALUES (1, 10000, {start.AddSeconds(10).ToUnixTimeMilliseconds()}), (2, 0, {start.ToUnixTimeMilliseconds()})";
            command.ExecuteNonQuery();
        }

        Assert.Equal([(new Height(2), true)], reader.Outbox(start.AddSeconds(9), start.AddDays(-1), 10));
        Assert.Equal([(new Height(1), false), (new Height(2), true)], reader.Outbox(start.AddSeconds(10), start.AddDays(-1), 10));
        Assert.Single(reader.Outbox(start.AddSeconds(29), start.AddSeconds(20), 10));
        Assert.Equal(2, reader.Outbox(start.AddSeconds(30), start.AddSeconds(20), 10).Count);
        Assert.Equal(1, reader.OutboxState().Waiting);
    }
}

public sealed class DiskSpaceTests
{
    [Fact]
    public async Task D1_a_write_without_space_waits_for_it_and_is_done_once()
    {
        using var stop = new CancellationTokenSource();
        var space = new DiskSpace(stop.Token);
        var (path, writes) = ("/dev/full", 0);
        var writing = Task.Run(() => space.Await(() =>
        {
            File.WriteAllText(path, "x");
            writes++;
        }));
        await Eventually.HoldsAsync(() => space.IsFull, "it waits");
        using var directory = new TemporaryDirectory();
        path = Path.Combine(directory.Path, "file");
        await writing;
        Assert.Equal((1, false, "x"), (writes, space.IsFull, File.ReadAllText(path)));

        // Stopped while it waits, and a disk that fails is not a full one.
        path = "/dev/full";
        var waiting = Task.Run(() => space.Await(() => File.WriteAllText(path, "x")));
        await Eventually.HoldsAsync(() => space.IsFull, "it waits");
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.Throws<DiskFailedException>(() => space.Await(() => throw new DiskFailedException("no")));
    }
}

public sealed class OffsetTests
{
    private static TopicPartitionOffset At(long offset) => new("t", 0, offset);

    [Fact]
    public void K1_a_position_never_moves_past_an_undecided_record()
    {
        var tracker = new OffsetTracker();
        foreach (var offset in new long[] { 10, 11, 12, 14 }) tracker.Begin(At(offset), 100);
        Assert.Empty(Complete(11));
        Assert.Equal([At(12)], Complete(10));
        Assert.Empty(Complete(14));
        Assert.False(tracker.IsDone(At(12)));
        Assert.Equal([At(15)], Complete(12));
        Assert.Empty(Complete(12));
        Assert.True(tracker.IsDone(At(12)));
        Assert.False(tracker.IsDone(At(15)));
        Assert.Equal((0, 0), (tracker.OpenCount, tracker.OpenBytes));

        List<TopicPartitionOffset> Complete(long offset)
        {
            tracker.Complete(At(offset));
            return tracker.Advance();
        }
    }

    [Fact]
    public void K1_records_of_a_lost_partition_are_forgotten()
    {
        var tracker = new OffsetTracker();
        tracker.Begin(At(1), 100);
        tracker.Begin(new TopicPartitionOffset("t", 1, 5), 30);
        tracker.Forget(new TopicPartition("t", 0));
        Assert.Equal((1, 30), (tracker.OpenCount, tracker.OpenBytes));
        Assert.Equal((0, 1), (tracker.OpenIn(new TopicPartition("t", 0)), tracker.OpenIn(new TopicPartition("t", 1))));
        tracker.Complete(At(1));
        Assert.Empty(tracker.Advance());
        Assert.Equal((1, 30), (tracker.OpenCount, tracker.OpenBytes));
    }

    [Fact]
    public void Each_validator_has_its_own_turn_to_write_a_dead_letter()
    {
        for (var i = 0; i < 200; i++)
        {
            var digest = Digest.Sha256([(byte)i]);
            Assert.Equal(Enumerable.Range(0, 7), Enumerable.Range(0, 7).Select(rank => DeadLetters.Precedence(digest, rank, 7)).Order());
        }
    }

    [Theory]
    [InlineData("6513270e-269e-4d37-b2a7-4de452e6b438", true)]
    [InlineData("6513270e-269e-1d37-b2a7-4de452e6b438", false)]
    [InlineData("6513270e-269e-4d37-72a7-4de452e6b438", false)]
    [InlineData("alert-1", false)]
    public void Only_version_4_uuids_go_into_the_list_of_ids(string id, bool expected) => Assert.Equal(expected, CommitRecord.IsUuidV4(id));
}

public sealed class FormatTests
{
    [Fact]
    public void An_eve_alert_becomes_a_detection_that_validators_accept()
    {
        var detection = Formats.Eve("""{"event_type":"alert","src_ip":"198.51.100.7","alert":{"signature":"S","category":"C","severity":1}}""", out var problem);
        Assert.Null(problem);
        Assert.Equal(("C", "198.51.100.7", 8u), (detection!.Type, detection.Source, detection.Severity));
    }

    [Theory]
    [InlineData("""{"event_type":"flow"}""")]
    [InlineData("""{"event_type":"alert"}""")]
    [InlineData("""{"event_type":7}""")]
    [InlineData("""{"event_type":"alert","alert":{"severity":"high"}}""")]
    [InlineData("""{"a":1,"a":2}""")]
    [InlineData("not json")]
    [InlineData("[1]")]
    public void Other_lines_are_refused_with_a_reason(string line)
    {
        Assert.Null(Formats.Eve(line, out var problem));
        Assert.NotNull(problem);
    }

    [Theory]
    [InlineData("""{"type":"t","source":"s","severity":11,"confidence":0.5}""")]
    [InlineData("""{"type":"t","source":"s","severity":1,"confidence":1.5}""")]
    [InlineData("""{"type":"","source":"s","severity":1,"confidence":0.5}""")]
    [InlineData("""{"type":5,"source":"s","severity":1,"confidence":0.5}""")]
    public void Ndjson_out_of_range_is_refused(string line)
    {
        Assert.Null(Formats.Ndjson(line, out var problem));
        Assert.NotNull(problem);
    }
}

public sealed class SettingsTests
{
    private static readonly Dictionary<string, string> Minimal = new() { ["NODE_ID"] = "1", ["KAFKA_BROKERS"] = "b:9092" };

    private static string Problem(params (string Name, string Value)[] environment)
    {
        var values = new Dictionary<string, string>(Minimal);
        foreach (var (name, value) in environment) values[name] = value;
        return Assert.Throws<UserError>(() => Settings.Load("/nowhere/config.json", values)).Message;
    }

    [Fact]
    public void Defaults_and_pod_names_work()
    {
        var settings = Settings.Load("/nowhere/config.json", new Dictionary<string, string>(Minimal) { ["NODE_ID"] = "validator-0", ["PATH"] = "/bin", ["KAFKA_BROKERS"] = "a:1, b:2" });
        Assert.Equal(("1", "a:1,b:2", "cybermesh-consensus-node-1"), (settings.NodeId, settings.Kafka.Brokers, settings.ConsumerGroupOfNode));
        Assert.Equal(TimeSpan.FromMinutes(5), settings.TimestampSkew);
    }

    [Fact]
    public void All_problems_are_reported_together_with_a_suggestion()
    {
        var message = Problem(("KAFKA_BROKER", "x"), ("MEMPOOL_MAX_TXS", "many"), ("P2P_ENCRYPTION", "false"), ("KAFKA_MAX_TIMESTAMP_SKEW", "5 minutes"), ("LOG_LEVEL", "loud"));
        foreach (var part in new[] { "did you mean KAFKA_BROKERS?", "MEMPOOL_MAX_TXS is 'many'", "P2P_ENCRYPTION is false", "KAFKA_MAX_TIMESTAMP_SKEW is '5 minutes'", "LOG_LEVEL is 'loud'", "5 problem(s)" })
            Assert.Contains(part, message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_name_with_two_values_is_an_error_that_names_both_places_and_shows_no_secret()
    {
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "config.json");
        File.WriteAllText(path, """{"KAFKA_BROKERS":"other:1"}""");
        var message = Assert.Throws<UserError>(() => Settings.Load(path, Minimal)).Message;
        Assert.Contains("KAFKA_BROKERS is 'other:1' in config.json, line 1 and 'b:9092' in the environment", message, StringComparison.Ordinal);
        File.WriteAllText(path, """{"API_BEARER_TOKENS":"a:admin:hidden0"}""");
        message = Assert.Throws<UserError>(() => Settings.Load(path, new Dictionary<string, string>(Minimal) { ["API_BEARER_TOKENS"] = "a:admin:hidden1" })).Message;
        Assert.Contains("API_BEARER_TOKENS has one value in config.json, line 1 and another in the environment", message, StringComparison.Ordinal);
        Assert.DoesNotContain("hidden", message, StringComparison.Ordinal);
        File.WriteAllText(path, "{");
        Assert.Contains("line 1", Assert.Throws<UserError>(() => Settings.Load(path, Minimal)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Q1_a_configured_quorum_is_checked_and_never_used()
    {
        var set = new ValidatorSet(Enumerable.Range(1, 6).Select(i => new Validator($"v{i}", new Core.Primitives.PublicKey(new Bytes32((ulong)i, 0, 0, 0)), default, default, default)));
        foreach (var good in new[] { ("QUORUM_SIZE", "4"), ("CLUSTER_TOPOLOGY", "validator:6"), ("CONSENSUS_NODES", "1, 2,3,4,5,6"), ("TRUSTED_NODES", "6,5,4,3,2,1"), ("MEMPOOL_NONCE_TTL", "15m") })
            Expectation(good).Check(set, new ChainParameters());
        foreach (var (wrong, says) in new[]
                 {
                     (("QUORUM_SIZE", "3"), "6 validators need 4"), (("CLUSTER_TOPOLOGY", "validator:4"), "the set has 6"), (("CONSENSUS_NODES", "1,2,3,4"), "validators 1 to 6"),
                     (("TRUSTED_NODES", "1,2,3,4,5,7"), "validators 1 to 6"), (("MEMPOOL_NONCE_TTL", "2h"), "the chain remembers nonces for 01:00:00"),
                 })
            Assert.Contains(says, Assert.Throws<UserError>(() => Expectation(wrong).Check(set, new ChainParameters())).Message, StringComparison.Ordinal);

        static SetExpectation Expectation((string Name, string Value) setting) => Settings.Load("/nowhere", new Dictionary<string, string>(Minimal) { [setting.Name] = setting.Value }).Expectation;
    }

    [Theory]
    [InlineData("500ms", 500)]
    [InlineData("1h30m", 5_400_000)]
    [InlineData("1.5s", 1500)]
    public void Go_durations_are_read(string text, int ms)
    {
        Assert.True(Settings.TryParseDuration(text, out var duration));
        Assert.Equal(TimeSpan.FromMilliseconds(ms), duration);
    }

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("5 m")]
    [InlineData("-5s")]
    [InlineData("999999999h")]
    public void Other_durations_are_not(string text) => Assert.False(Settings.TryParseDuration(text, out _));

    [Fact]
    public void A_genesis_is_read_back_as_written_and_bad_ones_say_what_is_wrong()
    {
        using var directory = new TemporaryDirectory();
        var homes = Testnet.Generate(directory.Path, [1, 2, 3, 4], [5, 6, 7, 8], [], null, TimeProvider.System);
        var path = Path.Combine(homes[0], "genesis.json");
        Assert.Equal(GenesisFile.Load(path).Chain.ChainId, GenesisFile.Load(Path.Combine(homes[3], "genesis.json")).Chain.ChainId);
        var text = File.ReadAllText(path);
        void Refused(string changed, string expected)
        {
            Assert.NotEqual(text, changed);
            File.WriteAllText(path, changed);
            Assert.Contains(expected, Assert.Throws<UserError>(() => GenesisFile.Load(path)).Message, StringComparison.Ordinal);
        }

        Refused(text.Replace("\"name\": \"v2\"", "\"name\": \"v1\"", StringComparison.Ordinal), "the name v1 is used twice");
        Refused(text.Replace("\"version\": 1", "\"version\": 2", StringComparison.Ordinal), "version 2 is unknown");
        Refused(text.Replace("\"window\": 8", "\"window\": 800", StringComparison.Ordinal), "window is 800");
        Refused(text.Replace("\"window\"", "\"windows\"", StringComparison.Ordinal), "windows");
        Refused(text.Replace("\"consensus_key\": \"", "\"consensus_key\": \"zz", StringComparison.Ordinal), "is not 64 hex digits");
        Refused(text[..100], "line");
        Refused("null", "lacks");
    }
}

public sealed class TilePathTests
{
    [Theory]
    [InlineData("0/000", 0, 0ul, 256)]
    [InlineData("1/067.p/3", 1, 67ul, 3)]
    [InlineData("entries/x001/x234/067", null, 1234067ul, 256)]
    [InlineData("entries/x001/x234/067.p/255", null, 1234067ul, 255)]
    public void Paths_of_tiles_have_one_form(string path, int? level, ulong index, int width)
    {
        Assert.True(TilePath.TryParse(path, out var tile));
        Assert.Equal(new TilePath(level, index, width), tile);
        Assert.Equal(path, tile.ToString());
    }

    [Theory]
    [InlineData("")]
    [InlineData("0")]
    [InlineData("8/000")]
    [InlineData("00/000")]
    [InlineData("0/0")]
    [InlineData("0/0000")]
    [InlineData("0/x000/001")]
    [InlineData("0/001/002")]
    [InlineData("0/000.p/0")]
    [InlineData("0/000.p/256")]
    [InlineData("0/000.p/01")]
    [InlineData("0/000.p")]
    [InlineData("0/-01")]
    [InlineData("entries/x999/x999/x999/x999/x999/x999/x999/999")]
    [InlineData("entries/../000")]
    public void What_is_no_path_of_a_tile_is_refused(string path) => Assert.False(TilePath.TryParse(path, out _));
}

public sealed class CommandLineTests
{
    [Theory]
    [InlineData(2, "frobnicate")]
    [InlineData(2, "demo", "--fault", "earthquake")]
    [InlineData(2, "start")]
    [InlineData(1, "start", "--home", "/does/not/exist")]
    [InlineData(1, "check", "/does/not/exist", "--topic", "ai.anomalies.v1", "--trust", "00")]
    [InlineData(1, "producer", "run", "--input", "x", "--key", "/does/not/exist", "--brokers", "b:1")]
    [InlineData(3, "status", "--url", "http://127.0.0.1:1")]
    public async Task Mistakes_get_one_clear_message_and_their_exit_code(int expected, params string[] arguments)
    {
        var (code, output) = await CliProcess.RunAsync(arguments);
        Assert.True(expected == code, $"{code}: {output}");
        Assert.NotEmpty(output);
        Assert.DoesNotContain("   at ", output, StringComparison.Ordinal);
    }
}
