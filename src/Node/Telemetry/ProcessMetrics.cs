using System;
using System.Diagnostics;
using System.Reflection;
using System.Threading;

namespace CyberMesh.Node.Telemetry;

/// <summary>The process itself, under the names that Prometheus' client libraries use.</summary>
internal static class ProcessMetrics
{
    public static readonly string Version = typeof(ProcessMetrics).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    public static void AddTo(Metrics metrics)
    {
        var started = new DateTimeOffset(Process.GetCurrentProcess().StartTime.ToUniversalTime()).ToUnixTimeMilliseconds() / 1000.0;
        metrics.Gauge("cybermesh_build_info", "Always 1; the version is the label.", () => 1, $"version=\"{Version}\"");
        metrics.Gauge("process_start_time_seconds", "When the process was started, since 1970.", () => started);
        metrics.CounterOf("process_cpu_seconds_total", "Processor time the process has used.", () => Environment.CpuUsage.TotalTime.TotalSeconds);
        metrics.Gauge("process_resident_memory_bytes", "Memory of the process.", () => Environment.WorkingSet);
        metrics.Gauge("dotnet_gc_heap_bytes", "Memory of objects, at the last collection.", () => GC.GetGCMemoryInfo().HeapSizeBytes);
        metrics.CounterOf("dotnet_gc_pause_seconds_total", "Time in which garbage collections stopped everything else.", () => GC.GetTotalPauseDuration().TotalSeconds);
        metrics.Gauge("dotnet_threadpool_threads", "Threads of the pool.", () => ThreadPool.ThreadCount);
        metrics.Gauge("dotnet_threadpool_queue_length", "Work that waits for a thread.", () => ThreadPool.PendingWorkItemCount);
    }
}
