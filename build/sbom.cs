// The bill of materials of what is released (CycloneDX 1.6, JSON), made of the lock files: every package with its exact version and the hash that restore checks.
//   dotnet run build/sbom.cs -- VERSION
#:property RestorePackagesWithLockFile=false
#:property PublishAot=false
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.Json.Nodes;

var version = args.Length == 1 ? args[0] : throw new ArgumentException("give the version");
var packages = new SortedDictionary<string, (string Version, string Hash, SortedSet<string> Needs)>(StringComparer.OrdinalIgnoreCase);
foreach (var path in Directory.GetFiles("src", "packages.lock.json", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
    foreach (var (_, target) in JsonNode.Parse(File.ReadAllText(path))!["dependencies"]!.AsObject())
        foreach (var (name, package) in target!.AsObject())
        {
            if ((string)package!["type"]! == "Project") continue;
            var resolved = (string)package["resolved"]!;
            if (packages.TryGetValue(name, out var other) && other.Version != resolved) throw new InvalidOperationException($"{name} is locked at {other.Version} and at {resolved}");
            packages[name] = (resolved, (string)package["contentHash"]!, [.. package["dependencies"]?.AsObject().Select(d => d.Key) ?? []]);
        }

string Reference(string name) => $"pkg:nuget/{name}@{packages[name].Version}";
var bom = new JsonObject
{
    ["bomFormat"] = "CycloneDX",
    ["specVersion"] = "1.6",
    ["version"] = 1,
    ["metadata"] = new JsonObject
    {
        ["component"] = new JsonObject { ["type"] = "application", ["bom-ref"] = "cybermesh", ["name"] = "cybermesh", ["version"] = version, ["licenses"] = new JsonArray(new JsonObject { ["license"] = new JsonObject { ["id"] = "Apache-2.0" } }) },
    },
    ["components"] = new JsonArray([.. packages.Select(p => new JsonObject
    {
        ["type"] = "library", ["bom-ref"] = Reference(p.Key), ["name"] = p.Key, ["version"] = p.Value.Version, ["purl"] = Reference(p.Key),
        ["hashes"] = new JsonArray(new JsonObject { ["alg"] = "SHA-512", ["content"] = Convert.ToHexStringLower(Convert.FromBase64String(p.Value.Hash)) }),
    })]),
    ["dependencies"] = new JsonArray([.. packages.Select(p => new JsonObject { ["ref"] = Reference(p.Key), ["dependsOn"] = new JsonArray([.. p.Value.Needs.Where(packages.ContainsKey).Select(n => (JsonNode)Reference(n))]) })]),
};
Console.WriteLine(bom.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
