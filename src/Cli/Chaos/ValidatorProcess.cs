using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Runtime.InteropServices;
using System.Threading.Tasks;

namespace CyberMesh.Cli.Chaos;

/// <summary>A validator as a process of its own, which can be killed and stopped as an operating system does it.</summary>
internal sealed class ValidatorProcess(string home, IReadOnlyDictionary<string, string> environment) : IDisposable
{
    private const int Stop = 19; // SIGSTOP
    private const int Continue = 18; // SIGCONT
    private Process? _process;
    private StreamWriter? _log;

    public string Home => home;

    public IReadOnlyDictionary<string, string> Environment => environment;

    /// <summary>It ended without being asked to.</summary>
    public bool HasFailed => _process is { HasExited: true };

    public void Start()
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])[Path.Combine(AppContext.BaseDirectory, "cybermesh.dll"), "start", "--home", home]) start.ArgumentList.Add(argument);
        foreach (var (name, value) in environment) start.Environment[name] = value;
        var log = TextWriter.Synchronized(_log = new StreamWriter(Path.Combine(home, "validator.log"), append: true) { AutoFlush = true });
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, e) => log.WriteLine(e.Data);
        _process.ErrorDataReceived += (_, e) => log.WriteLine(e.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>SIGKILL.</summary>
    public async Task KillAsync()
    {
        _process!.Kill();
        await _process.WaitForExitAsync().ConfigureAwait(false);
        Close();
    }

    /// <summary>SIGTERM, and its end.</summary>
    public async Task StopAsync()
    {
        _ = Signal(_process!.Id, 15);
        await _process.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(2)).ConfigureAwait(false);
        Close();
    }

    private void Close()
    {
        _process!.Dispose();
        _process = null;
        _log!.Dispose();
    }

    public void Suspend() => _ = Signal(_process!.Id, Stop);

    public void Resume() => _ = Signal(_process!.Id, Continue);

    public void Dispose()
    {
        if (_process is null) return;
        if (!_process.HasExited)
        {
            Resume();
            _process.Kill();
            _process.WaitForExit();
        }

        Close();
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Signal(int process, int signal);
}
