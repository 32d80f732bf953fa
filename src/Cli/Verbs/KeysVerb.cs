using System;
using System.CommandLine;
using System.IO;
using System.Linq;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Cli.Verbs;

/// <summary>Keys: of producers, analysts, approvers and operators (one file each), and the identities of validators.</summary>
internal static class KeysVerb
{
    public static Command Create() => new("keys", "Make, show, import and encrypt keys. 'validators rotate-key' and 'producers rotate' put new ones in force.")
    {
        Generate(), Show(), Import(), Encrypt(), Decrypt(),
    };

    private static Option<FileInfo> Output() => new("--out") { Description = "File to write (PKCS#8 PEM, mode 0600).", Required = true };

    private static Command Generate()
    {
        var output = Output();
        var generate = new Command("generate", "Make an Ed25519 key for a producer, an analyst, an approver or an operator, and print its public half.") { output };
        generate.SetAction(parsed =>
        {
            using var key = ProducerKey.Create(parsed.GetValue(output)!.FullName);
            Console.WriteLine(key.PublicKey);
            return ExitCode.Ok;
        });
        return generate;
    }

    private static Command Show()
    {
        var file = new Argument<FileInfo>("file") { Description = "A key file, or identity.key of a validator." };
        var locks = new LockOptions();
        var command = new Command("show", "Show the public half of a key, or the public keys of an identity.") { file };
        locks.AddTo(command);
        command.SetAction(parsed =>
        {
            var path = parsed.GetValue(file)!.FullName;
            if (!File.Exists(path)) throw new UserError($"{path} does not exist", "check the path");
            if (File.ReadAllText(path).StartsWith("-----BEGIN", StringComparison.Ordinal))
            {
                using var key = ProducerKey.Load(path);
                Console.WriteLine(key.PublicKey);
                return ExitCode.Ok;
            }

            using var identity = Identity.Load(path, locks.Present(parsed));
            Print(identity);
            return ExitCode.Ok;
        });
        return command;
    }

    internal static void Print(Identity identity)
    {
        foreach (var (role, key) in Identity.RoleNames.Zip(identity.Roles)) Console.WriteLine($"{role,-9}  {key.PublicKey}");
    }

    private static Command Import()
    {
        var (input, output) = (new Option<FileInfo>("--seed") { Description = "File with the 32 bytes of an Ed25519 seed, as 64 hex digits.", Required = true }, Output());
        var command = new Command("import", "Write a key that another program has made as a key file of this one, and print its public half.") { input, output };
        command.SetAction(parsed =>
        {
            using var key = ProducerKey.Import(parsed.GetValue(input)!.FullName, parsed.GetValue(output)!.FullName);
            Console.WriteLine(key.PublicKey);
            return ExitCode.Ok;
        });
        return command;
    }

    private static Command Encrypt()
    {
        var file = new Argument<FileInfo>("file") { Description = "identity.key of a validator." };
        var locks = new LockOptions();
        var command = new Command("encrypt", "Encrypt an identity at rest. The validator then needs the same ENCRYPTION_KEY_FILE or IDENTITY_PASSPHRASE_FILE at its start.") { file };
        locks.AddTo(command);
        command.SetAction(parsed =>
        {
            var path = parsed.GetValue(file)!.FullName;
            var key = locks.Present(parsed) ?? throw new UserError("it is not said what to encrypt with", "give --passphrase-file or --key-file ('openssl rand -hex 32' makes a key)");
            Identity.Reseal(path, null, key);
            using var _ = Identity.Load(path, key);
            Console.WriteLine($"{path} is encrypted; keep the {(locks.IsPassphrase(parsed) ? "passphrase" : "key")} elsewhere than the backup of the file");
            return ExitCode.Ok;
        });
        return command;
    }

    private static Command Decrypt()
    {
        var file = new Argument<FileInfo>("file") { Description = "identity.key of a validator." };
        var locks = new LockOptions();
        var command = new Command("decrypt", "Write an identity in the clear again.") { file };
        locks.AddTo(command);
        command.SetAction(parsed =>
        {
            Identity.Reseal(parsed.GetValue(file)!.FullName, locks.Present(parsed), null);
            Console.WriteLine($"{parsed.GetValue(file)} is in the clear");
            return ExitCode.Ok;
        });
        return command;
    }

    /// <summary>What an identity is encrypted with.</summary>
    internal sealed class LockOptions
    {
        private readonly Option<FileInfo?> _passphrase = new("--passphrase-file") { Description = "File with the passphrase." };
        private readonly Option<FileInfo?> _key = new("--key-file") { Description = "File with 64 hex digits, as ENCRYPTION_KEY_FILE names it." };

        public void AddTo(Command command)
        {
            command.Add(_passphrase);
            command.Add(_key);
        }

        public bool IsPassphrase(ParseResult parsed) => parsed.GetValue(_passphrase) is not null;

        public IdentityLock? Present(ParseResult parsed) => (parsed.GetValue(_passphrase), parsed.GetValue(_key)) switch
        {
            (null, null) => null,
            ({ } file, null) => IdentityLock.OfPassphrase(Text(file)),
            (null, { } file) => IdentityLock.OfKey(Text(file)),
            _ => throw new UserError("--passphrase-file and --key-file are both given", "keep one"),
        };

        private static string Text(FileInfo file) => System.Text.Encoding.UTF8.GetString(SecretFile.Read(file.FullName, 4096)).TrimEnd('\r', '\n');
    }
}
