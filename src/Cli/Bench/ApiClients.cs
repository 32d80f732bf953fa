using System;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Node;

namespace CyberMesh.Cli.Bench;

/// <summary>Those who listen and ask while commit latency is measured: a process of their own, as they are in life, though on the same cores.</summary>
internal sealed class ApiClients : IAsyncDisposable
{
    private const string Name = "clients";
    private const string Ready = "open";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly Process _process;

    private ApiClients(Process process) => _process = process;

    /// <exception cref="UserError">Not all streams could be opened.</exception>
    public static async Task<ApiClients> StartAsync(Uri validator, int streams, int requests, CancellationToken stop)
    {
        string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
        var process = Process.Start(new ProcessStartInfo(
            "dotnet", [Path.Combine(AppContext.BaseDirectory, "cybermesh.dll"), "bench", Name, "--url", validator.ToString(), "--streams", Number(streams), "--requests", Number(requests)])
        {
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
        })!;
        var clients = new ApiClients(process);
        if (await process.StandardOutput.ReadLineAsync(stop).AsTask().WaitAsync(Patience, stop) == Ready) return clients;
        await clients.DisposeAsync();
        throw new UserError($"not all of {streams} streams could be opened", "see the limit of open files (ulimit -n)");
    }

    /// <summary>Events that were read.</summary>
    public async Task<long> StopAsync(CancellationToken stop)
    {
        _process.StandardInput.Close();
        return long.Parse((await _process.StandardOutput.ReadLineAsync(stop).AsTask().WaitAsync(Patience, stop))!, CultureInfo.InvariantCulture);
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited) _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    public static Command Create()
    {
        var url = new Option<string>("--url") { Required = true };
        var (streams, requests) = (new Option<int>("--streams"), new Option<int>("--requests"));
        var command = new Command(Name, "The clients of 'bench api', until its input ends.") { url, streams, requests };
        command.Hidden = true;
        command.SetAction(async (parsed, stop) =>
        {
            using var http = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = int.MaxValue }) { BaseAddress = new Uri(parsed.GetValue(url)!), Timeout = Timeout.InfiniteTimeSpan };
            using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var (events, open) = (0L, 0);
            for (var i = 0; i < parsed.GetValue(streams); i++)
            {
                _ = ListenAsync(http, () => Interlocked.Increment(ref open), count => Interlocked.Add(ref events, count), end.Token);
                if (i % 50 == 49) await Task.Delay(50, stop);
            }

            for (var i = 0; i < 600 && Volatile.Read(ref open) < parsed.GetValue(streams); i++) await Task.Delay(50, stop);
            if (open < parsed.GetValue(streams)) return ExitCode.Failure;
            Console.WriteLine(Ready);
            var asking = RequestAsync(http, parsed.GetValue(requests), end.Token);
            await Console.In.ReadToEndAsync(stop);
            await end.CancelAsync();
            await asking;
            Console.WriteLine(Interlocked.Read(ref events).ToString(CultureInfo.InvariantCulture));
            return ExitCode.Ok;
        });
        return command;
    }

    private static async Task ListenAsync(HttpClient http, Action opened, Action<int> read, CancellationToken stop)
    {
        try
        {
            using var answer = await http.GetAsync("/v1/events", HttpCompletionOption.ResponseHeadersRead, stop);
            answer.EnsureSuccessStatusCode();
            opened();
            // As cheaply as can be: what clients do with events is not what is measured, and they share the cores.
            await using var stream = await answer.Content.ReadAsStreamAsync(stop);
            var buffer = new byte[16 * 1024];
            while (await stream.ReadAsync(buffer, stop) is var count && count > 0) read(buffer.AsSpan(0, count).Count("\nid: "u8));
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // enough
        }
    }

    private static async Task RequestAsync(HttpClient http, int perSecond, CancellationToken stop)
    {
        var clock = Stopwatch.StartNew();
        for (var i = 0; !stop.IsCancellationRequested; i++)
        {
            try
            {
                var wait = TimeSpan.FromSeconds((double)i / perSecond) - clock.Elapsed;
                if (wait > TimeSpan.Zero) await Task.Delay(wait, stop);
                _ = http.GetByteArrayAsync(i % 2 == 0 ? "/v1/alerts?limit=20" : "/v1/blocks?limit=20", stop).ContinueWith(_ => { }, TaskScheduler.Default);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                return;
            }
        }
    }
}
