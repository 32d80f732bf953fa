using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Cli.Demo;

/// <summary>Has every published message ended where it must, and nowhere else?</summary>
internal static class MessageAccount
{
    private const int NamedMax = 3;

    /// <summary>Every valid alert is accepted exactly once, of two rivals exactly one, and nothing else ever.</summary>
    /// <param name="results">The transactions that blocks accept, each time they do.</param>
    public static IEnumerable<string> CheckResults(string validator, IEnumerable<Digest> results, DemoProducers producers)
    {
        var accepted = new Dictionary<Digest, int>();
        foreach (var digest in results) accepted[digest] = accepted.GetValueOrDefault(digest) + 1;
        var (missing, twice, wrong) = (new List<Published>(), 0, 0);
        foreach (var (digest, published) in producers.Log)
        {
            var times = accepted.GetValueOrDefault(digest);
            if (published.Rival is { } rival) times += accepted.GetValueOrDefault(rival);
            if (published.Code is not null) wrong += times;
            else if (times == 0) missing.Add(published);
            else if (times > 1) twice++;
        }

        var strange = accepted.Keys.Count(digest => !producers.Log.ContainsKey(digest));
        if (missing.Count > 0) yield return $"{validator} has not committed {missing.Count} valid alerts, such as {string.Join(", ", missing.Take(NamedMax))}";
        if (twice > 0) yield return $"{validator} committed {twice} alerts twice";
        if (wrong > 0) yield return $"{validator} committed {wrong} broken messages";
        if (strange > 0) yield return $"{validator} committed {strange} messages nobody published";
    }

    public static IEnumerable<string> CheckDeadLetters(DemoProducers producers, DeadLetterReader deadLetters)
    {
        var counts = deadLetters.CountByCode();
        foreach (var code in producers.ExpectedDeadLetters.Keys.Union(counts.Keys))
        {
            var (expected, found) = (producers.ExpectedDeadLetters.GetValueOrDefault(code), counts.GetValueOrDefault(code));
            if (expected != found) yield return $"{found} dead letters with {code}, {expected} expected";
        }
    }
}
