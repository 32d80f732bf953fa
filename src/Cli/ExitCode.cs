namespace CyberMesh.Cli;

/// <summary>Exit codes of every verb (docs/cli.md).</summary>
internal static class ExitCode
{
    public const int Ok = 0;
    public const int Failure = 1;
    public const int Usage = 2;
    public const int Connection = 3;
    public const int NotFound = 4;
    public const int VerificationFailed = 5;
    public const int Permission = 6;

    /// <summary>Too few validators reach one another: nothing can be decided.</summary>
    public const int NoQuorum = 7;

    public const int Conflict = 8;
}
