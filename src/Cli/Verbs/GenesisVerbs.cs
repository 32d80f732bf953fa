using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>
/// How parties who do not trust one another begin a chain: each makes its own keys and a signed file of what it brings (join), anybody puts these together (create), each reads the
/// result and signs its hash (sign), and everybody sees that all have signed the same (show). No secret leaves its machine.
/// </summary>
internal static class GenesisVerbs
{
    public static Command Create() => new("genesis", "Begin a chain together with others: join, create, sign, show.") { Join(), CreateFile(), Sign(), Show() };

    private static Command Join()
    {
        var home = new Option<DirectoryInfo>("--home") { Description = "Home directory of the validator; made, with its keys, when it is not there.", Required = true };
        var chain = new Option<string>("--chain") { Description = "Name of the chain that is to be; the same for all parties.", Required = true };
        var name = new Option<string>("--name") { Description = "Name of the validator.", Required = true };
        var address = new Option<string>("--address") { Description = "Where the others reach it (host:port).", Required = true };
        var number = new Option<int>("--node-id") { Description = "Its number (NODE_ID), another one for each party.", Required = true };
        var operators = new Option<string[]>("--operator-key") { Description = "Public key of an operator of this party; operators change the set later." };
        var producers = new Option<FileInfo?>("--producers") { Description = "JSON array of producers, analysts and approvers of this party: name, organisation, key, kinds, profiles." };
        var brokers = new Option<string?>("--brokers") { Description = "Kafka brokers to put into config.json." };
        var output = new Option<FileInfo>("--out") { Description = "The file to send to the others.", Required = true };
        var command = new Command("join", "Make keys, and the signed file of what this party brings to genesis.") { home, chain, name, address, number, operators, producers, brokers, output };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(home)!.FullName;
            if (!Node.Mesh.PeerAddress.TryParse(parsed.GetValue(address)!, out _, out var port)) throw new UserError($"--address {parsed.GetValue(address)} is no host:port", "write it like v1.example:8000");
            Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            var path = Path.Combine(directory, Identity.FileName);
            using var identity = File.Exists(path) ? Identity.Load(path) : Identity.Create(path);
            if (!File.Exists(Path.Combine(directory, "config.json")))
                Testnet.WriteConfig(directory, parsed.GetValue(number), port.ToString(CultureInfo.InvariantCulture), [], "127.0.0.1:8443", parsed.GetValue(brokers), advertise: parsed.GetValue(address));
            GenesisJoin.Write(
                parsed.GetValue(output)!.FullName, parsed.GetValue(chain)!, parsed.GetValue(name)!, parsed.GetValue(address)!, identity, (parsed.GetValue(operators) ?? []).Select(KeyOf),
                parsed.GetValue(producers) is { } file ? GenesisFile.ReadProducers(file.FullName) : []);
            Console.WriteLine($"{parsed.GetValue(output)}: {parsed.GetValue(name)} brings consensus key {identity.Consensus.PublicKey}");
            Console.WriteLine("send it to whoever puts genesis together, and tell the others that key over another way");
            return ExitCode.Ok;
        });
        return command;
    }

    private static PublicKey KeyOf(string hex) => PublicKey.TryParse(hex, out var key) ? key : throw new UserError($"{hex} is no public key", "give 64 hex digits, as 'cybermesh keys generate' prints them");

    private static Command CreateFile()
    {
        var joins = new Argument<FileInfo[]>("joins") { Description = "The files of all parties.", Arity = ArgumentArity.OneOrMore };
        var threshold = new Option<int?>("--operators") { Description = "How many operators must sign an order; without it more than half." };
        var parameters = new Option<FileInfo?>("--parameters") { Description = "JSON object of chain parameters that differ from the defaults (docs/protocol.md)." };
        var time = new Option<DateTimeOffset?>("--time") { Description = "The moment of genesis; without it now. With the same files and the same time everybody makes the same genesis." };
        var output = new Option<FileInfo>("--out") { Description = "The genesis file.", Required = true };
        var command = new Command("create", "Put together what the parties bring.") { joins, threshold, parameters, time, output };
        command.SetAction(parsed =>
        {
            var verifier = new Ed25519Verifier();
            var found = parsed.GetValue(joins)!.Select(file => GenesisJoin.Read(file.FullName, verifier)).OrderBy(j => j.Validator.Name, StringComparer.Ordinal).ToList();
            if (found.FirstOrDefault(j => j.Chain != found[0].Chain) is { } other) throw new UserError($"{found[0].Validator.Name} joins chain '{found[0].Chain}' and {other.Validator.Name} chain '{other.Chain}'", "agree on one name and join again");
            var keys = found.SelectMany(j => j.Operators).ToList();
            var operators = keys.Count == 0 ? Operators.None : Operators.From(parsed.GetValue(threshold) ?? (keys.Count / 2) + 1, keys);
            var validators = found.Select(j => j.Validator).ToList();
            var producers = found.SelectMany(j => j.Producers).ToList();
            var chosen = parsed.GetValue(parameters) is { } file ? ValidatorsVerb.ReadParameters(file, new ChainParameters()) : new ChainParameters();
            var problems = Genesis.Problems(validators, producers, chosen, operators);
            if (!problems.IsEmpty) throw new UserError($"what the parties bring does not go together: {string.Join("; ", problems)}", "settle it, and let those concerned join again");
            var moment = DateTimeOffset.FromUnixTimeMilliseconds((parsed.GetValue(time) ?? DateTimeOffset.UtcNow).ToUnixTimeMilliseconds());
            var path = parsed.GetValue(output)!.FullName;
            if (File.Exists(path)) throw new UserError($"{path} exists already", "choose another --out, or remove it if nobody has signed it");
            GenesisFile.Save(path, found[0].Chain, moment, validators, producers, chosen, operators);
            Describe(GenesisFile.Load(path), []);
            Console.WriteLine("send it to all parties; each signs it with 'cybermesh genesis sign'");
            return ExitCode.Ok;
        });
        return command;
    }

    private static Command Sign()
    {
        var genesis = new Argument<FileInfo>("genesis") { Description = "The genesis file." };
        var home = new Option<DirectoryInfo>("--home") { Description = "Home directory of the validator; genesis is put there.", Required = true };
        var output = new Option<FileInfo>("--out") { Description = "The signature, to send to the others.", Required = true };
        var command = new Command("sign", "Find the own validator in a genesis as it was brought, and sign its hash.") { genesis, home, output };
        command.SetAction(parsed =>
        {
            var (path, directory) = (parsed.GetValue(genesis)!.FullName, parsed.GetValue(home)!.FullName);
            var found = GenesisFile.Load(path);
            using var identity = Identity.Load(Path.Combine(directory, Identity.FileName));
            if (!found.Chain.Validators.TryFind(identity.Consensus.PublicKey, out var place)) throw new UserError($"{path} does not name the keys of {directory}", "the parties put another file together: let it be made anew with yours");
            var own = found.Chain.Validators[place];
            if (own != identity.ToValidator(own.Name, own.Address)) throw new UserError($"{path} names {own.Name} with other keys beside its own", "somebody changed what was brought: let it be made anew from the signed files");
            var installed = Path.Combine(directory, "genesis.json");
            if (File.Exists(installed) && GenesisFile.Load(installed).Chain.ChainId != found.Chain.ChainId) throw new UserError($"{installed} is the genesis of another chain", "a validator has one chain: use another --home, or remove that file if nothing needs it");
            if (!File.Exists(installed)) File.Copy(path, installed);
            GenesisSignature.Write(parsed.GetValue(output)!.FullName, found, place, identity);
            Describe(found, [own.Name]);
            return ExitCode.Ok;
        });
        return command;
    }

    private static Command Show()
    {
        var genesis = new Argument<FileInfo>("genesis") { Description = "The genesis file." };
        var signatures = new Option<FileInfo[]>("--signatures") { Description = "What the parties have signed; all of them must have.", AllowMultipleArgumentsPerToken = true };
        var command = new Command("show", "Show a genesis and its hash, and check who has signed it. Exit code 5 when somebody has not.") { genesis, signatures };
        command.SetAction(parsed =>
        {
            var found = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            var given = parsed.GetValue(signatures) ?? [];
            var signed = new HashSet<string>();
            foreach (var file in given)
            {
                try
                {
                    signed.Add(GenesisSignature.Check(file.FullName, found, new Ed25519Verifier()));
                }
                catch (UserError problem)
                {
                    Console.Error.WriteLine("error: " + problem.Message);
                    return ExitCode.VerificationFailed;
                }
            }

            Describe(found, signed);
            return given.Length == 0 || signed.Count == found.Chain.Validators.Count ? ExitCode.Ok : ExitCode.VerificationFailed;
        });
        return command;
    }

    private static void Describe(Genesis genesis, ICollection<string> signed)
    {
        var set = genesis.Chain.Validators;
        Console.WriteLine($"chain      {genesis.Name}, of {DateTimeOffset.FromUnixTimeMilliseconds(genesis.Time.Milliseconds):yyyy-MM-dd'T'HH:mm:ss.fff'Z'}");
        Console.WriteLine($"hash       {genesis.Chain.ChainId}");
        foreach (var v in set.Members) Console.WriteLine($"validator  {v.Name} at {v.Address}, {v.ConsensusKey}{(signed.Contains(v.Name) ? ", has signed" : "")}");
        Console.WriteLine($"quorum     {set.Quorum} of {set.Count}; {Quorum.Faulty(set.Count)} may fail or lie");
        Console.WriteLine(genesis.Operators.Keys.IsEmpty ? "operators  none: the set can never change" : $"operators  {genesis.Operators.Threshold} of {genesis.Operators.Keys.Length} sign an order");
        foreach (var p in genesis.Producers.All) Console.WriteLine($"producer   {p.Name} of {p.Organisation} for {string.Join(", ", p.Kinds.Names())}, {p.Key}");
        foreach (var (name, value) in Differences(genesis.Parameters)) Console.WriteLine($"parameter  {name} = {value}");
        if (signed.Count > 0) Console.WriteLine($"signed by  {signed.Count} of {set.Count}");
    }

    private static IEnumerable<(string Name, string Value)> Differences(ChainParameters parameters)
    {
        var defaults = JsonSerializer.SerializeToNode(new ChainParameters(), Orders.Json)!.AsObject();
        foreach (var (name, value) in JsonSerializer.SerializeToNode(parameters, Orders.Json)!.AsObject())
            if (value?.ToJsonString() is { } text && text != defaults[name]?.ToJsonString())
                yield return (name, text);
    }
}
