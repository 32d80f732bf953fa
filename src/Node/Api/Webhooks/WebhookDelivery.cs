using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Projection;
using CyberMesh.Node.Telemetry;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Api.Webhooks;

/// <summary>
/// Tells one hook of what is committed: in order, at least once, from where it was before a restart. What is not taken after some tries goes to the dead list and the next
/// message follows; while a hook takes nothing each message gets one try only.
/// </summary>
public sealed class WebhookDelivery
{
    private static readonly TimeSpan KeepAlive = TimeSpan.FromSeconds(30);
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>Before each further try.</summary>
    private static readonly TimeSpan[] BackOff = [TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(30), TimeSpan.FromMinutes(2), TimeSpan.FromMinutes(10)];

    private readonly Webhook _hook;
    private readonly Projection.Projection _projection;
    private readonly WebhookSender _sender;
    private readonly DeadMessages _dead;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly string _positionPath;
    private bool _isFailing;
    private long _delivered;

    /// <param name="directory">For the position and the dead list of all hooks.</param>
    public WebhookDelivery(Webhook hook, Projection.Projection projection, WebhookSender sender, string directory, TimeProvider time, ILogger logger)
    {
        (_hook, _projection, _sender, _time, _logger) = (hook, projection, sender, time, logger);
        Directory.CreateDirectory(directory);
        _dead = new DeadMessages(directory, hook.Name);
        _positionPath = Path.Combine(directory, hook.Name + ".position");
    }

    public string Name => _hook.Name;

    /// <summary>Messages the hook has taken since the start.</summary>
    public long Delivered => Interlocked.Read(ref _delivered);

    public bool IsFailing => Volatile.Read(ref _isFailing);

    public async Task RunAsync(CancellationToken stop)
    {
        try
        {
            var next = Position() ?? _projection.Height.Value + 1;
            while (!stop.IsCancellationRequested)
            {
                if (!await _projection.WaitAsync(new Height(next), KeepAlive, stop).ConfigureAwait(false)) continue;
                try
                {
                    next = _projection.FirstHeightFrom(next);
                    var messages = MessagesOf(next);
                    for (var i = 0; i < messages.Count; i++) await DeliverAsync($"{next}-{i}", messages[i], stop).ConfigureAwait(false);
                    KeepPosition(++next);
                }
                catch (Exception problem) when (problem is System.Data.Common.DbException or IOException)
                {
                    // The copy, or the disk, is away for a while; the block comes again.
                    Log.Webhook(_logger, _hook.Name, problem.Message);
                    await Task.Delay(TimeSpan.FromSeconds(1), _time, stop).ConfigureAwait(false);
                }
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }
    }

    private async Task DeliverAsync(string id, string body, CancellationToken stop)
    {
        var reason = await _sender.TrySendAsync(_hook, id, body, stop).ConfigureAwait(false);
        for (var tries = 0; reason is not null && !_isFailing && tries < BackOff.Length; tries++)
        {
            await Task.Delay(BackOff[tries] * (0.75 + (Random.Shared.NextDouble() / 2)), _time, stop).ConfigureAwait(false);
            reason = await _sender.TrySendAsync(_hook, id, body, stop).ConfigureAwait(false);
        }

        Volatile.Write(ref _isFailing, reason is not null);
        if (reason is null)
        {
            Interlocked.Increment(ref _delivered);
            return;
        }

        Log.Webhook(_logger, _hook.Name, $"message {id} goes to the dead list: {reason}");
        _dead.Add(new DeadMessage(id, _time.GetUtcNow(), reason, body));
    }

    /// <summary>What this hook wants to know of a block, in order.</summary>
    private List<string> MessagesOf(ulong height)
    {
        var messages = new List<string>();
        if (_projection.Block(height) is not { } block) return messages;
        foreach (var alert in _projection.AlertsAt(height)) Add("alert.reported", alert, alert.Severity, "reported", "");
        foreach (var change in _projection.AlertChangesAt(height))
            if (_projection.Alert(change.Digest) is { } alert)
                Add("alert." + change.Status, alert, alert.Severity, change.Status, change.By);
        foreach (var change in _projection.PolicyChangesAt(height))
            if (_hook.Events.Contains("policy." + change.Status) && _projection.Policy(change.Digest) is { } policy)
                messages.Add(Message("policy." + change.Status, new { policy.Id, policy.Digest, change.Status, change.By, policy.Action, policy.RuleType, policy.Until, policy.Producer, Height = height }));
        return messages;

        void Add(string type, AlertRow alert, int severity, string status, string by)
        {
            if (_hook.Events.Contains(type) && severity >= _hook.SeverityMin)
                messages.Add(Message(type, new { alert.Id, alert.Digest, Status = status, By = by, alert.Type, alert.Source, alert.Severity, alert.Time, alert.Producer, alert.Organisation, Height = height }));
        }

        string Message(string type, object data) => JsonSerializer.Serialize(new { Type = type, Timestamp = block.Time, Data = data }, Json);
    }

    private ulong? Position()
    {
        try
        {
            return ulong.TryParse(File.ReadAllText(_positionPath), NumberStyles.None, CultureInfo.InvariantCulture, out var height) ? height : null;
        }
        catch (IOException)
        {
            return null; // a new hook begins with what is committed from now on
        }
    }

    private void KeepPosition(ulong next)
    {
        File.WriteAllText(_positionPath + ".new", next.ToString(CultureInfo.InvariantCulture));
        File.Move(_positionPath + ".new", _positionPath, overwrite: true);
    }
}
