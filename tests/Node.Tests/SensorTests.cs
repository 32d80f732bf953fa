using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Sensors;
using Google.Protobuf;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>A sensor's log: read, followed, rotated, found again.</summary>
public sealed class LineFileTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    private string Log => Path.Combine(_directory.Path, "eve.json");

    private static List<string> Lines(LineFile file, bool atEnd = false)
    {
        var lines = new List<string>();
        while (true)
        {
            var line = file.Read(atEnd, out var problem);
            if (line is null && problem is null) return lines;
            lines.Add(line ?? "! " + problem);
        }
    }

    [Fact]
    public void Whole_lines_are_read_and_the_last_one_when_it_is_finished()
    {
        File.WriteAllText(Log, "one\r\n\nthree\nfo");
        using var file = LineFile.Open(Log, null, 0);
        Assert.Equal(["one", "", "three"], Lines(file));
        Assert.Equal("one\r\n\nthree\n".Length, file.Offset);
        File.AppendAllText(Log, "ur\nfive");
        Assert.Equal(["four"], Lines(file));
        Assert.Equal(["five"], Lines(file, atEnd: true));
    }

    [Fact]
    public void A_line_beyond_the_limit_is_said_to_be_and_the_next_one_is_read()
    {
        File.WriteAllText(Log, "a\n" + new string('x', 3 << 20) + "\nb\n");
        using var file = LineFile.Open(Log, null, 0);
        var lines = Lines(file);
        Assert.Equal(("a", "b", 3), (lines[0], lines[2], lines.Count));
        Assert.StartsWith("! longer than", lines[1], StringComparison.Ordinal);
        Assert.Equal(new FileInfo(Log).Length, file.Offset);
    }

    [Fact]
    public void A_renamed_log_is_read_to_its_end_and_then_the_new_one()
    {
        File.WriteAllText(Log, "one\n");
        using var file = LineFile.Open(Log, null, 0);
        Assert.Equal(["one"], Lines(file));
        Assert.False(file.TryFollow());
        File.AppendAllText(Log, "two\n");
        File.Move(Log, Log + ".1");
        Assert.False(file.TryFollow());
        File.WriteAllText(Log, "");
        Assert.False(file.TryFollow());
        Assert.Equal(["two"], Lines(file));
        File.WriteAllText(Log, "three\n");
        Assert.True(file.TryFollow());
        Assert.Equal(["three"], Lines(file));
        Assert.False(file.TryFollow());
    }

    [Fact]
    public void A_log_that_is_cut_is_read_from_its_start()
    {
        File.WriteAllText(Log, "one\ntwo\n");
        using var file = LineFile.Open(Log, null, 0);
        Assert.Equal(["one", "two"], Lines(file));
        File.WriteAllText(Log, "three\n");
        Assert.True(file.TryFollow());
        Assert.Equal(["three"], Lines(file));
    }

    [Fact]
    public void After_a_restart_the_log_is_found_again_also_under_its_new_name()
    {
        File.WriteAllText(Log, "one\ntwo\n");
        string fingerprint;
        using (var file = LineFile.Open(Log, null, 0))
        {
            file.Read(false, out _);
            fingerprint = file.Fingerprint!;
            Assert.Equal(4, file.Offset);
        }

        using (var file = LineFile.Open(Log, fingerprint, 4)) Assert.Equal(["two"], Lines(file));
        File.Move(Log, Log + "-20261123");
        File.WriteAllText(Log, "three\n");
        using (var file = LineFile.Open(Log, fingerprint, 4))
        {
            Assert.Equal(["two"], Lines(file));
            Assert.True(file.TryFollow());
            Assert.Equal(["three"], Lines(file));
        }

        // Neither: a log of its own, read from its start.
        using (var file = LineFile.Open(Log, new string('0', 64), 4)) Assert.Equal(0, file.Offset);
        Assert.Throws<UserError>(() => LineFile.Open(Log + ".nowhere", null, 0));
    }

    [Fact]
    public void A_position_survives_and_nonsense_is_no_position()
    {
        var path = Path.Combine(_directory.Path, "position");
        Assert.Equal(ReadPosition.Start, ReadPosition.Load(path));
        var position = new ReadPosition("ab", 10, 20, 1_790_000_000);
        position.Save(path);
        Assert.Equal(position, ReadPosition.Load(path));
        foreach (var bad in new[] { "", "{}x", "[]", """{"fingerprint":"a","offset":-1,"pending_end":0,"pending_time":0}""", """{"fingerprint":"a","offset":5,"pending_end":4,"pending_time":0}""" })
        {
            File.WriteAllText(path, bad);
            Assert.Throws<UserError>(() => ReadPosition.Load(path));
        }
    }

    [Theory]
    [InlineData(SigningProfile.V1)]
    [InlineData(SigningProfile.V2)]
    public void The_same_line_makes_the_same_message_and_another_place_another_one(SigningProfile profile)
    {
        using var key = new Ed25519Signer(new byte[32]);
        var detection = new Detection("scan", "10.0.0.1", 5, 0.5, "m", """{"severity":5,"confidence":0.5}""");
        byte[] Make(long seconds, string place) => new AlertSigner(key, profile, TimeProvider.System).Anomaly(detection, seconds, place).ToByteArray();
        Assert.Equal(Make(1_790_000_000, "a@0"), Make(1_790_000_000, "a@0"));
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, Make(1_790_000_000, "a@0"), out var one, out _));
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, Make(1_790_000_000, "a@5"), out var other, out _));
        Assert.NotEqual((one!.Nonce, one.Id), (other!.Nonce, other.Id));
        // A log that begins like another one is another one: what it says later is no replay.
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, Make(1_790_000_001, "a@0"), out var later, out _));
        Assert.NotEqual(one.Nonce, later!.Nonce);
        Assert.True(Feedback.CommitRecord.IsUuidV4(one.Id));
        Assert.True(new EnvelopeAuthenticator(new Ed25519Verifier()).TryAuthenticate(one, SigningProfiles.V1 | SigningProfiles.V2, out _));
    }

    [Theory]
    [InlineData("""{"ts":1.5,"note":"Scan::Port_Scan","src":"198.51.100.7","msg":"m","actions":["Notice::ACTION_LOG","Notice::ACTION_ALARM"]}""", "Scan::Port_Scan", "198.51.100.7", 7)]
    [InlineData("""{"ts":1.5,"note":"SSL::Invalid_Server_Cert","id.orig_h":"198.51.100.8","actions":["Notice::ACTION_LOG"]}""", "SSL::Invalid_Server_Cert", "198.51.100.8", 5)]
    public void A_notice_of_Zeek_becomes_a_detection(string line, string type, string source, uint severity)
    {
        var detection = Formats.Zeek(line, out var problem);
        Assert.Null(problem);
        Assert.Equal((type, source, severity), (detection!.Type, detection.Source, detection.Severity));
        Assert.Equal(type, (string)JsonNode.Parse(detection.Payload)!["zeek"]!["note"]!);
    }

    [Theory]
    [InlineData("Critical", 8)]
    [InlineData("warning", 5)]
    [InlineData("Debug", 1)]
    public void An_alert_of_Falco_becomes_a_detection(string priority, uint severity)
    {
        var detection = Formats.Falco($$"""{"hostname":"web-1","output":"o","priority":"{{priority}}","rule":"Terminal shell in container","time":"2026-11-23T10:00:00Z"}""", out var problem);
        Assert.Null(problem);
        Assert.Equal(("Terminal shell in container", "web-1", severity), (detection!.Type, detection.Source, detection.Severity));
    }

    [Theory]
    [InlineData("""{"rule":"x"}""")]
    [InlineData("""{"note":""}""")]
    [InlineData("""{"note":5,"rule":5,"priority":"Alert"}""")]
    [InlineData("""{"note":"n","actions":[{}],"rule":{},"priority":[]}""")]
    [InlineData("x")]
    public void Other_lines_are_refused_with_a_reason(string line)
    {
        Assert.Null(Formats.Zeek(line, out var problem));
        Assert.NotNull(problem);
        Assert.Null(Formats.Falco(line, out problem));
        Assert.NotNull(problem);
    }

    /// <summary>Killed between two writes of the position, or just stopped: each line is one alert in the end.</summary>
    [Fact]
    public async Task Each_line_becomes_one_alert_over_restarts_crashes_and_rotation()
    {
        var (keyFile, position) = (Path.Combine(_directory.Path, "key.pem"), Path.Combine(_directory.Path, "position"));
        using var key = ProducerKey.Create(keyFile);
        var producer = new Producer(key.PublicKey, "sensor", "org", AlertKinds.All, SigningProfiles.V1, 1000, default, null, false);
        await using var cluster = await TestCluster.StartAsync([producer], TimeProvider.System);
        string[] arguments = ["producer", "run", "--format", "ndjson", "--input", Log, "--position", position, "--key", keyFile, "--brokers", cluster.Broker.BootstrapServers];
        static string Line(int i) => $$"""{"type":"scan","source":"10.0.0.{{i}}","severity":5,"confidence":0.5,"n":{{i}}}""" + "\n";
        File.WriteAllText(Log, string.Concat(Enumerable.Range(0, 20).Select(Line)));
        Assert.Equal(0, (await CliProcess.RunAsync(arguments)).Code);

        // As a crash leaves it: a batch was being published, and nobody noted that Kafka had it all.
        var done = ReadPosition.Load(position);
        Assert.Equal((new FileInfo(Log).Length, done.Offset), (done.Offset, done.PendingEnd));
        (done with { Offset = 0 }).Save(position);
        File.AppendAllText(Log, string.Concat(Enumerable.Range(20, 5).Select(Line)));
        Assert.Equal(0, (await CliProcess.RunAsync(arguments)).Code);

        using (var follower = CliProcess.Start([.. arguments, "--follow"]))
        {
            File.AppendAllText(Log, Line(25));
            await Eventually.HoldsAsync(() => cluster.Nodes[0].Projection.AlertCount() == 26, "what is added is published");
            File.Move(Log, Log + ".1");
            File.AppendAllText(Log + ".1", Line(26));
            File.WriteAllText(Log, Line(27));
            await Eventually.HoldsAsync(() => cluster.Nodes[0].Projection.AlertCount() == 28, "the rotated and the new file are published");
            await Eventually.HoldsAsync(() => ReadPosition.Load(position).Offset == Line(27).Length, "the position is in the new file");
            await follower.KillAsync();
        }

        Assert.Contains("published 0", (await CliProcess.RunAsync(arguments)).Output, StringComparison.Ordinal);
        Assert.Equal(28, cluster.Nodes[0].Projection.AlertCount());
        Assert.Equal(20, (await cluster.ReadAsync("ai.dlq.v1", found => found.Count >= 20)).Select(l => l.Message.Value!).Distinct(new SameBytes()).Count());
    }

    private sealed class SameBytes : IEqualityComparer<byte[]>
    {
        public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(byte[] bytes) => bytes[^1];
    }

    public void Dispose() => _directory.Dispose();
}
