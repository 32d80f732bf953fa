using System;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Telemetry;

/// <summary>One line per event to a writer: time, level, event id, text. Control characters are escaped, so one event is always one line.</summary>
public sealed class LineLogProvider(TextWriter writer, TimeProvider time, LogLevel minimum) : ILoggerProvider
{
    private readonly Lock _lock = new();

    public ILogger CreateLogger(string categoryName) => new LineLogger(this);

    private void Write(LogLevel level, EventId id, string message, Exception? problem)
    {
        var line = new StringBuilder();
        line.Append(time.GetUtcNow().ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture)).Append(' ').Append(Short(level))
            .Append(' ').Append(id.Id).Append(' ');
        Escape(line, message);
        if (problem is not null) Escape(line.Append(" | "), problem.ToString());
        lock (_lock)
        {
            writer.WriteLine(line);
            writer.Flush();
        }
    }

    private static string Short(LogLevel level) => level switch
    {
        LogLevel.Trace => "trace",
        LogLevel.Debug => "debug",
        LogLevel.Information => "info",
        LogLevel.Warning => "warn",
        LogLevel.Error => "error",
        LogLevel.Critical => "fatal",
        LogLevel.None => "none",
    };

    private static void Escape(StringBuilder line, string text)
    {
        foreach (var c in text)
        {
            if (char.IsControl(c) || c is '\u2028' or '\u2029' or (>= '\u202a' and <= '\u202e') or (>= '\u2066' and <= '\u2069'))
                line.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
            else line.Append(c);
            if (line.Length > 8192) return;
        }
    }

    public void Dispose() => writer.Dispose();

    private sealed class LineLogger(LineLogProvider provider) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= provider.Minimum;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel)) provider.Write(logLevel, eventId, formatter(state, exception), exception);
        }
    }

    private LogLevel Minimum { get; } = minimum;
}
