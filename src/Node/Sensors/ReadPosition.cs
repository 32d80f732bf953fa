using System.IO;
using System.Text.Json;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Sensors;

/// <summary>
/// How far a sensor's log has been published, kept over restarts. Before a batch is published its end and its time are written down: after a crash
/// the same batch is made again byte for byte, so that what Kafka already has of it is recognised as the same messages.
/// </summary>
/// <param name="Fingerprint">The log file; null before its first line.</param>
/// <param name="Offset">Everything before is in Kafka.</param>
/// <param name="PendingEnd">End of the batch that may be partly published; <paramref name="Offset"/> when there is none.</param>
/// <param name="PendingTime">Unix seconds that its messages carry.</param>
public sealed record ReadPosition(string? Fingerprint, long Offset, long PendingEnd, long PendingTime)
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static ReadPosition Start { get; } = new(null, 0, 0, 0);

    /// <exception cref="UserError">The file is there and is no position.</exception>
    public static ReadPosition Load(string path)
    {
        if (!File.Exists(path)) return Start;
        try
        {
            if (JsonSerializer.Deserialize<ReadPosition>(File.ReadAllText(path), Json) is { Offset: >= 0 } position && position.PendingEnd >= position.Offset) return position;
        }
        catch (JsonException)
        {
            // said below
        }

        throw new UserError($"{path} is not a read position", "name the file this command wrote, or remove it to read the log from its start");
    }

    /// <summary>Replaces the file as a whole; durable when this returns.</summary>
    public void Save(string path) => Durable.Replace(path, JsonSerializer.SerializeToUtf8Bytes(this, Json));
}
