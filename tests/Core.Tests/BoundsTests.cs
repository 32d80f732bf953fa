using System;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Simulator;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>What measures the memory of the process cannot share it with other tests.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>Protocol section 16: nothing grows with what a peer sends.</summary>
[Collection(nameof(Alone))]
public sealed class BoundsTests(ITestOutputHelper output)
{
    private const int Junk = 10_000_000;
    private const long GrowthMax = 4 << 20;

    private readonly ConsensusBench _bench = new();
    private readonly Prng _prng = new(1, "junk");

    [Fact]
    public void I7_ten_million_junk_messages_of_a_member_leave_memory_flat()
    {
        // Everything a liar can vary, properly signed as far as consensus can tell: checking the signatures is not what is measured.
        Flood(Junk / 10);
        var before = GC.GetTotalMemory(forceFullCollection: true);
        Flood(Junk - Junk / 10);
        var after = GC.GetTotalMemory(forceFullCollection: true);
        output.WriteLine($"{before:N0} bytes after {Junk / 10:N0} messages, {after:N0} after {Junk:N0}");
        Assert.InRange(after - before, long.MinValue, GrowthMax);
        foreach (var (name, size, bound) in _bench.Pbft.Sizes) Assert.True(size <= bound, $"{size} {name}, at most {bound}");
    }

    private void Flood(int count)
    {
        var now = _bench.Now;
        for (var i = 0; i < count; i++)
        {
            _bench.Pbft.Receive(Message(), now, _bench.Outbox);
            _bench.Outbox.Messages.Clear();
            _bench.Outbox.Notices.Clear();
            _bench.Outbox.Records.Clear();
            if (i % 1000 == 0) now = now.PlusMs(1);
        }
    }

    private PeerMessage.Signed Message()
    {
        var sender = new ValidatorIndex(3);
        var view = new View((ulong)_prng.Below(3), (uint)_prng.Below(70_000) % (1 + (uint)_prng.Below(1000)));
        var height = new Height((ulong)_prng.Below(40));
        var digest = Digest();
        var best = new QuorumCertificate(CertificateKind.Prepare, 0, new View(0, (uint)_prng.Below(3)), height, digest, []);
        var claim = new Claim(best.Rank, digest, digest, default);
        switch (_prng.Below(8))
        {
            case 0: return new PeerMessage.Prepare(sender, view, height, digest, default);
            case 1: return new PeerMessage.Commit(sender, view, height, digest, default);
            case 2: return new PeerMessage.Suspect(sender, view, SuspectReason.Silent, default);
            case 3: return new PeerMessage.ViewChange(sender, view, claim, best, Justification.None, default);
            case 4: return new PeerMessage.NewView(sender, view, [new SignedClaim(sender, claim, default)], best, default);
            case 5: return new PeerMessage.Handover(sender, view, default);
            case 6: return new PeerMessage.Heartbeat(sender, view, QuorumCertificate.ForGenesis(_bench.Genesis.Digest), default);
            default:
                var transactions = ImmutableArray.Create(digest, Digest());
                return new PeerMessage.PrePrepare(sender, new Block(_bench.Genesis.Header with { View = view, Height = height, Parent = digest }, null, transactions), default);
        }
    }

    private Digest Digest() => new(new Bytes32(_prng.Next(), _prng.Next(), _prng.Next(), _prng.Next()));
}
