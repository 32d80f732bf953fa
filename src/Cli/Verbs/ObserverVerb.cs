using System;
using System.CommandLine;
using System.IO;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>Homes of nodes without a vote.</summary>
internal static class ObserverVerb
{
    public static Command Create() => new("observer", "A node without a vote: it follows the chain, verifies it and serves the API.") { Prepare() };

    private static Command Prepare()
    {
        var home = new Option<DirectoryInfo>("--home") { Description = "Home directory to make.", Required = true };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis.", Required = true };
        var peers = new Option<string[]>("--peers") { Description = "First addresses of validators (host:port); one that answers is enough.", Required = true, AllowMultipleArgumentsPerToken = true };
        var listen = new Option<string>("--p2p-listen") { Description = "Where it listens for others.", DefaultValueFactory = _ => "127.0.0.1:8000" };
        var api = new Option<string>("--api-listen") { Description = "Where its HTTP API listens.", DefaultValueFactory = _ => "127.0.0.1:8443" };
        var command = new Command("prepare", "Make the home of an observer and print the key that validators name in P2P_OBSERVERS to let it in.") { home, genesis, peers, listen, api };
        command.SetAction(parsed =>
        {
            var directory = parsed.GetValue(home)!.FullName;
            GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            using var identity = Identity.Create(Path.Combine(directory, Identity.FileName));
            File.Copy(parsed.GetValue(genesis)!.FullName, Path.Combine(directory, "genesis.json"), overwrite: true);
            Testnet.WriteConfig(directory, 1, parsed.GetValue(listen)!, parsed.GetValue(peers)!, parsed.GetValue(api)!, null, isObserver: true);
            Console.WriteLine(identity.Consensus.PublicKey);
            return ExitCode.Ok;
        });
        return command;
    }
}
