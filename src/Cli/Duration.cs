using System;
using System.CommandLine;
using System.Globalization;
using CyberMesh.Node.Configuration;

namespace CyberMesh.Cli;

/// <summary>The value of <c>--duration</c>, written as the settings write one: 30s, 2m, 1h.</summary>
internal readonly record struct Duration(TimeSpan Length)
{
    private const string Name = "--duration";

    /// <param name="standard">In seconds. Without it the option has no result when it is not given.</param>
    /// <param name="least">In seconds.</param>
    public static Option<Duration> Option(string description, int? standard, int least = 0)
    {
        var option = new Option<Duration>(Name)
        {
            Description = description,
            CustomParser = argument =>
            {
                var text = argument.Tokens[0].Value;
                if (Settings.TryParseDuration(text, out var length) && length > TimeSpan.Zero && length.TotalSeconds >= least) return new Duration(length);
                argument.AddError($"{Name} is '{text}'; write it like 30s, 2m or 1h" + (least > 0 ? $", at least {least}s" : ""));
                return default;
            },
        };
        if (standard is { } seconds) option.DefaultValueFactory = _ => new Duration(TimeSpan.FromSeconds(seconds));
        return option;
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Length.TotalSeconds}s");
}
