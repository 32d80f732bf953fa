using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace CyberMesh.Node.Api.Webhooks;

/// <summary>Somebody who is told of what is committed, over HTTP.</summary>
/// <param name="Secret">Known to both sides; signs each message.</param>
/// <param name="Events">Types that are sent (<see cref="Types"/>).</param>
/// <param name="SeverityMin">Of alerts.</param>
public sealed partial record Webhook(string Name, Uri Url, ImmutableArray<byte> Secret, ImmutableArray<string> Events, int SeverityMin)
{
    private const int HooksMax = 32;
    private const int FileBytesMax = 256 * 1024;
    private const string SecretPrefix = "whsec_";

    /// <summary>What can be told of.</summary>
    public static readonly ImmutableArray<string> Types =
    [
        "alert.reported", .. ApiServer.AlertStatuses.Where(s => s != "reported").Select(s => "alert." + s), .. ApiServer.PolicyStatuses.Select(s => "policy." + s),
    ];

    private sealed record Entry(string? Name, string? Url, string? SecretFile, string[]? Events, int? SeverityMin);

    private static readonly JsonSerializerOptions Form = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = System.Text.Json.Serialization.JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
    };

    [GeneratedRegex("^[a-z0-9][a-z0-9-]{0,31}$")]
    private static partial Regex NamePattern();

    /// <summary>From a JSON file: an array of objects with name, url, secret_file, events and severity_min.</summary>
    /// <param name="problems">Gets all that is wrong, without any secret.</param>
    public static ImmutableArray<Webhook> Load(string path, List<string> problems)
    {
        var hooks = ImmutableArray.CreateBuilder<Webhook>();
        Entry[] entries;
        try
        {
            if (new FileInfo(path).Length > FileBytesMax) throw new IOException("it is too large");
            entries = JsonSerializer.Deserialize<Entry[]>(File.ReadAllBytes(path), Form) ?? [];
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException or JsonException)
        {
            problems.Add($"WEBHOOKS_FILE is '{path}', which cannot be read: {problem.Message}");
            return [];
        }

        if (entries.Length > HooksMax) problems.Add($"WEBHOOKS_FILE has {entries.Length} entries; at most {HooksMax} are allowed");
        foreach (var entry in entries.Take(HooksMax))
        {
            var before = problems.Count;
            var name = entry.Name ?? "";
            if (!NamePattern().IsMatch(name)) problems.Add($"WEBHOOKS_FILE has a hook named '{name}'; a name has lower-case letters, digits and dashes");
            else if (hooks.Any(h => h.Name == name)) problems.Add($"WEBHOOKS_FILE names {name} twice");
            if (!Uri.TryCreate(entry.Url, UriKind.Absolute, out var url) || (url.Scheme != Uri.UriSchemeHttps && !(url.Scheme == Uri.UriSchemeHttp && url.IsLoopback)))
                problems.Add($"the url of webhook {name} is '{entry.Url}'; it must be an address with https");
            var secret = SecretOf(name, entry.SecretFile, problems);
            var unknown = (entry.Events ?? []).Except(Types).ToArray();
            if (unknown.Length > 0) problems.Add($"webhook {name} wants '{unknown[0]}'; events are {string.Join(", ", Types)}");
            if (entry.SeverityMin is < 1 or > 10) problems.Add($"severity_min of webhook {name} is {entry.SeverityMin}; it must be from 1 to 10");
            if (problems.Count == before) hooks.Add(new Webhook(name, url!, secret, entry.Events is null or [] ? Types : [.. entry.Events], entry.SeverityMin ?? 1));
        }

        return hooks.ToImmutable();
    }

    private static ImmutableArray<byte> SecretOf(string name, string? path, List<string> problems)
    {
        try
        {
            var text = path is null ? "" : File.ReadAllText(path).Trim();
            if (text.StartsWith(SecretPrefix, StringComparison.Ordinal) && Convert.FromBase64String(text[SecretPrefix.Length..]) is { Length: >= 24 and <= 64 } secret) return [.. secret];
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException or FormatException)
        {
            // said below
        }

        problems.Add($"secret_file of webhook {name} is '{path}'; it must hold whsec_ and 24 to 64 bytes in base64, as 'echo whsec_$(openssl rand -base64 32)' prints them");
        return [];
    }

    /// <summary>Who is never shown.</summary>
    public override string ToString() => $"{Name} at {Url}";
}
