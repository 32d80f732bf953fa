using System;
using System.IO;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>Looks who listens at an address of the mesh, without saying who asks: a connection of our own name could end the one our validator has.</summary>
public static class MeshProbe
{
    /// <returns>Null when whoever answers is of none of these keys, or speaks no TLS.</returns>
    /// <exception cref="SocketException">Nobody answers.</exception>
    /// <exception cref="OperationCanceledException">Not in time.</exception>
    public static async Task<ValidatorIndex?> AskAsync(string host, int port, Digest chainId, EpochSchedule epochs, ISignatureVerifier verifier, TimeProvider time, CancellationToken stop)
    {
        using var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync(host, port, stop).ConfigureAwait(false);
        ValidatorIndex? peer = null;
        await using var tls = new SslStream(client.GetStream());
        try
        {
            await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                TargetHost = "cybermesh",
                ApplicationProtocols = [MeshHandshake.Protocol],
                EnabledSslProtocols = SslProtocols.Tls13,
                RemoteCertificateValidationCallback = (_, certificate, _, _) =>
                {
                    if (MeshCertificate.TryIdentify(certificate, chainId, key => epochs.TryIdentify(key, out var index) ? index : null, verifier, time, out var found)) peer = found;
                    return false; // seen enough
                },
            }, stop).ConfigureAwait(false);
        }
        catch (Exception problem) when (problem is AuthenticationException or IOException)
        {
            // our own refusal, or theirs
        }

        return peer;
    }
}
