using System;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// The timers of the protocol as deadlines; time is an argument. Heartbeats reset the idle timer only (rule T2): a leader that
/// is alive but commits nothing must not live from them.
/// </summary>
public sealed class Pacemaker(ChainParameters parameters)
{
    private ChainParameters _parameters = parameters;
    private const int SamplesBeforeTrust = 8;

    private Timestamp? _progressAt;
    private Timestamp? _idleAt;
    private Timestamp? _newViewAt;
    private Timestamp? _lastTick;
    private uint _attempt;
    private long _smoothedMs;
    private long _deviationMs;
    private int _samples;
    private long _base = 2L * parameters.ProgressTimeoutMinMs;

    /// <summary>T(a): the base for the first three attempts, then doubling, capped (rule T1).</summary>
    public long ProgressTimeoutMs
    {
        get
        {
            var doublings = (int)Math.Min(_attempt > 2 ? _attempt - 2 : 0, 20);
            return Math.Min(_base << doublings, _parameters.TimeoutCapMs);
        }
    }

    /// <summary>Time from proposal to commit as it is now, with a margin.</summary>
    private long AgreementMs => 4 * _smoothedMs + 4 * _deviationMs;

    /// <summary>The same; false while too little is known.</summary>
    public bool TryMeasure(out long agreementMs)
    {
        agreementMs = AgreementMs;
        return _samples >= SamplesBeforeTrust;
    }

    /// <summary>
    /// A new term begins. The base is the measured time from proposal to commit and frozen for the term, so a leader cannot stretch its
    /// own limit.
    /// </summary>
    public void EnterTerm(ChainParameters parameters, Timestamp now)
    {
        _parameters = parameters;
        if (_samples >= SamplesBeforeTrust)
            _base = Math.Clamp(AgreementMs, _parameters.ProgressTimeoutMinMs, _parameters.ProgressTimeoutMaxMs);
        EnterView(0, now);
    }

    public void EnterView(uint attemptsSinceProgress, Timestamp now)
    {
        _attempt = attemptsSinceProgress;
        _progressAt = null;
        _newViewAt = null;
        _idleAt = now.PlusMs(_parameters.IdleTimeoutMs);
    }

    /// <summary>Smoothed mean and deviation as TCP estimates round trips (RFC 6298), in integers.</summary>
    public void Measured(long proposalToCommitMs)
    {
        if (_samples == 0)
        {
            _smoothedMs = proposalToCommitMs;
            _deviationMs = proposalToCommitMs / 2;
        }
        else
        {
            _deviationMs = (3 * _deviationMs + Math.Abs(_smoothedMs - proposalToCommitMs)) / 4;
            _smoothedMs = (7 * _smoothedMs + proposalToCommitMs) / 8;
        }

        _samples = Math.Min(_samples + 1, SamplesBeforeTrust);
    }

    /// <summary>Called with every tick. A host that slept (paused process, frozen machine) must not find all timers expired at once.</summary>
    public void Tick(Timestamp now)
    {
        if (_lastTick is { } last && now.Since(last) > _parameters.ProgressTimeoutMinMs)
        {
            var gap = now.Since(last);
            _progressAt = _progressAt?.PlusMs(gap);
            _idleAt = _idleAt?.PlusMs(gap);
            _newViewAt = _newViewAt?.PlusMs(gap);
        }

        _lastTick = now;
    }

    /// <summary>The progress timer runs exactly while there is work, the idle timer exactly while there is none.</summary>
    public void Work(bool exists, Timestamp now)
    {
        if (exists)
        {
            _progressAt ??= now.PlusMs(ProgressTimeoutMs);
            _idleAt = null;
        }
        else
        {
            _progressAt = null;
            _idleAt ??= now.PlusMs(_parameters.IdleTimeoutMs);
        }
    }

    public void Committed(Timestamp now)
    {
        if (_progressAt is not null) _progressAt = now.PlusMs(ProgressTimeoutMs);
    }

    public void LeaderHeard(Timestamp now)
    {
        if (_idleAt is not null) _idleAt = now.PlusMs(_parameters.IdleTimeoutMs);
    }

    /// <summary>Started only once Q validators want the view: attempts cannot run away while a quorum is missing (rule T3).</summary>
    public void AwaitNewView(Timestamp now) => _newViewAt ??= now.PlusMs(ProgressTimeoutMs);

    public void LeaveView(uint attemptsSinceProgress)
    {
        _attempt = attemptsSinceProgress;
        Suspend();
    }

    /// <summary>No timer runs while too few peers are connected for a quorum: nobody could be to blame (rule T5).</summary>
    public void Suspend()
    {
        _progressAt = null;
        _idleAt = null;
        _newViewAt = null;
    }

    public bool ProgressExpired(Timestamp now) => Expired(_progressAt, now);

    public bool IdleExpired(Timestamp now) => Expired(_idleAt, now);

    public bool NewViewExpired(Timestamp now) => Expired(_newViewAt, now);

    private static bool Expired(Timestamp? deadline, Timestamp now) => deadline is { } at && now >= at;
}
