using System;
using System.CommandLine;
using System.IO;
using System.Threading.Tasks;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Signing;

namespace CyberMesh.Cli.Verbs;

/// <summary>The process that has a validator's keys, so that the validator has none.</summary>
internal static class SignerVerb
{
    private const string JournalFile = "signed.log";

    public static Command Create()
    {
        var home = new Option<DirectoryInfo>("--home") { Description = "Directory of the signer: its identity.key, unless a token has the keys, and what it has signed. Not the validator's.", Required = true };
        var socket = new Option<FileInfo>("--socket") { Description = "Unix socket to listen on; the validator's SIGNER_SOCKET. Only its owner may open it.", Required = true };
        var group = new Option<bool>("--open-to-group") { Description = "The group of the socket may open it too: for a validator that runs as another user." };
        var locks = new KeysVerb.LockOptions();
        var module = new Option<FileInfo?>("--pkcs11-module") { Description = "PKCS#11 library of a token that has the keys." };
        var token = new Option<string?>("--pkcs11-token") { Description = "Label of the token." };
        var pin = new Option<FileInfo?>("--pin-file") { Description = "File with the PIN of the token." };
        var label = new Option<string>("--label") { Description = "Keys of the token are LABEL-consensus, LABEL-control, LABEL-cosigner and LABEL-log.", DefaultValueFactory = _ => "cybermesh" };
        var next = new Option<string?>("--next-label") { Description = "Of the keys that are to take their place, during a rotation." };
        var create = new Option<bool>("--create-keys") { Description = "Make the keys that the token does not have yet, show their public halves, and end." };
        var command = new Command("signer", "Sign for one validator that does not have its keys, and refuse whatever contradicts what was signed before.") { home, socket, group, module, token, pin, label, next, create };
        locks.AddTo(command);
        command.Validators.Add(result =>
        {
            var given = (result.GetValue(module) is not null, result.GetValue(token) is not null, result.GetValue(pin) is not null);
            if (given is not ((true, true, true) or (false, false, false))) result.AddError("--pkcs11-module, --pkcs11-token and --pin-file belong together");
            if (result.GetValue(create) && result.GetValue(module) is null) result.AddError("--create-keys is for a token; 'cybermesh genesis join' and 'validators prepare' make identities in files");
        });
        command.SetAction(async (parsed, stop) =>
        {
            await Task.Yield();
            var directory = parsed.GetValue(home)!.FullName;
            if (!Directory.Exists(directory)) throw new UserError($"{directory} does not exist", "make it (mode 700), and move identity.key there");
            using var keys = new Keyring(Identities());
            if (parsed.GetValue(create))
            {
                KeysVerb.Print(keys.Active);
                return ExitCode.Ok;
            }

            using var journal = new SigningJournal(Path.Combine(directory, JournalFile));
            using var server = new SignerServer(keys, journal, parsed.GetValue(socket)!.FullName, parsed.GetValue(group), Console.WriteLine);
            KeysVerb.Print(keys.Active);
            Console.WriteLine($"signer: {parsed.GetValue(socket)!.FullName}");
            await server.RunAsync(stop);
            return ExitCode.Ok;

            IIdentities Identities()
            {
                if (parsed.GetValue(module) is not { } library) return Keyring.InFiles(directory, locks.Present(parsed));
                var secret = System.Text.Encoding.UTF8.GetString(SecretFile.Read(parsed.GetValue(pin)!.FullName, 1024)).TrimEnd('\r', '\n');
                var identities = new TokenIdentities(library.FullName, parsed.GetValue(token)!, secret, parsed.GetValue(label)!, parsed.GetValue(next));
                if (parsed.GetValue(create)) identities.CreateMissing(parsed.GetValue(label)!);
                return identities;
            }
        });
        return command;
    }
}
