using System;
using System.CommandLine;
using System.IO;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Cli.Verbs;

internal static class KeysVerb
{
    public static Command Create()
    {
        var output = new Option<FileInfo>("--out") { Description = "File to write (PKCS#8 PEM, mode 0600).", Required = true };
        var generate = new Command("generate", "Make an Ed25519 key for a producer and print its public half.") { output };
        generate.SetAction(parsed =>
        {
            using var key = ProducerKey.Create(parsed.GetValue(output)!.FullName);
            Console.WriteLine(key.PublicKey);
            return ExitCode.Ok;
        });
        return new Command("keys", "Keys of producers.") { generate };
    }
}
