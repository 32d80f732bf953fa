using System;
using System.IO;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading;

namespace CyberMesh.Node.Api.Access;

/// <summary>The server's certificate, with those between it and the root, and its key, in PEM files. A renewed one is noticed without a restart.</summary>
public sealed class TlsCertificate
{
    private static readonly TimeSpan LookPeriod = TimeSpan.FromSeconds(10);

    private readonly string _certificatePath;
    private readonly string _keyPath;
    private readonly TimeProvider _time;
    private readonly Lock _lock = new();
    private SslStreamCertificateContext _current;
    private (DateTime, DateTime) _written;
    private long _lookedAt;

    /// <exception cref="UserError">The files are missing, unreadable, or do not belong together.</exception>
    public TlsCertificate(string certificatePath, string keyPath, TimeProvider time)
    {
        (_certificatePath, _keyPath, _time) = (certificatePath, keyPath, time);
        (_current, _written) = Load();
        _lookedAt = time.GetTimestamp();
    }

    /// <summary>A pair of files that cannot be used, as in the middle of a renewal, leaves the one before in use.</summary>
    public SslStreamCertificateContext Current
    {
        get
        {
            lock (_lock)
            {
                if (_time.GetElapsedTime(_lookedAt) < LookPeriod) return _current;
                _lookedAt = _time.GetTimestamp();
                try
                {
                    if (Written() != _written) (_current, _written) = Load();
                }
                catch (Exception problem) when (problem is UserError or IOException)
                {
                    // looked at again in a moment
                }

                return _current;
            }
        }
    }

    public DateTime NotAfter => Current.TargetCertificate.NotAfter;

    private (DateTime, DateTime) Written() => (File.GetLastWriteTimeUtc(_certificatePath), File.GetLastWriteTimeUtc(_keyPath));

    private (SslStreamCertificateContext, (DateTime, DateTime)) Load()
    {
        try
        {
            var written = Written();
            using var pair = X509Certificate2.CreateFromPemFile(_certificatePath, _keyPath);
            var chain = new X509Certificate2Collection();
            chain.ImportFromPemFile(_certificatePath);
            // Through PKCS #12, as some platforms serve TLS with no other keys.
            var leaf = X509CertificateLoader.LoadPkcs12(pair.Export(X509ContentType.Pfx), null);
            return (SslStreamCertificateContext.Create(leaf, chain, offline: true), written);
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException or CryptographicException or ArgumentException)
        {
            throw new UserError($"the certificate {_certificatePath} and its key {_keyPath} cannot be used: {problem.Message}", "both must be PEM files, the certificate first in its file, and belong together");
        }
    }
}
