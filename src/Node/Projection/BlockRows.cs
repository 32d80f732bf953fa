using System;
using System.Collections.Frozen;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Data.Common;
using System.Linq;
using System.Text;
using System.Text.Json;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Projection;

/// <summary>
/// Which rows a block makes. They follow from genesis and the blocks up to it alone, so every validator makes the same, and whoever has the blocks
/// can tell whether a row is right.
/// </summary>
internal sealed class BlockRows
{
    private sealed record KnownProducer(string Key, string Name, string Organisation, string Kinds, long Since, long? Revoked);

    private static readonly ImmutableArray<string> PolicyStatus = ["status", "until_ms", "decided_by"];

    private readonly Database _database;
    private readonly ProjectionSource _source;
    private readonly LogCopy _log;
    private readonly Dictionary<string, KnownProducer> _producers;

    /// <summary>As text, of those whose messages were accepted: as many as the operators have ever enrolled.</summary>
    private readonly Dictionary<PublicKey, string> _producerKeys = [];

    private readonly AlertPlaces _places = new();
    private readonly NewKeys _newKeys = new();

    /// <summary>Of the alerts of one block.</summary>
    private readonly HashSet<(string Field, string Value)> _values = [];
    private string _view;
    private long _epoch;

    /// <summary>Goes on where the copy stands.</summary>
    public BlockRows(Database database, DbConnection connection, ProjectionSource source, LogCopy log)
    {
        _database = database;
        _source = source;
        _log = log;
        _producers = database.Query(
                connection, null, r => new KnownProducer(r.GetString(0), r.GetString(1), r.GetString(2), r.GetString(3), r.GetInt64(4), r.IsDBNull(5) ? null : r.GetInt64(5)), Tables.Producers.Select)
            .ToDictionary(p => p.Key, StringComparer.Ordinal);
        _view = database.Scalar(connection, null, "SELECT view FROM blocks ORDER BY height DESC LIMIT 1") as string ?? "";
        _epoch = database.Scalar(connection, null, "SELECT max(epoch) FROM validators") as long? ?? -1;
    }

    /// <summary>What genesis says.</summary>
    public void Begin(RowBatch batch)
    {
        foreach (var producer in _source.Genesis.Producers.All) Put(batch, Known(producer, 0));
    }

    /// <summary>The validator took over a snapshot and has no blocks below this one: the rows about them are missing.</summary>
    public void Skip(RowBatch batch, Height next)
    {
        _log.MarkGap(batch);
        foreach (var producer in _source.Producers.All) Put(batch, Known(producer, (long)next.Value));
    }

    public void Write(StoredBlockWithResults block, RowBatch batch)
    {
        var header = block.Stored.Block.Block.Header;
        var height = (long)header.Height.Value;
        var view = header.View.ToString();
        var proposer = _source.Epochs.Name(header.Proposer);
        batch.Insert(Tables.Blocks, height, block.Stored.Block.Block.Digest.ToString(), header.Parent.ToString(), header.Time.Milliseconds, view, proposer,
            (long)block.Results.Length, (long)block.Results.Count(r => r == RejectionReason.None), header.TransactionRoot.ToString(), block.StateRoot.ToString());
        if (header.View.Attempt > 0 && view != _view) batch.Insert(Tables.ViewChanges, height, view, _view, proposer);
        _view = view;
        WriteValidators(header.Epoch, batch);

        var transactions = new List<AlertEnvelope>(block.Results.Length);
        for (var i = 0; i < block.Results.Length; i++)
        {
            var envelope = EnvelopeDecoder.DecodeCommitted(block.Stored.Block.Bodies[i], block.Stored.Block.Block.Transactions[i]);
            var isAccepted = block.Results[i] == RejectionReason.None;
            if (!isAccepted || envelope.Kind != AlertKind.Anomaly)
                batch.Insert(Tables.OtherTransactions, height, (long)i, envelope.Digest.ToString(), envelope.Kind.Name(), envelope.Id, envelope.Producer.ToString(), block.Results[i].Code());
            if (isAccepted) WriteContent(envelope, height, i, batch);
            _newKeys.Add(envelope, height, (long)i);
            transactions.Add(envelope);
        }

        foreach (var (field, value) in _values) batch.Insert(Tables.AlertBlocks, field, value, height);
        _values.Clear();
        for (var i = 0; i < block.Events.Length; i++) WriteEvent(block.Events[i], height, i, batch);
        _log.Append(block, transactions, batch);
        if (_newKeys.IsFull) _newKeys.Write(batch);
    }

    /// <summary>
    /// Where the alerts of these blocks, and those that they changed, stand after them. An alert's own row is long, and never written again: what changes is a short row,
    /// which goes when the alert expires, as nearly all do.
    /// </summary>
    public void End(RowBatch batch, long above, long upTo)
    {
        void Execute(string sql) => _database.Execute(batch.Connection, batch.Transaction, sql, above, upTo);
        _newKeys.Write(batch);
        batch.Flush();
        Execute("INSERT INTO alert_statuses (height, position, status, decided_by) SELECT height, position, 'reported', '' FROM alerts WHERE height > $1 AND height <= $2 ON CONFLICT DO NOTHING");
        Execute("INSERT INTO alert_statuses (height, position, status, decided_by) "
            + "SELECT alert_height, alert_position, status, decided_by FROM alert_changes c WHERE height > $1 AND height <= $2 AND status <> 'expired' AND alert_height IS NOT NULL "
            // the last of several
            + "AND NOT EXISTS (SELECT 1 FROM alert_changes l WHERE l.alert_height = c.alert_height AND l.alert_position = c.alert_position AND (l.height, l.event) > (c.height, c.event)) "
            + "ON CONFLICT (height, position) DO UPDATE SET status = excluded.status, decided_by = excluded.decided_by");
        const string Expired = "FROM alert_changes WHERE height > $1 AND height <= $2 AND status = 'expired' AND alert_height IS NOT NULL";
        Execute($"DELETE FROM alert_statuses WHERE (height, position) IN (SELECT alert_height, alert_position {Expired})");
        Execute($"INSERT INTO alert_blocks (field, value, height) SELECT DISTINCT 'status', 'expired', alert_height {Expired} ON CONFLICT DO NOTHING");
    }

    /// <summary>The set of each epoch up to this one.</summary>
    private void WriteValidators(ulong epoch, RowBatch batch)
    {
        if ((long)epoch <= _epoch) return;
        foreach (var (firstTerm, context) in _source.Epochs.All)
        {
            if ((long)context.Epoch <= _epoch || context.Epoch > epoch) continue;
            foreach (var index in context.Validators.Indices)
            {
                var validator = context.Validators[index];
                batch.Insert(Tables.Validators, (long)context.Epoch, (long)index.Value, validator.Name, validator.ConsensusKey.ToString(), validator.ControlKey.ToString(), (long)firstTerm);
            }
        }

        _epoch = (long)epoch;
    }

    /// <summary>What follows from the block besides its transactions: the ledger has told it, nothing is computed again here.</summary>
    private void WriteEvent(LedgerEvent change, long height, long number, RowBatch batch)
    {
        switch (change)
        {
            case LedgerEvent.AlertChanged e:
                if (_places.Find(e.Alert) is var (alertHeight, alertPosition)) batch.Insert(Tables.AlertChanges, height, number, e.Alert.ToString(), NameOf(e.Status), e.By, alertHeight, alertPosition);
                else batch.Later(Tables.InsertAlertChangesFound, height, number, e.Alert.ToString(), NameOf(e.Status), e.By, Schema.KeyOf(e.Alert));
                break;
            case LedgerEvent.ReputationChanged e:
                batch.Insert(Tables.ReputationChanges, height, number, e.Producer, NameOf(e.Cause), (long)e.Before, (long)e.After, e.Message.ToString(), e.MessageId, e.Note);
                batch.Put(Tables.Reputations, e.Producer, (long)e.After);
                break;
            case LedgerEvent.EvidenceLinked e:
                batch.Insert(Tables.EvidenceLinks, height, number, e.Evidence.ToString(), e.Reference.ToString(), e.Alert?.ToString() ?? (object)DBNull.Value);
                break;
            case LedgerEvent.PolicyChanged e:
                batch.Update(Tables.Policies, PolicyStatus, e.Policy.ToString(), NameOf(e.Status), e.Until.Milliseconds, e.By);
                batch.Insert(Tables.PolicyChanges, height, number, e.Policy.ToString(), NameOf(e.Status), e.Until.Milliseconds, e.By);
                break;
            default:
                throw Invariant.Unreachable(change);
        }
    }

    /// <summary>FalsePositive is false_positive.</summary>
    private static string NameOf<T>(T value) where T : struct, Enum => Names<T>.All[value];

    private static class Names<T> where T : struct, Enum
    {
        public static readonly FrozenDictionary<T, string> All = Enum.GetValues<T>().ToFrozenDictionary(v => v, v => JsonNamingPolicy.SnakeCaseLower.ConvertName(v.ToString()));
    }

    private void WriteContent(AlertEnvelope envelope, long height, long position, RowBatch batch)
    {
        var digest = envelope.Digest.ToString();
        if (!_producerKeys.TryGetValue(envelope.Producer, out var key)) _producerKeys[envelope.Producer] = key = envelope.Producer.ToString();
        var producer = _producers.GetValueOrDefault(key);
        var name = producer?.Name ?? key;
        switch (envelope.Content)
        {
            case AlertContent.Anomaly a:
                var organisation = producer?.Organisation ?? "";
                _places.Add(envelope.Digest, (height, position));
                batch.Insert(Tables.Alerts, height, position, digest, envelope.Id, a.Type, a.Source, (long)a.Severity, (long)a.ConfidenceBasisPoints, envelope.TimestampSeconds, a.ModelVersion, name, key,
                    organisation, new Utf8Text(a.Payload));
                _values.Add(("type", a.Type));
                _values.Add(("source", a.Source));
                _values.Add(("producer", name));
                _values.Add(("organisation", organisation));
                break;
            case AlertContent.Evidence e:
                batch.Insert(Tables.Evidence, digest, envelope.Id, e.EvidenceType, envelope.TimestampSeconds, name, (long)e.Custody.Length, envelope.CustodyVerified, height, position);
                break;
            case AlertContent.Policy p:
                batch.Insert(Tables.Policies, digest, envelope.Id, p.Action, p.Rule, envelope.TimestampSeconds, name, Encoding.UTF8.GetString(p.Params.Span), height, position, "proposed", 0L, "");
                break;
            case AlertContent.Misbehaviour m:
                batch.Insert(Tables.Misbehaviour, digest, _source.Epochs.Name(m.Proof.Offender), m.Proof.Kind.ToString(), m.Proof.First.View.ToString(), (long)m.Proof.First.Height.Value, height, position);
                break;
            case AlertContent.Order o:
                batch.Insert(Tables.Orders, digest, (long)o.Content.Number, o.Content.Digest().ToString(), o.Content.Change.GetType().Name, height, position);
                WriteProducers(o.Content.Change, height, batch);
                break;
            case AlertContent.Ready or AlertContent.Decided:
                break; // steps; what came of them the events tell
            default:
                throw Invariant.Unreachable(envelope.Content);
        }
    }

    private void WriteProducers(Change change, long height, RowBatch batch)
    {
        switch (change)
        {
            case Change.PutProducer c:
                var known = Known(c.Producer, height);
                Put(batch, _producers.TryGetValue(known.Key, out var before) ? known with { Since = before.Since } : known);
                break;
            case Change.RotateProducer c:
                if (_producers.Values.Where(p => p.Name == c.Name && p.Revoked is null).MaxBy(p => p.Since) is { } present) Put(batch, present with { Key = c.Key.ToString(), Since = height });
                break;
            case Change.RevokeProducer c:
                foreach (var key in _producers.Values.Where(p => p.Name == c.Name && p.Revoked is null).ToArray()) Put(batch, key with { Revoked = height });
                break;
        }
    }

    private static KnownProducer Known(Producer producer, long since) =>
        new(producer.Key.ToString(), producer.Name, producer.Organisation, string.Join(',', producer.Kinds.Names()), since, producer.Revoked ? since : null);

    private void Put(RowBatch batch, KnownProducer producer)
    {
        _producers[producer.Key] = producer;
        batch.Put(Tables.Producers, producer.Key, producer.Name, producer.Organisation, producer.Kinds, producer.Since, producer.Revoked is { } height ? height : DBNull.Value);
    }
}
