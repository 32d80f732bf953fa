using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Node;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

/// <summary>What the validators could not accept: list it, look at it, give it back.</summary>
internal static class DeadLetterVerbs
{
    private sealed record Letter(ConsumeResult<byte[]?, byte[]?> Record)
    {
        /// <summary>How commands name it: its partition and offset in the dead letter topic.</summary>
        public string Name => $"{Record.Partition.Value}:{Record.Offset.Value}";

        public string Code => Header("error_code");

        public string Topic => Header("original_topic");

        public string Place => $"{Topic}/{Header("original_partition")}@{Header("original_offset")}";

        private int Bytes { get; } = Record.Message.Value?.Length ?? 0;

        public string Header(string name) => DeadLetters.Header(Record.Message.Headers, name);

        public JsonObject ToJson() => new()
        {
            ["name"] = Name,
            ["time"] = Record.Message.Timestamp.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture),
            ["code"] = Code,
            ["reason"] = Header("error"),
            ["record"] = Place,
            ["validator"] = Header("node"),
            ["digest"] = Header("digest"),
            ["bytes"] = Bytes,
        };
    }

    public static Command Create()
    {
        var brokers = new Option<string>("--brokers") { Description = "Kafka brokers (host:port,…).", Required = true, Recursive = true };
        var topic = new Option<string>("--topic") { Description = "The dead letter topic.", DefaultValueFactory = _ => "ai.dlq.v1", Recursive = true };
        return new Command("dlq", "What the validators could not accept.") { brokers, topic, List(brokers, topic), Show(brokers, topic), Replay(brokers, topic) };
    }

    private static Command List(Option<string> brokers, Option<string> topic)
    {
        var code = new Option<string?>("--code") { Description = "Only those refused for this reason." };
        var limit = new Option<int>("--limit") { Description = "The last so many.", DefaultValueFactory = _ => 50 };
        var json = new Option<bool>("--json") { Description = "One JSON object per line." };
        var command = new Command("list", "The last dead letters, one per record, and how many there are by reason.") { code, limit, json };
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            var letters = Read(parsed.GetValue(brokers)!, parsed.GetValue(topic)!, l => parsed.GetValue(code) is not { } wanted || l.Code == wanted, false, stop);
            foreach (var letter in letters.TakeLast(Math.Max(0, parsed.GetValue(limit))))
                Console.WriteLine(parsed.GetValue(json) ? letter.ToJson().ToJsonString() : $"{letter.Name,-10} {letter.Code,-22} {letter.Place,-34} {letter.Header("error")}");
            if (!parsed.GetValue(json)) Console.WriteLine($"{letters.Count} dead letters{Summary(letters)}");
            return ExitCode.Ok;
        }, stop));
        return command;
    }

    private static Command Show(Option<string> brokers, Option<string> topic)
    {
        var name = new Argument<string>("name") { Description = "Its partition and offset, as list shows them (2:17)." };
        var output = new Option<FileInfo?>("--out") { Description = "Write the record's value to this file, for 'check'." };
        var command = new Command("show", "All that is known about one dead letter.") { name, output };
        command.SetAction((parsed, stop) => Task.Run(() =>
        {
            var letter = Read(parsed.GetValue(brokers)!, parsed.GetValue(topic)!, l => l.Name == parsed.GetValue(name), true, stop).FirstOrDefault()
                         ?? throw new UserError($"there is no dead letter {parsed.GetValue(name)}", "'dlq list' shows what there is");
            foreach (var (field, value) in letter.ToJson()) Console.WriteLine($"{field,-10} {value}");
            if (parsed.GetValue(output) is { } file) File.WriteAllBytes(file.FullName, letter.Record.Message.Value ?? []);
            return ExitCode.Ok;
        }, stop));
        return command;
    }

    private static Command Replay(Option<string> brokers, Option<string> topic)
    {
        var names = new Argument<string[]>("names") { Description = "Partition and offset of each, as list shows them (2:17).", Arity = ArgumentArity.ZeroOrMore };
        var code = new Option<string?>("--code") { Description = "All that were refused for this reason." };
        var command = new Command("replay", "Publish dead letters again, as they were, to the topics they came from: after their producer was added, say.") { names, code };
        command.SetAction(async (parsed, stop) =>
        {
            var (wanted, reason) = (parsed.GetValue(names) ?? [], parsed.GetValue(code));
            if (wanted.Length == 0 == (reason is null)) throw new UserError("say which dead letters", "give their names, or --code and a reason");
            var letters = await Task.Run(() => Read(parsed.GetValue(brokers)!, parsed.GetValue(topic)!, l => reason is null ? wanted.Contains(l.Name) : l.Code == reason, true, stop), stop);
            if (reason is null && letters.Count < wanted.Distinct().Count()) throw new UserError($"only {letters.Count} of these dead letters are there", "'dlq list' shows what there is; nothing was published");
            using var producer = KafkaClients.Producer(KafkaConnection.FromEnvironment(parsed.GetValue(brokers)!), "cybermesh-dlq", _ => { });
            foreach (var letter in letters)
            {
                try
                {
                    await producer.ProduceAsync(letter.Topic, new Message<byte[]?, byte[]?> { Key = letter.Record.Message.Key, Value = letter.Record.Message.Value }, stop);
                }
                catch (ProduceException<byte[]?, byte[]?> problem)
                {
                    throw new ConnectionError($"Kafka did not take {letter.Name}: {problem.Error.Reason}");
                }

                Console.WriteLine($"{letter.Name} published to {letter.Topic}");
            }

            Console.WriteLine($"{letters.Count} published again; what is still wrong with them will bring them back here");
            return ExitCode.Ok;
        });
        return command;
    }

    private static string Summary(List<Letter> letters) =>
        letters.Count == 0 ? "" : ": " + string.Join(", ", letters.GroupBy(l => l.Code).OrderByDescending(g => g.Count()).Select(g => $"{g.Key} {g.Count()}"));

    /// <summary>Each original record once, oldest first: after a takeover two validators may have written the same one.</summary>
    private static List<Letter> Read(string brokers, string topic, Func<Letter, bool> isWanted, bool withValues, CancellationToken stop)
    {
        var letters = new Dictionary<string, Letter>();
        foreach (var record in TopicReader.ReadAll(KafkaConnection.FromEnvironment(brokers), topic, stop))
        {
            var letter = new Letter(record);
            if (!isWanted(letter) || !letters.TryAdd(letter.Place, letter)) continue;
            if (!withValues) record.Message.Value = null;
        }

        return [.. letters.Values.OrderBy(l => l.Record.Message.Timestamp.UnixTimestampMs)];
    }
}
