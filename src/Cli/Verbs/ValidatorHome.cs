using System;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Projection;
using CyberMesh.Node.Storage;

namespace CyberMesh.Cli.Verbs;

/// <summary>The home directory of a validator, as commands look at it that are not the validator.</summary>
internal sealed class ValidatorHome : IDisposable
{
    private Replica? _replica;

    public ValidatorHome(string path, Settings settings)
    {
        (Path, Settings) = (path, settings);
        Genesis = GenesisFile.Load(In("genesis.json"));
        Blocks = LocalStore.OpenReader(Data);
        Snapshots = new SnapshotStore(In("data", "snapshots"));
    }

    public string Path { get; }

    public string Data => In("data");

    public Settings Settings { get; }

    public Genesis Genesis { get; }

    public BlockReader Blocks { get; }

    public SnapshotStore Snapshots { get; }

    public string In(params ReadOnlySpan<string> names) => System.IO.Path.Combine([Path, .. names]);

    /// <summary>As it is at the end of the stored chain, for which the newest blocks are executed.</summary>
    public Replica Replica
    {
        get
        {
            if (_replica is not null) return _replica;
            using var keys = Settings.OpenKeys(Path);
            return _replica = Recovery.Run(Genesis, keys, Settings, new Ed25519Verifier(), Snapshots, Blocks, []);
        }
    }

    public ProjectionSource ProjectionSource => new(Genesis, Replica.Epochs, Replica.Producers, $"node {Settings.NodeId}");

    public void Dispose() => Blocks.Dispose();
}
