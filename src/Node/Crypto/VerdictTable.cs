using System;
using System.Collections.Generic;
using System.Linq;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// The twelve public edge cases of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020; ed25519-speccheck, Apache-2.0) and
/// the verdicts of libsodium on them. Ed25519 libraries disagree here; validators that disagree can be split by one crafted signature, so a node
/// whose library answers differently must not run.
/// </summary>
public static class VerdictTable
{
    private const string SmallOrder = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa";
    private const string MixedA = "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43";
    private const string MixedB = "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d";
    private const string LargeS = "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623";
    private const string NonCanonical = "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    private static readonly (string Message, string Key, string Signature, bool Accepted)[] Cases =
    [
        ("8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6", SmallOrder,
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000", false),
        ("9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79", SmallOrder,
            "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", false),
        ("aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab", MixedA,
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e", false),
        ("9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79", MixedB,
            "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009", true),
        ("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c", MixedB,
            "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09", false),
        ("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c", MixedB,
            "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405", false),
        ("85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40", LargeS,
            "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514", false),
        ("85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40", LargeS,
            "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22", false),
        ("9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41", MixedA,
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f", false),
        ("9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41", MixedA,
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908", false),
        ("e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b", NonCanonical,
            "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", false),
        ("39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f", NonCanonical,
            "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", false),
    ];

    public static IEnumerable<SignatureCheck> Checks =>
        Cases.Select(c => new SignatureCheck(PublicKey.From(Convert.FromHexString(c.Key)), Convert.FromHexString(c.Message), Signature.From(Convert.FromHexString(c.Signature))));

    /// <summary>The verifier's verdicts as a string of V (accepted) and X (refused).</summary>
    public static string Verdicts(ISignatureVerifier verifier) => string.Concat(Checks.Select(c => verifier.Verify(c.Key, c.Message.Span, c.Signature) ? 'V' : 'X'));

    /// <summary>What every validator must answer.</summary>
    public static string Expected => string.Create(Cases.Length, Cases, (span, cases) =>
    {
        for (var i = 0; i < span.Length; i++) span[i] = cases[i].Accepted ? 'V' : 'X';
    });

    /// <exception cref="InvariantViolation">The verifier follows another rule than the rest of the network.</exception>
    public static void Check(ISignatureVerifier verifier)
    {
        var verdicts = Verdicts(verifier);
        Invariant.Holds(verdicts == Expected,
            $"the Ed25519 library answers {verdicts} on the edge cases, not {Expected}: this build of libsodium could split the validators; reinstall the pinned version");
    }
}
