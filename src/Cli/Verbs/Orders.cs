using System;
using System.Collections.Generic;
using System.CommandLine;
using System.IO;
using System.Net.Http;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What every verb that writes an order asks for.</summary>
internal sealed class OrderOptions
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
        var order = Orders.SignBy(new ChangeOrder(genesis.Chain.ChainId, number, change, []), genesis, parsed.GetValue(Operators) ?? []);
        var path = parsed.GetValue(Output)!.FullName;
        await File.WriteAllBytesAsync(path, order.Encode(), stop);
        Console.WriteLine($"{path}: {Orders.Describe(order, genesis)}");
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

/// <summary>Orders of the operators: written by one, signed by the others, submitted by anyone.</summary>
internal static class Orders
{
    private const int OrderBytesMax = 64 * 1024;

    internal static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        WriteIndented = true,
        Converters = { new NeverBlockConverter() },
    };

    public static Command Create() => new("orders", "Sign, read and submit orders of the operators.") { Sign(), Show(), Submit() };

    internal static ChangeOrder SignBy(ChangeOrder order, Genesis genesis, IEnumerable<FileInfo> keys)
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

    internal static string Describe(ChangeOrder order, Genesis genesis)
    {
        var what = order.Change switch
        {
            Change.AddValidator c => $"add validator {c.Validator.Name} at {c.Validator.Address} ({c.Validator.ConsensusKey})",
            Change.RemoveValidator c => $"remove validator {c.Name}",
            Change.RotateKeys c => $"new keys for validator {c.Validator.Name} ({c.Validator.ConsensusKey})",
            Change.PutProducer c => $"trust {c.Producer.Name} of {c.Producer.Organisation} ({c.Producer.Key}) with {string.Join(", ", c.Producer.Kinds.Names())}",
            Change.RotateProducer c => $"new key {c.Key} for {c.Name}; the old one works for {c.OverlapBlocks} blocks more",
            Change.RevokeProducer c => $"revoke {c.Name}",
            Change.HaltPolicies { Halted: true } => "end all policies and accept none",
            Change.HaltPolicies => "accept policies again",
            Change.SetParameters c => $"parameters {JsonSerializer.Serialize(c.Parameters, Json).ReplaceLineEndings(" ")}",
            Change.Upgrade c => $"version {c.Version} of the chain's rules",
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

    public static Command Sign()
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

    public static Command Show()
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

    public static Command Submit()
    {
        var order = new Argument<FileInfo>("order") { Description = "The order, signed by enough operators." };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var (url, handIn) = (ValidatorClient.UrlOption(), new HandIn("control.orders.v1", "order"));
        var command = new Command("submit", "Publish an order; every validator checks it again.") { order, genesis, url };
        handIn.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            var read = ForChain(Read(parsed.GetValue(order)!), chain);
            if (!read.Verify(chain.Operators, new Ed25519Verifier()))
                throw new UserError($"the validators would refuse it: {Describe(read, chain)}", "add signatures with 'cybermesh orders sign'");
            await handIn.SendAsync(parsed, parsed.GetValue(url), read.Encode(), stop);
            Console.WriteLine($"submitted {Describe(read, chain)}");
            return ExitCode.Ok;
        });
        return command;
    }
}
