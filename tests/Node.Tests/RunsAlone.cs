using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Tests that load the machine or measure the memory of the process: no other test runs beside them.</summary>
[CollectionDefinition(DisableParallelization = true)]
public sealed class RunsAlone;
