using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Hosting;

/// <summary>
/// Looks at every block a validator has stored, as somebody who believes nothing but genesis: do the blocks follow one another, do bodies and roots belong to
/// them, has a quorum signed them? A validator may run meanwhile; its vote log is looked at only when none does.
/// </summary>
/// <param name="epochs">The validators of each epoch, from executing the newest blocks.</param>
/// <param name="found">Told each thing that is wrong.</param>
public sealed class StoreCheck(Genesis genesis, EpochSchedule epochs, ISignatureVerifier signatures, Action<string> found)
{
    public int Blocks { get; private set; }

    public int PrunedBlocks { get; private set; }

    public int Certificates { get; private set; }

    public int Problems { get; private set; }

    public void CheckBlocks(BlockReader reader)
    {
        Block? parent = null;
        var (roots, certified) = (new Dictionary<ulong, Digest>(), true);
        foreach (var stored in reader.Read(new Height(1)))
        {
            var block = stored.Stored.Block.Block;
            var header = block.Header;
            Blocks++;
            if (parent is null || header.Height != parent.Height.Next)
            {
                if (Blocks > 1) Report(header.Height, $"follows block {parent!.Height}: there is a hole");
                else if (header.Height.Value == 1 && header.Parent != genesis.Block.Digest) Report(header.Height, "is not built on genesis");
                if (!certified) Report(parent!.Height, "has no certificate, and no block after it");
            }
            else if (header.Parent != parent.Digest)
            {
                Report(header.Height, "is not built on the block before it");
            }

            if (header.ChainId != genesis.Chain.ChainId) Report(header.Height, "is of another chain");
            if (block.Transactions.Length != header.TransactionCount || MerkleTree.Root(block.Transactions.AsSpan()) != header.TransactionRoot) Report(header.Height, "holds other transactions than its header names");
            if (stored.Results.Length != block.Transactions.Length) Report(header.Height, $"has {stored.Results.Length} results for {block.Transactions.Length} transactions");
            if (roots.TryGetValue(header.RootHeight.Value, out var root) && root != header.StateRoot) Report(header.Height, $"names another state after block {header.RootHeight} than this validator computed");
            roots[header.Height.Value] = stored.StateRoot;
            if (header.RootHeight.Value > 0) roots.Remove(header.RootHeight.Value - 1);
            if (stored.Stored.IsPruned) PrunedBlocks++;
            else CheckBodies(stored.Stored.Block);
            certified = stored.Stored.Certificate is not null;
            if (stored.Stored.Certificate is { } certificate) CheckCertificate(block, certificate);
            parent = block;
        }

        if (!certified) Report(parent!.Height, "has no certificate, and no block after it");
    }

    private void CheckBodies(BlockWithBodies block)
    {
        for (var i = 0; i < block.Bodies.Length; i++)
            if (i >= block.Block.Transactions.Length || !EnvelopeDecoder.TryDecodeBody(block.Bodies[i], out var envelope, out _) || envelope.Digest != block.Block.Transactions[i])
                Report(block.Block.Height, $"holds another message than its transaction {i}");
    }

    private void CheckCertificate(Block block, QuorumCertificate certificate)
    {
        Certificates++;
        if (certificate.Kind != CertificateKind.Commit || certificate.Height != block.Height || certificate.Digest != block.Digest) Report(block.Height, "carries the certificate of another block");
        else if (epochs.All.FirstOrDefault(e => e.Context.Epoch == certificate.Epoch).Context is not { } chain) Report(block.Height, $"carries a certificate of epoch {certificate.Epoch}, which there is not");
        else if (!certificate.Verify(chain, genesis.Block.Digest, signatures)) Report(block.Height, "carries a certificate that is not one of its validators");
    }

    private void Report(Height height, string what) => Report($"block {height} {what}");

    private void Report(string what)
    {
        Problems++;
        found(what);
    }

    public void CheckSnapshots(SnapshotStore snapshots)
    {
        if (snapshots.Newest() is { } newest && snapshots.Read(newest) is null) Report($"snapshot {newest.Certificate.Checkpoint.Height}: a chunk is missing or is not what the offer says");
    }

    /// <summary>Who else on this machine may read or write what.</summary>
    public void CheckModes(string home)
    {
        const UnixFileMode writers = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;
        const UnixFileMode readers = UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
        Check(home, writers);
        Check(Path.Combine(home, "data"), writers | readers);
        foreach (var file in Directory.EnumerateFiles(home, "*.key")) Check(file, writers | readers | UnixFileMode.GroupRead);
        foreach (var file in Directory.EnumerateFiles(Path.Combine(home, "data"), "*.db*")) Check(file, writers);

        void Check(string path, UnixFileMode forbidden)
        {
            if ((File.GetUnixFileMode(path) & forbidden) != 0) Report($"{path} is open to other users of this machine; chmod go-rwx {path}");
        }
    }
}
