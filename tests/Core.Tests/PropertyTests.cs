using System.Collections.Immutable;
using System.Linq;
using CsCheck;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Certificates and the choice of a new view's base over random sets of signers and claims, against the plain definition.</summary>
public sealed class PropertyTests
{
    private static readonly Samples[] BySize = [.. Enumerable.Range(0, 11).Select(n => new Samples(n < 4 ? 4 : n))];

    [Fact]
    public void Q2_a_certificate_is_genuine_exactly_with_a_quorum_of_distinct_members_over_its_statement() =>
        Gen.Select(Gen.Int[4, 10], Gen.Int[0, 1023], Gen.Int[0, 5], Gen.Int[0, 9]).Sample((n, mask, damage, at) =>
        {
            var samples = BySize[n];
            var signers = Enumerable.Range(0, n).Where(i => (mask >> i & 1) == 1).ToArray();
            var (view, height, digest) = (new View(0, 2), new Height(7), Samples.Digest(5));
            var sound = samples.Certificate(CertificateKind.Commit, view, height, digest, signers);
            var signatures = sound.Signatures;
            var hit = signers.Length == 0 ? 0 : at % signers.Length;
            var damaged = signers.Length == 0 ? 0 : damage;
            var (other, list) = damaged switch
            {
                1 => (sound, signatures.SetItem(hit, samples.Certificate(CertificateKind.Commit, view, height.Next, digest, signers).Signatures[hit])),
                2 => (sound, signatures.Insert(hit, signatures[hit])),
                3 => (sound, signatures.SetItem(hit, new SignerSignature(new ValidatorIndex((ushort)n), signatures[hit].Signature))),
                4 => (sound, [.. signatures.Reverse()]),
                5 => (samples.Certificate(CertificateKind.Prepare, view, height, digest, signers), signatures),
                _ => (sound, signatures),
            };
            var certificate = new QuorumCertificate(other.Kind, 0, view, height, digest, list);
            // The same signatures in another order are damage only when there is another order.
            var harmless = damaged == 0 || (damaged == 4 && signers.Length < 2);
            var expected = harmless && signers.Length >= Quorum.Size(n);
            Assert.Equal(expected, certificate.Verify(samples.Genesis.Chain, samples.Genesis.Block.Digest, samples.Signatures));
        }, iter: 3000, threads: 1);

    [Fact]
    public void V4_a_new_view_is_genuine_exactly_with_a_quorum_of_claims_and_the_highest_of_them() =>
        Gen.Select(Gen.Int[4, 7], Gen.Int[0, 127], Gen.Int[0, 6].Array[7], Gen.Int[0, 6]).Sample((n, mask, ranks, chosen) =>
        {
            var samples = BySize[n];
            var view = new View(0, 5);
            var claimants = Enumerable.Range(0, n).Where(i => (mask >> i & 1) == 1).ToArray();
            if (claimants.Length == 0) return;
            // Ranks in their order: genesis, then certificates of views and heights in which view counts before height and commit before prepare.
            QuorumCertificate Best(int rank) => rank switch
            {
                0 => QuorumCertificate.ForGenesis(samples.Genesis.Block.Digest),
                1 => Certificate(CertificateKind.Prepare, 0, 9),
                2 => Certificate(CertificateKind.Commit, 0, 9),
                3 => Certificate(CertificateKind.Prepare, 1, 3),
                4 => Certificate(CertificateKind.Prepare, 1, 4),
                5 => Certificate(CertificateKind.Commit, 1, 4),
                _ => Certificate(CertificateKind.Prepare, 4, 1),
            };
            QuorumCertificate Certificate(CertificateKind kind, uint attempt, ulong height) =>
                samples.Certificate(kind, new View(0, attempt), new Height(height), Samples.Digest((byte)(10 * attempt + height)), [.. Enumerable.Range(0, Quorum.Size(n))]);
            var claims = claimants.Select(i =>
            {
                var message = samples.Messages(i).ViewChange(view, Best(ranks[i]), default, Justification.None);
                return new SignedClaim(message.Sender, message.Claim, message.Signature);
            }).ToImmutableArray();
            var winner = ranks[claimants[chosen % claimants.Length]];
            var expected = claims.Length >= Quorum.Size(n) && winner == claimants.Max(i => ranks[i]);
            var newView = samples.Messages(0).NewView(view, claims, Best(winner));
            Assert.Equal(expected, samples.Authenticator().TryVerify(newView, out _, out _));
        }, iter: 3000, threads: 1);
}
