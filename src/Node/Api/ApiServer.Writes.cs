using System;
using System.Globalization;
using System.IO;
using System.Text.Json;
using System.Threading;
using System.Threading.RateLimiting;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Mempool;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace CyberMesh.Node.Api;

/// <summary>Transactions that people hand in, and the log of who did.</summary>
public sealed partial class ApiServer
{
    /// <summary>Refusals that get a line of their own; of more only the number is kept, or a stranger could fill the disk.</summary>
    private readonly TokenBucketRateLimiter _auditedRefusals = new(new TokenBucketRateLimiterOptions { TokenLimit = 100, TokensPerPeriod = 1, ReplenishmentPeriod = TimeSpan.FromSeconds(1) });

    private long _unauditedRefusals;

    private Task RefuseAccessAsync(HttpContext context, int status, string code, string detail, string hint, ApiIdentity? who)
    {
        if (status is 401 or 403)
        {
            using var lease = _auditedRefusals.AttemptAcquire();
            if (!lease.IsAcquired)
            {
                Interlocked.Increment(ref _unauditedRefusals);
            }
            else
            {
                var more = Interlocked.Exchange(ref _unauditedRefusals, 0);
                try
                {
                    Audit(context, who ?? ApiIdentity.Anonymous, status, more == 0 ? code : string.Create(CultureInfo.InvariantCulture, $"{code}; {more} refusals before it have no entry"));
                }
                catch (IOException)
                {
                    Interlocked.Add(ref _unauditedRefusals, more + 1);
                }
            }
        }

        return Problem(status, code, detail, hint).ExecuteAsync(context);
    }

    private async Task<IResult> TransactAsync(string? kind, HttpContext context)
    {
        var who = (ApiIdentity)context.Items[typeof(ApiIdentity)]!;
        if (_sources.Intake is not { } intake) return Refused(context, who, 403, "writes_disabled", "This validator takes no transactions over HTTP.", "Publish them to Kafka, or ask whoever runs it to set API_WRITES.");
        if (kind is not ("decision" or "order")) return Problem(400, "bad_parameter", "kind must be decision or order.", "Everything else comes from Kafka.");
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit) limit.MaxRequestBodySize = TransactionIntake.BytesMax;
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted).ConfigureAwait(false);
        if (TransactionIntake.Read(kind, body.ToArray(), out var envelope, out var needs) is { } unreadable) return Rejected(context, who, unreadable, "");
        var digest = envelope!.Digest.ToString();
        if (who.Role < needs) return Refused(context, who, 403, "forbidden", $"This needs the role {needs.ToString().ToLowerInvariant()}; {who.Name} has {who.Role.ToString().ToLowerInvariant()}.", "Ask whoever runs this validator for the role.");
        // First on the record, then done: what nobody will know of must not happen.
        try
        {
            Audit(context, who, 202, digest);
        }
        catch (IOException)
        {
            return Problem(503, "unavailable", "The audit log cannot be written, so nothing is taken in.", "Try again; see /health for the disk.");
        }

        var admission = await intake.OfferAsync(envelope, context.RequestAborted).ConfigureAwait(false);
        switch (admission.Kind)
        {
            case AdmissionKind.Admitted or AdmissionKind.Waiting:
                context.Response.Headers.Location = "/v1/transactions/" + digest;
                return Results.Json(new { Digest = digest, Status = "waiting" }, statusCode: 202);
            case AdmissionKind.Committed:
                return Results.Ok(new { Digest = digest, Status = "committed" });
            case AdmissionKind.Rejected:
                return Rejected(context, who, admission.Rejection!, digest);
            default:
                context.Response.Headers.RetryAfter = "1";
                return Problem(503, "pool_full", "The waiting room is full.", "Hand it in again.");
        }
    }

    private IResult Rejected(HttpContext context, ApiIdentity who, Rejection rejection, string digest) =>
        Refused(context, who, 422, JsonNamingPolicy.SnakeCaseLower.ConvertName(rejection.Reason.ToString()), Sentence(rejection.Explanation), "See docs/wire-format.md for what is valid." + (digest.Length == 0 ? "" : $" The transaction is {digest}."));

    private static string Sentence(string text) => text.Length == 0 ? "" : char.ToUpperInvariant(text[0]) + text[1..].TrimEnd('.') + ".";

    private IResult Refused(HttpContext context, ApiIdentity who, int status, string code, string detail, string hint)
    {
        Audit(context, who, status, code);
        return Problem(status, code, detail, hint);
    }

    private void Audit(HttpContext context, ApiIdentity who, int status, string detail) => _sources.Audit.Append(new AuditEvent(
        who.Name, who.Role, RemoteNetwork.Of(context.Connection.RemoteIpAddress ?? System.Net.IPAddress.None).ToString(), context.Request.Method, context.Request.Path.Value ?? "", status, detail));

    private IResult AuditEntries(string? limit, HttpContext context)
    {
        if (!TryLimit(limit, out var count)) return BadLimit();
        var who = (ApiIdentity)context.Items[typeof(ApiIdentity)]!;
        Audit(context, who, 200, count.ToString(CultureInfo.InvariantCulture));
        return Results.Text(_sources.Audit.Tail(count), "application/x-ndjson");
    }
}
