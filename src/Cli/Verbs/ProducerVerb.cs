using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Alerts;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Ingest;
using CyberMesh.Node.Sensors;
using Google.Protobuf;

namespace CyberMesh.Cli.Verbs;

/// <summary>Publishes for a sensor that cannot sign: its lines become signed alerts.</summary>
internal static class ProducerVerb
{
    private const int BatchMax = 500;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    private delegate Detection? Format(string line, out string? problem);

    private static readonly Dictionary<string, Format> Known = new() { ["eve"] = Formats.Eve, ["zeek"] = Formats.Zeek, ["falco"] = Formats.Falco, ["ndjson"] = Formats.Ndjson };

    public static Command Create()
    {
        var format = new Option<string>("--format") { Description = "Form of the input lines.", DefaultValueFactory = _ => "eve" }.AcceptOnlyFromAmong([.. Known.Keys]);
        var input = new Option<string>("--input") { Description = "File to read, or - for standard input.", Required = true };
        var follow = new Option<bool>("--follow") { Description = "Go on with what is added to the file, also when it is rotated." };
        var position = new Option<string?>("--position") { Description = "File that keeps how far the input has been published; a later run goes on there." };
        var key = new Option<FileInfo>("--key") { Description = "The producer's key file.", Required = true };
        var brokers = new Option<string>("--brokers") { Description = "Kafka brokers (host:port,…).", Required = true };
        var rate = new Option<int>("--rate") { Description = "At most this many messages per second; 0 means no limit." };
        var topic = new Option<string>("--topic") { Description = "Topic for the alerts.", DefaultValueFactory = _ => "ai.anomalies.v1" };
        var profile = new Option<string>("--profile") { Description = "Signing profile.", DefaultValueFactory = _ => "v1" }.AcceptOnlyFromAmong("v1", "v2");
        var run = new Command("run", "Sign a sensor's lines and publish them.") { format, input, follow, position, key, brokers, rate, topic, profile };
        run.SetAction(async (parsed, stop) =>
        {
            using var signingKey = ProducerKey.Load(parsed.GetValue(key)!.FullName);
            var signer = new AlertSigner(signingKey, parsed.GetValue(profile) == "v2" ? SigningProfile.V2 : SigningProfile.V1, TimeProvider.System);
            using var publisher = new Publisher(signer, Known[parsed.GetValue(format)!], KafkaConnection.FromEnvironment(parsed.GetValue(brokers)!), parsed.GetValue(topic)!, parsed.GetValue(rate));
            if (parsed.GetValue(input) is not "-" and { } path) return await PublishFileAsync(publisher, path, parsed.GetValue(position), parsed.GetValue(follow), stop);
            if (parsed.GetValue(position) is not null || parsed.GetValue(follow)) throw new UserError("--position and --follow need a file", "name the file with --input");
            while (!stop.IsCancellationRequested && await Console.In.ReadLineAsync(stop) is { } line) await publisher.AddAsync(line, null, 0, stop);
            return await publisher.FinishAsync();
        });
        return new Command("producer", "Publish alerts of a sensor that cannot sign itself.") { run };
    }

    /// <summary>In batches. With a position file a batch and its time are written down before it is published, and its end when Kafka has all of it.</summary>
    private static async Task<int> PublishFileAsync(Publisher publisher, string path, string? positionPath, bool follow, CancellationToken stop)
    {
        var position = positionPath is null ? ReadPosition.Start : ReadPosition.Load(positionPath);
        using var file = LineFile.Open(path, position.Fingerprint, position.Offset);
        if (file.Offset != position.Offset)
        {
            await Console.Error.WriteLineAsync($"{path} is not the file that was read before, reading it from its start");
            position = ReadPosition.Start;
        }

        try
        {
            var batch = new List<(string? Line, string? Problem, long Offset)>();
            while (!stop.IsCancellationRequested)
            {
                batch.Clear();
                // What was under way at a crash is made again exactly as it was.
                var again = position.PendingEnd > position.Offset;
                for (var at = file.Offset; batch.Count < BatchMax && (!again || at < position.PendingEnd); at = file.Offset)
                {
                    var line = file.Read(atEnd: positionPath is null && !follow, out var problem);
                    if (line is null && problem is null) break;
                    batch.Add((line, problem, at));
                }

                if (batch.Count == 0)
                {
                    if (!follow) break;
                    if (!file.TryFollow()) await Task.Delay(Pause, stop);
                    else position = ReadPosition.Start;
                    continue;
                }

                position = new ReadPosition(file.Fingerprint, position.Offset, again ? position.PendingEnd : file.Offset, again ? position.PendingTime : TimeProvider.System.GetUtcNow().ToUnixTimeSeconds());
                if (positionPath is not null && !again) position.Save(positionPath);
                foreach (var (line, problem, at) in batch)
                    if (line is null) publisher.Skip(problem!);
                    else await publisher.AddAsync(line, positionPath is null ? null : $"{file.Fingerprint}@{at}", position.PendingTime, stop);
                if (positionPath is null) continue;
                if (!publisher.Flush(stop)) break;
                position = position with { Offset = file.Offset, PendingEnd = Math.Max(position.PendingEnd, file.Offset) };
                position.Save(positionPath);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // what has been read is still to be accounted for
        }

        return await publisher.FinishAsync();
    }

    private sealed class Publisher : IDisposable
    {
        private readonly AlertSigner _signer;
        private readonly Format _format;
        private readonly string _topic;
        private readonly int _rate;
        private readonly IProducer<byte[]?, byte[]?> _kafka;
        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private readonly bool _showsProgress = !Console.IsErrorRedirected;
        private string? _kafkaProblem;
        private long _lines, _published, _skipped, _failed;
        private TimeSpan _shownAt;

        public Publisher(AlertSigner signer, Format format, KafkaConnection connection, string topic, int rate)
        {
            (_signer, _format, _topic, _rate) = (signer, format, topic, rate);
            _kafka = KafkaClients.Producer(connection, "cybermesh-producer", error => _kafkaProblem = error.Reason);
        }

        /// <param name="place">Where the line stands, when it may have been published before.</param>
        /// <param name="seconds">The time of the message then.</param>
        public async Task AddAsync(string line, string? place, long seconds, CancellationToken stop)
        {
            if (line.Length == 0)
            {
                _lines++;
                return;
            }

            if (_format(line, out var problem) is not { } detection)
            {
                Skip(problem!);
                return;
            }

            _lines++;
            if (_rate > 0)
            {
                var dueMs = (_published + 1) * 1000 / _rate - _clock.ElapsedMilliseconds;
                if (dueMs > 0) await Task.Delay(TimeSpan.FromMilliseconds(dueMs), stop);
            }

            var record = new Message<byte[]?, byte[]?> { Value = (place is null ? _signer.Anomaly(detection) : _signer.Anomaly(detection, seconds, place)).ToByteArray() };
            if (place is not null) record.Timestamp = new Timestamp(DateTimeOffset.FromUnixTimeSeconds(seconds));
            while (!TryProduce(record)) await Task.Delay(20, stop);
            _published++;
            ShowProgress();
        }

        public void Skip(string problem)
        {
            _lines++;
            _skipped++;
            Console.Error.WriteLine($"line {_lines} skipped: {problem}");
        }

        /// <summary>Waits until Kafka has everything; false when it does not take it, or on a stop.</summary>
        public bool Flush(CancellationToken stop)
        {
            while (_kafka.Flush(TimeSpan.FromMilliseconds(500)) > 0)
                if (stop.IsCancellationRequested) return false;
            return Interlocked.Read(ref _failed) == 0;
        }

        public async Task<int> FinishAsync()
        {
            var unsent = _kafka.Flush(TimeSpan.FromSeconds(30));
            if (_showsProgress) await Console.Error.WriteAsync("\r");
            Console.WriteLine($"published {_published - unsent - _failed}, skipped {_skipped}, failed {unsent + _failed}");
            if (unsent + _failed == 0) return ExitCode.Ok;
            await Console.Error.WriteLineAsync($"error: Kafka did not take {unsent + _failed} messages: {_kafkaProblem ?? "no answer"}");
            return ExitCode.Connection;
        }

        /// <summary>False while the client's queue is full.</summary>
        private bool TryProduce(Message<byte[]?, byte[]?> record)
        {
            try
            {
                _kafka.Produce(_topic, record, report =>
                {
                    if (report.Error.IsError) Interlocked.Increment(ref _failed);
                });
                return true;
            }
            catch (ProduceException<byte[]?, byte[]?> problem) when (problem.Error.Code == ErrorCode.Local_QueueFull)
            {
                return false;
            }
        }

        private void ShowProgress()
        {
            if (!_showsProgress || _clock.Elapsed - _shownAt < TimeSpan.FromSeconds(1)) return;
            _shownAt = _clock.Elapsed;
            Console.Error.Write(string.Create(CultureInfo.InvariantCulture, $"\rpublished {_published} ({_published / _clock.Elapsed.TotalSeconds:F0}/s), skipped {_skipped} "));
        }

        public void Dispose() => _kafka.Dispose();
    }
}
