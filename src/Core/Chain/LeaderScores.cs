using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>How one validator stands as a leader.</summary>
/// <param name="Score">0 to 1000.</param>
/// <param name="BarredThrough">Last term in which proven misbehaviour keeps it from leading early; 0 when it never did.</param>
/// <param name="Credit">Running balance of the smooth weighted round robin.</param>
/// <param name="Losses">Terms in which it lost an attempt, less those it led in without; at most <see cref="LeaderScores.LossesMax"/>.</param>
/// <param name="RestsThrough">Last term in which it leads late for having lost an attempt; 0 when it never did.</param>
public readonly record struct Standing(int Score, ulong BarredThrough, int Credit, int Losses = 0, ulong RestsThrough = 0);

/// <summary>
/// Leader scores and the order of attempts for each term (rules L1 to L4 and L6). A pure function of committed headers, the seals inside
/// blocks and committed evidence: certificates that validators hold apart from blocks differ between them and count for nothing.
/// Integers only. Part of the replicated state.
/// </summary>
public sealed class LeaderScores
{
    public const int Initial = 700;
    public const int Max = 1000;
    public const ulong BarredTerms = 8;
    public const int LossesMax = 8;

    private const int Led = 40;
    private const int Took = 20;
    private const int Lost = -120;
    private const int Slow = -60;
    private const int ProducedNothing = 3;

    private ValidatorSet _validators;
    private ChainParameters _parameters;

    // By place; those of validators that have left stay and are not looked at.
    private Standing[] _standings;

    // What the present term has shown so far.
    private int[] _blocks;
    private int[] _seals;
    private int[] _failures;
    private List<long>[] _intervals;
    private int _sealCount;
    private uint? _lastAttempt;
    private BlockHeader? _last;

    public LeaderScores(ChainContext chain)
    {
        _validators = chain.Validators;
        _parameters = chain.Parameters;
        (_standings, _blocks, _seals, _failures, _intervals) = ([], [], [], [], []);
        MakeRoom();
        Order = NextOrder();
        Standings = [.. _standings];
    }

    /// <summary>A place for everyone; newcomers start with the initial score.</summary>
    private void MakeRoom()
    {
        var (known, places) = (_standings.Length, _validators.Places);
        Array.Resize(ref _standings, places);
        Array.Resize(ref _blocks, places);
        Array.Resize(ref _seals, places);
        Array.Resize(ref _failures, places);
        Array.Resize(ref _intervals, places);
        for (var i = known; i < places; i++) (_standings[i], _intervals[i]) = (new Standing(Initial, 0, 0), []);
    }

    /// <summary>The current term.</summary>
    public ulong Term { get; private set; }

    /// <summary>Who leads the attempts of the current term.</summary>
    public LeaderOrder Order { get; private set; }

    public Standing this[ValidatorIndex validator] => _standings[validator.Value];

    /// <summary>By validator; a new array whenever something changed.</summary>
    public ImmutableArray<Standing> Standings { get; private set; }

    /// <summary>Takes in the next committed block. True when it was the last of its term; then comes <see cref="BeginTerm"/>.</summary>
    public bool Observe(BlockHeader header, QuorumCertificate? seal)
    {
        Invariant.Holds(_parameters.TermOf(header.Height) == Term, "blocks are observed in order");
        _blocks[header.Proposer.Value]++;
        if (seal is not null)
        {
            _sealCount++;
            // The seal of a term's first blocks is of the term before, when the set may have been another one.
            foreach (var (signer, _) in seal.Signatures)
                if (signer.Value < _seals.Length)
                    _seals[signer.Value]++;
        }

        NoteFailures(header.View.Attempt);
        if (_last is { } last && last.View == header.View && header.IsHalfFull(_parameters)) _intervals[header.Proposer.Value].Add(header.Time.Since(last.Time));
        (_last, _lastAttempt) = (header, header.View.Attempt);
        if (header.Height != _parameters.LastHeight(Term)) return false;
        CloseTerm();
        return true;
    }

    /// <summary>Scores and order of the next term, for the validators that are in force then.</summary>
    public void BeginTerm(ChainContext chain)
    {
        _validators = chain.Validators;
        _parameters = chain.Parameters;
        MakeRoom();
        Term++;
        Order = NextOrder();
        Standings = [.. _standings];
    }

    /// <summary>Committed evidence: the score is lost and the validator leads last for some terms.</summary>
    public void Convict(ValidatorIndex offender)
    {
        _standings[offender.Value] = _standings[offender.Value] with { Score = 0, BarredThrough = Term + BarredTerms };
        Standings = [.. _standings];
    }

    /// <summary>For a snapshot: between two terms, when nothing is half counted.</summary>
    internal void Write(CanonicalWriter writer)
    {
        writer.UInt64(Term);
        writer.Count(_standings.Length);
        foreach (var standing in _standings)
        {
            writer.UInt32((uint)standing.Score);
            writer.UInt64(standing.BarredThrough);
            writer.Int64(standing.Credit);
            writer.UInt8((byte)standing.Losses);
            writer.UInt64(standing.RestsThrough);
        }

        writer.Count(Order.Attempts.Length);
        foreach (var leader in Order.Attempts) writer.Index(leader);
    }

    internal bool TryRead(ref CanonicalReader reader, EpochSchedule epochs)
    {
        Term = reader.UInt64();
        var standings = new List<Standing>();
        for (var left = reader.Count(Limits.PlacesMax, 29); left > 0; left--)
        {
            var (score, barred, credit) = (reader.Int32(), reader.UInt64(), reader.Int64());
            var (losses, rests) = (reader.UInt8(), reader.UInt64());
            if (score > Max || credit is < int.MinValue or > int.MaxValue || losses > LossesMax) return false;
            standings.Add(new Standing(score, barred, (int)credit, losses, rests));
        }

        var order = ImmutableArray.CreateBuilder<ValidatorIndex>();
        for (var left = reader.Count(Limits.ValidatorsMax, 2); left > 0; left--) order.Add(reader.Index());
        if (reader.Error != DecodeError.None || order.Count == 0 || epochs.Decided(Term) is not { } epoch || standings.Count != epoch.Validators.Places) return false;
        (_validators, _parameters) = (epoch.Validators, epoch.Parameters);
        MakeRoom();
        _standings = [.. standings];
        Standings = [.. standings];
        Order = new LeaderOrder(order.ToImmutable());
        return true;
    }

    /// <summary>A block at a later attempt than its parent: the leaders between have failed; one that made progress first counts less.</summary>
    private void NoteFailures(uint attempt)
    {
        var from = _lastAttempt ?? 0;
        // Beyond a few rounds nothing changes any more: scores stop at 0.
        for (var failed = Math.Max(from, attempt - Math.Min(attempt, 4 * (uint)_validators.Count)); failed < attempt; failed++)
            _failures[Order.Leader(failed).Value] += failed == _lastAttempt ? 1 : ProducedNothing;
    }

    private void CloseTerm()
    {
        var typical = Median.Of(AllIntervals());
        for (var i = 0; i < _standings.Length; i++)
        {
            var score = _standings[i].Score;
            if (_blocks[i] > 0) score += Led;
            if (_sealCount > 0) score += Took * _seals[i] / _sealCount;
            score += Lost * _failures[i];
            if (_intervals[i].Count > 0 && 2 * Median.Of(_intervals[i]) > 3 * typical) score += Slow;
            if (_standings[i].BarredThrough > Term) score = 0;
            _standings[i] = _standings[i] with { Score = Math.Clamp(score, 0, Max) };
            // Rule L6: twice as long each time, so that a leader that is slow, or lets attempts fail, whenever it leads costs less and less.
            if (_failures[i] > 0)
            {
                var losses = Math.Min(_standings[i].Losses + 1, LossesMax);
                _standings[i] = _standings[i] with { Losses = losses, RestsThrough = Term + RestTerms(losses) };
            }
            else if (_blocks[i] > 0 && _standings[i].Losses > 0)
            {
                _standings[i] = _standings[i] with { Losses = _standings[i].Losses - 1 };
            }

            _intervals[i].Clear();
        }

        Array.Clear(_blocks);
        Array.Clear(_seals);
        Array.Clear(_failures);
        (_sealCount, _last, _lastAttempt) = (0, null, null);
    }

    private List<long> AllIntervals()
    {
        var all = new List<long>();
        foreach (var intervals in _intervals) all.AddRange(intervals);
        return all;
    }

    private static int Class(int score) => Math.Min(3, score / 250);

    /// <summary>8, 16, 32, … up to 1,024.</summary>
    public static ulong RestTerms(int losses) => 4UL << losses;

    private bool IsResting(int i) => _standings[i].RestsThrough >= Term && _standings[i].RestsThrough > 0;

    private bool IsBarred(int i) => _standings[i].BarredThrough >= Term && _standings[i].BarredThrough > 0;

    /// <summary>At most f, who is barred or has lost most often first, then the lowest: with more the rest could not tolerate f faults among themselves (rule L3).</summary>
    private HashSet<int> Excluded()
    {
        var candidates = new List<int>();
        foreach (var index in _validators.Indices)
            if (IsBarred(index.Value) || IsResting(index.Value) || Class(_standings[index.Value].Score) == 0)
                candidates.Add(index.Value);
        candidates.Sort((x, y) => Blame(y).CompareTo(Blame(x)));
        return [.. candidates.GetRange(0, Math.Min(candidates.Count, Quorum.Faulty(_validators.Count)))];

        (bool, int, int, int) Blame(int i) => (IsBarred(i), IsResting(i) ? _standings[i].Losses : 0, -_standings[i].Score, -i);
    }

    /// <summary>Smooth weighted round robin picks the first leader; the others follow, best class first; excluded ones come last.</summary>
    private LeaderOrder NextOrder()
    {
        var n = _validators.Places;
        var excluded = Excluded();
        var first = -1;
        var total = 0;
        foreach (var index in _validators.Indices)
        {
            var i = index.Value;
            if (excluded.Contains(i)) continue;
            var weight = Class(_standings[i].Score) + 1;
            total += weight;
            _standings[i] = _standings[i] with { Credit = _standings[i].Credit + weight };
            if (first < 0 || _standings[i].Credit > _standings[first].Credit) first = i;
        }

        _standings[first] = _standings[first] with { Credit = _standings[first].Credit - total };
        var others = new List<int>();
        foreach (var index in _validators.Indices)
            if (index.Value != first)
                others.Add(index.Value);
        others.Sort((x, y) => Rank(x).CompareTo(Rank(y)));
        var order = ImmutableArray.CreateBuilder<ValidatorIndex>(n);
        order.Add(new ValidatorIndex((ushort)first));
        foreach (var other in others) order.Add(new ValidatorIndex((ushort)other));
        return new LeaderOrder(order.ToImmutable());

        (bool, int, int) Rank(int i) => (excluded.Contains(i), -Class(_standings[i].Score), (i - first + n) % n);
    }
}
