using System;
using System.CommandLine;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Confluent.Kafka;
using CyberMesh.Node;
using CyberMesh.Node.Ingest;

namespace CyberMesh.Cli.Verbs;

/// <summary>Gives what somebody has signed to the validators: over Kafka, or to one of them over HTTP, which tells the others.</summary>
/// <param name="kind">As the HTTP API calls it; null for what only Kafka takes.</param>
internal sealed class HandIn(string defaultTopic, string? kind)
{
    private readonly Option<string?> _brokers = new("--brokers") { Description = "Kafka brokers (host:port,…)." };
    private readonly Option<string> _topic = new("--topic") { Description = "Its topic.", DefaultValueFactory = _ => defaultTopic };
    private readonly Option<bool> _http = new("--http") { Description = "Hand it to the validator at --url instead of Kafka; it must allow that (API_WRITES)." };

    private readonly Option<FileInfo?> _out = new("--out") { Description = "Write what was signed to a file instead, for somebody else to hand in." };

    public void AddTo(Command command)
    {
        command.Add(_out);
        command.Add(_brokers);
        command.Add(_topic);
        if (kind is not null) command.Add(_http);
    }

    public async Task SendAsync(ParseResult parsed, string? url, byte[] record, CancellationToken stop)
    {
        var (brokers, isHttp, file) = (parsed.GetValue(_brokers), kind is not null && parsed.GetValue(_http), parsed.GetValue(_out));
        var ways = (brokers is null ? 0 : 1) + (isHttp ? 1 : 0) + (file is null ? 0 : 1);
        if (ways != 1) throw new UserError(ways > 1 ? "--brokers, --http and --out exclude one another" : "it is not said where this goes", kind is null ? "give --brokers or --out" : "give --brokers, or --http and --url, or --out");
        if (file is not null)
        {
            await File.WriteAllBytesAsync(file.FullName, record, stop);
            return;
        }

        if (isHttp)
        {
            using var validator = new ValidatorClient(url!);
            await validator.PostAsync("/v1/transactions?kind=" + kind, record, stop);
            return;
        }

        using var producer = KafkaClients.Producer(KafkaConnection.FromEnvironment(brokers!), "cybermesh-hand-in", _ => { });
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
        limit.CancelAfter(TimeSpan.FromSeconds(30));
        try
        {
            await producer.ProduceAsync(parsed.GetValue(_topic)!, new Message<byte[]?, byte[]?> { Value = record }, limit.Token);
        }
        catch (Exception problem) when (problem is KafkaException or OperationCanceledException && !stop.IsCancellationRequested)
        {
            throw new ConnectionError($"Kafka did not take the message: {problem.Message}");
        }
    }
}
