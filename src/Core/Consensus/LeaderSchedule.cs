using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>
/// Who leads a view: plain round robin over the set. It depends on the view alone, so all validators agree, and everyone has
/// led after n attempts. Scores from committed blocks will order the attempts of a term here (docs/protocol.md, "Not yet").
/// </summary>
public static class LeaderSchedule
{
    public static ValidatorIndex Leader(ValidatorSet validators, View view) =>
        new((ushort)((view.Term + view.Attempt) % (ulong)validators.Count));
}
