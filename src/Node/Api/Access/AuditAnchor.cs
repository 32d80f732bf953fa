using System;
using System.Data.Common;
using System.Globalization;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Sensors;
using CyberMesh.Node.Telemetry;
using Google.Protobuf;
using Microsoft.Extensions.Logging;

namespace CyberMesh.Node.Api.Access;

/// <summary>
/// Puts the head of the audit log into the chain, as evidence signed by a producer of the trust store: then whoever cuts the log off, or writes it anew, contradicts what
/// all validators have committed.
/// </summary>
/// <param name="isAccepted">Whether a transaction is in a block, and counts.</param>
public sealed class AuditAnchor(
    AuditLog log, Digest chainId, AlertSigner signer, Func<AlertEnvelope, CancellationToken, Task<Admission>> offer, Func<Digest, bool> isAccepted, TimeSpan period, TimeProvider time, ILogger logger)
{
    /// <summary>Of evidence.</summary>
    public const string EvidenceType = "audit_head";

    private const string FirstLine = "cybermesh/audit-head/v1";

    public async Task RunAsync(CancellationToken stop)
    {
        var (anchored, underWay) = (AuditHead.None, default((AuditHead Head, Digest Transaction)?));
        try
        {
            for (; ; await Task.Delay(period, time, stop).ConfigureAwait(false))
            {
                try
                {
                    if (underWay is { } earlier && isAccepted(earlier.Transaction)) anchored = earlier.Head;
                }
                catch (DbException problem)
                {
                    // The copy is away; that is no reason to stop, and asked again after the next period.
                    Log.AuditNotAnchored(logger, problem.Message);
                    continue;
                }

                underWay = null;
                var head = log.Head;
                if (head == anchored || head == AuditHead.None) continue;
                var record = signer.Evidence(EvidenceType, Encode(chainId, head)).ToByteArray();
                if (!EnvelopeDecoder.TryDecode(AlertKind.Evidence, record, out var envelope, out var malformed)) throw new InvalidOperationException(malformed?.Explanation);
                var admission = await offer(envelope, stop).ConfigureAwait(false);
                if (admission.Kind == AdmissionKind.Rejected) Log.AuditNotAnchored(logger, admission.Rejection!.Explanation);
                else underWay = (head, envelope.Digest);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // a planned stop
        }
    }

    private static byte[] Encode(Digest chainId, AuditHead head) => Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{FirstLine}\n{chainId}\n{head}\n"));

    /// <summary>What a piece of evidence says of an audit log of this chain.</summary>
    public static bool TryDecode(AlertContent.Evidence evidence, Digest chainId, out AuditHead head)
    {
        head = default;
        var lines = Encoding.ASCII.GetString(evidence.ProofBlob.Span).Split('\n');
        return evidence.EvidenceType == EvidenceType && lines is [FirstLine, var chain, var text, ""] && chain == chainId.ToString() && AuditHead.TryParse(text, out head);
    }
}
