using System;
using System.CommandLine;
using CyberMesh.Cli;
using CyberMesh.Cli.Verbs;
using CyberMesh.Node;

namespace CyberMesh.Verify;

/// <summary>'cybermesh verify' as a program of its own, for people who run no node: no Kafka, no store, no network.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        EmbeddedLibrary.Use(typeof(NSec.Cryptography.SignatureAlgorithm).Assembly);
        var parsed = VerifyVerb.On(new RootCommand(Description)).Parse(args);
        try
        {
            var code = parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
            return parsed.Errors.Count > 0 ? ExitCode.Usage : code;
        }
        catch (UserError problem)
        {
            Console.Error.WriteLine("error: " + problem.Message);
            return ExitCode.Failure;
        }
    }

    private const string Description = "Check a proof offline with a policy and say what was checked. Exit code 5 when anything does not hold.";
}
