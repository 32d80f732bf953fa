using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;

namespace CyberMesh.Node.Api.Webhooks;

/// <param name="Id">Under which the receiver knows it.</param>
public sealed record DeadMessage(string Id, DateTimeOffset At, string Reason, string Body);

/// <summary>What one hook did not take, one in a line; of more than there is room for the oldest go.</summary>
public sealed class DeadMessages(string directory, string hook)
{
    private const long FileBytesMax = 16 << 20;

    private string Path => System.IO.Path.Combine(directory, hook + ".dead");

    private string Older => Path + ".1";

    public void Add(DeadMessage message)
    {
        if (File.Exists(Path) && new FileInfo(Path).Length > FileBytesMax) File.Move(Path, Older, overwrite: true);
        File.AppendAllText(Path, JsonSerializer.Serialize(message) + "\n");
    }

    /// <summary>Oldest first.</summary>
    public IEnumerable<DeadMessage> All => new[] { Older, Path }.Where(File.Exists).SelectMany(File.ReadLines).Select(line => JsonSerializer.Deserialize<DeadMessage>(line)!);

    /// <summary>Sends all of them again; those that are not taken are dead again. The validator may go on adding meanwhile.</summary>
    public async Task<(int Sent, int Dead)> ReplayAsync(Webhook to, WebhookSender sender, CancellationToken stop)
    {
        var (sent, dead) = (0, 0);
        foreach (var file in new[] { Older, Path })
        {
            var taken = file + ".replay";
            // What an interrupted replay has left comes first.
            if (!File.Exists(taken))
            {
                if (!File.Exists(file)) continue;
                File.Move(file, taken);
            }

            foreach (var message in File.ReadLines(taken).Select(line => JsonSerializer.Deserialize<DeadMessage>(line)!).ToList())
            {
                if (await sender.TrySendAsync(to, message.Id, message.Body, stop).ConfigureAwait(false) is not { } reason)
                {
                    sent++;
                    continue;
                }

                Add(message with { Reason = reason });
                dead++;
            }

            File.Delete(taken);
        }

        return (sent, dead);
    }
}
