using System;
using System.Buffers;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Threading;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Telemetry;

/// <summary>
/// One line per event to a writer. For people: time, level, event id, text, with control characters escaped. For programs: a JSON object with time, level, id, event, message and
/// the fields of the event under their names in snake_case.
/// </summary>
public sealed class LineLogProvider(TextWriter writer, TimeProvider time, LogLevel minimum, bool asJson = false) : ILoggerProvider
{
    private readonly Lock _lock = new();

    public ILogger CreateLogger(string categoryName) => new LineLogger(this);

    private const int LineCharactersMax = 8192;

    private string Now => time.GetUtcNow().ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    private void Write(LogLevel level, EventId id, string message, Exception? problem, object? state)
    {
        var line = asJson ? Json(level, id, message, problem, state) : Text(level, id, message, problem);
        lock (_lock)
        {
            writer.WriteLine(line);
            writer.Flush();
        }
    }

    private string Json(LogLevel level, EventId id, string message, Exception? problem, object? state)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("time", Now);
            json.WriteString("level", Short(level));
            json.WriteNumber("id", id.Id);
            if (id.Name is { } name) json.WriteString("event", JsonNamingPolicy.SnakeCaseLower.ConvertName(name));
            json.WriteString("message", Cut(message));
            if (problem is not null) json.WriteString("exception", Cut(problem.ToString()));
            foreach (var (field, value) in state as IReadOnlyList<KeyValuePair<string, object?>> ?? [])
            {
                if (field == "{OriginalFormat}") continue;
                json.WritePropertyName(JsonNamingPolicy.SnakeCaseLower.ConvertName(field));
                switch (value)
                {
                    case null: json.WriteNullValue(); break;
                    case int or long or uint or ulong: json.WriteRawValue(Convert.ToString(value, CultureInfo.InvariantCulture)!); break;
                    case bool truth: json.WriteBooleanValue(truth); break;
                    default: json.WriteStringValue(Cut(Convert.ToString(value, CultureInfo.InvariantCulture) ?? "")); break;
                }
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private static string Cut(string text) => text.Length <= LineCharactersMax ? text : text[..LineCharactersMax];

    private string Text(LogLevel level, EventId id, string message, Exception? problem)
    {
        var line = new StringBuilder();
        line.Append(Now).Append(' ').Append(Short(level))
            .Append(' ').Append(id.Id).Append(' ');
        Escape(line, message);
        if (problem is not null) Escape(line.Append(" | "), problem.ToString());
        return line.ToString();
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
            if (line.Length > LineCharactersMax) return;
        }
    }

    public void Dispose() => writer.Dispose();

    private sealed class LineLogger(LineLogProvider provider) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= provider.Minimum;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel)) provider.Write(logLevel, eventId, formatter(state, exception), exception, state);
        }
    }

    private LogLevel Minimum { get; } = minimum;
}
