using System;
using System.CommandLine;
using System.Threading.Tasks;
using CyberMesh.Cli.Bench;
using CyberMesh.Cli.Chaos;
using CyberMesh.Cli.Demo;
using CyberMesh.Cli.Doctor;
using CyberMesh.Cli.Verbs;
using CyberMesh.Node;

namespace CyberMesh.Cli;

internal static class Program
{
    internal static RootCommand Root() => Examples.AddTo(new("CyberMesh: agreement on security alerts between parties who do not trust one another.")
    {
        DemoVerb.Create(), TestnetVerb.Create(), StartVerb.Create(), StatusVerb.Create(), DoctorVerb.Create(), ConfigVerbs.Create(), KeysVerb.Create(), SignerVerb.Create(), GenesisVerbs.Create(), ValidatorsVerb.Create(), ObserverVerb.Create(),
        BrokerVerb.Create(), ProducerVerb.Create(), ProducersVerb.Create(), DecisionVerbs.Alerts(), DecisionVerbs.Policies(), Orders.Create(), ListVerbs.Blocks(), ControlVerb.Create(), EnforceVerb.Create(), DeadLetterVerbs.Create(),
        ProofVerbs.Trust(), ProofVerbs.Proof(), VerifyVerb.On(new Command("verify", "Check a proof offline with a policy and say what was checked. Exit code 5 when anything does not hold.")), ProofVerbs.Audit(), CheckVerb.Create(),
        EvidenceVerb.Create(), AuditLogVerb.Create(), DatabaseVerbs.Create(), DataVerbs.Create(), WebhooksVerb.Create(), CompletionsVerb.Create(), SimulateVerb.Create(), ChaosVerb.Create(), BenchVerb.Create(),
    });

    private static async Task<int> Main(string[] args)
    {
        var parsed = Root().Parse(args);
        try
        {
            // After Ctrl-C or SIGTERM a demo still draws up its account and a leader still hands over.
            var code = await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromMinutes(2) });
            return parsed.Errors.Count > 0 ? ExitCode.Usage : code;
        }
        catch (UserError problem)
        {
            await Console.Error.WriteLineAsync("error: " + problem.Message);
            return ExitCode.Failure;
        }
        catch (RefusedError problem)
        {
            await Console.Error.WriteLineAsync("error: " + problem.Message);
            return problem.Code;
        }
        catch (ConnectionError problem)
        {
            await Console.Error.WriteLineAsync("error: " + problem.Message);
            return ExitCode.Connection;
        }
        catch (OperationCanceledException)
        {
            return ExitCode.Failure;
        }
        catch (Exception problem)
        {
            // A broken invariant, a failed disk, a missing right: what it is stands in the message, the state is on disk.
            await Console.Error.WriteLineAsync($"stopped: {problem.Message}");
            return ExitCode.Failure;
        }
    }
}
