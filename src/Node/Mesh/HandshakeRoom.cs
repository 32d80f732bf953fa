using System;
using System.Collections.Generic;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.RateLimiting;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// Room for connections whose peer is not known yet. Where it is full, whoever holds the most of it loses its oldest: a genuine handshake is over
/// in milliseconds, a flood that only holds connections pushes out itself. Addresses where a validator was have a room of their own.
/// </summary>
internal sealed class HandshakeRoom(MeshLimits limits) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<ValidatorIndex, IPAddress> _validators = [];
    private readonly Room _strangers = new(limits);
    private readonly Room _reserved = new(limits);

    /// <summary>Null when too many handshakes were begun in this second. Dispose it when the handshake is over.</summary>
    public Handshake? Enter(IPAddress remote)
    {
        var address = RemoteNetwork.Of(remote);
        lock (_lock)
        {
            var room = _validators.ContainsValue(address) ? _reserved : _strangers;
            using var lease = room.Rate.AttemptAcquire();
            return lease.IsAcquired ? room.Enter(address, limits, Leave) : null;
        }
    }

    /// <summary>A validator came from here: its next connection finds room.</summary>
    public void Remember(ValidatorIndex validator, IPAddress remote)
    {
        lock (_lock) _validators[validator] = RemoteNetwork.Of(remote);
    }

    public int Count
    {
        get
        {
            lock (_lock) return _strangers.Waiting.Count + _reserved.Waiting.Count;
        }
    }

    private void Leave(Handshake handshake)
    {
        lock (_lock)
        {
            _strangers.Waiting.Remove(handshake);
            _reserved.Waiting.Remove(handshake);
        }
    }

    public void Dispose()
    {
        _strangers.Rate.Dispose();
        _reserved.Rate.Dispose();
    }

    private sealed class Room(MeshLimits limits)
    {
        public TokenBucketRateLimiter Rate { get; } = new(new TokenBucketRateLimiterOptions
        {
            TokenLimit = limits.HandshakesPerSecond,
            TokensPerPeriod = Math.Max(1, limits.HandshakesPerSecond / 10),
            ReplenishmentPeriod = TimeSpan.FromMilliseconds(100),
        });

        /// <summary>Oldest first.</summary>
        public List<Handshake> Waiting { get; } = [];

        public Handshake Enter(IPAddress address, MeshLimits limits, Action<Handshake> leave)
        {
            if (Waiting.Count(h => h.Address.Equals(address)) >= limits.HandshakesPerAddress) PushOut(address);
            else if (Waiting.Count >= limits.Handshakes) PushOut(Waiting.GroupBy(h => h.Address).MaxBy(held => held.Count())!.Key);
            var handshake = new Handshake(address, leave);
            Waiting.Add(handshake);
            return handshake;
        }

        private void PushOut(IPAddress address)
        {
            var oldest = Waiting.First(h => h.Address.Equals(address));
            Waiting.Remove(oldest);
            oldest.PushOut();
        }
    }

    /// <summary>One connection's place.</summary>
    internal sealed class Handshake(IPAddress address, Action<Handshake> leave) : IDisposable
    {
        private readonly CancellationTokenSource _pushedOut = new();

        public IPAddress Address { get; } = address;

        /// <summary>Another connection has the place now.</summary>
        public CancellationToken PushedOut => _pushedOut.Token;

        /// <summary>On another thread: what waits for the token must not run under the lock.</summary>
        internal void PushOut() => _ = _pushedOut.CancelAsync();

        public void Dispose() => leave(this);
    }
}
