using System;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using CyberMesh.Node;
using Npgsql;

namespace CyberMesh.Cli.Chaos;

/// <summary>A PostgreSQL server of our own: a fresh cluster in a directory that goes away, on a free port of the loopback address, with TLS.</summary>
internal sealed class PostgresServer : IDisposable
{
    private const string User = "mesh";
    private readonly string _directory = Directory.CreateTempSubdirectory("cybermesh-pg-").FullName;
    private readonly string? _bin = Directory.Exists("/usr/lib/postgresql")
        ? Directory.GetDirectories("/usr/lib/postgresql").Select(path => Path.Combine(path, "bin")).Where(path => File.Exists(Path.Combine(path, "initdb"))).Max(StringComparer.Ordinal)
        : null;

    private Process? _process;

    /// <exception cref="UserError">PostgreSQL is not installed, or does not start.</exception>
    public PostgresServer()
    {
        if (_bin is null) throw new UserError("PostgreSQL is not installed", "apt-get install postgresql");
        File.WriteAllText(Path.Combine(_directory, "password"), Password);
        WriteCertificates();
        // PostgreSQL does not run as root.
        if (Environment.UserName == "root") Run("chown", "-R", "nobody", _directory);
        Run(Path.Combine(_bin, "initdb"), "-D", Data, "-U", User, "--auth=scram-sha-256", "--pwfile", Path.Combine(_directory, "password"), "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C");
        Port = FreePort();
        Start();
    }

    public static string Password => "s3cret/with@signs";

    public int Port { get; private set; }

    private string Data => Path.Combine(_directory, "data");

    /// <summary>Who signed the server's certificate.</summary>
    public string RootCertificate => Path.Combine(_directory, "root.crt");

    /// <summary>Who did not.</summary>
    public string OtherCertificate => Path.Combine(_directory, "other.crt");

    /// <param name="port">Of a proxy before it.</param>
    public string Url(string parameters = "sslmode=disable", int? port = null) => $"postgresql://{User}:{Uri.EscapeDataString(Password)}@127.0.0.1:{port ?? Port}/postgres?{parameters}";

    /// <summary>As an administrator who works behind our back.</summary>
    public int Execute(string schema, string sql)
    {
        using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder { Host = "127.0.0.1", Port = Port, Username = User, Password = Password, Database = "postgres", SearchPath = schema, Pooling = false }.ToString());
        connection.Open();
        using var command = connection.CreateCommand();
#pragma warning disable CA2100 // of whoever tests with it
        command.CommandText = sql;
#pragma warning restore CA2100
        return command.ExecuteNonQuery();
    }

    public void Start()
    {
        _process = Launch(Path.Combine(_bin!, "postgres"), "-D", Data, "-p", Port.ToString(CultureInfo.InvariantCulture), "-k", _directory, "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300", "-c", "ssl=on",
            "-c", $"ssl_cert_file={_directory}/server.crt", "-c", $"ssl_key_file={_directory}/server.key", "-c", "fsync=off", "-c", "log_min_messages=fatal");
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        var clock = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                Execute("public", "SELECT 1");
                return;
            }
            catch (NpgsqlException) when (clock.Elapsed < TimeSpan.FromSeconds(60) && !_process.HasExited)
            {
                Thread.Sleep(100);
            }
        }
    }

    /// <summary>At once, without saying goodbye to anybody; it recovers from its log at the next start.</summary>
    public void StopImmediately()
    {
        Run(Path.Combine(_bin!, "pg_ctl"), "stop", "-D", Data, "-m", "immediate", "-w");
        _process!.WaitForExit();
    }

    private void WriteCertificates()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=127.0.0.1", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(2));
        File.WriteAllText(Path.Combine(_directory, "server.crt"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(_directory, "server.key"), key.ExportPkcs8PrivateKeyPem());
        File.SetUnixFileMode(Path.Combine(_directory, "server.key"), UnixFileMode.UserRead | UnixFileMode.UserWrite);
        File.WriteAllText(RootCertificate, certificate.ExportCertificatePem());
        using var otherKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var other = new CertificateRequest("CN=127.0.0.1", otherKey, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(2));
        File.WriteAllText(OtherCertificate, other.ExportCertificatePem());
    }

    private static int FreePort()
    {
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    private Process Launch(string program, params string[] arguments)
    {
        var asOther = Environment.UserName == "root" && program.StartsWith('/');
        var start = new ProcessStartInfo(asOther ? "setpriv" : program) { RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = _directory };
        foreach (var argument in asOther ? ["--reuid=nobody", "--clear-groups", program, .. arguments] : arguments) start.ArgumentList.Add(argument);
        start.Environment["LC_ALL"] = "C";
        return Process.Start(start)!;
    }

    private void Run(string program, params string[] arguments)
    {
        using var process = Launch(program, arguments);
        var output = process.StandardOutput.ReadToEndAsync();
        var problem = process.StandardError.ReadToEndAsync();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new UserError($"{program}: {output.Result}{problem.Result}", "look at what it says");
    }

    public void Dispose()
    {
        if (_process is { HasExited: false }) StopImmediately();
        _process?.Dispose();
        Directory.Delete(_directory, recursive: true);
    }
}
