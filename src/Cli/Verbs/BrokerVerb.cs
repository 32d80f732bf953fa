using System;
using System.CommandLine;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Node;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

internal static class BrokerVerb
{
    public const string DefaultTopics = "ai.anomalies.v1,ai.evidence.v1,ai.policy.v1,ai.dlq.v1,control.orders.v1,control.decisions.v1,control.commits.v1,control.reputation.v1,control.policy.v1";

    public static Command Create()
    {
        var topics = new Option<string>("--topics") { Description = "Topics to create, separated by commas.", DefaultValueFactory = _ => DefaultTopics };
        var port = new Option<int>("--port") { Description = "Fixed port; 0 takes any.", DefaultValueFactory = _ => 0 };
        var command = new Command("broker", "Run the embedded Kafka broker for development. It keeps nothing.") { topics, port };
        command.SetAction(async (parsed, stop) =>
        {
            using var broker = new EmbeddedBroker(parsed.GetValue(topics)!.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries));
            var fixedPort = parsed.GetValue(port);
            using var forwarder = fixedPort == 0 ? null : Forwarder.Start(fixedPort, broker, stop);
            Console.WriteLine($"broker: {(fixedPort == 0 ? broker.BootstrapServers : $"127.0.0.1:{fixedPort}")}");
            Console.WriteLine("development only: records are kept in memory, about 5 MiB per partition, and are gone when this stops");
            await Task.Delay(Timeout.Infinite, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            return ExitCode.Ok;
        });
        return command;
    }

    /// <summary>The embedded broker listens on a port of its own choosing; this passes a fixed one on to it.</summary>
    private sealed class Forwarder : IDisposable
    {
        private readonly TcpListener _listener;

        private Forwarder(TcpListener listener) => _listener = listener;

        public static Forwarder Start(int port, EmbeddedBroker broker, CancellationToken stop)
        {
            var target = IPEndPoint.Parse(broker.BootstrapServers.Replace("localhost", "127.0.0.1", StringComparison.Ordinal));
            var listener = new TcpListener(IPAddress.Loopback, port);
            try
            {
                listener.Start();
            }
            catch (SocketException problem)
            {
                throw new UserError($"cannot listen on port {port}: {problem.Message}", "choose another --port");
            }

            broker.Advertise("127.0.0.1", port);
            var forwarder = new Forwarder(listener);
            _ = forwarder.AcceptAsync(target, stop);
            return forwarder;
        }

        private async Task AcceptAsync(IPEndPoint target, CancellationToken stop)
        {
            try
            {
                while (true) _ = ForwardAsync(await _listener.AcceptTcpClientAsync(stop), target, stop);
            }
            catch (Exception problem) when (problem is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // stopped
            }
        }

        private static async Task ForwardAsync(TcpClient client, IPEndPoint target, CancellationToken stop)
        {
            using var ownedClient = client;
            using var server = new TcpClient { NoDelay = true };
            try
            {
                client.NoDelay = true;
                await server.ConnectAsync(target, stop);
                using var closed = CancellationTokenSource.CreateLinkedTokenSource(stop);
                var there = client.GetStream().CopyToAsync(server.GetStream(), closed.Token);
                var back = server.GetStream().CopyToAsync(client.GetStream(), closed.Token);
                await Task.WhenAny(there, back);
                await closed.CancelAsync();
                await Task.WhenAll(there, back).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (Exception problem) when (problem is OperationCanceledException or SocketException or IOException)
            {
                // either side closed
            }
        }

        public void Dispose() => _listener.Dispose();
    }
}
