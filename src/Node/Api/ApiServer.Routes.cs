using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using CyberMesh.Node.Api.Access;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing;
using Microsoft.OpenApi;

namespace CyberMesh.Node.Api;

/// <summary>All routes, each with the role it wants and a line that says what it answers; the OpenAPI document is made of them.</summary>
public sealed partial class ApiServer
{
    private const string JsonType = "application/json";
    private const string TextType = "text/plain";
    private const string BytesType = "application/octet-stream";

    private sealed record AnswerType(string Name);

    /// <summary>Every route with the role it wants, for tests that walk them.</summary>
    internal IEnumerable<(string Method, string Route, Role? Role)> Routes => ((IEndpointRouteBuilder)_app).DataSources.SelectMany(s => s.Endpoints).OfType<RouteEndpoint>()
        .Select(e => (e.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods[0] ?? "", e.RoutePattern.RawText ?? "", e.Metadata.GetMetadata<RequiredRole>()?.Role));

    private void Map()
    {
        // The old routes stay at the root.
        foreach (var prefix in new[] { "", "/v1" })
        {
            Get(prefix + "/health", Health, "Status, height, and each component with its reason.");
            // An orchestrator's probes have no credentials. Nobody listens before recovery is over.
            Get(prefix + "/health/live", () => Results.Ok(new { Status = "live" }), "200 as soon as requests are answered; looks at nothing else.", role: Role.None);
            Get(prefix + "/health/startup", () => Results.Ok(new { Status = "started" }), "200 as soon as recovery is over.", role: Role.None);
            Get(prefix + "/health/ready", Ready, "200, or 503 with the reasons why it does not do its work.", role: Role.None);
            Get(prefix + "/metrics", () => Results.Text(_sources.Metrics.Render(), "text/plain; version=0.0.4"), "Metrics in the text format of Prometheus.", TextType).WithMetadata(new ForAdministration());
            Get(prefix + "/blocks", (string? before, string? limit) => Blocks(before, limit), "Blocks, newest first; 'next' is the 'before' of the next page.");
            Get(prefix + "/blocks/{reference}", (string reference, HttpContext context) => Block(reference, context), "One block by height, hash or 'latest', with its transactions and their results.");
            Get(prefix + "/blocks/{reference}/transactions", BlockTransactions, "The transactions of a block with their results.");
            Get(prefix + "/blocks/{reference}/certificate", BlockCertificate, "Who has signed a block, or the nearest certified block after it.");
            Get(prefix + "/state", State, "Chain id, height, block hash, state root and block time.");
            Get(prefix + "/validators", Validators, "The set, the quorum, who leads, scores, who is connected, and an open order.");
        }

        Get("/v1/transactions/{id}", Transaction, "One transaction by its producer's id or its digest: block, place, kind, result.");
        Get("/v1/views", (string? before, string? limit) => Views(before, limit), "Where the leader changed within a term, newest first; and why this validator changed views since its start.");
        Get("/v1/misbehaviour", (string? cursor, string? limit) => Misbehaviour(cursor, limit), "Committed proofs against validators, newest first.");
        Get("/v1/orders", (string? cursor, string? limit) => Orders(cursor, limit), "Orders of the operators, newest first.");
        Get("/v1/events", (RequestDelegate)EventsAsync, "Blocks as they are committed, as server-sent events; Last-Event-ID is the height of the last one seen.", "text/event-stream");
        Get("/v1/alerts", Alerts, "Committed alerts, newest first, by any of the filters; with format=ocsf as OCSF Detection Findings.");
        Get("/v1/alerts/{id}", Alert, "One alert by its id or digest, with its history and the evidence that names it.");
        Get("/v1/evidence", (string? type, string? cursor, string? limit) => EvidenceList(type, cursor, limit), "Committed evidence, newest first; of one type, or of any.");
        Get("/v1/evidence/{id}", Evidence, "A piece of evidence: what it refers to, and what dangles.");
        Get("/v1/policies", (string? cursor, string? limit, string? status) => Policies(cursor, limit, status), "Policies, newest first.");
        Get("/v1/policies/{id}", Policy, "One policy by its id or digest, with its history.");
        Get("/v1/feeds/{file}", (string file, HttpContext context) => Feed(file, context), "Networks that policies in force block: blocked, blocked-ipv4 or blocked-ipv6, as .txt, .json or .stix (a STIX 2.1 bundle).");
        Get("/v1/producers", Producers, "The trust store with reputations.");
        Get("/v1/producers/{name}", Producer, "One producer with its keys and the last changes of its reputation.");
        Get("/v1/proofs/{id}", Proof, "A proof that a transaction is in the log (C2SP tlog-proof); 503 until a checkpoint covers it.", TextType);
        Get("/v1/block-proofs/{id}", BlockProofOf, "A proof that a transaction stands in a certified block.", TextType);
        Get("/v1/state/{key}", (string key, HttpContext context) => StateProofAsync(key, context), "A proof of what the state holds under a key, or that it holds nothing.", TextType);
        Get("/v1/messages/{id}", Message, "The message as it was published.", BytesType);
        foreach (var prefix in new[] { "", "/v1" })
        {
            Get(prefix + "/checkpoint", Checkpoint, "The newest cosigned checkpoint of the transparency log.", TextType);
            Get(prefix + "/tile/{**path}", (string path, HttpContext context) => Tile(path, context), "Hashes and entries of the log (C2SP tlog-tiles).", BytesType);
        }

        Get("/v1/audit", (string? limit, HttpContext context) => AuditEntries(limit, context), "The newest entries of the audit log, one in a line.", "application/x-ndjson", Role.Admin).WithMetadata(new ForAdministration());
        Describe(_app.MapPost("/v1/transactions", TransactAsync), "post_v1_transactions", "/v1/transactions", "Hands in a transaction that a person has signed (kind: decision or order); 202 when it waits.", JsonType, Role.Analyst)
            .ProducesProblem(400).ProducesProblem(422).ProducesProblem(503);
        _app.MapOpenApi("/v1/{documentName}.json").For(Role.Viewer);
        _app.MapFallback((HttpRequest request) => HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method)
            ? Problem(404, "not_found", "There is nothing at this path.", "See docs/api.md for the routes.")
            : Problem(405, "method_not_allowed", "Nothing can be written here.", "Use GET.")).For(Role.Viewer).ExcludeFromDescription();
    }

    private RouteHandlerBuilder Get(string route, Delegate handler, string summary, string answers = JsonType, Role role = Role.Viewer)
    {
        var mapped = Describe(_app.MapGet(route, handler), OperationOf(route), route, summary, answers, role);
        return route.Contains('{', StringComparison.Ordinal) ? mapped.ProducesProblem(404) : mapped;
    }

    private static RouteHandlerBuilder Describe(RouteHandlerBuilder route, string operation, string path, string summary, string answers, Role role)
    {
        route.For(role).WithName(operation).WithTags(SubjectOf(path)).WithSummary(summary).WithMetadata(new AnswerType(answers)).ProducesProblem(429);
        return role > Role.None ? route.ProducesProblem(401).ProducesProblem(403) : route;
    }

    /// <summary><c>/v1/alerts/{id}</c> is <c>get_v1_alerts_by_id</c>.</summary>
    private static string OperationOf(string route) => "get" + Words().Replace(route.Replace("{", "by_", StringComparison.Ordinal), "_").TrimEnd('_');

    /// <summary>The first word of the path.</summary>
    private static string SubjectOf(string route) => route.Split('/', StringSplitOptions.RemoveEmptyEntries).First(word => word != "v1");

    [GeneratedRegex("[^a-z0-9_]+")]
    private static partial Regex Words();

    private static void DescribeApi(OpenApiOptions options)
    {
        options.OpenApiVersion = OpenApiSpecVersion.OpenApi3_1;
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Info = new OpenApiInfo { Title = "CyberMesh", Version = "v1", Description = "What a validator has committed, with proofs. Errors are problem details (RFC 9457) with a stable code and a hint." };
            document.Servers = [];
            document.Components ??= new OpenApiComponents();
            document.Components.SecuritySchemes = new Dictionary<string, IOpenApiSecurityScheme>
            {
                ["bearer"] = new OpenApiSecurityScheme { Type = SecuritySchemeType.Http, Scheme = "bearer", Description = "A token of API_BEARER_TOKENS or of the OpenID issuer." },
                ["certificate"] = new OpenApiSecurityScheme { Type = SecuritySchemeType.MutualTLS, Description = "A certificate of API_TLS_CLIENT_CA_FILE." },
            };
            document.Security = [new OpenApiSecurityRequirement { [new OpenApiSecuritySchemeReference("bearer", document)] = [] }, new OpenApiSecurityRequirement { [new OpenApiSecuritySchemeReference("certificate", document)] = [] }];
            return Task.CompletedTask;
        });
        options.AddOperationTransformer((operation, context, _) =>
        {
            var metadata = context.Description.ActionDescriptor.EndpointMetadata;
            if (metadata.OfType<AnswerType>().FirstOrDefault() is { Name: var type })
                (operation.Responses ??= [])["200"] = new OpenApiResponse { Description = "OK", Content = new Dictionary<string, OpenApiMediaType> { [type] = new() } };
            // Not as metadata of the route, which would then be found by that content type alone.
            if (context.Description.HttpMethod == "POST") operation.RequestBody = new OpenApiRequestBody { Required = true, Content = new Dictionary<string, OpenApiMediaType> { [BytesType] = new() } };
            // Probes go without credentials.
            if (metadata.OfType<RequiredRole>().FirstOrDefault() is { Role: Role.None }) operation.Security = [];
            return Task.CompletedTask;
        });
    }
}
