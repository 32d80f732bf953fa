using System;
using System.Collections.Generic;
using System.CommandLine;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

/// <summary>
/// Orders of the operators: written by one, signed by the others, submitted by anyone. What they do and when: docs/protocol.md, rules S1 to S6.
/// </summary>
internal static class ValidatorsVerb
{
    private const int OrderBytesMax = 64 * 1024;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = System.Text.Json.Serialization.JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        WriteIndented = true,
    };

    /// <summary>What a newcomer gives to the operators.</summary>
    private sealed record ValidatorFile(string Name, string Address, string ConsensusKey, string ControlKey, string CosignerKey, string LogKey);

    public static Command Create() => new("validators", "Change the validator set, keys and parameters of a running network.")
    {
        Prepare(), ProposeAdd(), ProposeRemove(), RotateKey(), ProposeParameters(), Sign(), Show(), Submit(),
    };

    // ---- Orders -----------------------------------------------------------------------------------------------

    private sealed class OrderOptions
    {
        public Option<FileInfo> Genesis { get; } = new("--genesis") { Description = "The chain's genesis.", Required = true };
        public Option<FileInfo> Output { get; } = new("--out") { Description = "Where to write the order.", Required = true };
        public Option<FileInfo[]> Operators { get; } = new("--operator") { Description = "Key file of an operator; may be given several times." };
        public Option<ulong?> Number { get; } = new("--number") { Description = "Number of the order: next_order of /validators." };
        public Option<string?> Api { get; } = new("--api") { Description = "HTTP address of a validator to ask for the number instead." };

        public void AddTo(Command command)
        {
            command.Add(Genesis);
            command.Add(Output);
            command.Add(Operators);
            command.Add(Number);
            command.Add(Api);
        }

        public async Task<int> WriteAsync(ParseResult parsed, Change change, CancellationToken stop)
        {
            var genesis = GenesisFile.Load(parsed.GetValue(Genesis)!.FullName);
            var number = parsed.GetValue(Number) ?? await AskAsync(parsed.GetValue(Api), stop);
            var order = SignBy(new ChangeOrder(genesis.Chain.ChainId, number, change, []), genesis, parsed.GetValue(Operators) ?? []);
            var path = parsed.GetValue(Output)!.FullName;
            await File.WriteAllBytesAsync(path, order.Encode(), stop);
            Console.WriteLine($"{path}: {Describe(order, genesis)}");
            return ExitCode.Ok;
        }

        private static async Task<ulong> AskAsync(string? url, CancellationToken stop)
        {
            if (!Uri.TryCreate(url, UriKind.Absolute, out var api)) throw new UserError("the order needs a number", "give --number, or --api with the HTTP address of a validator to ask for it");
            using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(10) };
            try
            {
                using var answer = JsonDocument.Parse(await client.GetStringAsync(new Uri(api, "/validators"), stop));
                return answer.RootElement.GetProperty("next_order").GetUInt64();
            }
            catch (Exception problem) when (problem is HttpRequestException or JsonException or KeyNotFoundException or InvalidOperationException)
            {
                throw new UserError($"{api} does not tell the next order: {problem.Message}", "check the address, or give --number");
            }
        }
    }

    private static ChangeOrder SignBy(ChangeOrder order, Genesis genesis, IEnumerable<FileInfo> keys)
    {
        foreach (var file in keys)
        {
            using var key = ProducerKey.Load(file.FullName);
            var number = genesis.Operators.Keys.IndexOf(key.PublicKey);
            if (number < 0) throw new UserError($"{file} is not the key of an operator of genesis '{genesis.Name}'", "use one of the keys named under operators in genesis.json");
            order = order.SignedBy((ushort)number, key);
        }

        return order;
    }

    private static string Describe(ChangeOrder order, Genesis genesis)
    {
        var what = order.Change switch
        {
            Change.AddValidator c => $"add validator {c.Validator.Name} at {c.Validator.Address} ({c.Validator.ConsensusKey})",
            Change.RemoveValidator c => $"remove validator {c.Name}",
            Change.RotateKeys c => $"new keys for validator {c.Validator.Name} ({c.Validator.ConsensusKey})",
            Change.SetParameters c => $"parameters {JsonSerializer.Serialize(c.Parameters, Json).ReplaceLineEndings(" ")}",
            _ => throw Invariant.Unreachable(order.Change),
        };
        var missing = genesis.Operators.Threshold - order.Signatures.Length;
        return $"order {order.Number}: {what}; {order.Signatures.Length} of {genesis.Operators.Threshold} signatures" + (missing > 0 ? $", {missing} missing" : "");
    }

    private static ChangeOrder Read(FileInfo file)
    {
        if (!file.Exists) throw new UserError($"{file} does not exist", "give the file one of the propose verbs has written");
        if (file.Length > OrderBytesMax || !ChangeOrder.TryDecode(File.ReadAllBytes(file.FullName), out var order))
            throw new UserError($"{file} is not an order", "give the file one of the propose verbs has written");
        return order;
    }

    // ---- Verbs ------------------------------------------------------------------------------------------------

    private static Command Prepare()
    {
        var home = new Option<DirectoryInfo>("--home") { Description = "Home directory to make.", Required = true };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var name = new Option<string>("--name") { Description = "Name of the new validator.", Required = true };
        var address = new Option<string>("--address") { Description = "Where the others will reach it (host:port); it listens there.", Required = true };
        var api = new Option<string>("--api-listen") { Description = "Where its HTTP API listens.", DefaultValueFactory = _ => "127.0.0.1:0" };
        var number = new Option<int>("--node-id") { Description = "NODE_ID of the new validator: distinct per validator, it names its Kafka consumer group.", Required = true };
        var command = new Command("prepare", "Make the home of a validator that is to join, and the file the operators need of it.") { home, genesis, name, address, api, number };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(home)!.FullName;
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            using var identity = Identity.Create(Path.Combine(directory, Identity.FileName));
            File.Copy(parsed.GetValue(genesis)!.FullName, Path.Combine(directory, "genesis.json"), overwrite: true);
            var peers = chain.Chain.Validators.Members.Select(m => m.Address).Where(a => a.Length > 0);
            Testnet.WriteConfig(directory, parsed.GetValue(number), parsed.GetValue(address)!, peers, parsed.GetValue(api)!, null);
            var v = identity.ToValidator(parsed.GetValue(name)!, parsed.GetValue(address)!);
            var path = Path.Combine(directory, "validator.json");
            File.WriteAllText(path, JsonSerializer.Serialize(
                new ValidatorFile(v.Name, v.Address, v.ConsensusKey.ToString(), v.ControlKey.ToString(), v.CosignerKey.ToString(), v.LogKey.ToString()), Json) + "\n");
            Console.WriteLine($"{path}: give this to the operators, and start the validator; it joins when their order is in force");
            return ExitCode.Ok;
        });
        return command;
    }

    private static Command ProposeAdd()
    {
        var options = new OrderOptions();
        var validator = new Option<FileInfo>("--validator") { Description = "validator.json of the newcomer.", Required = true };
        var command = new Command("propose-add", "Write an order that adds a validator.") { validator };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.AddValidator(ReadValidator(parsed.GetValue(validator)!)), stop));
        return command;
    }

    private static Validator ReadValidator(FileInfo file)
    {
        ValidatorFile? entry;
        try
        {
            entry = JsonSerializer.Deserialize<ValidatorFile>(File.ReadAllBytes(file.FullName), Json);
        }
        catch (Exception problem) when (problem is JsonException or IOException)
        {
            throw new UserError($"{file} cannot be read: {problem.Message}", "give the validator.json that 'cybermesh validators prepare' has written");
        }

        if (entry?.Name is null || entry.Address is null) throw new UserError($"{file} lacks name or address", "give the validator.json that 'cybermesh validators prepare' has written");
        return new Validator(entry.Name, Key(entry.ConsensusKey), Key(entry.ControlKey), Key(entry.CosignerKey), Key(entry.LogKey), entry.Address);

        PublicKey Key(string? hex) => PublicKey.TryParse(hex, out var key) ? key : throw new UserError($"{file} has a key that is not 64 hex digits", "ask for the file again");
    }

    private static Command ProposeRemove()
    {
        var options = new OrderOptions();
        var name = new Option<string>("--name") { Description = "The validator to remove.", Required = true };
        var command = new Command("propose-remove", "Write an order that removes a validator.") { name };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.RemoveValidator(parsed.GetValue(name)!), stop));
        return command;
    }

    private static Command RotateKey()
    {
        var options = new OrderOptions();
        var home = new Option<DirectoryInfo>("--home") { Description = "Home directory of the validator; it may be running.", Required = true };
        var name = new Option<string>("--name") { Description = "Its name.", Required = true };
        var address = new Option<string>("--address") { Description = "Where the others reach it (host:port).", Required = true };
        var command = new Command("rotate-key", "Make new keys for a validator and write the order that puts them in force.") { home, name, address };
        options.AddTo(command);
        command.SetAction((parsed, stop) =>
        {
            var path = Path.Combine(parsed.GetValue(home)!.FullName, Keyring.NextFileName);
            // An order that did not come into force is written again for the same new keys.
            using var next = File.Exists(path) ? Identity.Load(path) : Identity.Create(path);
            return options.WriteAsync(parsed, new Change.RotateKeys(next.ToValidator(parsed.GetValue(name)!, parsed.GetValue(address)!)), stop);
        });
        return command;
    }

    private static Command ProposeParameters()
    {
        var options = new OrderOptions();
        var file = new Option<FileInfo>("--parameters") { Description = "JSON file with the parameters that differ from those of genesis.", Required = true };
        var command = new Command("propose-parameters", "Write an order that changes chain parameters.") { file };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.SetParameters(ReadParameters(parsed.GetValue(file)!, GenesisFile.Load(parsed.GetValue(options.Genesis)!.FullName))), stop));
        return command;
    }

    private static ChainParameters ReadParameters(FileInfo file, Genesis genesis)
    {
        try
        {
            // What the file leaves out is as in genesis.
            var values = JsonSerializer.SerializeToNode(genesis.Parameters, Json)!.AsObject();
            using var given = JsonDocument.Parse(File.ReadAllBytes(file.FullName));
            foreach (var property in given.RootElement.EnumerateObject()) values[property.Name] = JsonSerializer.SerializeToNode(property.Value);
            var parameters = values.Deserialize<ChainParameters>(Json)!;
            return parameters.Problem() is { } problem ? throw new UserError(problem, "correct the file") : parameters;
        }
        catch (Exception problem) when (problem is JsonException or IOException or InvalidOperationException)
        {
            throw new UserError($"{file} cannot be read: {problem.Message}", "write an object such as {\"batch_delay_ms\": 10}; the names stand in docs/protocol.md");
        }
    }

    private static Command Sign()
    {
        var order = new Argument<FileInfo>("order") { Description = "The order; the signature is added to it." };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var operators = new Option<FileInfo[]>("--operator") { Description = "Key file of an operator.", Required = true };
        var command = new Command("sign", "Add an operator's signature to an order.") { order, genesis, operators };
        command.SetAction(parsed =>
        {
            var file = parsed.GetValue(order)!;
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            var signed = SignBy(ForChain(Read(file), chain), chain, parsed.GetValue(operators)!);
            File.WriteAllBytes(file.FullName, signed.Encode());
            Console.WriteLine(Describe(signed, chain));
            return ExitCode.Ok;
        });
        return command;
    }

    private static ChangeOrder ForChain(ChangeOrder order, Genesis genesis) => order.ChainId == genesis.Chain.ChainId
        ? order
        : throw new UserError($"the order is for another chain than genesis '{genesis.Name}'", "use the genesis the order was written with");

    private static Command Show()
    {
        var order = new Argument<FileInfo>("order") { Description = "The order." };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var command = new Command("show", "Say what an order does and whether enough operators signed it; exit code 5 when not.") { order, genesis };
        command.SetAction(parsed =>
        {
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            var read = ForChain(Read(parsed.GetValue(order)!), chain);
            Console.WriteLine(Describe(read, chain));
            return read.Verify(chain.Operators, new Ed25519Verifier()) ? ExitCode.Ok : ExitCode.VerificationFailed;
        });
        return command;
    }

    private static Command Submit()
    {
        var order = new Argument<FileInfo>("order") { Description = "The order, signed by enough operators." };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var brokers = new Option<string>("--brokers") { Description = "Kafka brokers (host:port,…).", Required = true };
        var topic = new Option<string>("--topic") { Description = "Topic for orders.", DefaultValueFactory = _ => "control.orders.v1" };
        var command = new Command("submit", "Publish an order; every validator checks it again.") { order, genesis, brokers, topic };
        command.SetAction(async (parsed, stop) =>
        {
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            var read = ForChain(Read(parsed.GetValue(order)!), chain);
            if (!read.Verify(chain.Operators, new Ed25519Verifier()))
                throw new UserError($"the validators would refuse it: {Describe(read, chain)}", "add signatures with 'cybermesh validators sign'");
            using var producer = KafkaClients.Producer(parsed.GetValue(brokers)!, "cybermesh-operator", _ => { });
            try
            {
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
                limit.CancelAfter(TimeSpan.FromSeconds(30));
                await producer.ProduceAsync(parsed.GetValue(topic)!, new Message<byte[]?, byte[]?> { Value = read.Encode() }, limit.Token);
            }
            catch (Exception problem) when (problem is KafkaException or OperationCanceledException)
            {
                await Console.Error.WriteLineAsync($"error: Kafka did not take the order: {problem.Message}");
                return ExitCode.Connection;
            }

            Console.WriteLine($"submitted {Describe(read, chain)}");
            return ExitCode.Ok;
        });
        return command;
    }
}
