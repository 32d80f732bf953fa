using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.Loader;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Xunit;

namespace CyberMesh.Planted.Tests;

/// <summary>Compiles Core and the simulator from source, with or without a bug, and loads the result apart from everything else.</summary>
internal sealed class Compiler
{
    private static readonly CSharpParseOptions ParseOptions = new(LanguageVersion.CSharp14, DocumentationMode.None);

    private readonly Dictionary<string, SyntaxTree> _trees = [];
    private readonly MetadataReference[] _references;

    public Compiler()
    {
        var sources = Path.Combine(AppContext.BaseDirectory, "sources");
        foreach (var file in Directory.EnumerateFiles(sources, "*.cs", SearchOption.AllDirectories))
            _trees[Path.GetRelativePath(sources, file)] = CSharpSyntaxTree.ParseText(File.ReadAllText(file), ParseOptions, file);
        _references = [.. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(':')
            .Where(path => Path.GetFileName(path).StartsWith("System.", StringComparison.Ordinal) || Path.GetFileName(path) is "netstandard.dll" or "mscorlib.dll" or "CsCheck.dll"
                           || Path.GetFileName(path).StartsWith("xunit", StringComparison.Ordinal))
            .Select(path => MetadataReference.CreateFromFile(path))];
    }

    /// <exception cref="InvalidOperationException">The code the bug replaces is not there exactly once, or the result does not compile.</exception>
    public PlantedBuild Build(Bug? bug)
    {
        var trees = new Dictionary<string, SyntaxTree>(_trees);
        if (bug is not null)
        {
            var source = trees[bug.File].ToString();
            var places = source.Split(bug.Right).Length - 1;
            if (places != 1) throw new InvalidOperationException($"{bug.Name}: the code to break stands {places} times in {bug.File}; bring the catalogue up to date");
            trees[bug.File] = CSharpSyntaxTree.ParseText(source.Replace(bug.Right, bug.Wrong, StringComparison.Ordinal), ParseOptions, bug.File);
        }

        var compilation = CSharpCompilation.Create(
            "CyberMesh.Planted", trees.Values, _references,
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, optimizationLevel: OptimizationLevel.Release, checkOverflow: true, nullableContextOptions: NullableContextOptions.Enable));
        using var image = new MemoryStream();
        var result = compilation.Emit(image);
        if (!result.Success)
            throw new InvalidOperationException($"{bug?.Name}: " + string.Join("; ", result.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error).Take(3)));
        image.Position = 0;
        return new PlantedBuild(image, bug?.Tests ?? "");
    }
}

/// <summary>A compiled variant. Its layers are called by name, because its types are other types than ours.</summary>
internal sealed class PlantedBuild : IDisposable
{
    private readonly AssemblyLoadContext _context = new("planted", isCollectible: true);
    private readonly Assembly _assembly;
    private readonly Type _layers;
    private readonly string _first;

    /// <param name="first">The rule tests of classes with this in their name run first.</param>
    public PlantedBuild(Stream image, string first)
    {
        _first = first;
        _assembly = _context.LoadFromStream(image);
        _layers = _assembly.GetType("CyberMesh.Simulator.Layers", throwOnError: true)!;
    }

    /// <summary>Runs the tests of the numbered rules against this variant; the first that fails.</summary>
    public string? RunRules()
    {
        var tests = _assembly.GetTypes().SelectMany(t => t.GetMethods())
            .Where(m => m.GetCustomAttribute<FactAttribute>() is not null && m.GetParameters().Length == 0 && m.GetCustomAttribute<TraitAttribute>()?.Value != "long")
            .OrderByDescending(m => m.DeclaringType!.Name.Contains(_first, StringComparison.Ordinal)).ToArray();
        if (tests.Length < 50) throw new InvalidOperationException($"only {tests.Length} rule tests were found");
        foreach (var test in tests)
        {
            try
            {
                test.Invoke(Activator.CreateInstance(test.DeclaringType!), BindingFlags.DoNotWrapExceptions, null, null, null);
            }
            catch (Exception failure) when (failure is not OutOfMemoryException)
            {
                return test.Name;
            }
        }

        return null;
    }

    /// <summary>What the layer found; null when it found nothing.</summary>
    public string? Run(string layer, params object[] arguments) =>
        (string?)_layers.GetMethod(layer)!.Invoke(null, BindingFlags.DoNotWrapExceptions, null, arguments, null);

    public void Dispose() => _context.Unload();
}
