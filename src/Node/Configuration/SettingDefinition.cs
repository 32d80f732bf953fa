namespace CyberMesh.Node.Configuration;

/// <summary>One name that may be set: in <c>config.json</c>, in the environment, in a file of variables or on the command line.</summary>
/// <param name="Default">Empty when there is none.</param>
/// <param name="Form">What a value looks like, for people.</param>
/// <param name="IsSecret">Its value is never shown.</param>
public sealed record SettingDefinition(string Group, string Name, string Default, string Form, string Description, bool IsSecret = false);
