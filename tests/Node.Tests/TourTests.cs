using System;
using System.Threading.Tasks;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Papers that are walked through from top to bottom.</summary>
public sealed class TourTests
{
    [Fact]
    public async Task The_tour_shows_what_it_says()
    {
        var output = await PaperScript.RunAsync("docs/tour.md");
        string[] expected =
        [
            "trusted: producer-2 of beta for anomaly, evidence, policy", "  reported  severity", "\"status\": \"corroborated\"", "producer-2  of beta  reputation 1000",
            "proposed policy tour-1", "published approve of", "\"status\": \"active\"", "approver-1, approver-2", "\"status\": \"expired\"",
            "policy tour-1 drop block from block", "policy tour-1 remove block from block", "published false_positive of", "\"decided_by\": \"analyst\"",
            "signed by v", "ok: signed by its producer", "proven: anomaly", " certified, signed by v", ": FalsePositive by analyst", "proven: transaction",
        ];
        foreach (var text in expected) Assert.True(output.Contains(text, StringComparison.Ordinal), $"'{text}' is missing in\n{output}");
        Assert.DoesNotContain("NOT GENUINE", output, StringComparison.Ordinal);
        Assert.DoesNotContain("NOT PROVEN", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_runbook_leads_out_of_each_trouble()
    {
        var output = await PaperScript.RunAsync("docs/runbook.md");
        string[] expected =
        [
            "exit code 7", "nobody answers at 127.0.0.1:", "its data directory is gone", "TLS_CERT_PATH: CN=v1 expires in", "TLS_CERT_PATH: CN=v1 is valid for 36", "ok: ", "copied up to block",
            "\"status\": \"revoked\"", "blocks     ", "; missing: v", "nothing keeps it from working",
        ];
        foreach (var text in expected) Assert.True(output.Contains(text, StringComparison.Ordinal), $"'{text}' is missing in\n{output}");
    }
}
