using System;
using System.CommandLine;
using System.Globalization;
using System.Text.Json;

namespace CyberMesh.Cli.Bench;

/// <summary>Alerts in, certified and stored blocks out, on every validator; Kafka, the copy and the API are left out.</summary>
internal static class ConsensusBench
{
    public static Command Create()
    {
        var load = new LoadOptions(rate: 500);
        var parts = new Option<int>("--parts") { Description = "Show the time in so many parts as well: what an alert costs while chain and state grow.", DefaultValueFactory = _ => 1 };
        var json = new Option<bool>("--json") { Description = "One JSON object." };
        var command = new Command("consensus", "Alerts committed by validators with real TLS, real syncs and a verification of each alert by each validator.") { parts, json };
        load.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            var report = await ConsensusRun.MeasureAsync(load.Read(parsed), parsed.GetValue(parts), BenchFault.None, stop);
            if (parsed.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(report, BenchVerb.Json));
                return ExitCode.Ok;
            }

            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                {report.Machine}
                {report.Settings}
                {report.Load}, {report.Seconds:F1} s
                committed                      {report.PerSecond:F0} alerts/s, {report.AlertsPerBlock:F1} in a block
                commit latency                 {report.Latency}; changes of view: {report.ViewChanges}
                processor, allocation          {report.CpuMicrosecondsPerAlert:F0} us and {report.BytesPerAlert} bytes per alert, all validators and the load; the collector paused {100 * report.PausesPart:F1} % of the time
                verification bound             {report.VerificationBound:F0} alerts/s at {report.Floors.VerifyMicroseconds:F1} us each; {100 * report.OfTheBound:F0} % reached
                latency floor                  {report.Floor:F2} ms (2 syncs of {report.Floors.FsyncMs:F2} ms, 3 hops of {report.Floors.HopMs:F3} ms); p50 is {report.P50OfTheFloor:F1} times that, p99 {report.P99OfP50:F1} times p50
                """));
            if (report.Parts.Length == 1) return ExitCode.Ok;
            foreach (var part in report.Parts)
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{part.Seconds,6:F0} s  {part.Height,8} blocks  {part.Alerts,9} alerts in the state  {part.PerSecond,7:F0} alerts/s  {part.CpuMicrosecondsPerAlert,6:F0} us of processor time for each"));
            return ExitCode.Ok;
        });
        return command;
    }
}

