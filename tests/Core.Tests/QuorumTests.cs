using System;
using System.Linq;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class QuorumTests
{
    [Fact]
    public void Q1_two_quorums_share_an_honest_validator_and_the_honest_alone_suffice_for_every_n()
    {
        for (var n = 1; n <= 400; n++)
        {
            var (f, q) = (Quorum.Faulty(n), Quorum.Size(n));
            Assert.True(3 * f + 1 <= n && 3 * (f + 1) + 1 > n);
            Assert.True(2 * q - n >= f + 1, $"n={n}: two quorums share {2 * q - n}");
            Assert.True(q <= n - f, $"n={n}: the honest cannot make a quorum");
            Assert.Equal((2 * n + 2) / 3, q);
        }
    }

    [Theory]
    [InlineData(4, 1, 3)]
    [InlineData(5, 1, 4)]
    [InlineData(6, 1, 4)]
    [InlineData(7, 2, 5)]
    [InlineData(100, 33, 67)]
    public void Q1_quorums_of_the_table(int n, int f, int q)
    {
        Assert.Equal(f, Quorum.Faulty(n));
        Assert.Equal(q, Quorum.Size(n));
    }

    [Fact]
    public void Q2_a_certificate_needs_q_distinct_genuine_signatures_over_one_statement()
    {
        var samples = new Samples();
        var (view, height, digest) = (new View(0, 1), new Height(3), Samples.Digest(7));
        bool Valid(QuorumCertificate c) => c.Verify(samples.Genesis.Chain, samples.Genesis.Block.Digest, samples.Signatures);

        var good = samples.Certificate(CertificateKind.Commit, view, height, digest, 0, 2, 3);
        Assert.True(Valid(good));
        Assert.False(Valid(samples.Certificate(CertificateKind.Commit, view, height, digest, 0, 2)));
        Assert.False(Valid(samples.Certificate(CertificateKind.Commit, view, height, digest, 0, 2, 2)));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Prepare, 0, view, height, digest, good.Signatures)));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Commit, 1, view, height, digest, good.Signatures)));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Commit, 0, view, height.Next, digest, good.Signatures)));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Commit, 0, view.Next, height, digest, good.Signatures)));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Commit, 0, view, height, Samples.Digest(8), good.Signatures)));
        var stranger = good.Signatures.SetItem(2, new SignerSignature(new ValidatorIndex(9), good.Signatures[2].Signature));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Commit, 0, view, height, digest, stranger)));
    }

    [Fact]
    public void The_certificate_of_genesis_is_for_genesis_only()
    {
        var samples = new Samples();
        bool Valid(QuorumCertificate c) => c.Verify(samples.Genesis.Chain, samples.Genesis.Block.Digest, samples.Signatures);
        Assert.True(Valid(QuorumCertificate.ForGenesis(samples.Genesis.Block.Digest)));
        Assert.False(Valid(QuorumCertificate.ForGenesis(Samples.Digest(1))));
        Assert.False(Valid(new QuorumCertificate(CertificateKind.Commit, 0, default, new Height(1), samples.Genesis.Block.Digest, [])));
    }

    [Fact]
    public void R1_certificates_are_ordered_by_view_before_height_and_commit_wins_ties()
    {
        var low = new Rank(new View(0, 1), new Height(9), CertificateKind.Commit);
        var high = new Rank(new View(0, 2), new Height(3), CertificateKind.Prepare);
        Assert.True(high > low);
        Assert.True(high with { Kind = CertificateKind.Commit } > high);
        Assert.True(high with { Height = new Height(4) } > high);
    }

    [Fact]
    public void Q2_the_tally_counts_distinct_senders_of_equal_votes()
    {
        var samples = new Samples();
        var tally = new VoteTally(CertificateKind.Prepare, samples.Genesis.Chain.Validators);
        var (height, a, b) = (new Height(1), Samples.Digest(1), Samples.Digest(2));
        VoteTally.Outcome Vote(int sender, Digest digest) => tally.Add(new ValidatorIndex((ushort)sender), height, digest, default);
        Assert.Equal(VoteTally.Outcome.Added, Vote(0, a));
        Assert.Equal(VoteTally.Outcome.Known, Vote(0, a));
        Assert.Equal(VoteTally.Outcome.Added, Vote(1, b));
        Assert.Equal(VoteTally.Outcome.Conflicting, Vote(1, a));
        Assert.Equal(VoteTally.Outcome.Added, Vote(2, a));
        Assert.Null(tally.TryCertify(0, default, height, a));
        Assert.Equal(VoteTally.Outcome.Added, Vote(3, a));
        Assert.Equal([0, 2, 3], tally.TryCertify(0, default, height, a)!.Signatures.Select(s => (int)s.Signer.Value));
        Assert.Equal(a, tally.QuorumDigest(height));
    }

    [Fact]
    public void Every_validator_leads_within_n_attempts()
    {
        var order = new LeaderScores(new Samples(7).Genesis.Chain).Order;
        Assert.Equal(7, Enumerable.Range(5, 7).Select(a => order.Leader((uint)a)).Distinct().Count());
    }
}
