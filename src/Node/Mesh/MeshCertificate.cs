using System;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
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

    private const string ServerAuthentication = "1.3.6.1.5.5.7.3.1";
    private const string ClientAuthentication = "1.3.6.1.5.5.7.3.2";

    /// <summary>Its key never leaves the process, which makes a new one at half of this.</summary>
    public static readonly TimeSpan Lifetime = TimeSpan.FromDays(90);

    /// <summary>Clocks of validators may differ so much.</summary>
    private static readonly TimeSpan Skew = TimeSpan.FromDays(2);

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
            [new Oid(ServerAuthentication), new Oid(ClientAuthentication)], critical: false));
        var now = time.GetUtcNow();
        return request.CreateSelfSigned(now - Skew, now + Lifetime);
    }

    /// <summary>Who presented this certificate; false when its key has no place, or when it is expired, not valid yet, meant for something else or not P-256.</summary>
    public static bool TryIdentify(X509Certificate? certificate, Digest chainId, Func<PublicKey, ValidatorIndex?> placeOf, ISignatureVerifier verifier, TimeProvider time, out ValidatorIndex peer)
    {
        peer = default;
        try
        {
            if (certificate is not X509Certificate2 presented || !IsSound(presented, time.GetUtcNow())) return false;
            var bindings = presented.Extensions.Where(e => e.Oid?.Value == BindingOid).ToArray();
            if (bindings is not [{ RawData: { Length: BindingBytes } binding }]) return false;
            var key = PublicKey.From(binding.AsSpan(0, PublicKey.Size));
            var signature = Signature.From(binding.AsSpan(PublicKey.Size));
            if (placeOf(key) is not { } place || !verifier.Verify(key, BindingMessage(chainId, presented.PublicKey.ExportSubjectPublicKeyInfo()), signature)) return false;
            peer = place;
            return true;
        }
        catch (CryptographicException)
        {
            // something in it cannot even be read
            return false;
        }
    }

    private static bool IsSound(X509Certificate2 presented, DateTimeOffset now)
    {
        if (now < presented.NotBefore || now > presented.NotAfter) return false;
        var uses = presented.Extensions.OfType<X509EnhancedKeyUsageExtension>().SelectMany(e => e.EnhancedKeyUsages.Cast<Oid>()).Select(o => o.Value).ToArray();
        if (!uses.Contains(ServerAuthentication) || !uses.Contains(ClientAuthentication)) return false;
        using var key = presented.GetECDsaPublicKey();
        return key?.ExportParameters(false).Curve.Oid?.Value == ECCurve.NamedCurves.nistP256.Oid.Value;
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
