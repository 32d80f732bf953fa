using System;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using PublicKey = CyberMesh.Core.Primitives.PublicKey;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// The TLS certificate of a validator: a fresh self-signed P-256 key per process start (.NET cannot use Ed25519 for TLS), bound to the
/// validator by a private extension with its consensus key and that key's signature over chain id and TLS key. No certificate authority is involved:
/// who may connect stands in genesis and in the orders of the operators.
/// </summary>
public static class MeshCertificate
{
    /// <summary>A UUID-style arc (ITU-T X.667), nobody else's.</summary>
    public const string BindingOid = "2.25.1839202411.1";

    private const int BindingBytes = PublicKey.Size + Signature.Size;

    public static X509Certificate2 Create(ISigner consensus, Digest chainId, TimeProvider time)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=cybermesh validator", key, HashAlgorithmName.SHA256);
        var binding = new byte[BindingBytes];
        consensus.PublicKey.CopyTo(binding);
        consensus.Sign(BindingMessage(chainId, key.ExportSubjectPublicKeyInfo())).CopyTo(binding.AsSpan(PublicKey.Size));
        request.CertificateExtensions.Add(new X509Extension(BindingOid, binding, critical: false));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(
            [new Oid("1.3.6.1.5.5.7.3.1"), new Oid("1.3.6.1.5.5.7.3.2")], critical: false));
        // The certificate lives as long as the process; the dates only have to hold for peers whose clocks differ.
        var now = time.GetUtcNow();
        return request.CreateSelfSigned(now.AddDays(-2), now.AddYears(2));
    }

    /// <summary>Which validator presented this certificate; false when it is neither of the set nor about to be.</summary>
    public static bool TryIdentify(X509Certificate? certificate, Digest chainId, EpochSchedule epochs, ISignatureVerifier verifier, out ValidatorIndex validator)
    {
        validator = default;
        if (certificate is not X509Certificate2 presented) return false;
        foreach (var extension in presented.Extensions)
        {
            if (extension.Oid?.Value != BindingOid) continue;
            if (extension.RawData.Length != BindingBytes) return false;
            var key = PublicKey.From(extension.RawData.AsSpan(0, PublicKey.Size));
            var signature = Signature.From(extension.RawData.AsSpan(PublicKey.Size));
            return epochs.TryIdentify(key, out validator)
                   && verifier.Verify(key, BindingMessage(chainId, presented.PublicKey.ExportSubjectPublicKeyInfo()), signature);
        }

        return false;
    }

    /// <summary><c>"tls-id.v1\0" ‖ chain id ‖ "\0" ‖ SubjectPublicKeyInfo</c></summary>
    private static byte[] BindingMessage(Digest chainId, byte[] subjectPublicKeyInfo)
    {
        var label = "tls-id.v1\0"u8;
        var message = new byte[label.Length + Digest.Size + 1 + subjectPublicKeyInfo.Length];
        label.CopyTo(message);
        chainId.CopyTo(message.AsSpan(label.Length));
        subjectPublicKeyInfo.CopyTo(message, label.Length + Digest.Size + 1);
        return message;
    }
}
