using System;
using System.Net;
using System.Net.Sockets;
using CsCheck;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class IpPrefixTests
{
    [Theory]
    [InlineData("203.0.113.7", "203.0.113.7")]
    [InlineData("203.0.113.0/24", "203.0.113.0/24")]
    [InlineData("0.0.0.0/0", "0.0.0.0/0")]
    [InlineData("2001:DB8::7", "2001:db8:0:0:0:0:0:7")]
    [InlineData("::", "0:0:0:0:0:0:0:0")]
    [InlineData("2001:db8::/32", "2001:db8:0:0:0:0:0:0/32")]
    [InlineData("::ffff:203.0.113.7", "203.0.113.7")]
    [InlineData("::ffff:cb00:7100/120", "203.0.113.0/24")]
    [InlineData("64:ff9b::203.0.113.7", "203.0.113.7")]
    [InlineData("1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:708:90a")]
    public void A_network_is_read_and_has_one_text(string text, string canonical)
    {
        Assert.True(IpPrefix.TryParse(text, out var prefix));
        Assert.Equal(canonical, prefix.ToString());
        Assert.True(IpPrefix.TryParse(canonical, out var again));
        Assert.Equal(prefix, again);
    }

    [Theory]
    [InlineData("")]
    [InlineData("203.0.113")]
    [InlineData("203.0.113.7.1")]
    [InlineData("203.0.113.256")]
    [InlineData("203.0.113.07")]
    [InlineData("203.0.113.7 ")]
    [InlineData("203.0.113.7/24")]
    [InlineData("203.0.113.0/33")]
    [InlineData("203.0.113.0/-1")]
    [InlineData("203.0.113.0/024")]
    [InlineData("0xcb.0.113.7")]
    [InlineData("3405803783")]
    [InlineData("2001:db8")]
    [InlineData("2001::db8::1")]
    [InlineData("1:2:3:4:5:6:7:8:9")]
    [InlineData("1:2:3:4:5:6:7::8")]
    [InlineData("12345::")]
    [InlineData("fe80::1%eth0")]
    [InlineData("[::1]")]
    [InlineData("::1.2.3.4:5")]
    [InlineData("1.2.3.4::")]
    [InlineData("2001:db8::1/64")]
    [InlineData(":::")]
    [InlineData(":1:2:3:4:5:6:7")]
    [InlineData("localhost")]
    public void What_others_might_read_differently_is_refused(string text) => Assert.False(IpPrefix.TryParse(text, out _));

    [Theory]
    [InlineData("10.0.0.0/8", "10.1.2.3", true)]
    [InlineData("10.0.0.0/8", "11.0.0.0/8", false)]
    [InlineData("10.1.2.0/24", "10.0.0.0/8", true)]
    [InlineData("0.0.0.0/0", "255.255.255.255", true)]
    [InlineData("::/0", "2001:db8::1", true)]
    [InlineData("2001:db8::/32", "2001:db9::/32", false)]
    [InlineData("::/64", "10.1.2.3", true)]
    [InlineData("64:ff9b::/64", "10.1.2.3", true)]
    [InlineData("2001:db8::/32", "10.1.2.3", false)]
    public void Networks_overlap_when_they_share_an_address(string one, string other, bool overlap)
    {
        Assert.True(IpPrefix.TryParse(one, out var a) && IpPrefix.TryParse(other, out var b) && a.Overlaps(b) == overlap && b.Overlaps(a) == overlap);
    }

    /// <summary>Against the parser of the framework: what both read is the same network.</summary>
    [Fact]
    public void Addresses_are_those_of_the_framework() => Gen.Select(Gen.Byte.Array[16], Gen.Bool, Gen.Int[0, 6]).Sample((bytes, v4, zeros) =>
    {
        // Runs of zeros make the framework write "::".
        bytes.AsSpan(2, 2 * zeros).Clear();
        var address = new IPAddress(v4 ? bytes[..4] : bytes);
        Assert.True(IpPrefix.TryParse(address.ToString(), out var prefix));
        Assert.True(IPAddress.TryParse(prefix.ToString(), out var back));
        Assert.Equal(address, back.AddressFamily == AddressFamily.InterNetwork && !v4 ? address : back);
        Assert.Equal(v4 || address.IsIPv4MappedToIPv6, prefix.IsV4);
    }, iter: 2000);
}
