using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Hosting;
using CyberMesh.Simulator;

namespace CyberMesh.Cli.Demo;

/// <summary>Which validator is cut off from the others; shared by all transports of the demo.</summary>
internal sealed class PartitionSwitch
{
    private const int Nobody = -1;
    private int _isolated = Nobody;

    public ValidatorIndex? Isolated
    {
        get => Volatile.Read(ref _isolated) is var index && index == Nobody ? null : new ValidatorIndex((ushort)index);
        set => Volatile.Write(ref _isolated, value?.Value ?? Nobody);
    }
}

/// <summary>The mesh with the demo's faults in front of it: a partition, or a validator that lies.</summary>
internal sealed class FaultTransport(IPeerTransport mesh, ValidatorIndex me, int validators, PartitionSwitch partition, Liar? liar) : IPeerTransport
{
    /// <summary>A partition in a real network leaves connections standing for a while; so does this one.</summary>
    public int ConnectedCount => mesh.ConnectedCount;

    public void Send(Outgoing message)
    {
        if (liar is null)
        {
            Pass(message);
            return;
        }

        foreach (var (lie, delayMs) in liar.Distort(message))
        {
            if (lie.To == me) continue;
            if (delayMs == 0) Pass(lie);
            else _ = Task.Delay(delayMs).ContinueWith(_ => Pass(lie), TaskScheduler.Default);
        }
    }

    private void Pass(Outgoing message)
    {
        if (partition.Isolated is not { } isolated) mesh.Send(message);
        else if (isolated == me || message.To == isolated) return;
        else if (message.To is not null) mesh.Send(message);
        else
        {
            for (ushort i = 0; i < validators; i++)
                if (i != me.Value && i != isolated.Value)
                    mesh.Send(message with { To = new ValidatorIndex(i) });
        }
    }
}
