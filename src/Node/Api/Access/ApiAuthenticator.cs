using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Claims;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Http;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Protocols;
using Microsoft.IdentityModel.Protocols.OpenIdConnect;
using Microsoft.IdentityModel.Tokens;

namespace CyberMesh.Node.Api.Access;

/// <summary>Who asks: by bearer token, by a token of an OpenID issuer, or by client certificate, in this order.</summary>
public sealed class ApiAuthenticator
{
    private const int TokenCharactersMax = 16 * 1024;
    private const string Scheme = "Bearer ";

    private readonly ApiAccess _access;
    private readonly JsonWebTokenHandler _handler = new() { MapInboundClaims = false };
    private readonly TokenValidationParameters? _validation;

    public ApiAuthenticator(ApiAccess access)
    {
        _access = access;
        if (access.OpenId is not { } openId) return;
        var address = openId.Issuer.AbsoluteUri.TrimEnd('/') + "/.well-known/openid-configuration";
        _validation = new TokenValidationParameters
        {
            ValidIssuer = openId.Issuer.OriginalString,
            ValidAudience = openId.Audience,
            // Only signatures with a public key: with a shared secret anybody who can check could also sign.
            ValidAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"],
            RequireExpirationTime = true,
            RequireSignedTokens = true,
            ClockSkew = TimeSpan.FromMinutes(1),
            ConfigurationManager = new ConfigurationManager<OpenIdConnectConfiguration>(address, new OpenIdConnectConfigurationRetriever(), new HttpDocumentRetriever { RequireHttps = openId.Issuer.Scheme == Uri.UriSchemeHttps }),
        };
    }

    /// <summary>Null when credentials were shown and are not good: that is never the same as having shown none.</summary>
    public async ValueTask<ApiIdentity?> IdentifyAsync(HttpContext context)
    {
        var header = context.Request.Headers.Authorization.ToString();
        if (header.Length > 0)
        {
            if (!header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) || header.Length > TokenCharactersMax) return null;
            var token = header[Scheme.Length..].Trim();
            return Find(token) ?? (_validation is not null && token.Count(c => c == '.') == 2 ? await ValidateAsync(token).ConfigureAwait(false) : null);
        }

        // Its chain was checked in the handshake.
        if (context.Connection.ClientCertificate is { } certificate && _access.ClientAuthorities is not null)
        {
            var name = certificate.GetNameInfo(X509NameType.SimpleName, forIssuer: false);
            return new ApiIdentity("certificate:" + name, _access.ClientRoles.GetValueOrDefault(name, _access.ClientRoles.Count == 0 ? Role.Viewer : Role.None));
        }

        return _access.IsOpen ? new ApiIdentity(ApiIdentity.Anonymous.Name, Role.Viewer) : ApiIdentity.Anonymous;
    }

    /// <summary>All tokens are compared, each in the same time.</summary>
    private ApiIdentity? Find(string token)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(token), hash);
        ApiIdentity? found = null;
        foreach (var known in _access.Tokens)
            if (CryptographicOperations.FixedTimeEquals(hash, known.Hash.AsSpan()))
                found = new ApiIdentity("token:" + known.Name, known.Role);
        return found;
    }

    private async Task<ApiIdentity?> ValidateAsync(string token)
    {
        var result = await _handler.ValidateTokenAsync(token, _validation).ConfigureAwait(false);
        if (!result.IsValid || result.ClaimsIdentity.FindFirst(JwtRegisteredClaimNames.Sub)?.Value is not { Length: > 0 } subject) return null;
        var role = result.ClaimsIdentity.FindAll(_access.OpenId!.RoleClaim).Select(RoleOf).DefaultIfEmpty(Role.None).Max();
        return new ApiIdentity("openid:" + subject, role);

        static Role RoleOf(Claim claim) => Roles.TryParse(claim.Value, out var role) ? role : Role.None;
    }
}
