using System.Security.Cryptography;
using NSec.Cryptography;

namespace CyberMesh.Node.Crypto;

/// <summary>A producer's signing key: PKCS#8 PEM as OpenSSL writes it, 0600.</summary>
public static class ProducerKey
{
    public static Ed25519Signer Create(string path) => Write(path, RandomNumberGenerator.GetBytes(32));

    /// <summary>A seed that another program has made, as 64 hex digits.</summary>
    /// <exception cref="UserError">Missing, readable by others, or no seed.</exception>
    public static Ed25519Signer Import(string seedPath, string path)
    {
        var text = System.Text.Encoding.ASCII.GetString(SecretFile.Read(seedPath, 4096)).Trim();
        var seed = new byte[32];
        return text.Length == 64 && System.Convert.FromHexString(text, seed, out _, out _) == System.Buffers.OperationStatus.Done
            ? Write(path, seed)
            : throw new UserError($"{seedPath} does not hold 64 hex digits", "write the 32 bytes of the seed in hex");
    }

    /// <summary>Wipes the seed.</summary>
    private static Ed25519Signer Write(string path, byte[] seed)
    {
        using var key = Key.Import(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey, new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport });
        SecretFile.Write(path, key.Export(KeyBlobFormat.PkixPrivateKeyText));
        var signer = new Ed25519Signer(seed);
        CryptographicOperations.ZeroMemory(seed);
        return signer;
    }

    /// <exception cref="UserError">Missing, readable by others, or no Ed25519 key.</exception>
    public static Ed25519Signer Load(string path)
    {
        var parameters = new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport };
        if (!Key.TryImport(SignatureAlgorithm.Ed25519, SecretFile.Read(path, 64 * 1024), KeyBlobFormat.PkixPrivateKeyText, out var key, parameters))
            throw new UserError($"{path} is not an Ed25519 key in PKCS#8 PEM form", "make one with 'cybermesh keys generate --out FILE'");
        using (key)
        {
            var seed = key!.Export(KeyBlobFormat.RawPrivateKey);
            var signer = new Ed25519Signer(seed);
            CryptographicOperations.ZeroMemory(seed);
            return signer;
        }
    }
}
