using System;
using System.CommandLine;
using System.IO;
using CyberMesh.Core.Chain;
using CyberMesh.Node;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

internal static class EvidenceVerb
{
    private const int FileBytesMax = 16 << 20;

    public static Command Create()
    {
        var command = new Command("evidence", "Proofs against validators.");
        command.Add(Verify());
        return command;
    }

    private static Command Verify()
    {
        var file = new Argument<FileInfo>("file") { Description = "A fork.proof written by a validator that stopped." };
        var genesis = new Option<FileInfo>("--genesis") { Description = "The chain's genesis: the only thing trusted.", Required = true };
        var command = new Command("verify", "Check a fork proof offline and name who is proven guilty; exit code 5 when it proves nothing.") { file, genesis };
        command.SetAction(parsed =>
        {
            var path = parsed.GetValue(file)!;
            if (!path.Exists) throw new UserError($"{path} does not exist", "give the file a validator has written");
            if (path.Length > FileBytesMax) throw new UserError($"{path} is larger than {FileBytesMax} bytes", "this is no fork proof");
            var chain = GenesisFile.Load(parsed.GetValue(genesis)!.FullName);
            if (!ForkProof.TryDecode(File.ReadAllBytes(path.FullName), out var proof))
            {
                Console.WriteLine("rejected: this is no fork proof");
                return ExitCode.VerificationFailed;
            }

            if (!proof.TryVerify(EpochSchedule.ForAllTerms(chain.Chain), chain.Block.Digest, new Ed25519Verifier(), out var verdict, out var problem))
            {
                Console.WriteLine($"rejected: {problem}");
                return ExitCode.VerificationFailed;
            }

            Console.WriteLine($"the chain {chain.Name} has forked at height {verdict.Height}: {proof.One.DigestAt(verdict.Height)} and {proof.Other.DigestAt(verdict.Height)} are both certified");
            foreach (var culprit in verdict.Culprits) Console.WriteLine($"proven guilty: {chain.Chain.Validators[culprit].Name} {chain.Chain.Validators[culprit].ConsensusKey}");
            if (verdict.Culprits.Length < chain.Chain.Validators.OneHonest)
                Console.WriteLine($"at least {chain.Chain.Validators.OneHonest} validators lied; this proof names {verdict.Culprits.Length} of them");
            return ExitCode.Ok;
        });
        return command;
    }
}
