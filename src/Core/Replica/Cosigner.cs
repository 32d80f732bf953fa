using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Core.Replica;

/// <summary>
/// Cosigns the transparency log and collects what the others cosign (rules W2 and W3). Due is the first block of each second of block time,
/// which all find without talking, and the last block when nothing follows it.
/// </summary>
public sealed class Cosigner(EpochSchedule epochs, IKeyring keys)
{
    private const int IdleMs = 1_000;

    /// <summary>Of blocks older than this nobody waits for a cosignature: a validator that catches up begins with the present.</summary>
    private const int FreshMs = 10_000;

    public const int KeptPerValidator = 4;

    private readonly Dictionary<ValidatorIndex, Queue<PeerMessage.Cosignature>> _received = [];
    private readonly Dictionary<ValidatorIndex, Timestamp> _answeredAt = [];
    private LogState _last;
    private Timestamp _lastAt;
    private PeerMessage.Cosignature? _own;
    private bool _complete = true;
    private Timestamp _resendAt;

    /// <summary>Cosignatures of others that are kept.</summary>
    public int Count
    {
        get
        {
            var count = 0;
            foreach (var index in epochs.Latest.Validators.Indices)
                if (_received.TryGetValue(index, out var kept))
                    count += kept.Count;
            return count;
        }
    }

    /// <summary>The log as it is after its last entry's block.</summary>
    private readonly record struct LogState(Height Height, Timestamp BlockTime, ulong Size, Digest Root)
    {
        public long Second => Math.Max(0, BlockTime.Milliseconds / 1000);
    }

    /// <summary>Where the log stands after recovery or a snapshot.</summary>
    public void Restore((Height Height, Timestamp Time) end, LogTree log, Timestamp now)
    {
        _last = new LogState(end.Height, end.Time, log.Size, log.Root());
        _lastAt = now;
    }

    /// <summary>A block with transactions has been executed.</summary>
    public void Executed((Height Height, Timestamp Time) end, LogTree log, Timestamp now, Effects effects)
    {
        var before = _last;
        Restore(end, log, now);
        if (_last.Second > before.Second && now.Since(end.Time) < FreshMs) Sign(now, effects);
    }

    public void Tick(Timestamp now, Effects effects)
    {
        if (now.Since(_lastAt) >= IdleMs) Sign(now, effects);
        if (_own is null || _complete || now < _resendAt) return;
        _resendAt = now.PlusMs(epochs.Current.Parameters.ResendMs);
        effects.Broadcast(_own);
    }

    /// <summary>Never for a smaller tree than the last one, and for an equal one the same bytes again (rule W2).</summary>
    private void Sign(Timestamp now, Effects effects)
    {
        if (_last.Size == 0 || (_own is { } signed && signed.Size >= _last.Size)) return;
        var term = epochs.Current.Parameters.TermOf(_last.Height);
        if (epochs.At(term) is not { } chain || Me(chain) is not { } me || keys.Find(chain.Validators[me].CosignerKey) is not { } key) return;
        var text = new LogCheckpoint(LogNames.Origin(chain.ChainId), _last.Size, _last.Root).Text;
        _own = new PeerMessage.Cosignature(me, term, _last.Height, _last.Size, _last.Root, _last.Second, key.Sign(NoteKey.CosignedBytes(text, _last.Second)));
        _complete = false;
        _resendAt = now.PlusMs(epochs.Current.Parameters.ResendMs);
        effects.Broadcast(_own);
        Review(effects);
    }

    private ValidatorIndex? Me(ChainContext chain)
    {
        foreach (var index in chain.Validators.Indices)
            if (keys.Find(chain.Validators[index].ConsensusKey) is not null)
                return index;
        return null;
    }

    /// <param name="m">Genuine.</param>
    public void Receive(PeerMessage.Cosignature m, Timestamp now, Effects effects)
    {
        if (!_received.TryGetValue(m.Signer, out var kept)) _received[m.Signer] = kept = new Queue<PeerMessage.Cosignature>();
        foreach (var known in kept)
            if (known == m)
            {
                Answer(m, now, effects);
                return;
            }

        if (kept.Count == KeptPerValidator) kept.Dequeue();
        kept.Enqueue(m);
        Review(effects);
    }

    /// <summary>Whoever says it again has not heard this validator's.</summary>
    private void Answer(PeerMessage.Cosignature m, Timestamp now, Effects effects)
    {
        if (_own is null || m.Signer == _own.Signer) return;
        if (_answeredAt.TryGetValue(m.Signer, out var last) && now.Since(last) < epochs.Current.Parameters.ResendMs / 2) return;
        _answeredAt[m.Signer] = now;
        effects.Send(m.Signer, _own);
    }

    /// <summary>Q of them make the checkpoint; no more go in, so that nothing in a proof is without weight.</summary>
    private void Review(Effects effects)
    {
        if (_complete || _own is not { } own || epochs.At(own.Term) is not { } chain || keys.Find(chain.Validators[own.Signer].LogKey) is not { } logKey) return;
        var cosigned = ImmutableArray.CreateBuilder<NoteSignature>();
        foreach (var index in chain.Validators.Indices)
            if (cosigned.Count < chain.Validators.Quorum && CosignatureOf(index, own) is { } signature)
                cosigned.Add(LogNames.CosignerKey(chain, index).Cosigned(own.TimeSeconds, signature));
        if (cosigned.Count < chain.Validators.Quorum) return;
        _complete = true;
        var text = new LogCheckpoint(LogNames.Origin(chain.ChainId), own.Size, own.Root).Text;
        cosigned.Insert(0, LogNames.LogKey(chain, own.Signer).Sign(text, logKey));
        effects.LogCheckpoint = new SignedNote(text, cosigned.ToImmutable());
    }

    private Signature? CosignatureOf(ValidatorIndex index, PeerMessage.Cosignature own)
    {
        if (index == own.Signer) return own.Signature;
        if (!_received.TryGetValue(index, out var kept)) return null;
        foreach (var other in kept)
            if (other == own with { Signer = index, Signature = other.Signature })
                return other.Signature;
        return null;
    }
}
