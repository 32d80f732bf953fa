using System;
using System.Buffers;
using System.Collections.Generic;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>What the chain has recorded of a producer, under its name: it outlives its keys.</summary>
public readonly record struct ProducerStanding(int Reputation, ulong Accepted, ulong Rejected)
{
    public const int InitialReputation = 500;
}

/// <summary>The standing of every producer, from agreed facts only (docs/state-machine.md, rows PR1 to PR5).</summary>
internal sealed class ReputationBook(StateTree tree, List<LedgerEvent> events)
{
    private const int Max = 1000;

    private readonly SortedDictionary<string, ProducerStanding> _standings = new(StringComparer.Ordinal);
    private readonly SortedSet<string> _changed = new(StringComparer.Ordinal);

    public ProducerStanding this[string producer] => _standings.TryGetValue(producer, out var standing) ? standing : new ProducerStanding(ProducerStanding.InitialReputation, 0, 0);

    public void Count(string producer, bool accepted)
    {
        var standing = this[producer];
        _standings[producer] = accepted ? standing with { Accepted = standing.Accepted + 1 } : standing with { Rejected = standing.Rejected + 1 };
        _changed.Add(producer);
    }

    /// <summary>Adds to a reputation, within its range. An event only when something came of it.</summary>
    public void Adjust(string producer, PublicKey key, int by, ReputationCause cause, Digest message, string messageId, byte severity, string note)
    {
        var standing = this[producer];
        var after = Math.Clamp(standing.Reputation + by, 0, Max);
        if (after == standing.Reputation) return;
        _standings[producer] = standing with { Reputation = after };
        _changed.Add(producer);
        events.Add(new LedgerEvent.ReputationChanged(producer, key, cause, standing.Reputation, after, message, messageId, severity, note));
    }

    /// <summary>Brings the standings that changed since the last call under the state root: once a block, however many messages it has.</summary>
    public void Flush()
    {
        Span<byte> key = stackalloc byte[StateKeys.StandingLength];
        foreach (var producer in _changed)
        {
            tree.Set(StateKeys.Standing(key, producer), Encode(this[producer]));
        }

        _changed.Clear();
    }

    private static void Write(CanonicalWriter writer, ProducerStanding standing)
    {
        writer.UInt32((uint)standing.Reputation);
        writer.UInt64(standing.Accepted);
        writer.UInt64(standing.Rejected);
    }

    /// <summary>All, by name.</summary>
    internal void Write(SnapshotWriter output)
    {
        var writer = output.Items;
        writer.Count(_standings.Count);
        foreach (var (producer, standing) in _standings)
        {
            writer.Text(producer);
            Write(writer, standing);
            output.EndItem();
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var left = reader.Count(Limits.ProducersMax, 24); left > 0; left--)
            _standings[reader.Text(Limits.NameBytesMax)] = ReadStanding(ref reader);
    }

    /// <summary>The bytes under a producer's key in the state, for a proof; null when nothing stands there.</summary>
    public byte[]? ValueOf(string producer) => _standings.TryGetValue(producer, out var standing) ? Encode(standing) : null;

    private static byte[] Encode(ProducerStanding standing)
    {
        var buffer = new ArrayBufferWriter<byte>(24);
        Write(new CanonicalWriter(buffer), standing);
        return buffer.WrittenSpan.ToArray();
    }

    internal static ProducerStanding ReadStanding(ref CanonicalReader reader) => new(reader.Int32(), reader.UInt64(), reader.UInt64());
}
