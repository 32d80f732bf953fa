using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Mesh;

/// <summary>
/// Kademlia's iterative FIND_NODE (Maymounkov and Mazières, 2002, section 2.3) over disjoint paths (Baumgart and Mies, S/Kademlia, 2007, section 4.3): asks the
/// nearest members it knows for nearer ones. Records are signed by members, so a liar can only withhold, and name other liars; these stay on the path where
/// they were named, and one path without a liar is enough.
/// </summary>
/// <param name="ask">The records a member knows nearest to an id; empty when it does not answer.</param>
public sealed class Lookup(PeerBook book, Func<PeerRecord, Digest, CancellationToken, Task<ImmutableArray<PeerRecord>>> ask)
{
    /// <summary>k: records in an answer, and in a bucket where buckets are small.</summary>
    public const int Width = 16;

    /// <summary>d: paths, which are asked along at once, one question each.</summary>
    public const int Paths = 8;

    /// <summary>Of each path so many of the nearest must have answered.</summary>
    private const int PathWidth = 8;

    private const int QuestionsPerPathMax = 16;

    /// <param name="Hops">Answers on the way to the record.</param>
    public sealed record Result(PeerRecord? Found, int Hops, int Questions);

    private sealed record Candidate(PeerRecord Record, int Path, int Hops)
    {
        public bool IsAsked { get; set; }
    }

    public Task<Result> FindAsync(PublicKey wanted, CancellationToken stop) => ApproachAsync(NodeId.Of(wanted), untilFound: true, stop);

    /// <summary>Meets the neighbours of an id: whoever joins does so with its own, and is known to those that others will ask for it.</summary>
    public Task<Result> ExploreAsync(Digest target, CancellationToken stop) => ApproachAsync(target, untilFound: false, stop);

    private async Task<Result> ApproachAsync(Digest target, bool untilFound, CancellationToken stop)
    {
        var candidates = new SortedDictionary<Bytes32, Candidate>(); // nearest first; each on one path only
        var start = book.Nearest(target, Width);
        for (var i = 0; i < start.Length; i++) Add(start[i], i % Paths, 0);
        var questions = 0;
        for (var round = 0; round < QuestionsPerPathMax && !(untilFound && Found() is not null); round++)
        {
            var next = Enumerable.Range(0, Paths).Select(path => candidates.Values.Where(c => c.Path == path).Take(PathWidth).FirstOrDefault(c => !c.IsAsked)).OfType<Candidate>().ToArray();
            if (next.Length == 0) break;
            questions += next.Length;
            foreach (var candidate in next) candidate.IsAsked = true;
            var answers = await Task.WhenAll(next.Select(c => ask(c.Record, target, stop))).ConfigureAwait(false);
            for (var i = 0; i < next.Length; i++)
                foreach (var record in answers[i].Take(Width))
                    if (!candidates.ContainsKey(DistanceOf(record)) && book.Trusts(record))
                    {
                        book.Offer(record);
                        Add(record, next[i].Path, next[i].Hops + 1);
                    }
        }

        return new Result(Found()?.Record, Found()?.Hops ?? 0, questions);

        Candidate? Found() => candidates.GetValueOrDefault(default(Bytes32));

        Bytes32 DistanceOf(PeerRecord record) => NodeId.Distance(NodeId.Of(record.Key), target);

        void Add(PeerRecord record, int path, int hops) => candidates[DistanceOf(record)] = new Candidate(record, path, hops);
    }
}
