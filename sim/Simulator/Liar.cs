using System.Collections.Generic;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Simulator;

/// <summary>
/// A Byzantine validator: takes what its honest replica would send and sends something else, properly signed. Used by the
/// simulator and by the demo's <c>--fault liar</c>.
/// </summary>
public sealed class Liar(ChainContext chain, Digest genesis, ValidatorIndex me, ISigner signer, Strategy strategy)
{
    private readonly MessageSigner _signer = new(chain, me, signer);

    /// <summary>The messages each validator gets instead of <paramref name="message"/>.</summary>
    public IEnumerable<Outgoing> Distort(Outgoing message)
    {
        if (strategy == Strategy.Silent) yield break;
        if (strategy == Strategy.SilentLeader && message.Message is PeerMessage.PrePrepare) yield break;
        if (strategy != Strategy.Equivocate || message.To is not null || Twin(message.Message) is not { } twin)
        {
            yield return message;
            yield break;
        }

        for (var i = 0; i < chain.Validators.Count; i++)
        {
            var to = new ValidatorIndex((ushort)i);
            yield return new Outgoing(to, to == me || i % 2 == 0 ? message.Message : twin);
        }
    }

    /// <summary>Another message for the same slot, or null when this kind is passed on as it is.</summary>
    private PeerMessage? Twin(PeerMessage message) => message switch
    {
        PeerMessage.PrePrepare m => _signer.PrePrepare(
            new Block(m.Block.Header with { Time = m.Block.Header.Time.PlusMs(1) }, m.Block.Seal, m.Block.Transactions)),
        PeerMessage.Prepare m => _signer.Prepare(m.View, m.Height, Other(m.Digest)),
        PeerMessage.Commit m => _signer.Commit(m.View, m.Height, Other(m.Digest)),
        // Understate: claim to know nothing but genesis.
        PeerMessage.ViewChange m => _signer.ViewChange(m.View, QuorumCertificate.ForGenesis(genesis), default, m.Justification),
        _ => null,
    };

    private static Digest Other(Digest digest) => Digest.Sha256(digest.ToArray());
}
