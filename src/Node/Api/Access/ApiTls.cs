using System;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;

namespace CyberMesh.Node.Api.Access;

/// <summary>TLS of the HTTP API, with client certificates for whoever has one.</summary>
internal static class ApiTls
{
    private const string ClientAuthentication = "1.3.6.1.5.5.7.3.2";

    public static void Use(ListenOptions options, ApiAccess access)
    {
        if (access.Certificate is not { } certificate) return;
        options.UseHttps(new TlsHandshakeCallbackOptions
        {
            HandshakeTimeout = TimeSpan.FromSeconds(10),
            OnConnection = _ => ValueTask.FromResult(new SslServerAuthenticationOptions
            {
                ServerCertificateContext = certificate.Current,
                EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
                // Optional: a client without one may have a token. One that is shown must be good.
                ClientCertificateRequired = access.ClientAuthorities is not null,
                RemoteCertificateValidationCallback = (_, shown, _, _) => shown is null || (access.ClientAuthorities is { } authorities && IsOf(authorities, (X509Certificate2)shown)),
            }),
        });
    }

    private static bool IsOf(X509Certificate2Collection authorities, X509Certificate2 certificate)
    {
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(authorities);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck; // a certificate is withdrawn by taking its name out of API_CLIENT_ROLES
        chain.ChainPolicy.ApplicationPolicy.Add(new Oid(ClientAuthentication));
        return chain.Build(certificate);
    }
}
