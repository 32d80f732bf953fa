using System;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Mempool;

/// <summary>One producer's allowance: so many messages per second, with one second's worth of burst. Integers only; time is an argument.</summary>
public sealed class TokenBucket(Timestamp now)
{
    private const long Message = 1000;
    private long _thousandths = long.MaxValue;
    private Timestamp _filledAt = now;

    /// <summary>Lets time pass; true when there is enough for a message. The rate may differ from call to call, as agreed quotas change.</summary>
    public bool Fill(uint perSecond, Timestamp now)
    {
        var full = perSecond * Message;
        // Messages per second are thousandths per millisecond. A clock that was set back adds nothing.
        var elapsedMs = Math.Clamp(now.Since(_filledAt), 0, 1000);
        _thousandths = _thousandths >= full ? full : Math.Min(full, _thousandths + elapsedMs * perSecond);
        _filledAt = now;
        return _thousandths >= Message;
    }

    /// <summary>Takes one message's worth, after <see cref="Fill"/> said there is one.</summary>
    public void Take()
    {
        Invariant.Holds(_thousandths >= Message, "the allowance holds a message");
        _thousandths -= Message;
    }
}
