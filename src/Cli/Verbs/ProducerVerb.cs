using System;
using System.CommandLine;
using System.Diagnostics;
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

internal static class ProducerVerb
{
    public static Command Create()
    {
        var format = new Option<string>("--format") { Description = "Form of the input lines.", DefaultValueFactory = _ => "eve" }.AcceptOnlyFromAmong("eve", "ndjson");
        var input = new Option<string>("--input") { Description = "File to read, or - for standard input.", Required = true };
        var key = new Option<FileInfo>("--key") { Description = "The producer's key file.", Required = true };
        var brokers = new Option<string>("--brokers") { Description = "Kafka brokers (host:port,…).", Required = true };
        var rate = new Option<int>("--rate") { Description = "At most this many messages per second; 0 means no limit." };
        var topic = new Option<string>("--topic") { Description = "Topic for the alerts.", DefaultValueFactory = _ => "ai.anomalies.v1" };
        var profile = new Option<string>("--profile") { Description = "Signing profile.", DefaultValueFactory = _ => "v1" }.AcceptOnlyFromAmong("v1", "v2");
        var run = new Command("run", "Sign a sensor's lines and publish them.") { format, input, key, brokers, rate, topic, profile };
        run.SetAction(async (parsed, stop) =>
        {
            using var signingKey = ProducerKey.Load(parsed.GetValue(key)!.FullName);
            var signer = new AlertSigner(signingKey, parsed.GetValue(profile) == "v2" ? SigningProfile.V2 : SigningProfile.V1, TimeProvider.System);
            using var reader = Open(parsed.GetValue(input)!);
            return await PublishAsync(reader, parsed.GetValue(format) == "ndjson", signer, parsed.GetValue(brokers)!, parsed.GetValue(topic)!, parsed.GetValue(rate), stop);
        });
        return new Command("producer", "Publish alerts of a sensor that cannot sign itself.") { run };
    }

    private static TextReader Open(string input)
    {
        if (input == "-") return Console.In;
        try
        {
            return new StreamReader(input);
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"cannot read {input}: {problem.Message}", "check the path");
        }
    }

    private static async Task<int> PublishAsync(
        TextReader lines, bool ndjson, AlertSigner signer, string brokers, string topic, int rate, CancellationToken stop)
    {
        string? kafkaProblem = null;
        using var producer = KafkaClients.Producer(KafkaConnection.FromEnvironment(brokers), "cybermesh-producer", error => kafkaProblem = error.Reason);
        long published = 0, skipped = 0, failed = 0;
        var number = 0L;
        var clock = Stopwatch.StartNew();
        while (!stop.IsCancellationRequested && await lines.ReadLineAsync(stop) is { } line)
        {
            number++;
            if (line.Length == 0) continue;
            var detection = ndjson ? Formats.Ndjson(line, out var problem) : Formats.Eve(line, out problem);
            if (detection is null)
            {
                skipped++;
                await Console.Error.WriteLineAsync($"line {number} skipped: {problem}");
                continue;
            }

            if (rate > 0)
            {
                var dueMs = (published + 1) * 1000 / rate - clock.ElapsedMilliseconds;
                if (dueMs > 0) await Task.Delay(TimeSpan.FromMilliseconds(dueMs), stop);
            }

            while (!TryProduce(producer, topic, signer.Anomaly(detection).ToByteArray(), () => Interlocked.Increment(ref failed))) await Task.Delay(20, stop);
            published++;
        }

        var unsent = producer.Flush(TimeSpan.FromSeconds(30));
        Console.WriteLine($"published {published - unsent - failed}, skipped {skipped}, failed {unsent + failed}");
        if (unsent + failed == 0) return ExitCode.Ok;
        await Console.Error.WriteLineAsync($"error: Kafka did not take {unsent + failed} messages: {kafkaProblem ?? "no answer"}");
        return ExitCode.Connection;
    }

    /// <summary>False while the client's queue is full.</summary>
    private static bool TryProduce(IProducer<byte[]?, byte[]?> producer, string topic, byte[] value, Action onFailure)
    {
        try
        {
            producer.Produce(topic, new Message<byte[]?, byte[]?> { Value = value }, report =>
            {
                if (report.Error.IsError) onFailure();
            });
            return true;
        }
        catch (ProduceException<byte[]?, byte[]?> problem) when (problem.Error.Code == ErrorCode.Local_QueueFull)
        {
            return false;
        }
    }
}
