using System.Collections.Generic;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;

namespace CyberMesh.Node.Hosting;

/// <summary>How messages reach other validators. Delivery is best effort: the protocol repeats what matters.</summary>
public interface IPeerTransport
{
    /// <summary>Queues a message for one validator, or for all others when <see cref="Outgoing.To"/> is null. Never blocks.</summary>
    void Send(Outgoing message);

    /// <summary>As one after the other; what goes to one validator may travel together.</summary>
    void Send(IReadOnlyList<Outgoing> messages)
    {
        foreach (var message in messages) Send(message);
    }

    /// <summary>How many other validators can be reached at the moment.</summary>
    int ConnectedCount { get; }
}

/// <summary>A verified message and the validator that delivered it.</summary>
public readonly record struct PeerInput(ValidatorIndex From, Verified<Incoming> Message);
