using System.Linq;
using BenchmarkDotNet.Running;
using CyberMesh.Benchmarks;

// In this process: a benchmark is then compiled as the product is, without a project of its own that would have to be restored.
var summaries = BenchmarkSwitcher.FromAssembly(typeof(Network).Assembly).Run(["--inProcess", .. args]).ToArray();
return summaries.Any(s => s.HasCriticalValidationErrors || s.Reports.Any(r => !r.Success)) ? 1 : 0;
