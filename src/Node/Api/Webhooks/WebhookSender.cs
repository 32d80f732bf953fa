using System;
using System.Globalization;
using System.IO;
using System.Net.Http;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace CyberMesh.Node.Api.Webhooks;

/// <summary>One message to one hook, signed as Standard Webhooks 1.0 says: the receiver checks it with their library and the secret.</summary>
public sealed class WebhookSender(TimeProvider time) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    // A redirect would carry what is signed for one receiver to another.
    private readonly HttpClient _http = new(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, PooledConnectionLifetime = TimeSpan.FromMinutes(10) }) { Timeout = Patience, MaxResponseContentBufferSize = 64 * 1024 };

    /// <summary>Null when the receiver has taken it; else why not.</summary>
    /// <param name="id">The same at each try, so that the receiver knows a message it has already.</param>
    public async Task<string?> TrySendAsync(Webhook hook, string id, string body, CancellationToken stop)
    {
        var at = time.GetUtcNow().ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture);
        using var request = new HttpRequestMessage(HttpMethod.Post, hook.Url) { Content = new StringContent(body, Encoding.UTF8, "application/json") };
        request.Headers.Add("webhook-id", id);
        request.Headers.Add("webhook-timestamp", at);
        request.Headers.Add("webhook-signature", "v1," + Convert.ToBase64String(HMACSHA256.HashData(hook.Secret.AsSpan(), Encoding.UTF8.GetBytes($"{id}.{at}.{body}"))));
        try
        {
            using var answer = await _http.SendAsync(request, stop).ConfigureAwait(false);
            return answer.IsSuccessStatusCode ? null : $"it answers {(int)answer.StatusCode}";
        }
        catch (Exception problem) when (problem is HttpRequestException or IOException or OperationCanceledException && !stop.IsCancellationRequested)
        {
            return problem is OperationCanceledException ? $"no answer within {Patience.TotalSeconds:0} s" : problem.Message;
        }
    }

    public void Dispose() => _http.Dispose();
}
