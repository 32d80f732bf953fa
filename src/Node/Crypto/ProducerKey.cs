using System.Security.Cryptography;
using NSec.Cryptography;

namespace CyberMesh.Node.Crypto;

/// <summary>A producer's signing key: PKCS#8 PEM as OpenSSL writes it, 0600.</summary>
public static class ProducerKey
{
    public static Ed25519Signer Create(string path)
    {
        var seed = RandomNumberGenerator.GetBytes(32);
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
