namespace CyberMesh.Cli.Doctor;

internal enum Verdict
{
    Ok,
    Warning,
    Error,
}

/// <summary>One thing that was looked at.</summary>
/// <param name="Fix">What to do; empty when nothing is wrong.</param>
internal sealed record Finding(Verdict Verdict, string Area, string What, string Fix = "")
{
    public static Finding Ok(string area, string what) => new(Verdict.Ok, area, what);

    public static Finding Warning(string area, string what, string fix) => new(Verdict.Warning, area, what, fix);

    public static Finding Error(string area, string what, string fix) => new(Verdict.Error, area, what, fix);
}
