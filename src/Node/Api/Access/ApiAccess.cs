using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Net;
using System.Security.Cryptography.X509Certificates;

namespace CyberMesh.Node.Api.Access;

/// <summary>Who may use the HTTP API, and how it listens (docs/cli.md, settings).</summary>
/// <param name="IsOpen">Whoever reaches it may read. Otherwise everything but the probes wants credentials.</param>
/// <param name="ClientAuthorities">Of client certificates; null when none are asked for.</param>
/// <param name="ClientRoles">By the common name of a client certificate; where nobody is named, all are viewers.</param>
/// <param name="RatePerSecond">Requests of one identity, or of one address without one.</param>
/// <param name="AllowsWrites">Transactions that people have signed may be handed in.</param>
/// <param name="AdminListen">Where metrics and the audit log are served instead of beside the rest.</param>
public sealed record ApiAccess(
    IPEndPoint Listen, IPEndPoint? AdminListen, TlsCertificate? Certificate, bool IsOpen, ImmutableArray<BearerToken> Tokens, X509Certificate2Collection? ClientAuthorities,
    IReadOnlyDictionary<string, Role> ClientRoles, OpenIdSettings? OpenId, int RatePerSecond, bool AllowsWrites);

/// <summary>Of a secret only its SHA-256 is kept.</summary>
public sealed record BearerToken(string Name, Role Role, ImmutableArray<byte> Hash);

/// <param name="Issuer">As in the tokens; its configuration and keys are read from there.</param>
/// <param name="RoleClaim">The claim, a string or an array, whose values are roles.</param>
public sealed record OpenIdSettings(Uri Issuer, string Audience, string RoleClaim);

/// <summary>Somebody who was recognised, or is welcome without.</summary>
/// <param name="Name">Distinct for each kind of credential: <c>token:name</c>, <c>certificate:name</c>, <c>openid:subject</c>; <c>anonymous</c>.</param>
public sealed record ApiIdentity(string Name, Role Role)
{
    public static readonly ApiIdentity Anonymous = new("anonymous", Role.None);

    public bool IsAnonymous => Name == Anonymous.Name;
}
