using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Feedback;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

internal static class CheckVerb
{
    private const long SkewMs = 5 * 60_000;

    public static Command Create()
    {
        var file = new Argument<string?>("file") { Description = "A serialized record value, or a directory with a manifest.json; none to check a control topic.", Arity = ArgumentArity.ZeroOrOne };
        var topic = new Option<string?>("--topic") { Description = "Topic the record was published on, or a control topic to check from its beginning to its end." };
        var brokers = new Option<string?>("--brokers") { Description = "Kafka brokers (host:port,…) with the control topic." };
        var policy = new Option<FileInfo?>("--policy") { Description = "The trust policy to check a control topic with, from 'trust export'." };
        var trust = new Option<string[]>("--trust") { Description = "Public key (hex) to trust for all kinds; may be repeated.", AllowMultipleArgumentsPerToken = true };
        var genesis = new Option<FileInfo?>("--genesis") { Description = "Take the trust store from this genesis." };
        var now = new Option<long?>("--now") { Description = "Check as if it were this time (Unix seconds)." };
        var nonces = new Option<FileInfo?>("--nonces") { Description = "State file that lets a sequence of calls see replays." };
        var command = new Command("check", "Verify one signed message offline ('accepted', or 'rejected CODE WHY'), or all records of a control topic. Exit code 5 when anything does not hold.") { file, topic, brokers, policy, trust, genesis, now, nonces };
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            if (parsed.GetValue(file) is not { } path)
            {
                if (parsed.GetValue(topic) is not { } name || parsed.GetValue(brokers) is not { } servers || parsed.GetValue(policy) is not { } trusted)
                    throw new UserError("there is nothing to check", "give a file with a record, or --topic, --brokers and --policy of a control topic");
                return CheckControl(servers, name, VerifyVerb.ReadPolicy(trusted), stop);
            }

            var producers = Trust(parsed.GetValue(trust) ?? [], parsed.GetValue(genesis));
            var at = parsed.GetValue(now);
            if (Directory.Exists(path)) return CheckDirectory(path, producers, at);
            if (producers is null) throw new UserError("nobody is trusted", "give --trust KEYHEX or --genesis FILE");
            var kind = KindOf(parsed.GetValue(topic) ?? throw new UserError("--topic is missing", "give the topic, for example --topic ai.anomalies.v1"));
            var seen = NonceFile.Load(parsed.GetValue(nonces)?.FullName);
            var rejection = Check(kind, ReadRecord(path), producers, at ?? DateTimeOffset.UtcNow.ToUnixTimeSeconds(), seen);
            seen.Save();
            Console.WriteLine(Verdict(rejection));
            return rejection is null ? ExitCode.Ok : ExitCode.VerificationFailed;
        }, stop));
        return command;
    }

    private static int CheckControl(string brokers, string topic, TrustPolicy policy, CancellationToken stop)
    {
        var verifier = new ControlVerifier(policy, new Ed25519Verifier());
        var (good, bad) = (0, 0);
        foreach (var record in TopicReader.ReadAll(KafkaConnection.FromEnvironment(brokers), topic, stop))
        {
            if (verifier.Verify(record.Topic, record.Message.Value, record.Message.Headers, out _) is not null) good++;
            else bad++;
            Console.WriteLine(ControlVerb.Line(verifier, record));
        }

        Console.WriteLine($"{good} records are good, {bad} are not");
        return bad == 0 ? ExitCode.Ok : ExitCode.VerificationFailed;
    }

    private static string Verdict(Rejection? rejection) => rejection is null ? "accepted" : $"rejected {rejection.Code} {rejection.Explanation}";

    private static AlertKind KindOf(string topic) => topic switch
    {
        _ when topic.Contains("anomal", StringComparison.Ordinal) => AlertKind.Anomaly,
        _ when topic.Contains("evidence", StringComparison.Ordinal) => AlertKind.Evidence,
        _ when topic.Contains("policy", StringComparison.Ordinal) => AlertKind.Policy,
        _ => throw new UserError($"topic {topic} carries no message kind this command knows", "use ai.anomalies.v1, ai.evidence.v1 or ai.policy.v1"),
    };

    private static byte[] ReadRecord(string path)
    {
        if (!File.Exists(path)) throw new UserError($"{path} does not exist", "give a file with one serialized record value, or a directory with a manifest.json");
        if (new FileInfo(path).Length > 64 << 20) throw new UserError($"{path} is larger than 64 MiB", "this is no record value");
        return File.ReadAllBytes(path);
    }

    private static ProducerRegistry? Trust(string[] keys, FileInfo? genesis)
    {
        if (genesis is not null) return GenesisFile.Load(genesis.FullName).Producers;
        if (keys.Length == 0) return null;
        return new ProducerRegistry(keys.Distinct(StringComparer.OrdinalIgnoreCase).Select(hex => PublicKey.TryParse(hex, out var key)
            ? Trusted(key)
            : throw new UserError($"--trust {hex} is not a public key", "give 64 hex digits")));
    }

    private static Producer Trusted(PublicKey key) =>
        new(key, key.ToString()[..8], "trusted", AlertKinds.All, SigningProfiles.V1 | SigningProfiles.V2, 1000, default, null, false);

    /// <summary>The admission rules of a validator, in its order.</summary>
    private static Rejection? Check(AlertKind kind, byte[] record, ProducerRegistry producers, long nowSeconds, NonceFile seen)
    {
        if (!EnvelopeDecoder.TryDecode(kind, record, out var envelope, out var rejection)) return rejection;
        rejection = EnvelopeRules.CheckProducer(envelope, producers, new Height(1))
                    ?? EnvelopeRules.CheckTime(envelope, Timestamp.FromSeconds(nowSeconds), SkewMs, SkewMs);
        if (rejection is not null) return rejection;
        producers.TryFind(envelope.Producer, out var producer);
        if (!new EnvelopeAuthenticator(new Ed25519Verifier()).TryAuthenticate(envelope, producer!.Profiles, out _))
            return new Rejection(RejectionReason.BadSignature, "the signature is not the producer's over these bytes");
        return seen.TryAdd(envelope) ? null : new Rejection(RejectionReason.ReplayedNonce, "the producer has used this nonce before");
    }

    private static int CheckDirectory(string directory, ProducerRegistry? producers, long? now)
    {
        var manifestPath = Path.Combine(directory, "manifest.json");
        if (!File.Exists(manifestPath)) throw new UserError($"{directory} has no manifest.json", "give a directory like the project's test vectors, or a single file");
        try
        {
            var manifest = JsonNode.Parse(File.ReadAllText(manifestPath))!;
            producers ??= Trust([.. manifest["keys"]!["trusted"]!.AsArray().Select(k => (string)k!)], null);
            var at = now ?? (long)manifest["now"]!;
            var seen = NonceFile.Load(null);
            var wrong = 0;
            foreach (var message in manifest["messages"]!.AsArray())
            {
                var file = (string)message!["file"]!;
                var rejection = Check(KindOf((string)message["topic"]!), ReadRecord(Path.Combine(directory, file)), producers!, at, seen);
                var asExpected = (string?)message["expect"] is not { } expect || expect == (rejection is null ? "accept" : "reject");
                if (!asExpected) wrong++;
                Console.WriteLine($"{file}: {Verdict(rejection)}{(asExpected ? "" : " UNEXPECTED")}");
            }

            Console.WriteLine($"{manifest["messages"]!.AsArray().Count} messages, {wrong} with another verdict than the manifest");
            return wrong == 0 ? ExitCode.Ok : ExitCode.VerificationFailed;
        }
        catch (Exception problem) when (problem is JsonException or NullReferenceException or InvalidOperationException or FormatException)
        {
            throw new UserError($"{manifestPath} is not a manifest of messages", "it needs now, keys.trusted and messages with file and topic");
        }
    }

    /// <summary>The nonces seen by a sequence of calls: one line each.</summary>
    private sealed class NonceFile
    {
        private readonly string? _path;
        private readonly HashSet<string> _seen = new(StringComparer.Ordinal);

        private NonceFile(string? path) => _path = path;

        public static NonceFile Load(string? path)
        {
            var file = new NonceFile(path);
            if (path is null || !File.Exists(path)) return file;
            foreach (var line in File.ReadLines(path))
            {
                if (line.Length != 97 || line[64] != ' ') throw new UserError($"{path} is not a nonce file", "name a new file, or one that this command wrote");
                file._seen.Add(line);
            }

            return file;
        }

        public bool TryAdd(AlertEnvelope envelope) =>
            _seen.Add($"{envelope.Producer} {envelope.Nonce.Value.ToString("x32", CultureInfo.InvariantCulture)}");

        public void Save()
        {
            if (_path is not null) File.WriteAllLines(_path, _seen.Order(StringComparer.Ordinal));
        }
    }
}
