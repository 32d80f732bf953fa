using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using System.Threading;

namespace CyberMesh.Node.Telemetry;

/// <summary>A number that only goes up. Thread-safe.</summary>
public sealed class Counter
{
    private long _value;

    public long Value => Interlocked.Read(ref _value);

    public void Increment() => Interlocked.Increment(ref _value);

    public void Add(long amount) => Interlocked.Add(ref _value, amount);
}

/// <summary>Counters of one validator, in the Prometheus text format (version 0.0.4). Names follow its conventions: unit last, totals end in _total.</summary>
public sealed class Metrics
{
    private readonly List<(string Name, string Help, string Type, string Label, Func<double> Read)> _series = [];

    public Metrics()
    {
        BlocksCommitted = Count("cybermesh_blocks_committed_total", "Blocks executed and stored by this validator.");
        TransactionsAccepted = Count("cybermesh_transactions_total", "Transactions in committed blocks by result.", "result=\"accepted\"");
        TransactionsRejected = Count("cybermesh_transactions_total", "", "result=\"rejected\"");
        RecordsConsumed = Count("cybermesh_kafka_records_consumed_total", "Records read from the input topics.");
        DeadLetters = Count("cybermesh_dead_letters_total", "Records this validator wrote to the dead letter topic.");
        CommitsPublished = Count("cybermesh_commits_published_total", "Commit records acknowledged by Kafka.");
        ViewChanges = Count("cybermesh_view_changes_total", "View changes this validator took part in.");
        ViewsEntered = Count("cybermesh_views_entered_total", "Views entered by a NEW-VIEW.");
        Suspicions = Count("cybermesh_suspicions_total", "Times this validator suspected a leader.");
        Equivocations = Count("cybermesh_equivocations_total", "Pairs of contradicting messages seen.");
        ProposalsRefused = Count("cybermesh_proposals_refused_total", "Proposals that broke a rule.");
        BodiesRequested = Count("cybermesh_bodies_requested_total", "Transaction bodies asked of peers.");
    }

    public Counter BlocksCommitted { get; }
    public Counter TransactionsAccepted { get; }
    public Counter TransactionsRejected { get; }
    public Counter RecordsConsumed { get; }
    public Counter DeadLetters { get; }
    public Counter CommitsPublished { get; }
    public Counter ViewChanges { get; }
    public Counter ViewsEntered { get; }
    public Counter Suspicions { get; }
    public Counter Equivocations { get; }
    public Counter ProposalsRefused { get; }
    public Counter BodiesRequested { get; }

    public void Gauge(string name, string help, Func<double> read, string label = "") => _series.Add((name, help, "gauge", label, read));

    private Counter Count(string name, string help, string label = "")
    {
        var counter = new Counter();
        _series.Add((name, help, "counter", label, () => counter.Value));
        return counter;
    }

    public string Render()
    {
        var text = new StringBuilder();
        var previous = "";
        foreach (var (name, help, type, label, read) in _series)
        {
            if (name != previous) text.Append("# HELP ").Append(name).Append(' ').Append(help).Append("\n# TYPE ").Append(name).Append(' ').Append(type).Append('\n');
            previous = name;
            text.Append(name);
            if (label.Length > 0) text.Append('{').Append(label).Append('}');
            text.Append(' ').Append(read().ToString(CultureInfo.InvariantCulture)).Append('\n');
        }

        return text.ToString();
    }
}
