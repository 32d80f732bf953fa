using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Diagnostics;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using Microsoft.Data.Sqlite;

namespace CyberMesh.Cli.Bench;

/// <summary>What no design can go below on this machine at this moment; measured in the run whose results are compared with it.</summary>
/// <param name="FsyncMs">Median time to make 4 KiB durable.</param>
/// <param name="HopMs">Half of the median round trip of 300 bytes over TLS on loopback.</param>
/// <param name="VerifyMicroseconds">One signature check of a known key on one core, in batches of 64.</param>
internal sealed record Floors(double FsyncMs, double HopMs, double VerifyMicroseconds)
{
    private const int Fsyncs = 100;
    private const int RoundTrips = 500;
    private const int FrameBytes = 300;
    private static readonly TimeSpan WarmUp = TimeSpan.FromMilliseconds(500);

    public static async Task<Floors> MeasureAsync(string directory) => new(Fsync(directory), await HopAsync(), Verification(new KnownKeyVerifier(new Ed25519Verifier())));

    private static double Fsync(string directory)
    {
        var path = Path.Combine(directory, "fsync.db");
        using var database = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Pooling = false }.ToString());
        database.Open();
        Execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (b BLOB)");
        var times = new double[Fsyncs];
        for (var i = 0; i < Fsyncs; i++)
        {
            var begun = Stopwatch.GetTimestamp();
            Execute("INSERT INTO t VALUES (zeroblob(3000))");
            times[i] = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
        }

        return times.Order().ElementAt(Fsyncs / 2);

        void Execute(string sql)
        {
            using var command = database.CreateCommand();
#pragma warning disable CA2100 // constants above
            command.CommandText = sql;
#pragma warning restore CA2100
            command.ExecuteNonQuery();
        }
    }

    private static async Task<double> HopAsync()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = new CertificateRequest("CN=bench", key, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var client = new TcpClient { NoDelay = true };
        var connecting = client.ConnectAsync((IPEndPoint)listener.LocalEndpoint);
        using var server = await listener.AcceptTcpClientAsync();
        await connecting;
        server.NoDelay = true;
        using var there = new SslStream(server.GetStream());
        using var here = new SslStream(client.GetStream());
        var accepting = there.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = certificate, EnabledSslProtocols = SslProtocols.Tls13 });
        // The other end is ours.
        await here.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = "bench", EnabledSslProtocols = SslProtocols.Tls13, RemoteCertificateValidationCallback = (_, presented, _, _) => presented!.Equals(certificate) });
        await accepting;
        var echo = Task.Run(async () =>
        {
            var frame = new byte[FrameBytes];
            for (var i = 0; i < RoundTrips; i++)
            {
                await there.ReadExactlyAsync(frame);
                await there.WriteAsync(frame);
            }
        });
        var (sent, times) = (new byte[FrameBytes], new double[RoundTrips]);
        for (var i = 0; i < RoundTrips; i++)
        {
            var begun = Stopwatch.GetTimestamp();
            await here.WriteAsync(sent);
            await here.ReadExactlyAsync(sent);
            times[i] = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
        }

        await echo;
        return times.Order().ElementAt(RoundTrips / 2) / 2;
    }

    /// <summary>Microseconds for one signature of a batch of 64, by one key.</summary>
    public static double Verification(ISignatureVerifier verifier)
    {
        using var key = new Ed25519Signer(RandomNumberGenerator.GetBytes(32));
        var message = new byte[93];
        SignatureCheck[] batch = [.. Enumerable.Repeat(new SignatureCheck(key.PublicKey, message, key.Sign(message)), 64)];
        var verdicts = new bool[batch.Length];
        const int count = 100;
        // Until everything is compiled, which is done beside this and takes its time.
        for (var begun = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(begun) < WarmUp;) verifier.Verify(batch, verdicts);
        var times = new double[count];
        for (var i = 0; i < count; i++)
        {
            var begun = Stopwatch.GetTimestamp();
            verifier.Verify(batch, verdicts);
            times[i] = Stopwatch.GetElapsedTime(begun).TotalMicroseconds / batch.Length;
        }

        return times.Order().ElementAt(count / 2);
    }
}
