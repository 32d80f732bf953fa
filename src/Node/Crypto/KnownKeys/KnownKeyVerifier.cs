using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Threading;
using CyberMesh.Core.Primitives;
using PublicKey = CyberMesh.Core.Primitives.PublicKey;

namespace CyberMesh.Node.Crypto.KnownKeys;

/// <summary>
/// Ed25519 by libsodium, and quicker for keys that sign often: they get a table of multiples. Nothing is refused that libsodium has not refused, and of
/// what the tables accept a share is checked again. Thread-safe.
/// </summary>
public sealed class KnownKeyVerifier : ISignatureVerifier
{
    /// <summary>A table costs as much as some dozens of verifications.</summary>
    public const int SignaturesForTable = 32;

    public const int DefaultTablesMax = 128;

    /// <summary>One of so many accepted signatures is checked again.</summary>
    public const int CheckedAgain = 4096;

    /// <summary>Keys whose accepted signatures are counted. Whoever brings a key here is in the trust store, so this is not reached by strangers.</summary>
    private const int KeysMax = 4096;

    private readonly ISignatureVerifier _library;
    private readonly int _tablesMax;
    private readonly TableVerification _width;
    private readonly ConcurrentDictionary<PublicKey, Known> _keys = new();
    private readonly Lock _building = new();
    private long _clock;
    private long _accepted;
    private long _unconfirmed;
    private int _tables;

    private sealed class Known
    {
        public int Signatures;
        public long LastUsed;
        public volatile KeyTable? Table;
    }

    /// <param name="library">Has the last word.</param>
    /// <param name="tablesMax">Of those used longest ago the table is given up.</param>
    /// <param name="instructions">One of <see cref="Widths"/>, or null for the quickest.</param>
    public KnownKeyVerifier(ISignatureVerifier library, int tablesMax = DefaultTablesMax, string? instructions = null)
    {
        _library = library;
        _tablesMax = tablesMax;
        _width = TableVerification.Widths.First(width => width.Instructions == (instructions ?? width.Instructions));
        SelfTest();
    }

    public const int BytesPerKey = KeyTable.Bytes;

    public int Tables => Volatile.Read(ref _tables);

    public long TableBytes => (long)Tables * KeyTable.Bytes;

    /// <summary>Signatures that the tables alone have accepted.</summary>
    public long Accepted => Interlocked.Read(ref _accepted);

    /// <summary>Signatures that the tables did not accept and libsodium did. Some crafted ones may be among what it accepts; honest signers make none.</summary>
    public long Unconfirmed => Interlocked.Read(ref _unconfirmed);

    /// <summary>The instructions that tables can be used with on this machine, the quickest first.</summary>
    public static IEnumerable<string> Widths => TableVerification.Widths.Select(width => width.Instructions);

    public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        if (Find(key) is not { } table) return VerifyByLibrary(key, message, signature);
        return Decide(_width.Verify(key, message, signature, table), key, message, signature);
    }

    public void Verify(ReadOnlySpan<SignatureCheck> checks, Span<bool> verdicts)
    {
        var run = default(RunOfTables);
        for (var from = 0; from < checks.Length;)
        {
            var count = 0;
            while (count < TableVerification.RunMax && from + count < checks.Length && Find(checks[from + count].Key) is { } table) run[count++] = table;
            if (count == 0)
            {
                verdicts[from] = VerifyByLibrary(checks[from].Key, checks[from].Message.Span, checks[from].Signature);
                from++;
                continue;
            }

            _width.Verify(checks.Slice(from, count), run[..count], verdicts.Slice(from, count));
            for (var end = from + count; from < end; from++) verdicts[from] = Decide(verdicts[from], checks[from].Key, checks[from].Message.Span, checks[from].Signature);
        }
    }

    [InlineArray(TableVerification.RunMax)]
    private struct RunOfTables
    {
        private KeyTable _first;
    }

    private bool Decide(bool accepted, PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        if (!accepted)
        {
            var genuine = _library.Verify(key, message, signature);
            if (genuine) Interlocked.Increment(ref _unconfirmed);
            return genuine;
        }

        if (Interlocked.Increment(ref _accepted) % CheckedAgain == 0)
            Invariant.Holds(_library.Verify(key, message, signature), $"libsodium refuses a signature of {key} that its table accepts; set SIGNATURE_TABLES=0 and report this");
        return true;
    }

    private KeyTable? Find(PublicKey key)
    {
        if (!_keys.TryGetValue(key, out var known) || known.Table is not { } table) return null;
        Volatile.Write(ref known.LastUsed, Interlocked.Increment(ref _clock));
        return table;
    }

    private bool VerifyByLibrary(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
    {
        if (!_library.Verify(key, message, signature)) return false;
        if (!_keys.TryGetValue(key, out var known))
        {
            if (_keys.Count >= KeysMax) return true;
            known = _keys.GetOrAdd(key, _ => new Known());
        }

        if (Interlocked.Increment(ref known.Signatures) == SignaturesForTable) MakeTable(key, known);
        return true;
    }

    private void MakeTable(PublicKey key, Known known)
    {
        if (_tablesMax == 0) return;
        Span<byte> bytes = stackalloc byte[PublicKey.Size];
        key.CopyTo(bytes);
        // libsodium verifies with this key, so it is one.
        Invariant.Holds(KeyTable.TryCreate(bytes, out var table), $"{key} verifies signatures and gives no table");
        lock (_building)
        {
            if (_tables >= _tablesMax) GiveUpOldest();
            known.Table = table;
            Volatile.Write(ref known.LastUsed, Interlocked.Increment(ref _clock));
            _tables++;
        }
    }

    private void GiveUpOldest()
    {
        Known? oldest = null;
        foreach (var (_, known) in _keys)
            if (known.Table is not null && (oldest is null || known.LastUsed < oldest.LastUsed))
                oldest = known;
        if (oldest is null) return;
        oldest.Table = null;
        Volatile.Write(ref oldest.Signatures, 0); // it has to earn it again
        _tables--;
    }

    /// <summary>RFC 8032, 7.1, test 3, and the same with each bit of the signature changed: a processor or a compiler that computes wrongly is noticed before it matters.</summary>
    private void SelfTest()
    {
        var key = Convert.FromHexString("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
        var signature = Convert.FromHexString(
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a");
        Invariant.Holds(KeyTable.TryCreate(key, out var table), "the key of RFC 8032 gives a table");
        var checks = new SignatureCheck[1 + (8 * Signature.Size)];
        var tables = new KeyTable[checks.Length];
        for (var i = 0; i < checks.Length; i++)
        {
            var changed = (byte[])signature.Clone();
            if (i > 0) changed[(i - 1) / 8] ^= (byte)(1 << ((i - 1) % 8));
            (checks[i], tables[i]) = (new SignatureCheck(PublicKey.From(key), new byte[] { 0xaf, 0x82 }, Signature.From(changed)), table);
        }

        var accepted = new bool[checks.Length];
        _width.Verify(checks, tables, accepted);
        Invariant.Holds(accepted[0] && Array.LastIndexOf(accepted, true) == 0, "verification with tables does not follow RFC 8032 on this machine; set SIGNATURE_TABLES=0");
        Invariant.Holds(_width.Verify(checks[0].Key, checks[0].Message.Span, checks[0].Signature, table), "verification with tables does not follow RFC 8032 on this machine; set SIGNATURE_TABLES=0");
    }
}
