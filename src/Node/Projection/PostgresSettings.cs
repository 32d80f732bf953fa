using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using Npgsql;

namespace CyberMesh.Node.Projection;

/// <summary>How to reach the database server: a URL as libpq reads it, and the limits of the pool. Holds a password, so it prints as nothing.</summary>
public sealed partial class PostgresSettings
{
    private const int StatementTimeoutMs = 30_000;

    /// <summary>A validator that hangs in the middle of a transaction keeps others who share the database waiting no longer than this.</summary>
    private const int IdleInTransactionMs = 15_000;

    private readonly NpgsqlConnectionStringBuilder _connection;

    private PostgresSettings(NpgsqlConnectionStringBuilder connection, string schema)
    {
        _connection = connection;
        Schema = schema;
    }

    public string Schema { get; }

    [GeneratedRegex("^[a-z_][a-z0-9_]{0,62}$")]
    private static partial Regex SchemaName();

    internal NpgsqlConnectionStringBuilder Connection(string applicationName) => new(_connection.ConnectionString) { ApplicationName = applicationName };

    /// <param name="url"><c>postgresql://user:password@host:port,host:port/database?sslmode=…</c></param>
    /// <param name="tls">Asked for beside the URL.</param>
    /// <param name="mustVerify">An unverified server is a problem: this is not a development environment.</param>
    /// <param name="problems">What is wrong, each with its fix; the password is in none of them.</param>
    /// <returns>Null when there are problems.</returns>
    public static PostgresSettings? Read(string url, string schema, int maxOpen, int maxIdle, TimeSpan maxLifetime, TimeSpan connectTimeout, bool tls, bool mustVerify, List<string> problems)
    {
        var known = problems.Count;
        if (!SchemaName().IsMatch(schema)) problems.Add($"DB_SCHEMA is '{schema}'; it must be 1 to 63 lower-case letters, digits and _, not beginning with a digit");
        if (maxIdle > maxOpen) problems.Add($"DB_MAX_IDLE is {maxIdle} and DB_MAX_OPEN is {maxOpen}; no more can be idle than open");
        var builder = new NpgsqlConnectionStringBuilder
        {
            SearchPath = schema,
            MaxPoolSize = maxOpen,
            MinPoolSize = Math.Min(maxIdle, maxOpen),
            ConnectionLifetime = (int)maxLifetime.TotalSeconds,
            Timeout = Math.Max(1, (int)connectTimeout.TotalSeconds),
            CommandTimeout = (StatementTimeoutMs / 1000) + 5,
            CancellationTimeout = 2000,
            MaxAutoPrepare = 64,
            IncludeErrorDetail = false,
            Options = $"-c statement_timeout={StatementTimeoutMs} -c idle_in_transaction_session_timeout={IdleInTransactionMs}",
        };
        ReadUrl(url, builder, tls, mustVerify, problems);
        return problems.Count == known ? new PostgresSettings(builder, schema) : null;
    }

    private static void ReadUrl(string url, NpgsqlConnectionStringBuilder builder, bool tls, bool mustVerify, List<string> problems)
    {
        var scheme = url.IndexOf("://", StringComparison.Ordinal);
        if (scheme < 0 || url[..scheme] is not ("postgresql" or "postgres"))
        {
            problems.Add("DB_DSN must begin with postgresql:// (postgresql://user:password@host:port/database?sslmode=verify-full)");
            return;
        }

        var rest = url[(scheme + 3)..];
        var question = rest.IndexOf('?', StringComparison.Ordinal);
        var (place, query) = question < 0 ? (rest, "") : (rest[..question], rest[(question + 1)..]);
        var slash = place.IndexOf('/', StringComparison.Ordinal);
        var (authority, database) = slash < 0 ? (place, "") : (place[..slash], Uri.UnescapeDataString(place[(slash + 1)..]));
        var at = authority.LastIndexOf('@');
        if (at >= 0)
        {
            var user = authority[..at].Split(':', 2);
            builder.Username = Uri.UnescapeDataString(user[0]);
            if (user.Length == 2) builder.Password = Uri.UnescapeDataString(user[1]);
        }

        if (string.IsNullOrEmpty(builder.Username)) problems.Add("DB_DSN names no user (postgresql://USER:password@host/database)");
        if (database.Length == 0) problems.Add("DB_DSN names no database (postgresql://user:password@host/DATABASE)");
        builder.Database = database;
        var hosts = authority[(at + 1)..].Split(',', StringSplitOptions.RemoveEmptyEntries);
        if (hosts.Length == 0) problems.Add("DB_DSN names no host (postgresql://user:password@HOST:port/database)");
        foreach (var host in hosts)
        {
            var colon = host.LastIndexOf(':');
            if (colon > host.LastIndexOf(']') && !(ushort.TryParse(host[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port > 0))
                problems.Add($"DB_DSN has the host '{host}'; a port is a number from 1 to 65535");
        }

        // With several hosts Npgsql takes the port with each of them.
        builder.Host = string.Join(',', hosts.Select(h => h.LastIndexOf(':') > h.LastIndexOf(']') ? h : h + ":5432"));
        if (hosts.Length == 1 && hosts[0].LastIndexOf(':') is var single && single > hosts[0].LastIndexOf(']') && ushort.TryParse(hosts[0][(single + 1)..], out var one) && one > 0)
            (builder.Host, builder.Port) = (hosts[0][..single].Trim('[', ']'), one);
        else if (hosts.Length == 1) builder.Host = hosts[0].Trim('[', ']');

        string? mode = null, root = null;
        foreach (var pair in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            var (name, value) = equals < 0 ? (pair, "") : (pair[..equals], Uri.UnescapeDataString(pair[(equals + 1)..]));
            switch (name)
            {
                case "sslmode":
                    mode = value;
                    break;
                case "sslrootcert":
                    root = FileAt(name, value);
                    break;
                case "sslcert":
                    builder.SslCertificate = FileAt(name, value);
                    break;
                case "sslkey":
                    builder.SslKey = FileAt(name, value);
                    break;
                case "sslpassword":
                    builder.SslPassword = value;
                    break;
                case "connect_timeout" when int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds is > 0 and <= 1024:
                    builder.Timeout = seconds;
                    break;
                case "options":
                    builder.Options += " " + value;
                    break;
                case "application_name":
                    break; // our own tells which validator it is
                case "target_session_attrs" when value is "any" or "read-write":
                    break; // Npgsql takes the first host that answers; a standby refuses to be written
                default:
                    problems.Add($"DB_DSN has {name}={(name.Contains("pass", StringComparison.Ordinal) ? "…" : value)}, which is not supported; known are sslmode, sslrootcert, sslcert, sslkey, sslpassword, connect_timeout, options, application_name");
                    break;
            }
        }

        SetTls(builder, mode, root, tls, problems);
        if (mustVerify && builder.SslMode is not (SslMode.VerifyCA or SslMode.VerifyFull) && !hosts.All(IsLocal))
            problems.Add("DB_DSN does not verify the database server, and this is not a development environment; set sslmode=verify-full and sslrootcert=FILE");

        string FileAt(string name, string path)
        {
            if (!File.Exists(path)) problems.Add($"DB_DSN has {name}={path}, which does not exist");
            return path;
        }
    }

    private static bool IsLocal(string host) => host.Split(':')[0] is "localhost" or "127.0.0.1" || host.StartsWith("[::1]", StringComparison.Ordinal);

    /// <summary>libpq's meaning: require with a root certificate checks it, which Npgsql alone would not do.</summary>
    private static void SetTls(NpgsqlConnectionStringBuilder builder, string? mode, string? root, bool tls, List<string> problems)
    {
        builder.SslMode = (mode ?? (tls ? "require" : "prefer"), root) switch
        {
            ("disable", _) => SslMode.Disable,
            ("allow", _) => SslMode.Allow,
            ("prefer", _) => SslMode.Prefer,
            ("require", null) => SslMode.Require,
            ("require", _) or ("verify-ca", _) => SslMode.VerifyCA,
            ("verify-full", _) => SslMode.VerifyFull,
            _ => (SslMode)(-1),
        };
        if (builder.SslMode == (SslMode)(-1))
        {
            problems.Add($"DB_DSN has sslmode={mode}; it must be one of disable, allow, prefer, require, verify-ca, verify-full");
            builder.SslMode = SslMode.VerifyFull;
        }

        if (tls && builder.SslMode is SslMode.Disable or SslMode.Allow or SslMode.Prefer)
            problems.Add($"DB_TLS is true and DB_DSN has sslmode={mode}, which does without TLS; remove one of them, or set sslmode=verify-full");
        if (root is not null) builder.RootCertificate = root;
    }
}
