using System;
using System.CommandLine;
using System.Linq;
using CyberMesh.Node.Configuration;

namespace CyberMesh.Cli.Verbs;

/// <summary>What a validator's settings are, and where they stand.</summary>
internal static class ConfigVerbs
{
    private const string Hidden = "(hidden)";

    public static Command Create() => new("config", "Check and show the settings of a validator.") { Validate(), Show(), Template() };

    private static Command Validate()
    {
        var home = new HomeOptions();
        var command = new Command("validate", "Say everything that is wrong with the settings, where it stands and what to do. Exit code 1 when anything is.");
        home.AddTo(command);
        command.SetAction(parsed =>
        {
            var settings = Settings.Check(home.Sources(parsed), out var problems);
            foreach (var problem in problems) Console.WriteLine("error: " + problem);
            foreach (var name in settings.Unused) Console.WriteLine($"warning: {name} is set and has no effect; remove it");
            Console.WriteLine(problems.Count == 0 ? "the settings are good" : $"{problems.Count} problem(s)");
            return problems.Count == 0 ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }

    private static Command Show()
    {
        var home = new HomeOptions();
        var effective = new Option<bool>("--effective") { Description = "Also what is not set, with its default." };
        var origin = new Option<bool>("--origin") { Description = "Also where each value stands." };
        var command = new Command("show", "Show the settings, without secrets.") { effective, origin };
        home.AddTo(command);
        command.SetAction(parsed =>
        {
            var problems = new System.Collections.Generic.List<string>();
            var values = new SettingValues(home.Sources(parsed), problems);
            foreach (var definition in SettingCatalog.All.Where(d => parsed.GetValue(effective) ? values.Contains(d.Name) || d.Default.Length > 0 : values.Contains(d.Name)))
            {
                var shown = definition.IsSecret ? Hidden : values.Text(definition.Name);
                Console.WriteLine(parsed.GetValue(origin) ? $"{definition.Name}={shown}  # {values.Find(definition.Name)?.Origin ?? "default"}" : $"{definition.Name}={shown}");
            }

            foreach (var problem in problems) Console.Error.WriteLine("error: " + problem);
            return problems.Count == 0 ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }

    private static Command Template()
    {
        var command = new Command("env", "Print all settings there are, as a file of variables to fill in.");
        command.SetAction(_ =>
        {
            Console.Write(SettingCatalog.Template());
            return ExitCode.Ok;
        });
        return command;
    }
}
