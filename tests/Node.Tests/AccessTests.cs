using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Node.Api.Access;
using Microsoft.Extensions.Time.Testing;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Who may do what at the HTTP API.</summary>
public sealed class AccessTests
{
    private static string Token(string role) => new string('t', 40) + role;

    private static readonly string Tokens = string.Join(',', Roles.Names.Select(role => $"{role}-1:{role}:{Token(role)}"));

    private static Task<TestCluster> StartAsync(params (string, string)[] settings) =>
        TestCluster.StartAsync([], TimeProvider.System, validators: 1, environment: settings.ToDictionary(s => s.Item1, s => s.Item2));

    private static async Task<HttpResponseMessage> SendAsync(HttpClient http, string method, string path, string? token = null)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        if (token is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    [Fact]
    public async Task Every_route_is_closed_to_every_role_below_its_own_and_none_has_no_role()
    {
        await using var cluster = await StartAsync(("API_BEARER_TOKENS", Tokens), ("API_WRITES", "true"));
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        var routes = cluster.Nodes[0].Api.Routes.ToArray();
        Assert.True(routes.Length > 30);
        foreach (var (method, route, role) in routes)
        {
            Assert.True(role is not null, $"{route} has no role");
            var path = System.Text.RegularExpressions.Regex.Replace(route, @"\{[^}]*\}", "x");
            if (!path.StartsWith('/')) path = "/" + path;
            foreach (var asked in Enum.GetValues<Role>())
            {
                var answer = await SendAsync(http, method.Length == 0 ? "GET" : method, path, asked == Role.None ? null : Token(asked.ToString().ToLowerInvariant()));
                var expected = asked >= role ? 0 : asked == Role.None ? 401 : 403;
                if (expected == 0) Assert.False(answer.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden, $"{method} {path} as {asked}: {answer.StatusCode}");
                else Assert.True((int)answer.StatusCode == expected, $"{method} {path} as {asked}: {answer.StatusCode}");
                answer.Dispose();
            }
        }

        // Probes and nothing else go without.
        Assert.All(routes.Where(r => r.Role == Role.None), r => Assert.StartsWith("/health/", r.Route.Replace("/v1", "", StringComparison.Ordinal), StringComparison.Ordinal));
        var refused = await SendAsync(http, "GET", "/v1/alerts");
        Assert.Equal("Bearer", refused.Headers.WwwAuthenticate.Single().Scheme);
        Assert.Equal("unauthorized", (string)JsonNode.Parse(await refused.Content.ReadAsStringAsync(TestContext.Current.CancellationToken))!["code"]!);
    }

    [Fact]
    public async Task Bad_credentials_are_never_taken_for_none()
    {
        await using var cluster = await StartAsync();
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        Assert.Equal(HttpStatusCode.OK, (await SendAsync(http, "GET", "/state")).StatusCode);
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync(http, "GET", "/state", "whatever")).StatusCode);
        using var basic = new HttpRequestMessage(HttpMethod.Get, "/state");
        basic.Headers.Authorization = new AuthenticationHeaderValue("Basic", "dXNlcjpwYXNz");
        Assert.Equal(HttpStatusCode.Unauthorized, (await http.SendAsync(basic, TestContext.Current.CancellationToken)).StatusCode);
    }

    [Theory]
    [InlineData("/metrics")]
    [InlineData("//metrics")]
    [InlineData("/v1/../metrics")]
    [InlineData("/health/live/../../metrics")]
    [InlineData("/health/live/%2e%2e/%2e%2e/metrics")]
    [InlineData("/health/live%2f..%2f..%2fmetrics")]
    [InlineData("/health/live/..;/metrics")]
    [InlineData("/./metrics")]
    [InlineData("/METRICS")]
    [InlineData("/metrics/")]
    [InlineData("/metrics?x=/health/live")]
    [InlineData("/metrics#/health/live")]
    [InlineData("http://127.0.0.1/metrics")]
    [InlineData("/health/live%00/../../metrics")]
    [InlineData("\\metrics")]
    public async Task Tricks_with_the_path_open_nothing(string target)
    {
        await using var cluster = await StartAsync(("API_BEARER_TOKENS", Tokens));
        var answer = await RawAsync(cluster.Nodes[0].ApiAddress, $"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        Assert.Matches("^HTTP/1.1 (400|401|404) ", answer);
        Assert.DoesNotContain("cybermesh_height", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_too_large_or_too_slow_is_refused()
    {
        await using var cluster = await StartAsync();
        var address = cluster.Nodes[0].ApiAddress;
        Assert.StartsWith("HTTP/1.1 414 ", await RawAsync(address, $"GET /{new string('x', 9000)} HTTP/1.1\r\nHost: x\r\n\r\n"), StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 431 ", await RawAsync(address, $"GET /state HTTP/1.1\r\nHost: x\r\nX-Large: {new string('x', 40_000)}\r\n\r\n"), StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 405 ", await RawAsync(address, "POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\nConnection: close\r\n\r\n"), StringComparison.Ordinal);
        // A header that never ends: the server hangs up.
        Assert.Matches("^(HTTP/1.1 408 |$)", await RawAsync(address, "GET /state HTTP/1.1\r\nHost: x\r\nX-Slow: "));
    }

    /// <summary>Everything that comes until the server closes.</summary>
    private static async Task<string> RawAsync(Uri address, string request)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(address.Host, address.Port);
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(90));
        var answer = new StringBuilder();
        try
        {
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(request), deadline.Token);
            var buffer = new byte[4096];
            while (await client.GetStream().ReadAsync(buffer, deadline.Token) is var count && count > 0) answer.Append(Encoding.ASCII.GetString(buffer, 0, count));
        }
        catch (IOException)
        {
            // closed while we were still writing; what it said before counts
        }

        return answer.ToString();
    }

    [Fact]
    public async Task One_identity_that_asks_too_often_waits_and_others_do_not()
    {
        await using var cluster = await StartAsync(("API_BEARER_TOKENS", Tokens), ("API_RATE_PER_SECOND", "10"));
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        HttpResponseMessage? refused = null;
        for (var i = 0; i < 1000 && refused is null; i++)
        {
            var answer = await SendAsync(http, "GET", "/state", Token("viewer"));
            Assert.Equal("10", answer.Headers.GetValues("RateLimit-Limit").Single());
            Assert.InRange(int.Parse(answer.Headers.GetValues("RateLimit-Remaining").Single(), System.Globalization.CultureInfo.InvariantCulture), 0, 9);
            if (answer.StatusCode == HttpStatusCode.TooManyRequests) refused = answer;
        }

        Assert.NotNull(refused);
        Assert.Equal(TimeSpan.FromSeconds(1), refused.Headers.RetryAfter!.Delta);
        Assert.Equal(HttpStatusCode.OK, (await SendAsync(http, "GET", "/state", Token("analyst"))).StatusCode);
        await Eventually.HoldsAsync(() => SendAsync(http, "GET", "/state", Token("viewer")).GetAwaiter().GetResult().StatusCode == HttpStatusCode.OK, "it is let in again");
    }

    [Fact]
    public async Task Metrics_go_to_the_listener_for_administration_where_there_is_one()
    {
        var port = Testnet.FreePorts(1)[0];
        await using var cluster = await StartAsync(("API_ADMIN_LISTEN_ADDR", $"127.0.0.1:{port}"));
        using var http = new HttpClient();
        var address = cluster.Nodes[0].ApiAddress;
        Assert.NotEqual(port, address.Port);
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync(new Uri(address, "/metrics"), TestContext.Current.CancellationToken)).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync(new Uri(address, "/state"), TestContext.Current.CancellationToken)).StatusCode);
        Assert.Contains("cybermesh_height", await http.GetStringAsync(new Uri($"http://127.0.0.1:{port}/metrics"), TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    // ---- TLS --------------------------------------------------------------------------------------------------

    private static X509Certificate2 Authority(string name)
    {
        var request = new CertificateRequest("CN=" + name, ECDsa.Create(ECCurve.NamedCurves.nistP256), HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(10));
    }

    private static X509Certificate2 Issue(X509Certificate2 authority, string name, string use, int days = 5)
    {
        var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=" + name, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(use)], false));
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        using var issued = request.Create(authority, DateTimeOffset.UtcNow.AddDays(-1).AddHours(1), DateTimeOffset.UtcNow.AddDays(days), RandomNumberGenerator.GetBytes(8));
        return issued.CopyWithPrivateKey(key);
    }

    private const string ForServers = "1.3.6.1.5.5.7.3.1";
    private const string ForClients = "1.3.6.1.5.5.7.3.2";

    private static (string, string) Write(string directory, X509Certificate2 certificate)
    {
        var (path, key) = (Path.Combine(directory, "api.crt"), Path.Combine(directory, "api.key"));
        File.WriteAllText(path, certificate.ExportCertificatePem());
        File.WriteAllText(key, certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
        return (path, key);
    }

    [Fact]
    public async Task Clients_show_certificates_of_our_authority_or_tokens_over_TLS()
    {
        using var directory = new TemporaryDirectory();
        using var authority = Authority("clients");
        using var other = Authority("others");
        using var servers = Authority("servers");
        var (certificate, key) = Write(directory.Path, Issue(servers, "api", ForServers));
        var ca = Path.Combine(directory.Path, "ca.crt");
        await File.WriteAllTextAsync(ca, authority.ExportCertificatePem(), TestContext.Current.CancellationToken);
        await using var cluster = await StartAsync(
            ("TLS_CERT_PATH", certificate), ("TLS_KEY_PATH", key), ("API_TLS_CLIENT_CA_FILE", ca), ("API_CLIENT_ROLES", "alice=viewer"), ("API_BEARER_TOKENS", Tokens));
        var address = cluster.Nodes[0].ApiAddress;
        Assert.Equal("https", address.Scheme);
        Assert.Equal(HttpStatusCode.OK, await AskAsync(Issue(authority, "alice", ForClients), null));
        Assert.Equal(HttpStatusCode.Forbidden, await AskAsync(Issue(authority, "mallory", ForClients), null));
        Assert.Equal(HttpStatusCode.Unauthorized, await AskAsync(null, null));
        Assert.Equal(HttpStatusCode.OK, await AskAsync(null, Token("viewer")));
        foreach (var bad in new[] { Issue(other, "alice", ForClients), Issue(authority, "alice", ForServers), Issue(authority, "alice", ForClients, days: 0) })
            await Assert.ThrowsAnyAsync<HttpRequestException>(() => AskAsync(bad, null));
        // Whoever speaks plainly is not answered.
        Assert.DoesNotContain("HTTP/1.1 200", await RawAsync(address, "GET /state HTTP/1.1\r\nHost: x\r\n\r\n"), StringComparison.Ordinal);

        async Task<HttpStatusCode> AskAsync(X509Certificate2? shown, string? token)
        {
            // A callback, because a client that has a choice does not show what is bad.
            using var handler = new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = (_, server, _, _) => server!.Issuer == "CN=servers" } };
            var chosen = shown is null ? null : X509CertificateLoader.LoadPkcs12(shown.Export(X509ContentType.Pfx), null);
            if (chosen is not null) handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => chosen;
            using var http = new HttpClient(handler) { BaseAddress = address };
            return (await SendAsync(http, "GET", "/state", token)).StatusCode;
        }
    }

    [Fact]
    public void A_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not()
    {
        using var directory = new TemporaryDirectory();
        using var authority = Authority("servers");
        var time = new FakeTimeProvider();
        var (certificate, key) = Write(directory.Path, Issue(authority, "first", ForServers));
        var files = new TlsCertificate(certificate, key, time);
        Assert.Equal("CN=first", files.Current.TargetCertificate.Subject);
        File.WriteAllText(certificate, "half a fi");
        time.Advance(TimeSpan.FromSeconds(11));
        Assert.Equal("CN=first", files.Current.TargetCertificate.Subject);
        Write(directory.Path, Issue(authority, "second", ForServers));
        Assert.Equal("CN=first", files.Current.TargetCertificate.Subject); // looked at every ten seconds
        time.Advance(TimeSpan.FromSeconds(11));
        Assert.Equal("CN=second", files.Current.TargetCertificate.Subject);
    }

    // ---- OpenID -----------------------------------------------------------------------------------------------

    [Fact]
    public async Task Tokens_of_the_issuer_are_believed_when_they_are_for_us_and_fresh_and_signed_with_its_key()
    {
        using var rsa = RSA.Create(2048);
        using var stranger = RSA.Create(2048);
        var (signing, foreign) = (new RsaSecurityKey(rsa) { KeyId = "k1" }, new RsaSecurityKey(stranger) { KeyId = "k1" });
        var port = Testnet.FreePorts(1)[0];
        var issuer = $"http://127.0.0.1:{port}";
        using var listener = new HttpListener { Prefixes = { issuer + "/" } };
        listener.Start();
        var serving = Task.Run(async () =>
        {
            try
            {
                while (true)
                {
                    var context = await listener.GetContextAsync();
                    var jwk = JsonWebKeyConverter.ConvertFromRSASecurityKey(new RsaSecurityKey(rsa.ExportParameters(false)) { KeyId = "k1" });
                    var body = context.Request.Url!.AbsolutePath == "/keys"
                        ? JsonSerializer.SerializeToUtf8Bytes(new { keys = new[] { new { kty = jwk.Kty, kid = jwk.Kid, use = "sig", n = jwk.N, e = jwk.E } } })
                        : JsonSerializer.SerializeToUtf8Bytes(new { issuer, jwks_uri = issuer + "/keys" });
                    context.Response.ContentType = "application/json";
                    await context.Response.OutputStream.WriteAsync(body);
                    context.Response.Close();
                }
            }
            catch (Exception problem) when (problem is HttpListenerException or ObjectDisposedException)
            {
                // stopped
            }
        }, TestContext.Current.CancellationToken);
        await using var cluster = await StartAsync(("API_OIDC_ISSUER", issuer), ("API_OIDC_AUDIENCE", "cybermesh"));
        using var http = new HttpClient { BaseAddress = cluster.Nodes[0].ApiAddress };
        var good = new SigningCredentials(signing, "RS256");
        var secret = new SymmetricSecurityKey(Encoding.UTF8.GetBytes(rsa.ExportSubjectPublicKeyInfoPem())) { KeyId = "k1" };
        var now = DateTime.UtcNow;
        foreach (var (what, token, expected) in new[]
                 {
                     ("good", Make(good), HttpStatusCode.OK),
                     ("two roles, one unknown", Make(good, roles: ["viewer", "king"]), HttpStatusCode.OK),
                     ("no role", Make(good, roles: []), HttpStatusCode.Forbidden),
                     ("an unknown role", Make(good, roles: ["king"]), HttpStatusCode.Forbidden),
                     ("no subject", Make(good, subject: null), HttpStatusCode.Unauthorized),
                     ("for others", Make(good, audience: "another"), HttpStatusCode.Unauthorized),
                     ("of another issuer", Make(good, by: "http://127.0.0.1:1"), HttpStatusCode.Unauthorized),
                     ("expired", Make(good, expires: now.AddMinutes(-5)), HttpStatusCode.Unauthorized),
                     ("of another key", Make(new SigningCredentials(foreign, "RS256")), HttpStatusCode.Unauthorized),
                     ("signed with the public key as a secret", Make(new SigningCredentials(secret, "HS256")), HttpStatusCode.Unauthorized),
                     ("not signed", Make(null), HttpStatusCode.Unauthorized),
                     ("altered", Make(good).Replace("eyJ", "eyK", StringComparison.Ordinal), HttpStatusCode.Unauthorized),
                     ("nonsense", "a.b.c", HttpStatusCode.Unauthorized),
                 })
            Assert.True((await SendAsync(http, "GET", "/state", token)).StatusCode == expected, what);
        listener.Stop();
        await serving;
        // The issuer may be away; its keys are known.
        Assert.Equal(HttpStatusCode.OK, (await SendAsync(http, "GET", "/state", Make(good))).StatusCode);

        string Make(SigningCredentials? credentials, string[]? roles = null, string? subject = "bob", string audience = "cybermesh", string? by = null, DateTime? expires = null)
        {
            var claims = new Dictionary<string, object> { ["roles"] = roles ?? ["viewer"] };
            if (subject is not null) claims["sub"] = subject;
            return new JsonWebTokenHandler { SetDefaultTimesOnTokenCreation = false }.CreateToken(new SecurityTokenDescriptor
            {
                Issuer = by ?? issuer,
                Audience = audience,
                Claims = claims,
                NotBefore = now.AddMinutes(-10),
                Expires = expires ?? now.AddMinutes(5),
                SigningCredentials = credentials,
            });
        }
    }

    // ---- Settings ---------------------------------------------------------------------------------------------

    [Theory]
    [InlineData("wants credentials, and there are none", "API_LISTEN_ADDR=0.0.0.0:8443")]
    [InlineData("wants credentials, and there are none", "API_AUTH=required")]
    [InlineData("API_AUTH is 'maybe'", "API_AUTH=maybe")]
    [InlineData("there are credentials that nobody needs then", "API_AUTH=open", "API_BEARER_TOKENS=a:viewer:0123456789012345678901234567890123")]
    [InlineData("without TLS; outside development", "ENVIRONMENT=production", "KAFKA_TLS_ENABLED=true", "API_LISTEN_ADDR=0.0.0.0:8443", "API_BEARER_TOKENS=a:viewer:0123456789012345678901234567890123")]
    [InlineData("TLS_CERT_PATH and TLS_KEY_PATH belong together", "TLS_CERT_PATH=/nowhere")]
    [InlineData("/nowhere.crt and its key /nowhere.key cannot be used", "TLS_CERT_PATH=/nowhere.crt", "TLS_KEY_PATH=/nowhere.key")]
    [InlineData("entry 1 of API_BEARER_TOKENS is not of the form name:role:token", "API_BEARER_TOKENS=secret0123456789012345678901234567890")]
    [InlineData("gives a the role 'king'", "API_BEARER_TOKENS=a:king:secret0123456789012345678901234567890")]
    [InlineData("gives a the role 'none'", "API_BEARER_TOKENS=a:none:secret0123456789012345678901234567890")]
    [InlineData("the token of a in API_BEARER_TOKENS is shorter than 32", "API_BEARER_TOKENS=a:viewer:secret")]
    [InlineData("names a twice", "API_BEARER_TOKENS=a:viewer:secret0123456789012345678901234567890,a:admin:secret0123456789012345678901234567891")]
    [InlineData("API_OIDC_ISSUER is 'http://issuer.example'; it must be an address with https", "API_OIDC_ISSUER=http://issuer.example", "API_OIDC_AUDIENCE=x", "API_AUTH=open")]
    [InlineData("API_OIDC_AUDIENCE is not", "API_OIDC_ISSUER=https://issuer.example")]
    [InlineData("API_OIDC_ISSUER is not", "API_OIDC_AUDIENCE=x")]
    [InlineData("API_CLIENT_ROLES is set, and API_TLS_CLIENT_CA_FILE is not", "API_CLIENT_ROLES=a=viewer")]
    [InlineData("API_CLIENT_ROLES contains 'a=b=king'", "API_CLIENT_ROLES=a=b=king")]
    public void What_does_not_go_together_is_refused_without_a_secret(string expected, params string[] settings) => SettingsRefusal.Expect(expected, settings);
}
