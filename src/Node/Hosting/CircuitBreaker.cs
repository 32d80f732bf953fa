using System;
using System.Threading;

namespace CyberMesh.Node.Hosting;

public enum CircuitState
{
    /// <summary>It works.</summary>
    Closed,

    /// <summary>The pause is over: one attempt shows whether it works again.</summary>
    HalfOpen,

    /// <summary>It does not work, and is left alone for a while.</summary>
    Open,
}

/// <summary>What is known about a dependency at one moment.</summary>
/// <param name="Reason">Why it does not work; null when it does.</param>
/// <param name="Since">When it stopped working.</param>
public readonly record struct CircuitStatus(CircuitState State, string? Reason, DateTimeOffset? Since);

/// <summary>
/// Whether a dependency can be used at the moment. After a failure it is left alone for a second, then tried once; each further failure doubles the
/// pause, up to half a minute. Thread-safe.
/// </summary>
public sealed class CircuitBreaker(string name, TimeProvider time)
{
    private static readonly TimeSpan PauseMin = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan PauseMax = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private string? _reason;
    private DateTimeOffset _since;
    private long _openedAt;
    private TimeSpan _pause = PauseMin;
    private bool _trying;

    /// <summary>The dependency, as metrics and health name it.</summary>
    public string Name { get; } = name;

    public CircuitStatus Status
    {
        get
        {
            lock (_lock)
                return _reason is null ? default : new CircuitStatus(PauseIsOver ? CircuitState.HalfOpen : CircuitState.Open, _reason, _since);
        }
    }

    private bool PauseIsOver => _trying || time.GetElapsedTime(_openedAt) >= _pause;

    /// <summary>True when it works, and for the one caller who may try whether it works again; who gets true reports how it went.</summary>
    public bool MayTry()
    {
        lock (_lock)
        {
            if (_reason is null) return true;
            if (_trying || !PauseIsOver) return false;
            _trying = true;
            return true;
        }
    }

    public void Failed(string reason)
    {
        lock (_lock)
        {
            if (_reason is null) (_since, _pause) = (time.GetUtcNow(), PauseMin);
            else if (_trying) _pause = _pause + _pause < PauseMax ? _pause + _pause : PauseMax;
            // Failures of what was under way already do not make the pause longer.
            if (_reason is null || _trying) _openedAt = time.GetTimestamp();
            _trying = false;
            _reason = reason;
        }
    }

    public void Succeeded()
    {
        lock (_lock)
        {
            _reason = null;
            _trying = false;
        }
    }
}
