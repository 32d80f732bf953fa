using System.Collections.Immutable;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>What is in force during one epoch; every signature of it has these in common.</summary>
/// <param name="AppVersion">Of the rules by which blocks are checked and executed (rule S7).</param>
public sealed record ChainContext(Digest ChainId, ulong Epoch, ValidatorSet Validators, ChainParameters Parameters, uint AppVersion = 1)
{
    /// <summary>The newest rules this program knows.</summary>
    public const uint NewestVersion = 1;
}

/// <summary>The operators have put rules in force that this program does not know (rule S7): it has to be replaced before it can go on.</summary>
public sealed class UpgradeNeededException(uint version, uint newest, Height from)
    : System.Exception($"from block {from} on the chain follows version {version} of its rules, and this program knows version {newest}: install one that knows it; nothing is lost, it goes on where this one stopped");

/// <summary>
/// Which epoch each term belongs to. The ledger schedules, the replica says how far it has come, receive loops look up: a term
/// beyond the next one is unknown, because the set that leads it may not be decided yet (rule S4). Readers on other threads see one
/// consistent moment, as everything is behind one reference.
/// </summary>
public sealed class EpochSchedule
{
    private sealed record Moment(ImmutableArray<(ulong FirstTerm, ChainContext Context)> Epochs, ulong Term, Candidate? Candidate);

    /// <summary>A validator that an open order would bring in, or the new keys of one: it may connect, and fetch blocks, before it may vote.</summary>
    public sealed record Candidate(ValidatorIndex Index, Validator Validator);

    private Moment _moment;

    public EpochSchedule(ChainContext genesis) => _moment = new Moment([(0, genesis)], 0, null);

    /// <summary>For checks offline: what is known is taken for every term; signatures carry their epoch, so those of another one do not pass.</summary>
    public static EpochSchedule ForAllTerms(ChainContext genesis)
    {
        var schedule = new EpochSchedule(genesis);
        schedule.Enter(ulong.MaxValue - 1);
        return schedule;
    }

    /// <summary>The epoch of the term the replica is in.</summary>
    public ChainContext Current => Find(_moment, _moment.Term)!;

    /// <summary>The last epoch that is decided, in force or not.</summary>
    public ChainContext Latest => _moment.Epochs[^1].Context;

    /// <summary>The first term of <see cref="Latest"/>.</summary>
    public ulong LatestFrom => _moment.Epochs[^1].FirstTerm;

    public Candidate? Open => _moment.Candidate;

    /// <summary>All epochs, oldest first.</summary>
    public ImmutableArray<(ulong FirstTerm, ChainContext Context)> All => _moment.Epochs;

    /// <summary>Null for a term beyond the one after the replica's.</summary>
    public ChainContext? At(ulong term)
    {
        var moment = _moment;
        return term > moment.Term + 1 ? null : Find(moment, term);
    }

    /// <summary>Of the epoch of a term that is decided, however far ahead.</summary>
    internal ChainContext Decided(ulong term) => Find(_moment, term)!;

    private static ChainContext? Find(Moment moment, ulong term)
    {
        for (var i = moment.Epochs.Length - 1; i >= 0; i--)
            if (moment.Epochs[i].FirstTerm <= term)
                return moment.Epochs[i].Context;
        return null;
    }

    /// <summary>The name of a validator now, or of one that has left.</summary>
    public string Name(ValidatorIndex index)
    {
        var moment = _moment;
        for (var i = moment.Epochs.Length - 1; i >= 0; i--)
            if (moment.Epochs[i].Context.Validators.Contains(index))
                return moment.Epochs[i].Context.Validators[index].Name;
        return moment.Candidate?.Index == index ? moment.Candidate.Validator.Name : "validator " + index;
    }

    /// <summary>Whose key this is, now, next, or once an open order takes effect.</summary>
    public bool TryIdentify(PublicKey consensusKey, out ValidatorIndex index)
    {
        var moment = _moment;
        if (Current.Validators.TryFind(consensusKey, out index) || Latest.Validators.TryFind(consensusKey, out index)) return true;
        if (moment.Candidate is not { } candidate || candidate.Validator.ConsensusKey != consensusKey) return false;
        index = candidate.Index;
        return true;
    }

    internal void Schedule(ulong firstTerm, ChainContext context) => _moment = _moment with { Epochs = _moment.Epochs.Add((firstTerm, context)) };

    internal void Expect(Candidate? candidate) => _moment = _moment with { Candidate = candidate };

    /// <summary>What another schedule knows, in one step.</summary>
    internal void Adopt(EpochSchedule other) => _moment = other._moment;

    /// <summary>The replica has come to this term.</summary>
    internal void Enter(ulong term) => _moment = _moment with { Term = term };
}
