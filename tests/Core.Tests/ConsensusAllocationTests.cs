using System;
using System.Linq;
using CyberMesh.Core.Consensus;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Most votes bring no quorum, or come after it: they are counted without allocation. Bytes are exact.</summary>
public sealed class ConsensusAllocationTests
{
    /// <summary>The least of some: what a step allocates is in each of them, what the runtime does once, while it compiles, is not.</summary>
    private static long Allocated(Func<(ConsensusBench Bench, PeerMessage.Signed Vote)> prepare) => Enumerable.Range(0, 50).Min(_ =>
    {
        var (bench, vote) = prepare();
        var before = GC.GetAllocatedBytesForCurrentThread();
        bench.Pbft.Receive(vote, bench.Now, bench.Outbox);
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Empty(bench.Outbox.Messages);
        return allocated;
    });

    [Theory]
    [InlineData(new int[0], 2)] // the own vote is there, and brings no quorum with another one
    [InlineData(new[] { 2 }, 2)] // the same again
    [InlineData(new[] { 0, 2 }, 3)] // after the quorum
    public void A_prepare_that_brings_no_quorum_allocates_nothing(int[] before, int from) => Assert.Equal(0, Allocated(() =>
    {
        var bench = new ConsensusBench();
        var block = bench.Propose(bench.Genesis);
        bench.Prepares(block, default, before);
        return (bench, bench.Samples.Messages(from).Prepare(default, block.Height, block.Digest));
    }));

    [Theory]
    [InlineData(new int[0], 2)]
    [InlineData(new[] { 2 }, 2)]
    public void A_commit_that_brings_no_quorum_allocates_nothing(int[] before, int from) => Assert.Equal(0, Allocated(() =>
    {
        var bench = new ConsensusBench();
        var block = bench.Propose(bench.Genesis);
        bench.Prepares(block, default, 0, 2);
        bench.Commits(block, default, before);
        return (bench, bench.Samples.Messages(from).Commit(default, block.Height, block.Digest));
    }));
}
