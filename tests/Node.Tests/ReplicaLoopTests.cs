using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;
using CyberMesh.Node.Storage;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class ReplicaLoopTests
{
    private sealed class Nobody : IPeerTransport
    {
        public int ConnectedCount => 0;

        public void Send(Outgoing message) { }
    }

    /// <summary>Whoever brings an input takes it through the replica, so what goes wrong there must stop the loop's thread as well.</summary>
    [Fact]
    public async Task After_an_exception_on_the_thread_of_a_peer_the_loop_fails_and_nobody_goes_on()
    {
        var stop = TestContext.Current.CancellationToken;
        using var directory = new TemporaryDirectory();
        var home = Testnet.Generate(directory.Path, Testnet.FreePorts(4), Testnet.FreePorts(4), [], "127.0.0.1:1", TimeProvider.System)[0];
        var genesis = GenesisFile.Load(Path.Combine(home, "genesis.json"));
        using var keys = new Keyring(home);
        var verifier = new Ed25519Verifier();
        using var store = LocalStore.Open(Path.Combine(home, "data"), genesis.Chain.ChainId, Path.Combine(home, "votes.mark"));
        using var reader = store.OpenReader();
        var snapshots = new SnapshotStore(Path.Combine(home, "data", "snapshots"));
        var replica = Recovery.Run(genesis, keys, Settings.Load(Path.Combine(home, "config.json"), new Dictionary<string, string>()), verifier, snapshots, reader, store.ReadLog().Records);
        var calls = 0;
        var loop = new ReplicaLoop(
            replica, store, snapshots, new Nobody(), TimeProvider.System, _ => { }, _ => { }, _ => { }, _ => { },
            _ =>
            {
                Interlocked.Increment(ref calls);
                throw new InvalidOperationException("broken");
            },
            _ => { }, _ => { }, _ => { }, _ => { }, null);
        var authenticator = new PeerAuthenticator(replica.Epochs, genesis.Block.Digest, genesis.Operators, verifier);
        Assert.True(authenticator.TryVerify(MessageCodec.Encode(new PeerMessage.GetBlocks(new Height(1))), out var question, out _));
        var input = new PeerInput(new ValidatorIndex((ushort)(replica.Me.Value == 0 ? 1 : 0)), question);

        var running = loop.RunAsync(stop);
        // The peer's thread is not told: its connection is none the worse.
        for (var i = 0; i < 1000 && !running.IsCompleted; i++)
        {
            await loop.ReceiveAsync(input, stop);
            await Task.Delay(1, stop);
        }

        Assert.Equal("broken", (await Assert.ThrowsAsync<InvalidOperationException>(() => running)).Message);
        await loop.ReceiveAsync(input, stop);
        Assert.Equal(1, calls);
    }
}
