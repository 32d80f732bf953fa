using System;
using System.IO;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>Mutual TLS 1.3, without resumption and renegotiation: each side sees the other's certificate in this very handshake, or there is no connection.</summary>
/// <param name="own">Presented to the peer.</param>
/// <param name="identify">Who presented a certificate; null for whoever has no business here.</param>
internal sealed class MeshHandshake(Func<X509Certificate2> own, Func<X509Certificate?, ValidatorIndex?> identify)
{
    /// <summary>Version 1 of what is spoken inside, as ALPN (RFC 7301): peers that have none in common find out in the handshake.</summary>
    public static readonly SslApplicationProtocol Protocol = new("cybermesh/1");

    /// <exception cref="AuthenticationException">The peer is not one of ours, speaks no TLS 1.3, or another version of our protocol.</exception>
    public async Task<(SslStream, ValidatorIndex)> AcceptAsync(Stream stream, CancellationToken stop)
    {
        ValidatorIndex? peer = null;
        var tls = new SslStream(stream);
        return await FinishAsync(tls, tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
        {
            ServerCertificate = own(),
            ApplicationProtocols = [Protocol],
            ClientCertificateRequired = true,
            EnabledSslProtocols = SslProtocols.Tls13,
            AllowTlsResume = false,
            AllowRenegotiation = false,
            RemoteCertificateValidationCallback = (_, certificate, _, _) => (peer = identify(certificate)) is not null,
        }, stop), () => peer).ConfigureAwait(false);
    }

    /// <exception cref="AuthenticationException">Likewise.</exception>
    public async Task<(SslStream, ValidatorIndex)> DialAsync(Stream stream, CancellationToken stop)
    {
        ValidatorIndex? peer = null;
        var tls = new SslStream(stream);
        return await FinishAsync(tls, tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
        {
            TargetHost = "cybermesh",
            ClientCertificates = [own()],
            ApplicationProtocols = [Protocol],
            EnabledSslProtocols = SslProtocols.Tls13,
            AllowTlsResume = false,
            AllowRenegotiation = false,
            RemoteCertificateValidationCallback = (_, certificate, _, _) => (peer = identify(certificate)) is not null,
        }, stop), () => peer).ConfigureAwait(false);
    }

    private static async Task<(SslStream, ValidatorIndex)> FinishAsync(SslStream tls, Task handshake, Func<ValidatorIndex?> peer)
    {
        try
        {
            await handshake.ConfigureAwait(false);
            if (tls.NegotiatedApplicationProtocol != Protocol) throw new AuthenticationException($"the peer does not speak {Protocol}; programs of different releases?");
            // The callback decides; asked again because the options only request a certificate (testing.md, T3).
            if (tls.SslProtocol == SslProtocols.Tls13 && tls.IsMutuallyAuthenticated && peer() is { } index) return (tls, index);
            throw new AuthenticationException("the peer did not show who it is");
        }
        catch
        {
            await tls.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }
}
