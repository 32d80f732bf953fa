using System.Collections.Immutable;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>
/// A quorum has certified another state than this validator computed from the same blocks: a fault of this machine or of its software
/// (rule P3). It stops voting; the host keeps this for whoever looks into it and starts over from blocks of the others.
/// </summary>
/// <param name="Height">The block after which the states differ, or an earlier one.</param>
/// <param name="Recent">The last executed blocks, with the results and roots this validator computed.</param>
public sealed record Divergence(Height Height, Digest Certified, Digest Own, ImmutableArray<CommittedBlock> Recent);
