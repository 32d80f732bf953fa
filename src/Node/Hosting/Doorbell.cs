using System;
using System.Threading;

namespace CyberMesh.Node.Hosting;

/// <summary>Wakes the one thread that waits for something to do. Nobody who rings pays for a thread that is awake, and nobody spins.</summary>
internal sealed class Doorbell
{
    private readonly AutoResetEvent _event = new(false);
    private int _sleeps;

    /// <summary>What is to be done must be visible before.</summary>
    public void Ring()
    {
        if (Interlocked.CompareExchange(ref _sleeps, 0, 1) == 1) _event.Set();
    }

    /// <summary>Until somebody rings, but not while there is something to do, and not for longer than this.</summary>
    /// <returns>False when there was nothing all that time.</returns>
    public bool Wait(int milliseconds, Func<bool> hasWork)
    {
        Interlocked.Exchange(ref _sleeps, 1);
        // Whoever rang before the line above believed this thread to be awake.
        var rung = hasWork() || _event.WaitOne(milliseconds);
        Interlocked.Exchange(ref _sleeps, 0);
        return rung;
    }
}
