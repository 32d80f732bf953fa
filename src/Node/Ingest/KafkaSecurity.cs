using System;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Confluent.Kafka;

namespace CyberMesh.Node.Ingest;

/// <summary>How to speak to the brokers: TLS, and who we are. Holds secrets, so it prints as nothing.</summary>
public sealed class KafkaSecurity
{
    /// <summary>The settings it is made of (docs/cli.md); every secret also as <c>NAME_FILE</c>.</summary>
    public static readonly string[] Names =
    [
        "KAFKA_TLS_ENABLED", "KAFKA_TLS_CA_FILE", "KAFKA_TLS_CA_PEM", "KAFKA_TLS_CERT_FILE", "KAFKA_TLS_KEY_FILE", "KAFKA_TLS_KEY_PASSWORD", "KAFKA_TLS_KEY_PASSWORD_FILE",
        "KAFKA_SASL_ENABLED", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_SASL_PASSWORD_FILE",
    ];

    private const int SecretBytesMax = 4096;

    private readonly bool _tls;
    private readonly string? _caFile;
    private readonly string? _caPem;
    private readonly string? _certificateFile;
    private readonly string? _keyFile;
    private readonly string? _keyPassword;
    private readonly SaslMechanism? _mechanism;
    private readonly string? _username;
    private readonly string? _password;

    /// <summary>Neither TLS nor SASL.</summary>
    public static KafkaSecurity None { get; } = new(_ => "", []);

    private KafkaSecurity(Func<string, string> value, List<string> problems)
    {
        _tls = IsTrue("KAFKA_TLS_ENABLED");
        _caFile = FileAt("KAFKA_TLS_CA_FILE");
        _caPem = Given("KAFKA_TLS_CA_PEM");
        _certificateFile = FileAt("KAFKA_TLS_CERT_FILE");
        _keyFile = FileAt("KAFKA_TLS_KEY_FILE");
        _keyPassword = Secret("KAFKA_TLS_KEY_PASSWORD");
        if (!_tls)
            foreach (var name in Names)
                if (name.StartsWith("KAFKA_TLS_", StringComparison.Ordinal) && name != "KAFKA_TLS_ENABLED" && Given(name) is not null)
                    problems.Add($"{name} is set, but KAFKA_TLS_ENABLED is not true; enable TLS or remove it");
        if (_caFile is not null && _caPem is not null) problems.Add("KAFKA_TLS_CA_FILE and KAFKA_TLS_CA_PEM are both set; keep one");
        if ((_certificateFile is null) != (_keyFile is null)) problems.Add("KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE belong together; set both or none");
        CheckCertificates(_caFile is not null && File.Exists(_caFile) ? File.ReadAllText(_caFile) : _caPem, _caFile is not null ? "KAFKA_TLS_CA_FILE" : "KAFKA_TLS_CA_PEM");
        if (_certificateFile is not null && File.Exists(_certificateFile)) CheckCertificates(File.ReadAllText(_certificateFile), "KAFKA_TLS_CERT_FILE");

        if (!IsTrue("KAFKA_SASL_ENABLED"))
        {
            foreach (var name in Names)
                if (name.StartsWith("KAFKA_SASL_", StringComparison.Ordinal) && name != "KAFKA_SASL_ENABLED" && Given(name) is not null)
                    problems.Add($"{name} is set, but KAFKA_SASL_ENABLED is not true; enable SASL or remove it");
            return;
        }

        _mechanism = Given("KAFKA_SASL_MECHANISM")?.ToUpperInvariant() switch
        {
            "PLAIN" => SaslMechanism.Plain,
            "SCRAM-SHA-256" => SaslMechanism.ScramSha256,
            "SCRAM-SHA-512" => SaslMechanism.ScramSha512,
            _ => null,
        };
        if (_mechanism is null) problems.Add($"KAFKA_SASL_MECHANISM is '{value("KAFKA_SASL_MECHANISM")}'; it must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512");
        if (_mechanism == SaslMechanism.Plain && !_tls) problems.Add("KAFKA_SASL_MECHANISM is PLAIN without TLS, which shows the password to everybody on the way; set KAFKA_TLS_ENABLED or use SCRAM-SHA-512");
        _username = Given("KAFKA_SASL_USERNAME");
        _password = Secret("KAFKA_SASL_PASSWORD");
        if (_username is null) problems.Add("KAFKA_SASL_ENABLED needs KAFKA_SASL_USERNAME");
        if (_password is null) problems.Add("KAFKA_SASL_ENABLED needs KAFKA_SASL_PASSWORD_FILE (or KAFKA_SASL_PASSWORD)");

        string? Given(string name) => value(name) is { Length: > 0 } given ? given : null;

        bool IsTrue(string name)
        {
            var text = value(name).ToLowerInvariant();
            if (text is not ("true" or "1" or "yes" or "false" or "0" or "no" or "")) problems.Add($"{name} is '{text}'; it must be true or false");
            return text is "true" or "1" or "yes";
        }

        string? FileAt(string name)
        {
            if (Given(name) is not { } path) return null;
            if (!File.Exists(path)) problems.Add($"{name} is '{path}', which does not exist");
            return path;
        }

        string? Secret(string name)
        {
            var (plain, file) = (Given(name), FileAt(name + "_FILE"));
            if (plain is not null && file is not null) problems.Add($"{name} and {name}_FILE are both set; keep one");
            if (file is null || !File.Exists(file)) return plain;
            if (new FileInfo(file).Length > SecretBytesMax) problems.Add($"{name}_FILE is '{file}', which is too large for a password");
            else return File.ReadAllText(file).TrimEnd('\r', '\n') is { Length: > 0 } text ? text : null;
            return null;
        }

        void CheckCertificates(string? pem, string name)
        {
            if (pem is null || !_tls) return;
            try
            {
                var found = new X509Certificate2Collection();
                found.ImportFromPem(pem);
                if (found.Count == 0) problems.Add($"{name} holds no certificate; give PEM text that begins with -----BEGIN CERTIFICATE-----");
            }
            catch (CryptographicException problem)
            {
                problems.Add($"{name} is no certificate in PEM form: {problem.Message}");
            }
        }
    }

    public bool UsesTls => _tls;

    /// <param name="value">The value of a setting; empty when it is not set.</param>
    /// <param name="problems">Contradictions and bad values are added here.</param>
    public static KafkaSecurity Read(Func<string, string> value, List<string> problems) => new(value, problems);

    /// <summary>From the environment, for commands that have no configuration of their own.</summary>
    /// <exception cref="UserError">Something contradicts something else.</exception>
    public static KafkaSecurity FromEnvironment()
    {
        var problems = new List<string>();
        var security = Read(name => Environment.GetEnvironmentVariable(name)?.Trim() ?? "", problems);
        return problems.Count == 0 ? security : throw new UserError(string.Join("; ", problems), "correct the environment and try again");
    }

    public void ApplyTo(ClientConfig config)
    {
        config.SecurityProtocol = (_tls, _mechanism) switch
        {
            (false, null) => SecurityProtocol.Plaintext,
            (true, null) => SecurityProtocol.Ssl,
            (false, _) => SecurityProtocol.SaslPlaintext,
            (true, _) => SecurityProtocol.SaslSsl,
        };
        if (_tls)
        {
            config.SslCaLocation = _caFile;
            config.SslCaPem = _caPem;
            config.SslCertificateLocation = _certificateFile;
            config.SslKeyLocation = _keyFile;
            config.SslKeyPassword = _keyPassword;
            config.SslEndpointIdentificationAlgorithm = SslEndpointIdentificationAlgorithm.Https;
        }

        if (_mechanism is null) return;
        config.SaslMechanism = _mechanism;
        config.SaslUsername = _username;
        config.SaslPassword = _password;
    }
}
