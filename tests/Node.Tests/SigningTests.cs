using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CsCheck;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Signing;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>The signer: what it refuses, what it remembers, over its socket, and with keys in a token.</summary>
public sealed class SigningTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly Ed25519Signer _key = new([.. Enumerable.Repeat((byte)7, 32)]);
    private readonly ChainContext _chain;
    private readonly MessageSigner _messages;
    private byte[] _signed = [];

    public SigningTests()
    {
        _chain = new ChainContext(Digest.Sha256("chain"u8), 0, new ValidatorSet([new Validator("v1", _key.PublicKey, default, default, default)]), new ChainParameters());
        _messages = new MessageSigner(_chain, new ValidatorIndex(0), new Capturing(this, _key));
    }

    private string In(string name) => Path.Combine(_directory.Path, name);

    private sealed class Capturing(SigningTests test, ISigner key) : ISigner
    {
        public PublicKey PublicKey => key.PublicKey;

        public Signature Sign(ReadOnlySpan<byte> message)
        {
            test._signed = message.ToArray();
            return key.Sign(message);
        }
    }

    private static Digest Block(int number) => Digest.Sha256(BitConverter.GetBytes(number));

    /// <summary>The bytes that a validator asks a signer for.</summary>
    private byte[] Bytes(Action<MessageSigner> sign)
    {
        sign(_messages);
        return _signed;
    }

    private byte[] Prepare(ulong term, uint attempt, ulong height, int block) => Bytes(m => m.Prepare(new View(term, attempt), new Height(height), Block(block)));

    private byte[] Commit(ulong term, uint attempt, ulong height, int block) => Bytes(m => m.Commit(new View(term, attempt), new Height(height), Block(block)));

    private byte[] ViewChange(ulong term, uint attempt, ulong committed = 0) =>
        Bytes(m => m.ViewChange(new View(term, attempt), QuorumCertificate.ForGenesis(Block(0)), new Height(committed), Justification.None));

    [Fact]
    public void D2_a_second_statement_for_a_slot_is_refused_and_the_same_one_is_signed_again()
    {
        using var journal = new SigningJournal(In("signed.log"));
        Assert.Null(journal.Admit(Prepare(0, 0, 1, 1)));
        Assert.Null(journal.Admit(Prepare(0, 0, 2, 2)));
        Assert.Null(journal.Admit(Prepare(0, 0, 1, 1)));
        Assert.Contains("another PREPARE", journal.Admit(Prepare(0, 0, 2, 3)), StringComparison.Ordinal);
        Assert.Null(journal.Admit(Commit(0, 0, 2, 3))); // of another kind
        Assert.Null(journal.Admit(Prepare(0, 0, 5, 5)));
        Assert.Contains("after one for", journal.Admit(Prepare(0, 0, 4, 4)), StringComparison.Ordinal);

        // A view that was left (rule V1).
        Assert.Null(journal.Admit(ViewChange(0, 1)));
        Assert.Null(journal.Admit(ViewChange(0, 1, 3)));
        Assert.Contains("after a VIEW-CHANGE", journal.Admit(Prepare(0, 0, 6, 6)), StringComparison.Ordinal);
        Assert.Contains("after a VIEW-CHANGE", journal.Admit(Commit(0, 0, 5, 5)), StringComparison.Ordinal);
        Assert.Null(journal.Admit(Prepare(0, 1, 4, 4)));
        Assert.Contains("after one for", journal.Admit(ViewChange(0, 0)), StringComparison.Ordinal);

        Checkpoint Of(int block) => new(3, new Height(512), Block(block), Block(9), default);
        Assert.Null(journal.Admit(Bytes(m => m.Checkpoint(Of(1)))));
        Assert.Null(journal.Admit(Bytes(m => m.Checkpoint(Of(1)))));
        Assert.Contains("another CHECKPOINT", journal.Admit(Bytes(m => m.Checkpoint(Of(2)))), StringComparison.Ordinal);

        NewView(1, true);
        NewView(1, true);
        NewView(2, false);

        void NewView(int block, bool admitted) =>
            Assert.Equal(admitted, journal.Admit(Bytes(m => m.NewView(new View(0, 2), [], QuorumCertificate.ForGenesis(Block(block))))) is null);

        // What says nothing that could be contradicted.
        Assert.Null(journal.Admit(Bytes(m => m.Suspect(new View(0, 0), SuspectReason.Slow))));
        Assert.Null(journal.Admit("tls-id.v1\0 anything"u8.ToArray()));
    }

    [Fact]
    public void W2_another_log_of_the_same_size_is_refused()
    {
        using var journal = new SigningJournal(In("signed.log"));
        string Head(ulong size, int root) => new LogCheckpoint("example/log", size, Block(root)).Text;
        Assert.Null(journal.Admit(NoteKey.CosignedBytes(Head(10, 1), 1_000)));
        Assert.Null(journal.Admit(NoteKey.CosignedBytes(Head(10, 1), 2_000)));
        Assert.Null(journal.Admit(System.Text.Encoding.UTF8.GetBytes(Head(10, 1))));
        Assert.Contains("a log of this size", journal.Admit(NoteKey.CosignedBytes(Head(10, 2), 3_000)), StringComparison.Ordinal);
        Assert.Contains("a log of this size", journal.Admit(System.Text.Encoding.UTF8.GetBytes(Head(10, 2))), StringComparison.Ordinal);
        Assert.Null(journal.Admit(NoteKey.CosignedBytes(Head(11, 2), 3_000)));

        // Lines that verifiers pass over make no other head of it.
        foreach (var more in new[] { "a note\n", "no end", new string('x', 5_000) + "\n" })
        {
            Assert.True(LogCheckpoint.TryParse(Head(11, 3) + more, out var read) && read.Root == Block(3));
            Assert.Contains("a log of this size", journal.Admit(System.Text.Encoding.UTF8.GetBytes(Head(11, 3) + more)), StringComparison.Ordinal);
            Assert.Contains("a log of this size", journal.Admit(NoteKey.CosignedBytes(Head(11, 3) + more, 3_000)), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void What_is_remembered_has_a_bound()
    {
        var guard = new SigningGuard();
        using (var journal = new SigningJournal(In("signed.log")))
        {
            var admitted = Enumerable.Range(0, 300).Count(log => journal.Admit(System.Text.Encoding.UTF8.GetBytes(new LogCheckpoint($"example/{log}", 1, Block(1)).Text)) is null);
            Assert.Equal(256, admitted);
            Assert.Contains("too many to remember", journal.Admit(Prepare(0, 0, 1, 1)), StringComparison.Ordinal);
            Assert.Null(journal.Admit(System.Text.Encoding.UTF8.GetBytes(new LogCheckpoint("example/7", 2, Block(2)).Text)));
        }

        for (var height = 1UL; height <= 1_000; height++) guard.Remember(SigningGuard.Read(Prepare(0, 0, height, 1))!.Value);
        Assert.Equal(128, guard.State.Count());
        Assert.NotNull(guard.Problem(SigningGuard.Read(Prepare(0, 0, 1, 2))!.Value, out _));
    }

    /// <summary>What lies on a disk that failed is unknown until it has been read again.</summary>
    [Fact]
    public async Task D2_after_a_failed_sync_nothing_new_is_signed_until_the_journal_was_read_again()
    {
        var faults = Directory.CreateDirectory(In("faults")).FullName;
        Identity.Create(In(Identity.FileName)).Dispose();
        string[] arguments = ["signer", "--home", _directory.Path, "--socket", In("signer.sock")];
        using (var signer = CliProcess.Start(arguments, ("LD_PRELOAD", DiskFaults.Build(_directory.Path)), ("DISK_FAULTS", faults)))
        {
            await signer.LineAsync("signer: ");
            using var keys = new Keyring(new SignerIdentities(new SignerClient(In("signer.sock"))));
            string Refused(byte[] message) => Assert.Throws<InvariantViolation>(() => keys.Active.Consensus.Sign(message)).Message;
            keys.Active.Consensus.Sign(Prepare(0, 0, 1, 1));
            await File.WriteAllTextAsync(Path.Combine(faults, "eio"), "", TestContext.Current.CancellationToken);
            Assert.Contains("could not be synced", Refused(Prepare(0, 0, 2, 2)), StringComparison.Ordinal);
            File.Delete(Path.Combine(faults, "eio"));
            Assert.Contains("start the signer again", Refused(Prepare(0, 0, 2, 2)), StringComparison.Ordinal);
            keys.Active.Consensus.Sign(Prepare(0, 0, 1, 1));
            await signer.KillAsync();
        }

        using var journal = new SigningJournal(In("signed.log"));
        Assert.NotNull(journal.Admit(Prepare(0, 0, 1, 2)));
        Assert.Null(journal.Admit(Prepare(0, 0, 2, 2)));
    }

    /// <summary>Whatever is asked for, with restarts in between: never two contents for a slot, never a slot below the last that was not signed before.</summary>
    [Fact]
    public void D2_no_sequence_of_requests_gets_two_votes_for_a_slot() =>
        Gen.Select(Gen.Int[0, 2], Gen.UInt[0, 2], Gen.ULong[1, 6], Gen.Int[0, 2], Gen.Int[0, 20]).Array[1, 80].Sample(requests =>
        {
            var path = In(Guid.NewGuid().ToString("N"));
            var signed = new Dictionary<(int, uint, ulong), int>();
            var journal = new SigningJournal(path);
            try
            {
                foreach (var (kind, attempt, height, block, restart) in requests)
                {
                    if (restart == 0)
                    {
                        journal.Dispose();
                        journal = new SigningJournal(path);
                    }

                    var message = kind == 0 ? Prepare(0, attempt, height, block) : kind == 1 ? Commit(0, attempt, height, block) : ViewChange(0, attempt);
                    if (journal.Admit(message) is not null || kind == 2) continue;
                    Assert.Equal(block, signed.TryAdd((kind, attempt, height), block) ? block : signed[(kind, attempt, height)]);
                }
            }
            finally
            {
                journal.Dispose();
                File.Delete(path);
            }
        }, iter: 300, threads: 1);

    [Fact]
    public void The_journal_survives_a_torn_end_and_refuses_damage()
    {
        var path = In("signed.log");
        using (var journal = new SigningJournal(path))
        {
            for (var height = 1; height <= 5; height++) Assert.Null(journal.Admit(Prepare(0, 0, (ulong)height, height)));
            Assert.Contains("cannot be used", Assert.Throws<UserError>(() => new SigningJournal(path)).Message, StringComparison.Ordinal);
        }

        var whole = File.ReadAllBytes(path);
        var record = whole.Length / 5;
        File.WriteAllBytes(path, whole[..^7]);
        using (var journal = new SigningJournal(path))
        {
            // What was cut off was never given away; everything before it is known.
            Assert.Null(journal.Admit(Prepare(0, 0, 5, 50)));
            Assert.NotNull(journal.Admit(Prepare(0, 0, 4, 40)));
        }

        for (var i = 0; i < 4 * record; i += 11)
        {
            var damaged = (byte[])whole.Clone();
            damaged[i] ^= 1;
            File.WriteAllBytes(path, damaged);
            Assert.Contains("not what was written", Assert.Throws<UserError>(() => new SigningJournal(path)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_client_gets_signatures_over_the_socket_and_refusals_by_name()
    {
        Identity.Create(In(Identity.FileName)).Dispose();
        Identity.Create(In(Keyring.NextFileName)).Dispose();
        using var keys = new Keyring(_directory.Path);
        var (first, second) = (keys.All[0].Consensus.PublicKey, keys.All[1].Consensus.PublicKey);
        var refused = new List<string>();
        using var journal = new SigningJournal(In("signed.log"));
        using var stop = new CancellationTokenSource();
        const UnixFileMode owner = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using (new SignerServer(keys, journal, In("group.sock"), true, refused.Add)) Assert.Equal(owner | UnixFileMode.GroupRead | UnixFileMode.GroupWrite, File.GetUnixFileMode(In("group.sock")));
        using var server = new SignerServer(keys, journal, In("signer.sock"), false, refused.Add);
        Assert.Equal(owner, File.GetUnixFileMode(In("signer.sock")));
        var running = server.RunAsync(stop.Token);
        using (var remote = new Keyring(new SignerIdentities(new SignerClient(In("signer.sock")))))
        {
            Assert.Equal(keys.Active.Roles.Select(r => r.PublicKey), remote.Active.Roles.Select(r => r.PublicKey));
            foreach (var role in remote.Active.Roles)
            {
                var message = Guid.NewGuid().ToByteArray();
                Assert.True(new Ed25519Verifier().Verify(role.PublicKey, message, role.Sign(message)));
            }

            remote.Active.Consensus.Sign(Prepare(0, 0, 1, 1));
            Assert.Contains("another PREPARE", Assert.Throws<InvariantViolation>(() => remote.Active.Consensus.Sign(Prepare(0, 0, 1, 2))).Message, StringComparison.Ordinal);
            Assert.Contains(refused, line => line.Contains("another PREPARE", StringComparison.Ordinal));

            // A rotation: the next identity is known, and takes the place of the first one, on the signer's disk.
            Assert.NotNull(remote.Find(second));
            Assert.True(remote.TryPromote(second));
            Assert.Equal(second, remote.Active.Consensus.PublicKey);
            using var onDisk = Identity.Load(In(Identity.FileName));
            Assert.Equal(second, onDisk.Consensus.PublicKey);
            Assert.NotEqual(first, second);
        }

        await stop.CancelAsync();
        await running;
        server.Dispose();
        Assert.False(File.Exists(In("signer.sock")));
    }

    /// <summary>SoftHSM: the private halves are made in the token and never leave it.</summary>
    [Fact]
    public async Task Keys_in_a_token_sign_through_the_signer()
    {
        (string, string) configuration = ("SOFTHSM2_CONF", In("softhsm2.conf"));
        Directory.CreateDirectory(In("tokens"));
        await File.WriteAllTextAsync(In("softhsm2.conf"), $"directories.tokendir = {In("tokens")}\nobjectstore.backend = file\nlog.level = ERROR\n", TestContext.Current.CancellationToken);
        SecretFile.Write(In("pin"), "1234\n"u8);
        var start = new ProcessStartInfo("softhsm2-util", ["--init-token", "--free", "--label", "validator", "--so-pin", "5678", "--pin", "1234"]) { RedirectStandardOutput = true };
        start.Environment[configuration.Item1] = configuration.Item2;
        using (var setup = Process.Start(start)!)
        {
            await setup.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.Equal(0, setup.ExitCode);
        }

        string[] token = ["signer", "--home", _directory.Path, "--socket", In("signer.sock"), "--pkcs11-module", "/usr/lib/softhsm/libsofthsm2.so", "--pkcs11-token", "validator", "--pin-file", In("pin")];
        var (code, output) = await CliProcess.RunAsync(token, [configuration]);
        Assert.True(code == 1 && output.Contains("--create-keys", StringComparison.Ordinal), output);
        var (made, listed) = await CliProcess.RunAsync([.. token, "--create-keys"], [configuration]);
        Assert.True(made == 0, listed);
        using var signer = CliProcess.Start(token, configuration);
        await signer.LineAsync("signer: ");
        using var keys = new Keyring(new SignerIdentities(new SignerClient(In("signer.sock"))));
        Assert.All(keys.Active.Roles, role => Assert.Contains(role.PublicKey.ToString(), listed, StringComparison.Ordinal));
        foreach (var role in keys.Active.Roles)
        {
            var message = Guid.NewGuid().ToByteArray();
            Assert.True(new Ed25519Verifier().Verify(role.PublicKey, message, role.Sign(message)));
        }

        keys.Active.Consensus.Sign(Prepare(0, 0, 1, 1));
        Assert.Contains("another PREPARE", Assert.Throws<InvariantViolation>(() => keys.Active.Consensus.Sign(Prepare(0, 0, 1, 2))).Message, StringComparison.Ordinal);
    }

    public void Dispose()
    {
        _key.Dispose();
        _directory.Dispose();
    }
}
