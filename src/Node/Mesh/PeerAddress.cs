using System;
using System.Globalization;
using System.Net;

namespace CyberMesh.Node.Mesh;

/// <summary>Where a peer may be reached: <c>host:port</c>, a name or an IP address (IPv6 in brackets).</summary>
public static class PeerAddress
{
    /// <summary>Hosts are at most 253 characters long (RFC 1035).</summary>
    public const int LengthMax = 260;

    public static bool TryParse(string text, out string host, out int port)
    {
        (host, port) = ("", 0);
        var separator = text.LastIndexOf(':');
        if (separator < 1 || text.Length > LengthMax) return false;
        host = text[..separator];
        if (!int.TryParse(text.AsSpan(separator + 1), NumberStyles.None, CultureInfo.InvariantCulture, out port) || port is < 1 or > 65535) return false;
        if (host[0] == '[') return host[^1] == ']' && IPAddress.TryParse(host = host[1..^1], out _);
        return Uri.CheckHostName(host) is UriHostNameType.Dns or UriHostNameType.IPv4;
    }
}
