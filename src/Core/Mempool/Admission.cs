using CyberMesh.Core.Alerts;

namespace CyberMesh.Core.Mempool;

public enum AdmissionKind
{
    /// <summary>In the pool; the decision comes with a block.</summary>
    Admitted,

    /// <summary>In the pool already.</summary>
    Waiting,

    /// <summary>This very transaction was decided in a block.</summary>
    Committed,

    /// <summary>No room: keep the message where it is and offer it again.</summary>
    Full,

    /// <summary>Its producer sends faster than it may: keep the message where it is and offer it again.</summary>
    OverQuota,

    /// <summary>It can never be accepted.</summary>
    Rejected,
}

public readonly record struct Admission(AdmissionKind Kind, Rejection? Rejection = null);
