using System;
using System.Text.Json;
using System.Text.Json.Serialization;
using CyberMesh.Core.Chain;

namespace CyberMesh.Node.Hosting;

/// <summary>An array of networks; anything else is told with its place in the file.</summary>
public sealed class NeverBlockConverter : JsonConverter<NeverBlockList>
{
    public override NeverBlockList Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        var networks = JsonSerializer.Deserialize<string[]>(ref reader, options) ?? [];
        return NeverBlockList.TryCreate(networks, out var list, out var problem) ? list : throw new JsonException("never_block: " + problem);
    }

    public override void Write(Utf8JsonWriter writer, NeverBlockList value, JsonSerializerOptions options) =>
        JsonSerializer.Serialize(writer, value.Networks, options);
}
