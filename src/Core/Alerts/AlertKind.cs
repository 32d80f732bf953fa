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

    /// <summary>What an analyst says of an alert, or an approver of a policy.</summary>
    Decision = 7,
}

/// <summary>Which bytes a producer's signature covers. v1 is what existing producers sign, v2 covers every field.</summary>
public enum SigningProfile : byte
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
        AlertKind.Decision => "decision",
    };

    /// <summary>Of validators or operators, not of somebody in the trust store.</summary>
    public static bool IsControl(this AlertKind kind) => kind is AlertKind.Misbehaviour or AlertKind.Order or AlertKind.Ready;
}
