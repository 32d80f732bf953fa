using System;
using System.CommandLine;
using System.IO;
using System.Text;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Feedback;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

/// <summary>Reads what the validators publish, as a consumer does: what a quorum has agreed on, and what is one validator's word.</summary>
internal static class ControlVerb
{
    public static Command Create()
    {
        var topic = new Argument<string>("topic") { Description = "A control topic, such as control.policy.v1." };
        var brokers = new Option<string>("--brokers") { Description = "Kafka brokers (host:port,…).", Required = true };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var count = new Option<int>("--count") { Description = "Stop after so many records.", DefaultValueFactory = _ => 10 };
        var seconds = new Option<int>("--wait") { Description = "Give up after so many seconds.", DefaultValueFactory = _ => 10 };
        var contains = new Option<string>("--contains") { Description = "Only records whose line contains this text.", DefaultValueFactory = _ => "" };
        var read = new Command("read", "Show the records of a control topic from the beginning, each checked with the keys of genesis.") { topic, brokers, genesis, count, seconds, contains };
        read.SetAction((parsed, stop) => Task.Run(() =>
        {
            var policy = TrustPolicy.Of(GenesisFile.Load(parsed.GetValue(genesis)!.FullName).Chain);
            Invariant.Holds(TrustPolicy.TryParse(Encoding.UTF8.GetBytes(policy), out var trust, out _), "a policy of our own");
            var verifier = new ControlVerifier(trust, new Ed25519Verifier());
            var shown = 0;
            var until = TimeProvider.System.GetUtcNow().AddSeconds(parsed.GetValue(seconds));
            foreach (var record in TopicReader.Follow(KafkaConnection.FromEnvironment(parsed.GetValue(brokers)!), parsed.GetValue(topic)!, stop))
            {
                if (shown == parsed.GetValue(count) || TimeProvider.System.GetUtcNow() > until) break;
                if (record is null) continue;
                var line = Line(verifier, record);
                if (!line.Contains(parsed.GetValue(contains)!, StringComparison.Ordinal)) continue;
                Console.WriteLine(line);
                shown++;
            }

            return shown == parsed.GetValue(count) ? ExitCode.Ok : ExitCode.Failure;
        }, stop));
        return new Command("control", "Read what the validators publish.") { read };
    }

    internal static string Line(ControlVerifier verifier, ConsumeResult<byte[]?, byte[]?> record) =>
        verifier.Verify(record.Topic, record.Message.Value, record.Message.Headers, out var problem) is { } verified
            ? $"block {verified.Block.Height} certified, {Standing(verified)}signed by {verified.Signer}: {verified}"
            : $"NOT GENUINE, {record.TopicPartitionOffset}: {problem}";

    private static string Standing(VerifiedRecord record) => record.Policy is not { } policy ? ""
        : policy.Until is { } until ? $"in force after block {policy.After} until {DateTimeOffset.FromUnixTimeMilliseconds(until.Milliseconds):yyyy-MM-dd HH:mm:ss} UTC, "
        : $"not in force after block {policy.After}, ";
}
