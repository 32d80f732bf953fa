using System;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace CyberMesh.Core.Primitives;

/// <summary>
/// An IPv4 or IPv6 network, or one address. Read strictly (RFC 4291, dotted decimal without leading zeros, no bits set behind the prefix), because
/// validators and enforcers must see the same network in the same text. Addresses of IPv4 inside IPv6 (mapped, NAT64) count as what they reach.
/// </summary>
/// <param name="Bits">The address; of IPv4 in the low 32 bits.</param>
/// <param name="Length">0 to 32 or 0 to 128.</param>
public readonly record struct IpPrefix(bool IsV4, UInt128 Bits, int Length)
{
    private const int TextMax = 49;

    private static readonly ImmutableArray<UInt128> EmbeddingV4 =
    [
        new UInt128(0, 0x0000_ffff_0000_0000), // ::ffff:0:0/96, IPv4-mapped
        new UInt128(0x0064_ff9b_0000_0000, 0), // 64:ff9b::/96, NAT64 (RFC 6052)
    ];

    private int Width => IsV4 ? 32 : 128;

    public static bool TryParse(string text, out IpPrefix prefix)
    {
        prefix = default;
        if (text.Length is 0 or > TextMax) return false;
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        var address = slash < 0 ? text.AsSpan() : text.AsSpan(0, slash);
        var isV4 = !address.Contains(':');
        UInt128 bits;
        if (isV4)
        {
            if (!TryParseV4(address, out var v4)) return false;
            bits = v4;
        }
        else if (!TryParseV6(address, out bits))
        {
            return false;
        }

        var width = isV4 ? 32 : 128;
        var length = width;
        if (slash >= 0 && !TryParseNumber(text.AsSpan(slash + 1), width, out length)) return false;
        if (length < width && (bits & LowBits(width - length)) != 0) return false;
        prefix = new IpPrefix(isV4, bits, length).Unwrapped();
        return true;
    }

    /// <summary>Do the two have an address in common?</summary>
    public bool Overlaps(IpPrefix other)
    {
        if (IsV4 != other.IsV4) return Embeds(this, other) || Embeds(other, this);
        var rest = Width - Math.Min(Length, other.Length);
        return rest >= Width || Bits >> rest == other.Bits >> rest;
    }

    /// <summary>An IPv6 network wide enough to hold one of those in which IPv4 is embedded reaches all of IPv4.</summary>
    private static bool Embeds(IpPrefix v6, IpPrefix v4)
    {
        if (v6.IsV4 || !v4.IsV4) return false;
        foreach (var embedding in EmbeddingV4)
            if (v6.Overlaps(new IpPrefix(false, embedding, 96)))
                return true;
        return false;
    }

    private IpPrefix Unwrapped()
    {
        if (IsV4 || Length < 96) return this;
        foreach (var embedding in EmbeddingV4)
            if (Bits >> 32 == embedding >> 32)
                return new IpPrefix(true, Bits & uint.MaxValue, Length - 96);
        return this;
    }

    private static UInt128 LowBits(int count) => count >= 128 ? UInt128.MaxValue : (UInt128.One << count) - 1;

    private static bool TryParseV4(ReadOnlySpan<char> text, out uint address)
    {
        address = 0;
        for (var part = 0; part < 4; part++)
        {
            var dot = part == 3 ? text.Length : text.IndexOf('.');
            if (dot < 0 || !TryParseNumber(text[..dot], 255, out var value)) return false;
            address = address << 8 | (uint)value;
            if (part < 3) text = text[(dot + 1)..];
        }

        return true;
    }

    private static bool TryParseNumber(ReadOnlySpan<char> text, int max, out int value)
    {
        value = 0;
        if (text.Length is 0 or > 3 || (text.Length > 1 && text[0] == '0')) return false;
        foreach (var c in text)
        {
            if (c is < '0' or > '9') return false;
            value = value * 10 + (c - '0');
        }

        return value <= max;
    }

    private static bool TryParseV6(ReadOnlySpan<char> text, out UInt128 address)
    {
        address = 0;
        var gap = text.IndexOf("::", StringComparison.Ordinal);
        if (gap < 0) return TryParseGroups(text, out address, out var all) && all == 8;
        if (!TryParseGroups(text[..gap], out var head, out var before) || !TryParseGroups(text[(gap + 2)..], out var tail, out var after)) return false;
        // "::" stands for at least one group.
        if (before + after > 7 || (before > 0 && text[..gap].Contains('.'))) return false;
        address = before == 0 ? tail : head << 16 * (8 - before) | tail;
        return true;
    }

    /// <summary>Groups between colons; the last may be an IPv4 address, which counts as two.</summary>
    private static bool TryParseGroups(ReadOnlySpan<char> text, out UInt128 value, out int count)
    {
        (value, count) = (0, 0);
        if (text.IsEmpty) return true;
        while (true)
        {
            var colon = text.IndexOf(':');
            var group = colon < 0 ? text : text[..colon];
            if (colon < 0 && group.Contains('.'))
            {
                if (!TryParseV4(group, out var v4)) return false;
                (value, count) = (value << 32 | v4, count + 2);
            }
            else
            {
                if (group.Length is 0 or > 4) return false;
                uint hex = 0;
                foreach (var c in group)
                {
                    if (!char.IsAsciiHexDigit(c)) return false;
                    hex = hex << 4 | (uint)(char.IsAsciiDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
                }

                (value, count) = (value << 16 | hex, count + 1);
            }

            if (count > 8) return false;
            if (colon < 0) return true;
            text = text[(colon + 1)..];
        }
    }

    /// <summary>IPv4 as usual, IPv6 with all eight groups: one network has one text.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        for (var shift = Width - (IsV4 ? 8 : 16); shift >= 0; shift -= IsV4 ? 8 : 16)
        {
            if (text.Length > 0) text.Append(IsV4 ? '.' : ':');
            if (IsV4) text.Append(CultureInfo.InvariantCulture, $"{(uint)((Bits >> shift) & 255)}");
            else text.Append(CultureInfo.InvariantCulture, $"{(uint)((Bits >> shift) & 0xffff):x}");
        }

        return Length == Width ? text.ToString() : string.Create(CultureInfo.InvariantCulture, $"{text}/{Length}");
    }
}
