using System;
using System.Linq;

namespace CyberMesh.Node.Api.Access;

/// <summary>What somebody may do at the API; each includes those before it.</summary>
public enum Role
{
    /// <summary>Nothing but the probes of an orchestrator.</summary>
    None,

    /// <summary>Reads everything that is committed.</summary>
    Viewer,

    /// <summary>Hands in signed verdicts on alerts.</summary>
    Analyst,

    /// <summary>Hands in signed approvals and revocations of policies.</summary>
    Approver,

    /// <summary>Hands in orders that the operators have signed, and reads the audit log.</summary>
    Admin,
}

public static class Roles
{
    public static readonly string[] Names = [.. Enum.GetNames<Role>().Skip(1).Select(n => n.ToLowerInvariant())];

    public static bool TryParse(string name, out Role role) => Enum.TryParse(name, ignoreCase: true, out role) && Names.Contains(name);
}
