using System;
using System.Buffers;
using System.Collections.Generic;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Ledger;

/// <summary>A piece of evidence the state still holds.</summary>
internal sealed class OpenEvidence(Origin origin) : OpenItem(origin)
{
    public required uint References { get; init; }

    /// <summary>References that named no open alert when the evidence was committed.</summary>
    public required uint Dangling { get; init; }

    public required uint CustodyEntries { get; init; }
    public required bool CustodyVerified { get; init; }
}

/// <summary>Evidence and the alerts it speaks of (docs/state-machine.md, rows E1 to E4).</summary>
internal sealed class EvidenceBook(StateTree tree, AlertBook alerts, List<LedgerEvent> events)
{
    private readonly OpenItems<OpenEvidence> _open = new();

    public int Count => _open.Count;

    /// <summary>Tells the alerts it names, each once, and which references name none.</summary>
    public uint Link(Digest evidence, AlertContent.Evidence content)
    {
        uint dangling = 0;
        var linked = new HashSet<Digest>();
        foreach (var reference in content.Refs)
        {
            var alert = alerts.FindReferenced(reference);
            if (alert is null) dangling++;
            else if (linked.Add(alert.Digest)) alerts.AddEvidence(alert);
            events.Add(new LedgerEvent.EvidenceLinked(evidence, reference, alert?.Digest));
        }

        return dangling;
    }

    public void Keep(OpenEvidence evidence, ChainParameters parameters)
    {
        _open.Add(evidence);
        while (_open.OldestBeyond(evidence.Organisation, parameters.AlertsOpenMax) is { } oldest) Close(oldest);
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        tree.Set(StateKeys.Transaction(key, AlertKind.Evidence, evidence.Digest), Encode(evidence));
    }

    public void Expire(ChainParameters parameters, Timestamp time)
    {
        while (_open.OldestBefore(time.PlusMs(-parameters.AlertOpenMs)) is { } oldest) Close(oldest);
    }

    private void Close(OpenEvidence evidence)
    {
        _open.Remove(evidence);
        Span<byte> key = stackalloc byte[StateKeys.TransactionLength];
        tree.Remove(StateKeys.Transaction(key, AlertKind.Evidence, evidence.Digest));
    }

    /// <summary>The bytes under the key of a piece of evidence in the state, for a proof; null when it is not held.</summary>
    public byte[]? ValueOf(Digest transaction) => _open.Find(transaction) is { } evidence ? Encode(evidence) : null;

    private static byte[] Encode(OpenEvidence evidence)
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        Write(new CanonicalWriter(buffer), evidence);
        return buffer.WrittenSpan.ToArray();
    }

    private static void Write(CanonicalWriter writer, OpenEvidence evidence)
    {
        evidence.Origin.Write(writer);
        writer.UInt32(evidence.References);
        writer.UInt32(evidence.Dangling);
        writer.UInt32(evidence.CustodyEntries);
        writer.UInt8(evidence.CustodyVerified ? (byte)1 : (byte)0);
    }

    internal void Write(SnapshotWriter output)
    {
        var writer = output.Items;
        writer.Count(_open.Count);
        foreach (var evidence in _open.InOrder())
        {
            writer.Digest(evidence.Digest);
            Write(writer, evidence);
            output.EndItem();
        }
    }

    internal void Read(ref CanonicalReader reader)
    {
        for (var left = reader.Count(int.MaxValue, 80); left > 0 && reader.Error == DecodeError.None; left--)
        {
            var digest = reader.Digest();
            if (ReadEvidence(ref reader, digest) is not { } evidence) return;
            if (_open.Find(digest) is null) _open.Add(evidence);
            else reader.Fail(DecodeError.NotCanonical);
        }
    }

    /// <summary>What <see cref="ValueOf"/> wrote; null, and the reader failed, when it is none.</summary>
    internal static OpenEvidence? ReadEvidence(ref CanonicalReader reader, Digest digest)
    {
        var origin = Origin.Read(ref reader, digest);
        var (references, dangling, entries, verified) = (reader.UInt32(), reader.UInt32(), reader.UInt32(), reader.UInt8());
        if (verified > 1)
        {
            reader.Fail(DecodeError.NotCanonical);
            return null;
        }

        return new OpenEvidence(origin) { References = references, Dangling = dangling, CustodyEntries = entries, CustodyVerified = verified == 1 };
    }
}
