using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
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

/// <summary>How long things take, in buckets. Thread-safe.</summary>
public sealed class Histogram
{
    /// <summary>Upper bounds in milliseconds; one more bucket holds what takes longer.</summary>
    private static readonly double[] BoundsMs = [0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000];

    private readonly long[] _counts = new long[BoundsMs.Length + 1];
    private long _totalMicroseconds;

    public void Observe(TimeSpan duration)
    {
        var at = Array.BinarySearch(BoundsMs, duration.TotalMilliseconds);
        Interlocked.Increment(ref _counts[at < 0 ? ~at : at]);
        Interlocked.Add(ref _totalMicroseconds, (long)duration.TotalMicroseconds);
    }

    public long Count
    {
        get
        {
            var count = 0L;
            for (var i = 0; i < _counts.Length; i++) count += Interlocked.Read(ref _counts[i]);
            return count;
        }
    }

    /// <summary>The bound of the bucket in which this share of all lies; infinite beyond the last one.</summary>
    public double QuantileMs(double share)
    {
        var left = (long)Math.Ceiling(share * Count);
        for (var i = 0; i < BoundsMs.Length; i++)
            if ((left -= Interlocked.Read(ref _counts[i])) <= 0)
                return BoundsMs[i];
        return double.PositiveInfinity;
    }

    /// <summary>Forgets all, so that a measurement begins here.</summary>
    public void Clear()
    {
        Interlocked.Exchange(ref _totalMicroseconds, 0);
        for (var i = 0; i < _counts.Length; i++) Interlocked.Exchange(ref _counts[i], 0);
    }

    internal void Render(StringBuilder text, string name)
    {
        var count = 0L;
        for (var i = 0; i <= BoundsMs.Length; i++)
        {
            count += Interlocked.Read(ref _counts[i]);
            var bound = i < BoundsMs.Length ? (BoundsMs[i] / 1000).ToString(CultureInfo.InvariantCulture) : "+Inf";
            text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{le=\"{bound}\"}} {count}\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"{name}_sum {Interlocked.Read(ref _totalMicroseconds) / 1e6}\n{name}_count {count}\n");
    }
}

/// <summary>Counters of one validator, in the Prometheus text format (version 0.0.4). Names follow its conventions: unit last, totals end in _total.</summary>
public sealed class Metrics
{
    private readonly List<(string Name, string Help, string Type, string Label, Func<double> Read)> _series = [];

    private readonly List<(string Name, string Help, Histogram Histogram)> _histograms = [];

    public Metrics()
    {
        BlocksCommitted = Count("cybermesh_blocks_committed_total", "Blocks executed and stored by this validator.");
        TransactionsAccepted = Count("cybermesh_transactions_total", "Transactions in committed blocks by result.", "result=\"accepted\"");
        TransactionsRejected = Count("cybermesh_transactions_total", "", "result=\"rejected\"");
        RecordsConsumed = Count("cybermesh_kafka_records_consumed_total", "Records read from the input topics.");
        DeadLetters = Count("cybermesh_dead_letters_total", "Records this validator wrote to the dead letter topic.");
        BlocksPruned = Count("cybermesh_blocks_pruned_total", "Blocks whose bodies have expired.");
        RecordsTakenOver = Count("cybermesh_control_records_taken_over_total", "Control records published here because the proposer's did not appear.");
        CommitsPublished = Count("cybermesh_commits_published_total", "Commit records acknowledged by Kafka.");
        ViewChanges = Count("cybermesh_view_changes_total", "View changes this validator took part in.");
        ViewsEntered = Count("cybermesh_views_entered_total", "Views entered by a NEW-VIEW.");
        Suspicions = Count("cybermesh_suspicions_total", "Times this validator suspected a leader.");
        Equivocations = Count("cybermesh_equivocations_total", "Pairs of contradicting messages seen.");
        ProposalsRefused = Count("cybermesh_proposals_refused_total", "Proposals that broke a rule.");
        BodiesRequested = Count("cybermesh_bodies_requested_total", "Transaction bodies asked of peers.");
        Admission = Time("cybermesh_admission_seconds", "From the poll of a record to its place in the mempool.");
    }

    public Counter BlocksCommitted { get; }
    public Counter TransactionsAccepted { get; }
    public Counter TransactionsRejected { get; }
    public Counter RecordsConsumed { get; }
    public Counter DeadLetters { get; }
    public Counter BlocksPruned { get; }

    public Counter RecordsTakenOver { get; }

    public Counter CommitsPublished { get; }
    public Counter ViewChanges { get; }
    public Counter ViewsEntered { get; }
    public Counter Suspicions { get; }
    public Counter Equivocations { get; }
    public Counter ProposalsRefused { get; }
    public Counter BodiesRequested { get; }
    public Histogram Admission { get; }

    public void Gauge(string name, string help, Func<double> read, string label = "") => _series.Add((name, help, "gauge", label, read));

    /// <summary>A number that only goes up and that somebody else keeps.</summary>
    public void CounterOf(string name, string help, Func<double> read, string label = "") => _series.Add((name, help, "counter", label, read));

    /// <summary>All metrics there are, as Markdown.</summary>
    public string Table()
    {
        var all = _series.Where(s => s.Help.Length > 0).Select(s => (s.Name, s.Type, Labels: LabelOf(s.Label), s.Help)).DistinctBy(s => s.Name).Concat(_histograms.Select(h => (h.Name, Type: "histogram", Labels: "", h.Help)));
        return "| Name | Type | Labels | What it says |\n| --- | --- | --- | --- |\n" + string.Concat(all.OrderBy(s => s.Name, StringComparer.Ordinal).Select(s => $"| `{s.Name}` | {s.Type} | {s.Labels} | {s.Help} |\n"));
    }

    private static string LabelOf(string label) => label.Length == 0 ? "" : $"`{label[..label.IndexOf('=', StringComparison.Ordinal)]}`";

    private Histogram Time(string name, string help)
    {
        var histogram = new Histogram();
        _histograms.Add((name, help, histogram));
        return histogram;
    }

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

        foreach (var (name, help, histogram) in _histograms)
        {
            text.Append("# HELP ").Append(name).Append(' ').Append(help).Append("\n# TYPE ").Append(name).Append(" histogram\n");
            histogram.Render(text, name);
        }

        return text.ToString();
    }
}
