using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;

namespace CyberMesh.Node.Configuration;

/// <summary>Where settings are looked for. One name may stand in several places only with one value.</summary>
/// <param name="ConfigPath">One JSON object of strings; it need not exist.</param>
/// <param name="VariablesPath">A file of lines <c>NAME=VALUE</c>.</param>
/// <param name="Given">On the command line.</param>
public sealed record SettingSources(
    string ConfigPath, IReadOnlyDictionary<string, string> Environment, string? VariablesPath = null, IReadOnlyDictionary<string, string>? Given = null);

/// <param name="Origin">Where it stands, for people.</param>
public sealed record SettingValue(string Value, string Origin);

/// <summary>What is set, and where.</summary>
public sealed class SettingValues
{
    private const int FileBytesMax = 1 << 20;
    private readonly Dictionary<string, SettingValue> _values = new(StringComparer.Ordinal);

    /// <param name="problems">Gets unknown names and contradictions.</param>
    /// <exception cref="UserError">A file cannot be read as what it should be.</exception>
    public SettingValues(SettingSources sources, List<string> problems)
    {
        foreach (var (name, value, origin) in ReadJson(sources.ConfigPath)) Add(name, value, origin, problems);
        foreach (var (name, value, origin) in ReadVariables(sources.VariablesPath)) Add(name, value, origin, problems);
        foreach (var (name, value) in sources.Environment.OrderBy(e => e.Key, StringComparer.Ordinal))
            if (SettingCatalog.IsOurs(name))
                Add(name, value, "the environment", problems);
        foreach (var (name, value) in sources.Given ?? new Dictionary<string, string>()) Add(name, value, "the command line", problems);
    }

    public IEnumerable<string> Names => _values.Keys;

    public bool Contains(string name) => _values.ContainsKey(name);

    /// <summary>Null when it is set nowhere.</summary>
    public SettingValue? Find(string name) => _values.GetValueOrDefault(name);

    /// <summary>As it is set, or by default.</summary>
    public string Text(string name) => _values.TryGetValue(name, out var value) ? value.Value.Trim() : SettingCatalog.Find(name)!.Default;

    private void Add(string name, string value, string origin, List<string> problems)
    {
        if (SettingCatalog.Find(name) is not { } definition)
        {
            problems.Add($"{name} (in {origin}) is not a setting" + (SettingCatalog.Nearest(name) is { } nearest ? $"; did you mean {nearest}?" : "; 'cybermesh config env' lists all"));
            return;
        }

        if (_values.TryGetValue(name, out var other) && other.Value != value)
            problems.Add(definition.IsSecret
                ? $"{name} has one value in {other.Origin} and another in {origin}; set it in one place"
                : $"{name} is '{other.Value}' in {other.Origin} and '{value}' in {origin}; set it in one place");
        _values[name] = new SettingValue(value, origin);
    }

    private static IEnumerable<(string Name, string Value, string Origin)> ReadJson(string path)
    {
        if (!File.Exists(path)) return [];
        var bytes = Bytes(path);
        var found = new List<(string, string, string)>();
        var line = 1;
        try
        {
            var reader = new Utf8JsonReader(bytes);
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) throw Bad(1, "it begins with something else than {");
            while (reader.Read() && reader.TokenType != JsonTokenType.EndObject)
            {
                line = 1 + bytes.AsSpan(0, (int)reader.TokenStartIndex).Count((byte)'\n');
                var name = reader.GetString()!;
                if (!reader.Read() || reader.TokenType is not (JsonTokenType.String or JsonTokenType.Number or JsonTokenType.True or JsonTokenType.False))
                    throw Bad(line, $"the value of {name} is neither text nor a number nor true or false");
                if (found.Any(f => f.Item1 == name)) throw Bad(line, $"{name} stands there twice");
                found.Add((name, reader.TokenType == JsonTokenType.String ? reader.GetString()! : Encoding.UTF8.GetString(reader.ValueSpan), $"{Path.GetFileName(path)}, line {line}"));
            }

            if (reader.Read()) throw Bad(line, "something follows after the object");
        }
        catch (JsonException problem)
        {
            throw Bad((int)(problem.LineNumber ?? 0) + 1, problem.Message);
        }

        return found;

        UserError Bad(int at, string what) => new($"{path}, line {at}: {what}", "it must be one JSON object with a value for each name, like { \"NODE_ID\": \"1\" }");
    }

    private static IEnumerable<(string Name, string Value, string Origin)> ReadVariables(string? path)
    {
        if (path is null) yield break;
        if (!File.Exists(path)) throw new UserError($"--env-file {path} does not exist", "name a file of lines NAME=VALUE ('cybermesh config env' writes one)");
        var lines = Encoding.UTF8.GetString(Bytes(path)).Split('\n');
        for (var i = 0; i < lines.Length; i++)
        {
            var line = lines[i].Trim();
            if (line.Length == 0 || line[0] == '#') continue;
            if (line.StartsWith("export ", StringComparison.Ordinal)) line = line["export ".Length..].TrimStart();
            var separator = line.IndexOf('=', StringComparison.Ordinal);
            if (separator < 1) throw new UserError($"{path}, line {i + 1}: this is no NAME=VALUE", "put a # before what is a comment");
            var value = line[(separator + 1)..].Trim();
            if (value.Length >= 2 && value[0] is '"' or '\'' && value[^1] == value[0]) value = value[1..^1];
            yield return (line[..separator].Trim(), value, $"{Path.GetFileName(path)}, line {i + 1}");
        }
    }

    private static byte[] Bytes(string path)
    {
        try
        {
            return new FileInfo(path).Length <= FileBytesMax ? File.ReadAllBytes(path) : throw new UserError($"{path} is larger than a file of settings", "check the path");
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"{path} cannot be read: {problem.Message}", "check its owner and mode");
        }
    }
}
