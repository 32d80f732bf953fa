using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using CyberMesh.Node.Api.Access;

namespace CyberMesh.Node.Configuration;

public sealed partial class Settings
{
    private const int TokenCharactersMin = 32;
    private const int TokensMax = 256;

    private sealed partial class Reader
    {
        /// <summary>Outside development nothing is served to other machines without TLS and credentials.</summary>
        public ApiAccess Api(bool isDevelopment)
        {
            var listen = EndPoint("API_LISTEN_ADDR", IPAddress.Any);
            var admin = Text("API_ADMIN_LISTEN_ADDR").Length == 0 ? null : EndPoint("API_ADMIN_LISTEN_ADDR", IPAddress.Loopback);
            // Whichever of the two other machines reach.
            var isLocal = IPAddress.IsLoopback(listen.Address) && (admin is null || IPAddress.IsLoopback(admin.Address));
            var place = IPAddress.IsLoopback(listen.Address) && admin is not null ? admin : listen;
            var (tokens, openId, authorities) = (Tokens(), OpenId(), Authorities());
            var hasCredentials = tokens.Length > 0 || openId is not null || authorities is not null;
            // Whoever names credentials means them.
            var isOpen = Text("API_AUTH").Length == 0 ? isLocal && !hasCredentials : OneOf("API_AUTH", "open", "required") == "open";
            if (!isOpen && !hasCredentials)
                problems.Add(
                    $"the API listens on {place} and wants credentials, and there are none; set API_BEARER_TOKENS_FILE, API_OIDC_ISSUER or API_TLS_CLIENT_CA_FILE, or listen on 127.0.0.1, or set API_AUTH to open");
            if (isOpen && hasCredentials && Text("API_AUTH").Length > 0) problems.Add("API_AUTH is open, and there are credentials that nobody needs then; remove one of them");
            var certificate = Certificate();
            if (!isDevelopment && !isLocal && certificate is null) problems.Add($"the API listens on {place} without TLS; outside development set TLS_CERT_PATH and TLS_KEY_PATH, or listen on 127.0.0.1");
            if (!isDevelopment && !isLocal && isOpen) problems.Add("API_AUTH is open; outside development only 127.0.0.1 is served without credentials");
            if (authorities is not null && certificate is null) problems.Add("API_TLS_CLIENT_CA_FILE is set, and TLS_CERT_PATH is not; client certificates need TLS");
            var writes = Boolean("API_WRITES");
            if (writes && isOpen) problems.Add("API_WRITES is true, and the API wants no credentials, so nobody has a role that may write; set API_BEARER_TOKENS_FILE, API_OIDC_ISSUER or API_TLS_CLIENT_CA_FILE");
            return new ApiAccess(
                listen, admin, certificate, isOpen, tokens, authorities, ClientRoles(), openId,
                Integer("API_RATE_PER_SECOND", 1, 1_000_000), writes);
        }

        /// <summary>A seed of Ed25519; null when the control key signs the audit log.</summary>
        public byte[]? AuditKey()
        {
            if (Secret("AUDIT_SIGNING_KEY") is not { } hex) return null;
            var seed = new byte[32];
            if (hex.Length == 64 && Convert.FromHexString(hex, seed, out _, out _) == System.Buffers.OperationStatus.Done) return seed;
            problems.Add("AUDIT_SIGNING_KEY is not 64 hex digits; make one with 'openssl rand -hex 32'");
            return null;
        }

        private TlsCertificate? Certificate()
        {
            var (certificate, key) = (Text("TLS_CERT_PATH"), Text("TLS_KEY_PATH"));
            if (certificate.Length == 0 && key.Length == 0) return null;
            if (certificate.Length == 0 || key.Length == 0)
            {
                problems.Add("TLS_CERT_PATH and TLS_KEY_PATH belong together; set both or none");
                return null;
            }

            try
            {
                return new TlsCertificate(certificate, key, TimeProvider.System);
            }
            catch (UserError problem)
            {
                problems.Add($"TLS_CERT_PATH and TLS_KEY_PATH: {problem.Message}");
                return null;
            }
        }

        /// <summary><c>name:role:token</c>, in lines or separated by commas.</summary>
        private ImmutableArray<BearerToken> Tokens()
        {
            var tokens = ImmutableArray.CreateBuilder<BearerToken>();
            var entries = (Secret("API_BEARER_TOKENS", SecretsBytesMax) ?? "").Split([',', '\n'], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
            for (var i = 0; i < entries.Length && i < TokensMax; i++)
            {
                // What is wrong is said without the token.
                var parts = entries[i].Split(':');
                if (parts.Length != 3 || parts[0].Length == 0) problems.Add($"entry {i + 1} of API_BEARER_TOKENS is not of the form name:role:token");
                else if (!Roles.TryParse(parts[1], out var role)) problems.Add($"API_BEARER_TOKENS gives {parts[0]} the role '{parts[1]}'; roles are {string.Join(", ", Roles.Names)}");
                else if (parts[2].Length < TokenCharactersMin) problems.Add($"the token of {parts[0]} in API_BEARER_TOKENS is shorter than {TokenCharactersMin} characters; make one with 'openssl rand -hex 32'");
                else if (tokens.Any(t => t.Name == parts[0])) problems.Add($"API_BEARER_TOKENS names {parts[0]} twice");
                else tokens.Add(new BearerToken(parts[0], role, [.. SHA256.HashData(Encoding.UTF8.GetBytes(parts[2]))]));
            }

            if (entries.Length > TokensMax) problems.Add($"API_BEARER_TOKENS has {entries.Length} entries; at most {TokensMax} are allowed");
            return tokens.ToImmutable();
        }

        private X509Certificate2Collection? Authorities()
        {
            var path = Text("API_TLS_CLIENT_CA_FILE");
            if (path.Length == 0) return null;
            var authorities = new X509Certificate2Collection();
            try
            {
                authorities.ImportFromPemFile(path);
            }
            catch (Exception problem) when (problem is IOException or UnauthorizedAccessException or CryptographicException)
            {
                problems.Add($"API_TLS_CLIENT_CA_FILE is '{path}', which cannot be read: {problem.Message}");
                return null;
            }

            if (authorities.Count == 0) problems.Add($"API_TLS_CLIENT_CA_FILE is '{path}', which holds no certificate");
            return authorities;
        }

        private Dictionary<string, Role> ClientRoles()
        {
            var roles = new Dictionary<string, Role>(StringComparer.Ordinal);
            foreach (var entry in List("API_CLIENT_ROLES"))
            {
                var separator = entry.LastIndexOf('=');
                if (separator < 1 || !Roles.TryParse(entry[(separator + 1)..], out var role)) problems.Add($"API_CLIENT_ROLES contains '{entry}'; each entry must be NAME=ROLE, roles are {string.Join(", ", Roles.Names)}");
                else if (!roles.TryAdd(entry[..separator], role)) problems.Add($"API_CLIENT_ROLES names {entry[..separator]} twice");
            }

            if (roles.Count > 0 && Text("API_TLS_CLIENT_CA_FILE").Length == 0) problems.Add("API_CLIENT_ROLES is set, and API_TLS_CLIENT_CA_FILE is not; it names who has which client certificate");
            return roles;
        }

        private OpenIdSettings? OpenId()
        {
            var (issuer, audience) = (Text("API_OIDC_ISSUER"), Text("API_OIDC_AUDIENCE"));
            if (issuer.Length == 0)
            {
                if (audience.Length > 0) problems.Add("API_OIDC_AUDIENCE is set, and API_OIDC_ISSUER is not");
                return null;
            }

            if (audience.Length == 0) problems.Add("API_OIDC_ISSUER is set, and API_OIDC_AUDIENCE is not; without it tokens made for others would be accepted");
            if (Uri.TryCreate(issuer, UriKind.Absolute, out var address) && (address.Scheme == Uri.UriSchemeHttps || (address.Scheme == Uri.UriSchemeHttp && address.IsLoopback)))
                return new OpenIdSettings(address, audience, Text("API_OIDC_ROLE_CLAIM"));
            problems.Add($"API_OIDC_ISSUER is '{issuer}'; it must be an address with https");
            return null;
        }
    }
}
