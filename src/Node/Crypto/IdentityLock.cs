using System;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// Encrypts an identity at rest: AES-256-GCM, with a key that is given (ENCRYPTION_KEY) or made of a passphrase by Argon2id (RFC 9106; 64 MiB, three passes). The file is one line:
/// <c>cybermesh-sealed-v1 raw NONCE SEALED</c> or <c>cybermesh-sealed-v1 argon2id SALT NONCE SEALED</c>, in hex; what stands before the nonce is authenticated too.
/// </summary>
public sealed class IdentityLock
{
    private const string Mark = "cybermesh-sealed-v1";
    private const int KeyBytes = 32;
    private const int SaltBytes = 16;
    private const int NonceBytes = 12;
    private const int TagBytes = 16;
    private const int PassphraseCharactersMin = 12;

    private readonly byte[]? _key;
    private readonly string? _passphrase;

    private IdentityLock(byte[]? key, string? passphrase) => (_key, _passphrase) = (key, passphrase);

    /// <exception cref="UserError">It is not 64 hex digits.</exception>
    public static IdentityLock OfKey(string hex)
    {
        var key = new byte[KeyBytes];
        return hex.Length == 2 * KeyBytes && Convert.FromHexString(hex, key, out _, out _) == System.Buffers.OperationStatus.Done
            ? new IdentityLock(key, null)
            : throw new UserError("ENCRYPTION_KEY is not 64 hex digits", "make one with 'openssl rand -hex 32'");
    }

    /// <exception cref="UserError">It is too short to keep anybody out.</exception>
    public static IdentityLock OfPassphrase(string passphrase) => passphrase.Length >= PassphraseCharactersMin
        ? new IdentityLock(null, passphrase)
        : throw new UserError($"the passphrase is shorter than {PassphraseCharactersMin} characters", "take some words at random");

    /// <summary>Whether the content of a file is encrypted.</summary>
    public static bool IsSealed(string text) => text.StartsWith(Mark + " ", StringComparison.Ordinal);

    public string Seal(ReadOnlySpan<byte> seed)
    {
        var salt = RandomNumberGenerator.GetBytes(SaltBytes);
        var head = _key is not null ? $"{Mark} raw" : $"{Mark} argon2id {Convert.ToHexStringLower(salt)}";
        var key = KeyOf(salt);
        var nonce = RandomNumberGenerator.GetBytes(NonceBytes);
        var (content, tag) = (new byte[seed.Length], new byte[TagBytes]);
        using (var cipher = new AesGcm(key, TagBytes)) cipher.Encrypt(nonce, seed, content, tag, Encoding.ASCII.GetBytes(head));
        CryptographicOperations.ZeroMemory(key);
        return $"{head} {Convert.ToHexStringLower(nonce)} {Convert.ToHexStringLower(content)}{Convert.ToHexStringLower(tag)}\n";
    }

    /// <exception cref="UserError">Damaged, or encrypted with something else.</exception>
    public byte[] Open(string text, string path)
    {
        var words = text.Trim().Split(' ');
        var isPassphrase = words is [_, "argon2id", _, _, _];
        if (!isPassphrase && words is not [_, "raw", _, _]) throw new UserError($"{path} is not an encrypted identity of this version", "restore it from a backup");
        if (isPassphrase != _passphrase is not null)
            throw new UserError($"{path} is encrypted with {(isPassphrase ? "a passphrase" : "a key")}", isPassphrase ? "set IDENTITY_PASSPHRASE_FILE" : "set ENCRYPTION_KEY_FILE");
        try
        {
            var salt = isPassphrase ? Convert.FromHexString(words[2]) : [];
            var (nonce, sealedSeed) = (Convert.FromHexString(words[^2]), Convert.FromHexString(words[^1]));
            var seed = new byte[sealedSeed.Length - TagBytes];
            var key = KeyOf(salt);
            using (var cipher = new AesGcm(key, TagBytes)) cipher.Decrypt(nonce, sealedSeed.AsSpan(..^TagBytes), sealedSeed.AsSpan(^TagBytes..), seed, Encoding.ASCII.GetBytes(string.Join(' ', words[..^2])));
            CryptographicOperations.ZeroMemory(key);
            return seed;
        }
        catch (Exception problem) when (problem is FormatException or CryptographicException or ArgumentException or OverflowException)
        {
            throw new UserError($"{path} cannot be decrypted: {(isPassphrase ? "another passphrase" : "another key")}, or the file is damaged", "give what it was encrypted with, or restore it from a backup");
        }
    }

    private byte[] KeyOf(byte[] salt) => _key is not null
        ? (byte[])_key.Clone()
        : PasswordBasedKeyDerivationAlgorithm.Argon2id(new Argon2Parameters { DegreeOfParallelism = 1, MemorySize = 65_536, NumberOfPasses = 3 }).DeriveBytes(_passphrase!, salt, KeyBytes);
}
