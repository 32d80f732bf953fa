using System;
using System.Collections.Generic;
using System.IO;
using CyberMesh.Core.Replica;
using CyberMesh.Node;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Doctor;

/// <summary>The validator that is looked at: whatever of it can be read.</summary>
internal sealed class Patient
{
    public Patient(string home, SettingSources sources, TimeProvider time)
    {
        (Home, Time) = (home, time);
        try
        {
            Values = new SettingValues(sources, []);
            Settings = Settings.Check(sources, out var problems);
            SettingProblems = problems;
        }
        catch (UserError problem)
        {
            SettingProblems = [problem.Message];
        }

        try
        {
            Genesis = GenesisFile.Load(In("genesis.json"));
        }
        catch (UserError problem)
        {
            GenesisProblem = problem;
        }

        IsRunning = IsLocked(In("data", "lock"));
    }

    public string Home { get; }

    public TimeProvider Time { get; }

    /// <summary>Null when not even the files could be read. Of use for looking further also when there are problems.</summary>
    public Settings? Settings { get; }

    /// <summary>As they are set; null likewise.</summary>
    public SettingValues? Values { get; }

    public IReadOnlyList<string> SettingProblems { get; }

    public Genesis? Genesis { get; }

    public UserError? GenesisProblem { get; }

    /// <summary>Its validator runs: ports and the vote log are in use by itself.</summary>
    public bool IsRunning { get; }

    public string In(params ReadOnlySpan<string> names) => Path.Combine([Home, .. names]);

    private static bool IsLocked(string path)
    {
        if (!File.Exists(path)) return false;
        try
        {
            using var held = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            return false;
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            return true;
        }
    }
}
