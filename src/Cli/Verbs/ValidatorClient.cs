using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Node;

namespace CyberMesh.Cli.Verbs;

/// <summary>Nobody answers, or not as a validator does (exit code 3).</summary>
internal sealed class ConnectionError(string what) : Exception(what);

/// <summary>A validator answers and refuses, with its reason.</summary>
internal sealed class RefusedError(HttpStatusCode status, string what, string fix) : Exception(what + ". " + char.ToUpperInvariant(fix[0]) + fix[1..] + ".")
{
    public int Code => status switch
    {
        HttpStatusCode.NotFound => ExitCode.NotFound,
        HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden => ExitCode.Permission,
        HttpStatusCode.Conflict => ExitCode.Conflict,
        _ => ExitCode.Failure,
    };
}

/// <summary>
/// Reads from the HTTP API of one validator. Credentials come from the environment: <c>CYBERMESH_TOKEN</c> or <c>CYBERMESH_TOKEN_FILE</c>, and with
/// <c>CYBERMESH_CA_FILE</c> the authorities its certificate must come from.
/// </summary>
internal sealed class ValidatorClient : IDisposable
{
    private const int AnswerBytesMax = 16 << 20;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);
    private readonly HttpClient _http;

    /// <summary>The option every verb that asks a validator has.</summary>
    public static Option<string> UrlOption() => new("--url")
    {
        Description = "HTTP address of a validator; CYBERMESH_URL when it is set.",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("CYBERMESH_URL") is { Length: > 0 } url ? url : "http://127.0.0.1:8443",
    };

    public static Option<int> WaitOption() => new("--wait") { Description = "Ask again for so many seconds until it is as wanted." };

    /// <summary>What is not there yet may come: asks until it is as wanted, or the time is over; the last answer.</summary>
    public static async Task<T> UntilAsync<T>(Func<Task<T>> ask, Func<T, bool> isWanted, int seconds, CancellationToken stop)
    {
        for (var until = TimeProvider.System.GetUtcNow().AddSeconds(seconds); ;)
        {
            var over = TimeProvider.System.GetUtcNow() >= until;
            try
            {
                var found = await ask();
                if (over || isWanted(found)) return found;
            }
            catch (Exception problem) when (!over && problem is RefusedError or ConnectionError)
            {
                // not yet
            }

            await Task.Delay(Pause, stop);
        }
    }

    /// <exception cref="UserError">This is no address.</exception>
    public ValidatorClient(string url)
    {
        if (!Uri.TryCreate(url, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
            throw new UserError($"--url {url} is not an HTTP address", "write it like http://127.0.0.1:8443");
        _http = new HttpClient(Handler()) { BaseAddress = address, Timeout = TimeSpan.FromSeconds(10), MaxResponseContentBufferSize = AnswerBytesMax };
        if (Token() is not { } token) return;
        if (address.Scheme != "https" && !address.IsLoopback) throw new UserError($"{url} would be sent a token in the clear", "use https");
        _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
    }

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    private static string? Token()
    {
        var (token, file) = (Variable("CYBERMESH_TOKEN"), Variable("CYBERMESH_TOKEN_FILE"));
        if (token is not null && file is not null) throw new UserError("CYBERMESH_TOKEN and CYBERMESH_TOKEN_FILE are both set", "keep one");
        if (file is not null && !File.Exists(file)) throw new UserError($"CYBERMESH_TOKEN_FILE is '{file}', which does not exist", "name the file with the token");
        return file is null ? token : File.ReadAllText(file).Trim();
    }

    private static SocketsHttpHandler Handler()
    {
        // Redirects would carry the question elsewhere; a validator makes none.
        var handler = new SocketsHttpHandler { AllowAutoRedirect = false };
        if (Variable("CYBERMESH_CA_FILE") is not { } path) return handler;
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        try
        {
            policy.CustomTrustStore.ImportFromPemFile(path);
        }
        catch (Exception problem) when (problem is IOException or CryptographicException)
        {
            throw new UserError($"CYBERMESH_CA_FILE is '{path}', which cannot be read: {problem.Message}", "name a file of certificates in PEM form");
        }

        handler.SslOptions.CertificateChainPolicy = policy;
        return handler;
    }

    /// <summary>The answer, or what the validator says is wrong with the question (null body).</summary>
    /// <exception cref="ConnectionError">No answer.</exception>
    public async Task<(HttpStatusCode Status, byte[] Body)> GetAsync(string path, CancellationToken stop)
    {
        try
        {
            using var answer = await _http.GetAsync(path, stop);
            return (answer.StatusCode, await answer.Content.ReadAsByteArrayAsync(stop));
        }
        catch (Exception problem) when (problem is HttpRequestException or TaskCanceledException && !stop.IsCancellationRequested)
        {
            throw new ConnectionError($"{_http.BaseAddress} does not answer: {problem.Message}");
        }
    }

    /// <exception cref="RefusedError">The validator refuses, with its reason.</exception>
    /// <exception cref="ConnectionError">No answer, or not one of a validator.</exception>
    public async Task<byte[]> ReadAsync(string path, CancellationToken stop)
    {
        var (status, body) = await GetAsync(path, stop);
        return status == HttpStatusCode.OK ? body : throw Refusal(status, body);
    }

    private Exception Refusal(HttpStatusCode status, byte[] body)
    {
        var problem = Json(body);
        return (string?)problem?["detail"] is { } detail
            ? new RefusedError(status, detail.TrimEnd('.'), ((string?)problem["hint"] ?? "see docs/api.md").TrimEnd('.'))
            : new ConnectionError($"{_http.BaseAddress} does not answer as a validator: status {(int)status}");
    }

    /// <exception cref="RefusedError">The validator refuses, with its reason.</exception>
    /// <exception cref="ConnectionError">No answer, or not one of a validator.</exception>
    public async Task PostAsync(string path, byte[] body, CancellationToken stop)
    {
        try
        {
            using var content = new ByteArrayContent(body);
            content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
            using var answer = await _http.PostAsync(path, content, stop);
            if (!answer.IsSuccessStatusCode) throw Refusal(answer.StatusCode, await answer.Content.ReadAsByteArrayAsync(stop));
        }
        catch (Exception problem) when (problem is HttpRequestException or TaskCanceledException && !stop.IsCancellationRequested)
        {
            throw new ConnectionError($"{_http.BaseAddress} does not answer: {problem.Message}");
        }
    }

    /// <exception cref="ConnectionError">No answer, or not one of a validator.</exception>
    public async Task<JsonNode> ReadJsonAsync(string path, CancellationToken stop) =>
        Json(await ReadAsync(path, stop)) ?? throw new ConnectionError($"{_http.BaseAddress} does not answer as a validator: no JSON");

    /// <summary>Blocks as they are committed. A connection that breaks is made again, and goes on where it was.</summary>
    /// <param name="after">The last block that is known; null to begin with the next.</param>
    /// <exception cref="RefusedError">The validator refuses, with its reason.</exception>
    public async IAsyncEnumerable<JsonNode> EventsAsync(ulong? after, [EnumeratorCancellation] CancellationToken stop)
    {
        // A stream has no end that could be waited for; keep-alives come every 15 s.
        using var http = new HttpClient(Handler()) { BaseAddress = _http.BaseAddress, Timeout = Timeout.InfiniteTimeSpan };
        http.DefaultRequestHeaders.Authorization = _http.DefaultRequestHeaders.Authorization;
        while (true)
        {
            await using var events = ReadEventsAsync(http, after, stop).GetAsyncEnumerator(stop);
            while (true)
            {
                try
                {
                    if (!await events.MoveNextAsync()) break;
                }
                catch (Exception problem) when (problem is HttpRequestException or IOException or TimeoutException)
                {
                    break;
                }

                after = events.Current.Height;
                yield return events.Current.Data;
            }

            await Task.Delay(TimeSpan.FromSeconds(1), stop);
        }
    }

    private async IAsyncEnumerable<(ulong Height, JsonNode Data)> ReadEventsAsync(HttpClient http, ulong? after, [EnumeratorCancellation] CancellationToken stop)
    {
        using var answer = await http.GetAsync("/v1/events" + (after is null ? "" : $"?after={after}"), HttpCompletionOption.ResponseHeadersRead, stop);
        if (!answer.IsSuccessStatusCode) throw Refusal(answer.StatusCode, await answer.Content.ReadAsByteArrayAsync(stop));
        await foreach (var item in SseParser.Create(await answer.Content.ReadAsStreamAsync(stop)).EnumerateAsync(stop))
            if (ulong.TryParse(item.EventId, CultureInfo.InvariantCulture, out var height) && JsonNode.Parse(item.Data) is { } data)
                yield return (height, data);
    }

    private static JsonNode? Json(byte[] body)
    {
        try
        {
            return JsonNode.Parse(body) as JsonObject;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    public void Dispose() => _http.Dispose();
}
