using System;
using System.Diagnostics;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// Keeps a connection to one address: dials, waits until it ends, dials again, later each time. Messages meant for a peer without a connection are
/// dropped: on reconnection the protocol asks for what is missing, and old votes are of no use.
/// </summary>
/// <param name="isReached">Another address leads to this validator at the moment. Of two connections the other side keeps the younger, so they would
/// end one another for ever.</param>
/// <param name="connect">Ends with the connection, normally or with any exception.</param>
internal sealed class PeerLink(string address, Func<ValidatorIndex, bool> isReached, Func<PeerLink, CancellationToken, Task> connect)
{
    private static readonly TimeSpan BackOffMin = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan BackOffMax = TimeSpan.FromSeconds(5);

    /// <summary>A connection that lasted so long was a success.</summary>
    private static readonly TimeSpan Lasting = TimeSpan.FromSeconds(5);

    private readonly SemaphoreSlim _nudge = new(0, 1);

    public string Address { get; } = address;

    /// <summary>Who answered at this address the last time.</summary>
    public ValidatorIndex? Known { get; set; }

    /// <summary>There is a sign that the peer is alive: dial now.</summary>
    public void Nudge()
    {
        if (_nudge.CurrentCount > 0) return;
        try
        {
            _nudge.Release();
        }
        catch (SemaphoreFullException)
        {
            // somebody else was faster
        }
    }

    public async Task RunAsync(CancellationToken stop)
    {
        var backOff = BackOffMin;
        while (!stop.IsCancellationRequested)
        {
            if (Known is not { } known || !isReached(known))
            {
                var begun = Stopwatch.GetTimestamp();
                await connect(this, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                if (Stopwatch.GetElapsedTime(begun) > Lasting) backOff = BackOffMin;
            }

            // Jitter keeps restarting validators from dialling in step.
            var delay = backOff * (0.5 + Random.Shared.NextDouble());
            backOff = backOff * 2 > BackOffMax ? BackOffMax : backOff * 2;
            try
            {
                if (await _nudge.WaitAsync(delay, stop).ConfigureAwait(false)) backOff = BackOffMin;
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }
}
