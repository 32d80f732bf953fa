using System.Collections;
using System.Collections.Generic;
using System.CommandLine;
using System.IO;
using CyberMesh.Node;
using CyberMesh.Node.Configuration;

namespace CyberMesh.Cli.Verbs;

/// <summary>The home of a validator, and where else its settings stand: options of every command that reads them.</summary>
internal sealed class HomeOptions
{
    private readonly Option<DirectoryInfo> _home = new("--home") { Description = "Home directory of the validator.", Required = true, Recursive = true };
    private readonly Option<FileInfo?> _variables = new("--env-file") { Description = "A file of NAME=VALUE lines with settings, beside config.json and the environment.", Recursive = true };
    private readonly Option<string[]> _set = new("--set") { Description = "One setting, NAME=VALUE; may be repeated.", Recursive = true };

    public void AddTo(Command command)
    {
        command.Add(_home);
        command.Add(_variables);
        command.Add(_set);
    }

    /// <exception cref="UserError">There is no such directory.</exception>
    public string Home(ParseResult parsed)
    {
        var home = parsed.GetValue(_home)!;
        return home.Exists ? home.FullName : throw new UserError($"{home} does not exist", "make home directories with 'cybermesh testnet --out DIR', or one with 'cybermesh genesis join'");
    }

    public SettingSources Sources(ParseResult parsed)
    {
        var given = new Dictionary<string, string>();
        foreach (var text in parsed.GetValue(_set) ?? [])
        {
            var separator = text.IndexOf('=', System.StringComparison.Ordinal);
            if (separator < 1) throw new UserError($"--set {text} is no NAME=VALUE", "write it like --set LOG_LEVEL=debug");
            if (!given.TryAdd(text[..separator], text[(separator + 1)..])) throw new UserError($"--set {text[..separator]} is given twice", "keep one");
        }

        return new SettingSources(Path.Combine(Home(parsed), "config.json"), Environment(), parsed.GetValue(_variables)?.FullName, given);
    }

    /// <exception cref="UserError">Everything that is wrong with them.</exception>
    public Settings Settings(ParseResult parsed) => Node.Configuration.Settings.Load(Sources(parsed));

    /// <summary>What is there, of a validator that may be running.</summary>
    public ValidatorHome Open(ParseResult parsed) => new(Home(parsed), Settings(parsed));

    private static Dictionary<string, string> Environment()
    {
        var values = new Dictionary<string, string>(System.StringComparer.Ordinal);
        foreach (DictionaryEntry entry in System.Environment.GetEnvironmentVariables())
            if (entry.Key is string name && entry.Value is string value)
                values[name] = value;
        return values;
    }
}
