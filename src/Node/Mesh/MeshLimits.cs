using System;

namespace CyberMesh.Node.Mesh;

/// <summary>What one peer, or many strangers, may take of a validator. Tests make them smaller.</summary>
public sealed record MeshLimits
{
    /// <summary>Connections of strangers whose handshake is under way; and as many again from addresses where a validator was, so that strangers take none of its room.</summary>
    public int Handshakes { get; init; } = 64;

    public int HandshakesPerAddress { get; init; } = 16;

    /// <summary>Handshakes begun, for strangers and for addresses of validators each: a handshake costs about a millisecond of a core.</summary>
    public int HandshakesPerSecond { get; init; } = 50;

    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Something is sent at least so often.</summary>
    public TimeSpan KeepAlivePeriod { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A peer that was silent for so long is gone, whatever its connection looks like.</summary>
    public TimeSpan SilenceMax { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>For one frame to arrive: the largest legal one needs 280 KB/s.</summary>
    public TimeSpan FrameTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>For a peer to take what is written to it, 64 KiB or one frame at a time.</summary>
    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Bytes that wait for a slow peer, of each <see cref="Core.Consensus.MessageClass"/>; what does not fit is dropped.</summary>
    public long QueuedConsensusBytes { get; init; } = 4 << 20;

    public long QueuedTransactionBytes { get; init; } = 16 << 20;
    public long QueuedSyncBytes { get; init; } = 64 << 20;

    /// <summary>Frames of each class that are read of one peer in a second; beyond it the peer waits, as TCP tells it.</summary>
    public int FramesPerSecond { get; init; } = 5_000;

    /// <summary>Likewise.</summary>
    public int KibibytesPerSecond { get; init; } = 128 * 1024;

    /// <summary>Frames that are not genuine before the connection ends. Some come from honest peers when keys change.</summary>
    public int FramesNotGenuine { get; init; } = 100;

    /// <summary>Of an observer, which has only questions.</summary>
    public int ObserverFramesPerSecond { get; init; } = 50;

    /// <summary>Whether records of where validators are get passed on unasked, and how often all of them go to some peer.</summary>
    public bool Gossip { get; init; } = true;

    public TimeSpan GossipPeriod { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a validator that sent too many of them is not let in again.</summary>
    public TimeSpan Exclusion { get; init; } = TimeSpan.FromSeconds(30);
}
