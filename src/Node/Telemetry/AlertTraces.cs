using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Text;
using System.Threading;
using Confluent.Kafka;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Configuration;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace CyberMesh.Node.Telemetry;

/// <summary>
/// Follows alerts through this validator as OpenTelemetry traces: read from Kafka, verified, agreed upon, published. A record whose headers carry a
/// <c>traceparent</c> (W3C Trace Context) with the sampled flag is followed in the trace of its producer, so that its way through all validators is one trace; of
/// the others a share. Without a collector nothing is done at all. Thread-safe.
/// </summary>
public sealed class AlertTraces : IDisposable
{
    public const string SourceName = "CyberMesh";
    public const string Header = "traceparent";

    /// <summary>Alerts followed at a time; of more the oldest are given up.</summary>
    private const int OpenMax = 10_000;

    private readonly ActivitySource _source = new(SourceName);
    private readonly TracerProvider? _exporter;
    private readonly Lock _lock = new();
    private readonly Dictionary<Digest, (Activity Whole, Activity? Agreeing)> _open = [];
    private readonly Queue<Digest> _openOrder = new();
    private readonly Dictionary<Digest, ActivityContext> _decided = [];
    private readonly Queue<Digest> _decidedOrder = new();

    /// <summary>Nobody is told of any.</summary>
    public static AlertTraces None { get; } = new();

    private AlertTraces()
    {
    }

    /// <param name="node">Name of this validator, to tell its part of a trace from the others'.</param>
    public AlertTraces(TraceSettings settings, string chain, string node)
    {
        if (settings.Endpoint is not { } endpoint) return;
        _exporter = Sdk.CreateTracerProviderBuilder()
            .AddSource(_source.Name)
            .SetResourceBuilder(ResourceBuilder.CreateEmpty().AddService("cybermesh", serviceNamespace: chain, serviceInstanceId: node))
            .SetSampler(new ParentBasedSampler(new TraceIdRatioBasedSampler(settings.Ratio)))
            .AddOtlpExporter(exporter =>
            {
                exporter.Endpoint = settings.IsGrpc ? endpoint : new Uri(endpoint.ToString().TrimEnd('/') + "/v1/traces");
                exporter.Protocol = settings.IsGrpc ? OtlpExportProtocol.Grpc : OtlpExportProtocol.HttpProtobuf;
            })
            .Build();
    }

    public bool IsOn => _exporter is not null;

    /// <summary>A record was read; what becomes of it follows.</summary>
    /// <param name="verifying">When its check began; it has ended now.</param>
    public void Verified(Digest transaction, ConsumeResult<byte[]?, byte[]?> record, DateTimeOffset verifying, bool genuine)
    {
        if (!IsOn) return;
        _ = ActivityContext.TryParse(TextOf(record.Message.Headers), null, isRemote: true, out var parent);
        if (_source.StartActivity("receive", ActivityKind.Consumer, parent, startTime: verifying) is not { } whole) return;
        whole.SetTag("messaging.system", "kafka").SetTag("messaging.destination.name", record.Topic).SetTag("messaging.kafka.partition", record.Partition.Value)
            .SetTag("messaging.kafka.offset", record.Offset.Value).SetTag("cybermesh.transaction", transaction.ToString());
        _source.StartActivity("verify", ActivityKind.Internal, whole.Context, startTime: verifying)?.SetTag("cybermesh.genuine", genuine).Dispose();
        var agreeing = genuine ? _source.StartActivity("agree", ActivityKind.Internal, whole.Context) : null;
        // Nobody else is to become a child of it by accident.
        Activity.Current = null;
        lock (_lock)
        {
            if (genuine && _open.TryAdd(transaction, (whole, agreeing)))
            {
                _openOrder.Enqueue(transaction);
                // What was forgotten with a partition is never decided here.
                while (_openOrder.Count > OpenMax) End(_openOrder.Dequeue());
                return;
            }
        }

        agreeing?.Dispose();
        whole.Dispose();
    }

    private Activity? End(Digest transaction, Action<Activity?>? tell = null)
    {
        if (!_open.Remove(transaction, out var open)) return null;
        tell?.Invoke(open.Agreeing);
        open.Agreeing?.Dispose();
        open.Whole.Dispose();
        return open.Whole;
    }

    /// <summary>It is in a block, accepted or not, or will never be.</summary>
    public void Decided(Digest transaction, string result, Height? height)
    {
        if (!IsOn) return;
        lock (_lock)
        {
            if (End(transaction, agreeing => agreeing?.SetTag("cybermesh.result", result).SetTag("cybermesh.height", height?.Value)) is not { } whole) return;
            if (height is null || !_decided.TryAdd(transaction, whole.Context)) return;
            _decidedOrder.Enqueue(transaction);
            while (_decidedOrder.Count > OpenMax) _decided.Remove(_decidedOrder.Dequeue());
        }
    }

    /// <summary>
    /// A block is about to be published: its record joins the trace of the first of its alerts that is followed, with links to the others.
    /// </summary>
    /// <returns>To be disposed when Kafka has the record; null when none of them is followed.</returns>
    public Activity? Publishing(Height height, IEnumerable<Digest> transactions, string topic, Message<byte[]?, byte[]?> record)
    {
        if (!IsOn) return null;
        var followed = new List<ActivityContext>();
        lock (_lock)
            foreach (var transaction in transactions)
                if (_decided.Remove(transaction, out var context))
                    followed.Add(context);
        if (followed.Count == 0) return null;
        var links = followed.ConvertAll(context => new ActivityLink(context));
        var publishing = _source.StartActivity("publish", ActivityKind.Producer, followed[0], links: links[1..]);
        Activity.Current = null;
        if (publishing?.Id is not { } id) return null;
        publishing.SetTag("messaging.system", "kafka").SetTag("messaging.destination.name", topic).SetTag("cybermesh.height", height.Value);
        (record.Headers ??= []).Add(Header, Encoding.ASCII.GetBytes(id));
        return publishing;
    }

    private static string? TextOf(Headers? headers) =>
        headers is not null && headers.TryGetLastBytes(Header, out var bytes) && bytes is { Length: <= 64 } ? Encoding.ASCII.GetString(bytes) : null;

    public void Dispose()
    {
        _exporter?.Dispose();
        _source.Dispose();
    }
}
