using Confluent.Kafka;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Ingest;

/// <summary>
/// Reads from what a client reports whether Kafka can be used. A client says when it loses brokers or is refused, and once a second what it is
/// connected to; it never says that all is well again. Its thread calls.
/// </summary>
public sealed class KafkaWatch(CircuitBreaker circuit, ILogger logger)
{
    private volatile string? _lastProblem;
    private volatile bool _lost;

    public void OnError(Error error)
    {
        Log.Kafka(logger, error.Reason);
        // "All brokers are down" follows on what says why.
        if (error.Code != ErrorCode.Local_AllBrokersDown) _lastProblem = error.Reason;
        if (error.IsFatal || error.Code == ErrorCode.Local_AllBrokersDown || KafkaClients.IsRefusal(error.Code)) Lose();
    }

    public void OnStatistics(int brokersUp)
    {
        if (brokersUp == 0)
        {
            Lose();
            return;
        }

        _lastProblem = null;
        // A connection proves nothing about writes that were refused.
        if (_lost) circuit.Succeeded();
        _lost = false;
    }

    private void Lose()
    {
        _lost = true;
        circuit.Failed(_lastProblem ?? "no broker is connected");
    }
}
