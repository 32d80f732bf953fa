using System;
using System.Linq;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using Xunit;

namespace CyberMesh.Node.Tests;

public sealed class OpenSslHashTests
{
    [Fact]
    public void It_is_used_where_OpenSSL_is()
    {
        Assert.SkipUnless(NativeLibrary.TryLoad("libcrypto.so.3", out _), "there is no OpenSSL 3 here");
        Assert.True(OpenSslHash.IsUsed);
        Assert.Equal(typeof(OpenSslHash), Digest.Function.Method.DeclaringType?.DeclaringType);
    }

    /// <summary>FIPS 180-4, the examples of NIST.</summary>
    [Theory]
    [InlineData("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    [InlineData("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    [InlineData("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")]
    public void Known_answers_of_SHA_256(string message, string expected) => Assert.Equal(expected, Digest.Sha256(System.Text.Encoding.ASCII.GetBytes(message)).ToString());

    [Fact]
    public void Two_parts_are_hashed_as_one_and_as_by_DotNet_on_any_thread() => Parallel.For(0, 8, seed =>
    {
        var random = new Random(seed);
        for (var round = 0; round < 500; round++)
        {
            var data = new byte[random.Next(round % 50 == 0 ? 200_000 : 1_000)];
            random.NextBytes(data);
            var cut = random.Next(data.Length + 1);
            Assert.Equal(SHA256.HashData(data), Digest.Sha256(data.AsSpan(0, cut), data.AsSpan(cut)).ToArray());
            var hash = new byte[SHA512.HashSizeInBytes];
            OpenSslHash.Sha512(data.AsSpan(0, cut), data.AsSpan(cut), hash);
            Assert.Equal(SHA512.HashData(data), hash);
        }
    });

    [Fact]
    public void A_hash_may_lie_where_a_part_does()
    {
        var data = Enumerable.Range(0, 64).Select(i => (byte)i).ToArray();
        var expected = SHA512.HashData([.. data, .. "tail"u8]);
        OpenSslHash.Sha512(data, "tail"u8, data);
        Assert.Equal(expected, data);
    }

    [Fact]
    public void Room_that_is_too_small_is_refused() => Assert.ThrowsAny<Exception>(() => OpenSslHash.Sha512([], [], new byte[63]));
}
