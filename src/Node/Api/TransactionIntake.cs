using System;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Api.Access;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Node.Api;

/// <summary>
/// The one thing the API writes: transactions that people have signed, verdicts, approvals and orders, into the waiting room of this validator, which tells the others
/// of them. They go through the same checks as those from Kafka; the server signs nothing.
/// </summary>
public sealed class TransactionIntake(
    EnvelopeAuthenticator authenticator, ProducerRegistry producers, Func<Height> height, Func<Submission, CancellationToken, ValueTask> submit, TimeProvider time, long skewMs)
{
    /// <summary>The largest order names 1,024 networks.</summary>
    public const int BytesMax = 128 * 1024;

    /// <summary>What is wrong with a message before its signature is looked at; else what it is, and the role its bearer needs.</summary>
    public static Rejection? Read(string kind, byte[] record, out AlertEnvelope? envelope, out Role needs)
    {
        (envelope, needs) = (null, Role.Admin);
        var alertKind = kind switch { "decision" => AlertKind.Decision, "order" => AlertKind.Order, _ => throw new ArgumentOutOfRangeException(nameof(kind)) };
        if (!EnvelopeDecoder.TryDecode(alertKind, record, out envelope, out var rejection)) return rejection;
        needs = alertKind == AlertKind.Order ? Role.Admin : envelope.Needs == AlertKinds.Approval ? Role.Approver : Role.Analyst;
        return null;
    }

    /// <summary>Offers it; the answer says whether it waits now, not what becomes of it.</summary>
    public async Task<Admission> OfferAsync(AlertEnvelope envelope, CancellationToken stop)
    {
        if (Refusal(envelope) is { } rejection) return new Admission(AdmissionKind.Rejected, rejection);
        if (!authenticator.TryAuthenticate(envelope, SigningProfiles.V2, out var verified))
            return new Admission(AdmissionKind.Rejected, new Rejection(RejectionReason.BadSignature, "it is not signed by whom it names, or by too few operators"));
        var answer = new TaskCompletionSource<Admission>(TaskCreationOptions.RunContinuationsAsynchronously);
        await submit(new Submission(verified, answer.SetResult), stop).ConfigureAwait(false);
        return await answer.Task.WaitAsync(stop).ConfigureAwait(false);
    }

    private Rejection? Refusal(AlertEnvelope envelope) => envelope.Kind.IsControl()
        ? null
        : EnvelopeRules.CheckProducer(envelope, producers, height().Next) ?? EnvelopeRules.CheckTime(envelope, new Timestamp(time.GetUtcNow().ToUnixTimeMilliseconds()), skewMs, skewMs);
}
