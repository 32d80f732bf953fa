using System;

namespace CyberMesh.Core.Alerts;

/// <summary>What a transaction is. The number is its first byte.</summary>
public enum AlertKind : byte
{
    Anomaly = 1,
    Evidence = 2,
    Policy = 3,

    /// <summary>Proof that a validator signed what an honest one never signs; made by validators, not by producers.</summary>
    Misbehaviour = 4,

    /// <summary>A change of set or parameters, signed by the operators.</summary>
    Order = 5,

    /// <summary>A new key says that it is ready; made by validators, not by producers.</summary>
    Ready = 6,
}

/// <summary>Which bytes a producer's signature covers. v1 is what existing producers sign, v2 covers every field.</summary>
public enum SigningProfile : byte
{
    None = 0,
    V1 = 1,
    V2 = 2,
}

[Flags]
public enum AlertKinds : byte
{
    None = 0,
    Anomaly = 1,
    Evidence = 2,
    Policy = 4,
    All = 7,
}

[Flags]
public enum SigningProfiles : byte
{
    None = 0,
    V1 = 1,
    V2 = 2,
}

public static class AlertKindNames
{
    public static string Name(this AlertKind kind) => kind switch
    {
        AlertKind.Anomaly => "anomaly",
        AlertKind.Evidence => "evidence",
        AlertKind.Policy => "policy",
        AlertKind.Misbehaviour => "misbehaviour",
        AlertKind.Order => "order",
        AlertKind.Ready => "ready",
    };

    /// <summary>Of validators or operators, not of a producer.</summary>
    public static bool IsControl(this AlertKind kind) => kind >= AlertKind.Misbehaviour;

    public static AlertKinds Flag(this AlertKind kind) => kind switch
    {
        AlertKind.Anomaly => AlertKinds.Anomaly,
        AlertKind.Evidence => AlertKinds.Evidence,
        AlertKind.Policy => AlertKinds.Policy,
        AlertKind.Misbehaviour or AlertKind.Order or AlertKind.Ready => AlertKinds.None,
    };
}
