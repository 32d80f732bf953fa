using System;
using System.CommandLine;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;
using CyberMesh.Protos.Control;
using Google.Protobuf;

namespace CyberMesh.Cli.Verbs;

/// <summary>Reads what the validators publish, as a consumer does: records signed with a control key of genesis, about blocks that a quorum has certified.</summary>
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
        var read = new Command("read", "Show the records of a control topic from the beginning, each with its signature and the certificate of its block checked.") { topic, brokers, genesis, count, seconds, contains };
        read.SetAction((parsed, stop) => Task.Run(() =>
        {
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName).Chain;
            var name = parsed.GetValue(topic)!;
            var config = KafkaClients.Consumer(KafkaConnection.FromEnvironment(parsed.GetValue(brokers)!), "cybermesh-control-" + Guid.NewGuid(), AutoOffsetReset.Earliest, 10_000);
            using var consumer = new ConsumerBuilder<byte[]?, byte[]?>(config).SetLogHandler((_, _) => { }).SetErrorHandler((_, _) => { }).Build();
            consumer.Subscribe(name);
            var shown = 0;
            for (var until = TimeProvider.System.GetUtcNow().AddSeconds(parsed.GetValue(seconds)); shown < parsed.GetValue(count) && TimeProvider.System.GetUtcNow() < until;)
            {
                stop.ThrowIfCancellationRequested();
                if (consumer.Consume(TimeSpan.FromMilliseconds(100)) is not { Message: { Value: { } value, Headers: var headers } }) continue;
                var line = $"{Proven(headers, chain)}, {Line(name, value, chain)}";
                if (!line.Contains(parsed.GetValue(contains)!, StringComparison.Ordinal)) continue;
                Console.WriteLine(line);
                shown++;
            }

            consumer.Close();
            return shown == parsed.GetValue(count) ? ExitCode.Ok : ExitCode.Failure;
        }, stop));
        return new Command("control", "Read what the validators publish.") { read };
    }

    private static string Line(string topic, byte[] value, ChainContext chain)
    {
        // Two kinds of topics carry these; all else is a commit.
        IMessage message = topic.Contains("policy", StringComparison.Ordinal) ? PolicyUpdateEvent.Parser.ParseFrom(value)
            : topic.Contains("reputation", StringComparison.Ordinal) ? ReputationEvent.Parser.ParseFrom(value) : CommitEvent.Parser.ParseFrom(value);
        var (signature, key) = Unsign(message);
        var signer = chain.Validators.Members.FirstOrDefault(v => v.ControlKey == key);
        var genuine = signature.Length == 64 && new Ed25519Verifier().Verify(key, [.. Encoding.UTF8.GetBytes(topic), .. message.ToByteArray()], Signature.From(signature.Span));
        var by = signer is null ? "an unknown key" : signer.Name;
        return $"{(genuine && signer is not null ? "signed by " + by : "NOT GENUINE, " + by)}: {Text(message)}";
    }

    /// <summary>Whether a quorum has agreed on the block the record tells of; what it tells of it is the validator's word.</summary>
    private static string Proven(Headers headers, ChainContext chain)
    {
        if (!headers.TryGetLastBytes("cm-proof", out var bytes) || !CertifiedHeader.TryDecode(bytes, out var block)) return "block NOT PROVEN";
        if (block.Commit.Epoch != chain.Epoch) return $"block {block.Header.Height} of epoch {block.Commit.Epoch}, whose keys are not in genesis";
        var isIts = headers.TryGetLastBytes("cm-height", out var height) && Encoding.UTF8.GetString(height) == block.Header.Height.ToString();
        return isIts && block.Problem(chain, new Ed25519Verifier()) is null ? $"block {block.Header.Height} certified" : "block NOT PROVEN";
    }

    private static string Text(IMessage message) => message switch
    {
        PolicyUpdateEvent p => $"policy {p.PolicyId} {p.Action} {p.RuleType} from block {p.EffectiveHeight}: {p.RuleData.ToStringUtf8()}",
        ReputationEvent r => $"producer {Convert.ToHexStringLower(r.AiProducerId.Span)} {r.Score:+#;-#;0} ({r.Reason}) for {r.AiMessageId}, block {r.BlockHeight}{(r.AnalystNotes.Length > 0 ? ": " + r.AnalystNotes : "")}",
        CommitEvent c => $"block {c.Height} with {c.TxCount} transactions, {c.AnomalyCount} alerts",
        _ => throw Invariant.Unreachable(message),
    };

    /// <summary>Takes signature, key and algorithm out of a record: what is left is what was signed.</summary>
    private static (ByteString Signature, PublicKey Key) Unsign(IMessage message)
    {
        ByteString signature, key;
        switch (message)
        {
            case PolicyUpdateEvent m:
                (signature, key) = (m.Signature, m.Pubkey);
                (m.Signature, m.Pubkey, m.Alg) = (ByteString.Empty, ByteString.Empty, "");
                break;
            case ReputationEvent m:
                (signature, key) = (m.Signature, m.Pubkey);
                (m.Signature, m.Pubkey, m.Alg) = (ByteString.Empty, ByteString.Empty, "");
                break;
            case CommitEvent m:
                (signature, key) = (m.Signature, m.Pubkey);
                (m.Signature, m.Pubkey, m.Alg) = (ByteString.Empty, ByteString.Empty, "");
                break;
            default:
                throw Invariant.Unreachable(message);
        }

        return (signature, key.Length == PublicKey.Size ? PublicKey.From(key.Span) : default);
    }
}
