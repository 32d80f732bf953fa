using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Cli.Verbs;

namespace CyberMesh.Cli.Doctor;

/// <summary>Looks at a validator and at all it depends on, and says what to do about what is wrong. Changes nothing but, when told so, file modes.</summary>
internal static class DoctorVerb
{
    public static Command Create()
    {
        var home = new HomeOptions();
        var repair = new Option<bool>("--fix-permissions") { Description = "Close keys and data to other users of this machine." };
        var offline = new Option<bool>("--offline") { Description = "Leave Kafka, the database and the other validators alone." };
        var json = new Option<bool>("--json") { Description = "One JSON object for each finding." };
        var command = new Command("doctor", "Look at a validator and at all it depends on, running or not; each finding with its fix. Exit code 1 when something keeps it from working.") { repair, offline, json };
        home.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            var patient = new Patient(home.Home(parsed), home.Sources(parsed), TimeProvider.System);
            var errors = 0;
            await foreach (var finding in ExamineAsync(patient, parsed.GetValue(repair), parsed.GetValue(offline), stop))
            {
                if (finding.Verdict == Verdict.Error) errors++;
                Console.WriteLine(parsed.GetValue(json) ? JsonSerializer.Serialize(new { verdict = finding.Verdict.ToString().ToLowerInvariant(), area = finding.Area, what = finding.What, fix = finding.Fix }) : Line(finding));
            }

            if (!parsed.GetValue(json)) Console.WriteLine(errors == 0 ? "nothing keeps it from working" : $"{errors} finding(s) keep it from working");
            return errors == 0 ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }

    private static string Line(Finding finding)
    {
        var mark = finding.Verdict switch { Verdict.Ok => "ok   ", Verdict.Warning => "WARN ", _ => "ERROR" };
        return $"{mark}  {finding.Area,-12}  {finding.What}" + (finding.Fix.Length == 0 ? "" : $"\n{"",21}-> {finding.Fix}");
    }

    /// <summary>From the inside to the outside.</summary>
    internal static async IAsyncEnumerable<Finding> ExamineAsync(Patient patient, bool repair, bool offline, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken stop)
    {
        IEnumerable<Finding> local =
        [
            .. FileChecks.Settings(patient), .. FileChecks.Modes(patient, repair), .. FileChecks.Identity(patient), .. FileChecks.Certificates(patient), .. ChainChecks.Genesis(patient), .. ChainChecks.Store(patient),
            .. MachineChecks.Clock(), .. MachineChecks.Disk(patient), .. MachineChecks.Limits(patient), .. NetworkChecks.Ports(patient),
        ];
        foreach (var finding in local) yield return finding;
        if (offline) yield break;
        foreach (var finding in await NetworkChecks.PeersAsync(patient, stop)) yield return finding;
        foreach (var finding in await Task.Run(() => ServiceChecks.Kafka(patient).ToList(), stop)) yield return finding;
        foreach (var finding in await Task.Run(() => ServiceChecks.Database(patient).ToList(), stop)) yield return finding;
    }
}
