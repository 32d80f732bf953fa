using System;
using System.Net;
using System.Net.Sockets;

namespace CyberMesh.Node.Hosting;

/// <summary>By what a remote is counted where it has no name.</summary>
public static class RemoteNetwork
{
    /// <summary>The address; of IPv6 its first half, because whoever has one such address has 2^64 of them.</summary>
    public static IPAddress Of(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6) return address.MapToIPv4();
        if (address.AddressFamily != AddressFamily.InterNetworkV6) return address;
        var bytes = address.GetAddressBytes();
        bytes.AsSpan(8).Clear();
        return new IPAddress(bytes);
    }
}
