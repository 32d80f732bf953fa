using System;
using System.Threading;
using System.Threading.RateLimiting;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Node.Mesh;

/// <summary>What one connection brings in: first the budget of its class, then every signature, then the replica. A peer beyond its budget waits, which TCP tells it.</summary>
/// <param name="mayVote">False for an observer: it may only ask.</param>
/// <param name="refused">Told why a frame is not genuine.</param>
internal sealed class PeerReceiver(
    PeerAuthenticator authenticator, Discovery discovery, MeshLimits limits, bool mayVote, Func<PeerInput, CancellationToken, ValueTask> deliver, Action<PeerConnection, string> refused) : IDisposable
{
    private readonly RateLimiter[] _frames =
        [Budget(Frames(limits, mayVote)), Budget(Frames(limits, mayVote)), Budget(Frames(limits, mayVote))];

    private readonly RateLimiter _kibibytes = Budget(limits.KibibytesPerSecond);

    public async ValueTask ReceiveAsync(PeerConnection from, byte[] frame, CancellationToken stop)
    {
        var isMeshFrame = MeshFrame.IsOne(frame);
        using var one = await _frames[(int)(isMeshFrame ? MessageClass.Sync : MessageCodec.ClassOf(frame))].AcquireAsync(1, stop).ConfigureAwait(false);
        using var bytes = await _kibibytes.AcquireAsync(Math.Min(1 + frame.Length / 1024, limits.KibibytesPerSecond), stop).ConfigureAwait(false);
        if (isMeshFrame)
        {
            if (!discovery.TryReceive(from, frame)) refused(from, "not a frame of the mesh, or a forged record in it");
        }
        else if (!mayVote && !MessageCodec.IsQuestion(frame))
        {
            refused(from, "an observer may only ask");
        }
        else if (authenticator.TryVerify(frame, out var verified, out var problem))
        {
            await deliver(new PeerInput(from.Peer, verified), stop).ConfigureAwait(false);
        }
        else
        {
            refused(from, problem ?? "");
        }
    }

    private static int Frames(MeshLimits limits, bool mayVote) => mayVote ? limits.FramesPerSecond : limits.ObserverFramesPerSecond;

    /// <summary>One frame at a time asks, so a queue of one is never full.</summary>
    private static TokenBucketRateLimiter Budget(int perSecond) => new(new TokenBucketRateLimiterOptions
    {
        TokenLimit = perSecond,
        TokensPerPeriod = Math.Max(1, perSecond / 10),
        ReplenishmentPeriod = TimeSpan.FromMilliseconds(100),
        QueueLimit = perSecond,
    });

    public void Dispose()
    {
        foreach (var budget in _frames) budget.Dispose();
        _kibibytes.Dispose();
    }
}
