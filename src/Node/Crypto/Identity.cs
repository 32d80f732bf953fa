using System;
using System.Collections.Immutable;
using System.IO;
using System.Security.Cryptography;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// The four keys of one validator, one for each role. Usually they are derived with HKDF-SHA256 under fixed labels from a 32-byte seed in a file only its
/// owner can read, so one file is the whole backup; or they are in a signer's process or a token, and only their public halves are known here.
/// </summary>
public sealed class Identity : IDisposable
{
    public const string FileName = "identity.key";
    private const int SeedBytes = 32;

    /// <summary>Names of the roles, in the order of <see cref="Roles"/>.</summary>
    public static readonly ImmutableArray<string> RoleNames = ["consensus", "control", "cosigner", "log"];

    public const int RoleCount = 4;

    private Identity(ReadOnlySpan<byte> seed)
        : this(Derive(seed, "cybermesh/consensus/v1"), Derive(seed, "cybermesh/control/v1"), Derive(seed, "cybermesh/cosigner/v1"), Derive(seed, "cybermesh/log/v1"))
    {
    }

    private Identity(ISigner consensus, ISigner control, ISigner cosigner, ISigner log) => (Consensus, Control, Cosigner, Log) = (consensus, control, cosigner, log);

    /// <summary>Of keys that are elsewhere, in the order of <see cref="RoleNames"/>.</summary>
    public static Identity Of(Func<int, ISigner> role) => new(role(0), role(1), role(2), role(3));

    public ISigner Consensus { get; }
    public ISigner Control { get; }
    public ISigner Cosigner { get; }
    public ISigner Log { get; }

    public ImmutableArray<ISigner> Roles => [Consensus, Control, Cosigner, Log];

    /// <summary>What a replica signs with; null when the key is another one.</summary>
    public ISigner? Find(PublicKey key)
    {
        foreach (var signer in (ReadOnlySpan<ISigner>)[Consensus, Cosigner, Log])
            if (signer.PublicKey == key)
                return signer;
        return null;
    }

    public Validator ToValidator(string name, string address = "") =>
        new(name, Consensus.PublicKey, Control.PublicKey, Cosigner.PublicKey, Log.PublicKey, address);

    /// <summary>Makes a new identity; refuses to overwrite one.</summary>
    public static Identity Create(string path)
    {
        var seed = RandomNumberGenerator.GetBytes(SeedBytes);
        SecretFile.Write(path, System.Text.Encoding.ASCII.GetBytes(Convert.ToHexStringLower(seed) + "\n"));
        return FromSeed(seed);
    }

    /// <param name="key">Of one that is encrypted.</param>
    /// <exception cref="UserError">Missing, readable by others, not 64 hex digits, or encrypted with something else.</exception>
    public static Identity Load(string path, IdentityLock? key = null) => FromSeed(ReadSeed(path, key));

    private static byte[] ReadSeed(string path, IdentityLock? key)
    {
        var text = System.Text.Encoding.ASCII.GetString(SecretFile.Read(path, 1024)).Trim();
        if (IdentityLock.IsSealed(text))
            return key?.Open(text, path) ?? throw new UserError($"{path} is encrypted", "set ENCRYPTION_KEY_FILE or IDENTITY_PASSPHRASE_FILE to what it was encrypted with");
        if (text.Length != 2 * SeedBytes || !IsHex(text))
            throw new UserError($"{path} is not an identity: it must hold 64 hex digits", "restore it from a backup, or create a new validator with 'cybermesh testnet'");
        return Convert.FromHexString(text);
    }

    /// <summary>Writes the file anew, encrypted, or in the clear with null. The old content is replaced at once or not at all.</summary>
    /// <param name="now">What it is encrypted with at present.</param>
    public static void Reseal(string path, IdentityLock? now, IdentityLock? then)
    {
        var seed = ReadSeed(path, now);
        try
        {
            var text = then?.Seal(seed) ?? Convert.ToHexStringLower(seed) + "\n";
            var next = path + ".new";
            File.Delete(next);
            SecretFile.Write(next, System.Text.Encoding.ASCII.GetBytes(text));
            File.Move(next, path, overwrite: true);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }

    private static bool IsHex(string text)
    {
        foreach (var c in text)
            if (!char.IsAsciiHexDigit(c))
                return false;
        return true;
    }

    private static Identity FromSeed(byte[] seed)
    {
        try
        {
            return new Identity(seed);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }

    private static Ed25519Signer Derive(ReadOnlySpan<byte> seed, string label)
    {
        Span<byte> key = stackalloc byte[SeedBytes];
        HKDF.DeriveKey(HashAlgorithmName.SHA256, seed, key, [], System.Text.Encoding.ASCII.GetBytes(label));
        var signer = new Ed25519Signer(key);
        CryptographicOperations.ZeroMemory(key);
        return signer;
    }

    public void Dispose()
    {
        foreach (var key in Roles) (key as IDisposable)?.Dispose();
    }
}

/// <summary>Files with secrets: created 0600, refused when others may read them.</summary>
public static class SecretFile
{
    public static void Write(string path, ReadOnlySpan<byte> content)
    {
        if (File.Exists(path)) throw new UserError($"{path} exists already", "choose another path; a key is never overwritten");
        try
        {
            using var file = new FileStream(path, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
            file.Write(content);
            // It may take the place of another one, which is gone then.
            file.Flush(flushToDisk: true);
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"cannot write {path}: {problem.Message}", "create the directory first and check its owner");
        }
    }

    public static byte[] Read(string path, int bytesMax)
    {
        if (!File.Exists(path)) throw new UserError($"{path} does not exist", "check the path");
        var mode = File.GetUnixFileMode(path);
        const UnixFileMode others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite;
        if ((mode & others) != 0) throw new UserError($"{path} holds a secret and can be read by other users", $"run: chmod 600 {path}");
        if (new FileInfo(path).Length > bytesMax) throw new UserError($"{path} is too large for a key file", "check the path");
        return File.ReadAllBytes(path);
    }
}
