using System;
using System.CommandLine;
using System.IO;
using System.Linq;
using System.Text.Json;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>
/// Orders that change the validator set, its keys and the parameters. When they are in force: docs/protocol.md, rules S1 to S6.
/// </summary>
internal static class ValidatorsVerb
{
    /// <summary>What a newcomer gives to the operators.</summary>
    private sealed record ValidatorFile(string Name, string Address, string ConsensusKey, string ControlKey, string CosignerKey, string LogKey);

    public static Command Create() => new("validators", "Show the validators, and change the set, keys and parameters of a running network.")
    {
        ListVerbs.Validators(), Prepare(), ProposeAdd(), ProposeRemove(), RotateKey(), ProposeParameters(), ProposeUpgrade(), Orders.Sign(), Orders.Show(), Orders.Submit(),
    };

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
                new ValidatorFile(v.Name, v.Address, v.ConsensusKey.ToString(), v.ControlKey.ToString(), v.CosignerKey.ToString(), v.LogKey.ToString()), Orders.Json) + "\n");
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
            entry = JsonSerializer.Deserialize<ValidatorFile>(File.ReadAllBytes(file.FullName), Orders.Json);
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

    private static Command ProposeUpgrade()
    {
        var options = new OrderOptions();
        var version = new Option<uint>("--version-number") { Description = "The next version of the chain's rules. Every validator needs a program that knows it before the order is in force, two terms later.", Required = true };
        var command = new Command("propose-upgrade", "Write an order that puts new rules for blocks in force.") { version };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.Upgrade(parsed.GetValue(version)), stop));
        return command;
    }

    private static Command ProposeParameters()
    {
        var options = new OrderOptions();
        var file = new Option<FileInfo>("--parameters") { Description = "JSON file with the parameters that differ from those of genesis.", Required = true };
        var command = new Command("propose-parameters", "Write an order that changes chain parameters.") { file };
        options.AddTo(command);
        command.SetAction((parsed, stop) => options.WriteAsync(parsed, new Change.SetParameters(ReadParameters(parsed.GetValue(file)!, GenesisFile.Load(parsed.GetValue(options.Genesis)!.FullName).Parameters)), stop));
        return command;
    }

    /// <param name="others">What the file leaves out.</param>
    internal static ChainParameters ReadParameters(FileInfo file, ChainParameters others)
    {
        try
        {
            var values = JsonSerializer.SerializeToNode(others, Orders.Json)!.AsObject();
            using var given = JsonDocument.Parse(File.ReadAllBytes(file.FullName));
            foreach (var property in given.RootElement.EnumerateObject()) values[property.Name] = JsonSerializer.SerializeToNode(property.Value);
            var parameters = values.Deserialize<ChainParameters>(Orders.Json)!;
            return parameters.Problem() is { } problem ? throw new UserError(problem, "correct the file") : parameters;
        }
        catch (Exception problem) when (problem is JsonException or IOException or InvalidOperationException)
        {
            throw new UserError($"{file} cannot be read: {problem.Message}", "write an object such as {\"batch_delay_ms\": 10}; the names stand in docs/protocol.md");
        }
    }
}
