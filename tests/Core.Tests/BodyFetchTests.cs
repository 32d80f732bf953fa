using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class BodyFetchTests
{
    [Fact]
    public void Bodies_are_asked_of_the_leader_then_of_one_after_the_other_and_each_has_twice_as_long()
    {
        var samples = new Samples();
        var digest = Samples.Digest(1);
        var block = samples.Block(samples.Genesis.Block, default, 1, digest);
        var fetch = new BodyFetch(new EpochSchedule(samples.Genesis.Chain));
        fetch.Want(block, [digest], default);
        var asked = new List<(long At, int Of)>();
        for (var ms = 0; ms <= 2000; ms++)
        {
            var outbox = new Effects();
            fetch.Ask(block, new ValidatorIndex(0), new Timestamp(ms), outbox);
            asked.AddRange(outbox.Messages.Select(m => ((long)ms, (int)m.To!.Value.Value)));
        }

        Assert.Equal([(25, 1), (85, 2), (205, 3), (445, 1), (925, 2), (1405, 3), (1885, 1)], asked);
    }
}
