using System;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;
using CyberMesh.Cli;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Keys in files: shown, imported, encrypted at rest.</summary>
public sealed class KeyFileTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    private string In(string name) => Path.Combine(_directory.Path, name);

    private string Secret(string name, string content)
    {
        SecretFile.Write(In(name), System.Text.Encoding.UTF8.GetBytes(content));
        return In(name);
    }

    [Theory]
    [InlineData("--key-file", "ENCRYPTION_KEY_FILE")]
    [InlineData("--passphrase-file", "IDENTITY_PASSPHRASE_FILE")]
    public async Task An_identity_is_encrypted_and_opened_with_the_same_secret_alone(string option, string setting)
    {
        var path = In(Identity.FileName);
        string before;
        using (var identity = Identity.Create(path)) before = identity.Consensus.PublicKey.ToString();
        var clear = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        var secret = Secret("secret", option == "--key-file" ? new string('7', 64) : "correct horse battery staple\n");
        var other = Secret("other", option == "--key-file" ? new string('8', 64) : "another horse battery staple\n");

        Assert.Equal(ExitCode.Ok, (await CliProcess.RunAsync("keys", "encrypt", path, option, secret)).Code);
        var text = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        Assert.DoesNotContain(clear.Trim(), text, StringComparison.Ordinal);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        Assert.Contains(before, (await CliProcess.RunAsync("keys", "show", path, option, secret)).Output, StringComparison.Ordinal);

        // As a validator opens it.
        var key = Settings.Load("/nowhere", new Dictionary<string, string> { ["NODE_ID"] = "1", ["KAFKA_BROKERS"] = "b:1", [setting] = secret }).IdentityLock;
        using (var keys = new Keyring(_directory.Path, key)) Assert.Equal(before, keys.Active.Consensus.PublicKey.ToString());
        Assert.Contains("is encrypted", Assert.Throws<UserError>(() => new Keyring(_directory.Path)).Message, StringComparison.Ordinal);
        Assert.Contains("cannot be decrypted", (await CliProcess.RunAsync("keys", "show", path, option, other)).Output, StringComparison.Ordinal);

        // Whatever is changed in the file, it does not open.
        for (var i = 0; i < text.Length - 1; i += option == "--key-file" ? 1 : 37)
        {
            await File.WriteAllTextAsync(path, text[..i] + (text[i] == '0' ? '1' : '0') + text[(i + 1)..], TestContext.Current.CancellationToken);
            Assert.Throws<UserError>(() => Identity.Load(path, key));
        }

        await File.WriteAllTextAsync(path, text, TestContext.Current.CancellationToken);
        Assert.Equal(ExitCode.Failure, (await CliProcess.RunAsync("keys", "encrypt", path, option, secret)).Code);
        Assert.Equal(ExitCode.Ok, (await CliProcess.RunAsync("keys", "decrypt", path, option, secret)).Code);
        Assert.Equal(clear, await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Keys_are_shown_and_imported_and_bad_secrets_are_refused()
    {
        var seed = Secret("seed", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n");
        var (code, output) = await CliProcess.RunAsync("keys", "import", "--seed", seed, "--out", In("imported.pem"));
        Assert.Equal((ExitCode.Ok, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"), (code, output.Trim())); // RFC 8032, 7.1, test 1
        Assert.Equal(output, (await CliProcess.RunAsync("keys", "show", In("imported.pem"))).Output);
        Assert.Contains("exists already", (await CliProcess.RunAsync("keys", "import", "--seed", seed, "--out", In("imported.pem"))).Output, StringComparison.Ordinal);
        Assert.Contains("64 hex digits", (await CliProcess.RunAsync("keys", "import", "--seed", Secret("short", "9d"), "--out", In("x.pem"))).Output, StringComparison.Ordinal);
        Assert.Contains("shorter than 12", Assert.Throws<UserError>(() => IdentityLock.OfPassphrase("short")).Message, StringComparison.Ordinal);
        Assert.Contains("64 hex digits", Assert.Throws<UserError>(() => IdentityLock.OfKey("zz")).Message, StringComparison.Ordinal);
        SettingsRefusal.Expect("ENCRYPTION_KEY is not 64 hex digits", "ENCRYPTION_KEY=secret0");
    }

    public void Dispose() => _directory.Dispose();
}
