using System;
using System.Globalization;
using System.Net;
using System.Threading.RateLimiting;
using System.Threading.Tasks;
using CyberMesh.Node.Hosting;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace CyberMesh.Node.Api.Access;

/// <summary>Which role a route wants. A route without one is nobody's: access is denied by default.</summary>
public sealed record RequiredRole(Role Role);

/// <summary>A route that only the listener for administration serves, where there is one.</summary>
public sealed record ForAdministration;

internal static class RouteAccess
{
    public static T For<T>(this T route, Role role) where T : IEndpointConventionBuilder => route.WithMetadata(new RequiredRole(role));
}

/// <summary>Between routing and the routes: who asks, how often, and whether that role may.</summary>
internal sealed class AccessControl(ApiAccess access, Func<HttpContext, int, string, string, string, ApiIdentity?, Task> refuse) : IDisposable
{
    private readonly ApiAuthenticator _authenticator = new(access);
    private readonly PartitionedRateLimiter<string> _limiter = PartitionedRateLimiter.Create<string, string>(who => RateLimitPartition.GetTokenBucketLimiter(who, _ => new TokenBucketRateLimiterOptions
    {
        TokenLimit = access.RatePerSecond,
        TokensPerPeriod = Math.Max(1, access.RatePerSecond / 10),
        ReplenishmentPeriod = TimeSpan.FromMilliseconds(100),
        AutoReplenishment = true,
    }));

    public async Task InvokeAsync(HttpContext context, RequestDelegate next)
    {
        var endpoint = context.GetEndpoint();
        var identity = await _authenticator.IdentifyAsync(context).ConfigureAwait(false);
        var who = identity is { IsAnonymous: false } ? identity.Name : RemoteNetwork.Of(context.Connection.RemoteIpAddress ?? IPAddress.None).ToString();
        using var lease = _limiter.AttemptAcquire(who);
        var left = _limiter.GetStatistics(who)?.CurrentAvailablePermits ?? 0;
        var headers = context.Response.Headers;
        headers["RateLimit-Limit"] = access.RatePerSecond.ToString(CultureInfo.InvariantCulture);
        headers["RateLimit-Remaining"] = left.ToString(CultureInfo.InvariantCulture);
        headers["RateLimit-Reset"] = "1";
        if (!lease.IsAcquired)
        {
            headers.RetryAfter = "1";
            await refuse(context, 429, "too_many_requests", $"More than {access.RatePerSecond} requests in a second.", "Wait as long as Retry-After says.", identity).ConfigureAwait(false);
            return;
        }

        if (endpoint?.Metadata.GetMetadata<RequiredRole>() is not { Role: var required })
        {
            await refuse(context, 404, "not_found", "There is nothing at this path.", "See docs/api.md for the routes.", identity).ConfigureAwait(false);
        }
        else if (access.AdminListen is { } admin && endpoint.Metadata.GetMetadata<ForAdministration>() is not null && context.Connection.LocalPort != admin.Port)
        {
            await refuse(context, 404, "not_found", "There is nothing at this path.", "Metrics and the audit log are served at API_ADMIN_LISTEN_ADDR.", identity).ConfigureAwait(false);
        }
        else if (required == Role.None || identity?.Role >= required)
        {
            context.Items[typeof(ApiIdentity)] = identity ?? ApiIdentity.Anonymous;
            await next(context).ConfigureAwait(false);
        }
        else if (identity is null || identity.IsAnonymous)
        {
            headers.WWWAuthenticate = "Bearer";
            await refuse(context, 401, "unauthorized", identity is null ? "These credentials are not good." : "This needs credentials.", "Send 'Authorization: Bearer TOKEN', or a client certificate.", identity).ConfigureAwait(false);
        }
        else
        {
            await refuse(context, 403, "forbidden", $"This needs the role {required.ToString().ToLowerInvariant()}; {identity.Name} has {identity.Role.ToString().ToLowerInvariant()}.", "Ask whoever runs this validator for the role.", identity).ConfigureAwait(false);
        }
    }

    public void Dispose() => _limiter.Dispose();
}
