using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Chain;

/// <summary>Networks no policy may touch. Equal when the networks are.</summary>
public sealed class NeverBlockList : IEquatable<NeverBlockList>
{
    public static readonly NeverBlockList Empty = new([]);

    /// <summary>Blocking these cuts a host off from itself or its link, whatever a chain says.</summary>
    public static readonly NeverBlockList Always = Parse("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "fe80::/10", "ff00::/8");

    private NeverBlockList(ImmutableArray<string> networks)
    {
        Networks = networks;
        var prefixes = ImmutableArray.CreateBuilder<IpPrefix>(networks.Length);
        foreach (var network in networks)
        {
            Invariant.Holds(IpPrefix.TryParse(network, out var prefix), "a network that was checked");
            prefixes.Add(prefix);
        }

        Prefixes = prefixes.MoveToImmutable();
    }

    /// <summary>As they were written, in their order.</summary>
    public ImmutableArray<string> Networks { get; }

    private ImmutableArray<IpPrefix> Prefixes { get; }

    public static bool TryCreate(IEnumerable<string> networks, out NeverBlockList list, out string? problem)
    {
        var texts = ImmutableArray.CreateRange(networks);
        (list, problem) = (Empty, null);
        if (texts.Length > Limits.NeverBlockMax) problem = string.Create(CultureInfo.InvariantCulture, $"{texts.Length} networks; at most {Limits.NeverBlockMax} are allowed");
        foreach (var text in texts)
            if (!IpPrefix.TryParse(text, out _))
                problem ??= $"'{text}' is no IPv4 or IPv6 network";
        if (problem is null) list = new NeverBlockList(texts);
        return problem is null;
    }

    private static NeverBlockList Parse(params string[] networks) => new([.. networks]);

    /// <summary>The first network of the list that shares an address with this one; null when there is none.</summary>
    public string? Find(IpPrefix target)
    {
        for (var i = 0; i < Prefixes.Length; i++)
            if (Prefixes[i].Overlaps(target))
                return Networks[i];
        return null;
    }

    internal void Write(CanonicalWriter writer)
    {
        writer.Count(Networks.Length);
        foreach (var network in Networks) writer.Text(network);
    }

    internal static NeverBlockList Read(ref CanonicalReader reader)
    {
        var networks = new List<string>();
        for (var left = reader.Count(Limits.NeverBlockMax, 4); left > 0; left--) networks.Add(reader.Text(64));
        if (reader.Error == DecodeError.None && TryCreate(networks, out var list, out _)) return list;
        reader.Fail(DecodeError.OutOfRange);
        return Empty;
    }

    public bool Equals(NeverBlockList? other) => other is not null && Networks.AsSpan().SequenceEqual(other.Networks.AsSpan());

    public override bool Equals(object? obj) => Equals(obj as NeverBlockList);

    public override int GetHashCode() => Networks.Length;
}
