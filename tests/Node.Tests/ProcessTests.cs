using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using System.Threading.Tasks;
using CyberMesh.Core.Proofs;
using CyberMesh.Node.Crypto;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Four validators as processes of their own, killed with SIGKILL.</summary>
public sealed class ProcessTests
{
    [Fact]
    public async Task Kill_9_loses_nothing_and_doubles_nothing_and_a_quorum_is_needed()
    {
        using var directory = new TemporaryDirectory();
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        var validators = await StartFourAsync(directory.Path, brokers);
        try
        {
            var published = await PublishAsync(directory.Path, brokers, 0, 60);
            await AllCommitAsync(validators, published);

            // Each of the four in turn, the leader among them, while alerts come in.
            for (var i = 0; i < 4; i++)
            {
                var publishing = PublishAsync(directory.Path, brokers, published, 40);
                await validators[i].KillAsync();
                published += await publishing;
                await AllCommitAsync([.. validators.Where(v => v.Runs)], published);
                validators[i] = await Validator.StartAsync(validators[i].Home, brokers);
                await AllCommitAsync(validators, published);
            }

            await validators[0].KillAsync();
            await validators[1].KillAsync();
            var before = await validators[2].HeightAsync();
            published += await PublishAsync(directory.Path, brokers, published, 20);
            await Task.Delay(3000); // long enough for a dozen blocks, were there a quorum
            Assert.Equal(before, await validators[2].HeightAsync());
            validators[0] = await Validator.StartAsync(validators[0].Home, brokers);
            await AllCommitAsync([validators[0], validators[2], validators[3]], published);

            var (status, text) = await CliProcess.RunAsync("status", "--url", validators[2].Url);
            Assert.True(status == 0, text);
            await GarbageIsHarmlessAsync(validators[2]);
            await AllCommitAsync([validators[0], validators[2], validators[3]], published);
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
        }
    }

    /// <summary>
    /// A validator that comes back with an empty disk follows the others at once, signs nothing while what it forgot could matter (rules A1,
    /// A2), and is a full member again afterwards, on an idle chain too (A4).
    /// </summary>
    [Fact]
    public async Task A1_a_validator_restarted_on_an_empty_disk_catches_up_abstains_and_votes_again()
    {
        using var directory = new TemporaryDirectory();
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        var validators = await StartFourAsync(directory.Path, brokers);
        try
        {
            var published = await PublishAsync(directory.Path, brokers, 0, 40);
            await AllCommitAsync(validators, published);
            await validators[1].KillAsync();
            Directory.Delete(Path.Combine(validators[1].Home, "data"), recursive: true);
            published += await PublishAsync(directory.Path, brokers, published, 40);
            validators[1] = await Validator.StartAsync(validators[1].Home, brokers);
            Assert.False(await validators[1].MayVoteAsync());
            await AllCommitAsync(validators, published);

            await validators[1].VotesAgainAsync();
            // Now the quorum needs it.
            await validators[3].KillAsync();
            published += await PublishAsync(directory.Path, brokers, published, 20);
            await AllCommitAsync(validators[..3], published);

            // After a divergence (P3) the blocks are fetched anew; the votes were never lost, so it needs nobody's word to vote again (A5).
            validators[3] = await Validator.StartAsync(validators[3].Home, brokers);
            await validators[2].KillAsync();
            await File.WriteAllTextAsync(Path.Combine(validators[2].Home, "divergence-20260101T000000Z.json"), "{}");
            validators[2] = await Validator.StartAsync(validators[2].Home, brokers);
            await AllCommitAsync(validators, published);
            Assert.True(File.Exists(Path.Combine(validators[2].Home, "data", "blocks.db.diverged")));
            await validators[2].VotesAgainAsync();
            await validators[2].KillAsync();
            await File.WriteAllTextAsync(Path.Combine(validators[2].Home, "divergence-20260101T000001Z.json"), "{}");
            using var refused = CliProcess.Start(["start", "--home", validators[2].Home], ("KAFKA_BROKERS", brokers));
            await refused.LineAsync("twice within a day");
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
        }
    }

    /// <summary>
    /// A disk that is full makes its validator wait, without a vote that is not on disk; a disk that does not sync makes it stop. Both are members again
    /// when the disk is.
    /// </summary>
    [Fact]
    public async Task D1_a_full_disk_makes_a_validator_wait_and_a_failed_sync_makes_it_stop()
    {
        using var directory = new TemporaryDirectory();
        var library = DiskFaults.Build(directory.Path);
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        var faults = Directory.CreateDirectory(Path.Combine(directory.Path, "faults")).FullName;
        var validators = await StartFourAsync(directory.Path, brokers);
        try
        {
            await validators[1].KillAsync();
            validators[1] = await Validator.StartAsync(validators[1].Home, brokers, ("LD_PRELOAD", library), ("DISK_FAULTS", faults));
            var published = await PublishAsync(directory.Path, brokers, 0, 40);
            await AllCommitAsync(validators, published);

            await File.WriteAllTextAsync(Path.Combine(faults, "full"), "");
            published += await PublishAsync(directory.Path, brokers, published, 40);
            await AllCommitAsync([validators[0], validators[2], validators[3]], published);
            async Task<string> StorageAsync() => (string)(await validators[1].GetAsync("/health"))["components"]!["storage"]!["status"]!;
            await Eventually.HoldsAsync(() => StorageAsync().GetAwaiter().GetResult() == "full", "the full disk shows");
            // The copy wants to say every ten seconds what is not published yet. That it cannot be written does not keep anybody from reading it.
            await Eventually.HoldsAsync(() => validators[1].Output.Contains("projection behind", StringComparison.Ordinal), "the copy cannot be written");
            Assert.True((await validators[1].GetAsync("/v1/alerts?limit=500"))["alerts"]!.AsArray().Count < published, "what is not stored is not shown");
            File.Delete(Path.Combine(faults, "full"));
            await AllCommitAsync(validators, published);
            Assert.Equal("ok", await StorageAsync());
            Assert.True(await validators[1].MayVoteAsync());

            await File.WriteAllTextAsync(Path.Combine(faults, "eio"), "");
            published += await PublishAsync(directory.Path, brokers, published, 40);
            await Eventually.HoldsAsync(() => !validators[1].Runs, "the validator stops");
            Assert.Contains("disk I/O error", validators[1].Output, StringComparison.Ordinal);
            File.Delete(Path.Combine(faults, "eio"));
            validators[1] = await Validator.StartAsync(validators[1].Home, brokers);
            await AllCommitAsync(validators, published);
            Assert.True(await validators[1].MayVoteAsync());
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
        }
    }

    /// <summary>A validator whose keys are in another process votes as the others do, waits for its signer, and cannot be made to contradict itself by an older disk.</summary>
    [Fact]
    public async Task D2_a_validator_without_keys_votes_through_its_signer_and_never_twice()
    {
        using var directory = new TemporaryDirectory();
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        await RunAsync("testnet", "--validators", "4", "--out", directory.Path, "--base-port", "0", "--api-port", "0");
        var (home, keys) = (Path.Combine(directory.Path, "v1"), Directory.CreateDirectory(Path.Combine(directory.Path, "v1-keys")).FullName);
        var socket = Path.Combine(keys, "signer.sock");
        string[] arguments = ["signer", "--home", keys, "--socket", socket];
        var (code, output) = await CliProcess.RunAsync(["start", "--home", home], [("KAFKA_BROKERS", brokers), ("SIGNER_SOCKET", socket)]);
        Assert.True(code == 1 && output.Contains("SIGNER_SOCKET is set", StringComparison.Ordinal), output);
        File.Move(Path.Combine(home, "identity.key"), Path.Combine(keys, "identity.key"));
        var signer = CliProcess.Start(arguments);
        var validators = new List<Validator>();
        try
        {
            validators.Add(await Validator.StartAsync(home, brokers, ("SIGNER_SOCKET", socket)));
            for (var i = 2; i <= 4; i++) validators.Add(await Validator.StartAsync(Path.Combine(directory.Path, $"v{i}"), brokers));
            // The quorum needs it.
            await validators[3].KillAsync();
            var published = await PublishAsync(directory.Path, brokers, 0, 30);
            await AllCommitAsync(validators[..3], published);

            // The signer is started anew; the validator has waited for it.
            await signer.KillAsync();
            signer.Dispose();
            signer = CliProcess.Start(arguments);
            published += await PublishAsync(directory.Path, brokers, published, 30);
            await AllCommitAsync(validators[..3], published);
            Assert.DoesNotContain("refused", signer.Output, StringComparison.Ordinal);
            Assert.False(File.Exists(Path.Combine(home, "identity.key")));
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
            signer.Dispose();
        }
    }

    /// <summary>
    /// With alerts coming in all the time a validator joins, another rotates its keys and a third is removed, each by an order that two
    /// operators sign and nobody restarts anything for (rules S1 to S3). Everything published commits on all members.
    /// </summary>
    /// <summary>At whatever moment of its start a validator is told to stop, it does; a supervisor would wait for ever otherwise.</summary>
    [Fact]
    public async Task A_validator_that_is_told_to_stop_while_it_starts_stops()
    {
        using var directory = new TemporaryDirectory();
        await CliProcess.RunAsync("testnet", "--validators", "4", "--out", directory.Path, "--base-port", "0", "--api-port", "0", "--brokers", "127.0.0.1:1");
        foreach (var moment in new[] { "starts on chain", "listens: HTTP", "", "" })
        {
            using var validator = CliProcess.Start(["start", "--home", Path.Combine(directory.Path, "v1")]);
            if (moment.Length > 0) await validator.LineAsync(moment);
            else await Task.Delay(Random.Shared.Next(200, 2000), TestContext.Current.CancellationToken);
            Assert.True(await validator.TerminateAsync(TimeSpan.FromSeconds(90)), $"told at '{moment}' it goes on:\n{validator.Output}");
        }
    }

    [Fact]
    public async Task S3_validators_join_rotate_keys_and_leave_while_alerts_are_committed()
    {
        using var directory = new TemporaryDirectory();
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        var validators = await StartFourAsync(directory.Path, brokers);
        try
        {
            var genesis = Path.Combine(validators[0].Home, "genesis.json");
            var published = await PublishAsync(directory.Path, brokers, 0, 30);
            await AllCommitAsync(validators, published);

            var home = Path.Combine(directory.Path, "v5");
            await RunAsync("validators", "prepare", "--home", home, "--genesis", genesis, "--name", "v5", "--address", $"127.0.0.1:{Cli.Verbs.Testnet.FreePorts(1)[0]}", "--node-id", "5");
            validators.Add(await Validator.StartAsync(home, brokers));
            Assert.False(await validators[4].MayVoteAsync());
            published = await OrderAsync(published, "propose-add", "--validator", Path.Combine(home, "validator.json"));
            await AllCommitAsync(validators, published);
            Assert.True(await validators[4].MayVoteAsync());
            Assert.Equal(["v1", "v2", "v3", "v4", "v5"], await validators[0].NamesAsync());

            var before = (string)(await validators[1].GetAsync("/validators"))["validators"]!.AsArray().Single(v => (string)v!["name"]! == "v2")!["consensus_key"]!;
            published = await OrderAsync(published, "rotate-key", "--home", validators[1].Home, "--name", "v2", "--address", $"127.0.0.1:{validators[1].MeshPort}");
            await AllCommitAsync(validators, published);
            Assert.NotEqual(before, (string)(await validators[0].GetAsync("/validators"))["validators"]!.AsArray().Single(v => (string)v!["name"]! == "v2")!["consensus_key"]!);
            // The new key stands on disk too.
            await validators[1].KillAsync();
            validators[1] = await Validator.StartAsync(validators[1].Home, brokers);
            published += await PublishAsync(directory.Path, brokers, published, 10);
            await AllCommitAsync(validators, published);
            Assert.True(await validators[1].MayVoteAsync());

            published = await OrderAsync(published, "propose-remove", "--name", "v4");
            await AllCommitAsync([.. validators.Where((_, i) => i != 3)], published);
            Assert.Equal(["v1", "v2", "v3", "v5"], await validators[0].NamesAsync());
            Assert.True(validators[3].Runs);

            // The quorum of the new set is the newcomer, the one with the new keys, and one more.
            await validators[0].KillAsync();
            published += await PublishAsync(directory.Path, brokers, published, 10);
            await AllCommitAsync([validators[1], validators[2], validators[4]], published);

            // What the changes of the set left in the copy is what they would leave again.
            var (verified, report) = await CliProcess.RunAsync(["db", "verify", "--home", validators[1].Home], [("KAFKA_BROKERS", brokers)]);
            Assert.True(verified == 0, report);

            async Task<int> OrderAsync(int soFar, params string[] proposal)
            {
                var epoch = await validators[0].EpochAsync();
                var order = await SignedOrderAsync(directory.Path, validators[0], brokers, proposal);
                var publishing = PublishAsync(directory.Path, brokers, soFar, 40);
                await RunAsync("validators", "submit", order, "--genesis", genesis, "--brokers", brokers);
                soFar += await publishing;
                for (var i = 0; i < 1800 && await validators[0].EpochAsync() == epoch; i++) await Task.Delay(100);
                Assert.Equal(epoch + 1, await validators[0].EpochAsync());
                return soFar + await PublishAsync(directory.Path, brokers, soFar, 10);
            }
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
        }
    }

    /// <summary>An order that two operators have signed.</summary>
    private static async Task<string> SignedOrderAsync(string directory, Validator validator, string brokers, params string[] proposal)
    {
        var (order, genesis) = (Path.Combine(directory, proposal[0] + ".order"), Path.Combine(validator.Home, "genesis.json"));
        string Key(int i) => Path.Combine(directory, $"operator-{i}.pem");
        await RunAsync(["validators", .. proposal, "--genesis", genesis, "--out", order, "--operator", Key(1), "--api", validator.Url]);
        var (code, text) = await CliProcess.RunAsync("validators", "submit", order, "--genesis", genesis, "--brokers", brokers);
        Assert.True(code == 1 && text.Contains("1 missing", StringComparison.Ordinal), text);
        await RunAsync("validators", "sign", order, "--genesis", genesis, "--operator", Key(3));
        await RunAsync("validators", "show", order, "--genesis", genesis);
        return order;
    }

    /// <summary>The operators put rules in force that this program does not know: it says so a term before, stops at the border, and loses nothing.</summary>
    [Fact]
    public async Task S7_a_program_that_does_not_know_the_new_rules_stops_before_them()
    {
        using var directory = new TemporaryDirectory();
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        var validators = await StartFourAsync(directory.Path, brokers);
        try
        {
            var published = await PublishAsync(directory.Path, brokers, 0, 30);
            await AllCommitAsync(validators, published);
            var order = await SignedOrderAsync(directory.Path, validators[0], brokers, "propose-upgrade", "--version-number", "2");
            await RunAsync("validators", "submit", order, "--genesis", Path.Combine(validators[0].Home, "genesis.json"), "--brokers", brokers);
            foreach (var validator in validators)
            {
                await Eventually.HoldsAsync(() => !validator.Runs, "it stops at the border");
                Assert.Contains("install one that does before then", validator.Output, StringComparison.Ordinal);
                Assert.Contains("follows version 2 of its rules, and this program knows version 1", validator.Output, StringComparison.Ordinal);
            }

            // Nor does it start again; what it has stored stays as it is.
            var (code, output) = await CliProcess.RunAsync(["start", "--home", validators[1].Home], [("KAFKA_BROKERS", brokers)]);
            Assert.True(code == 1 && output.Contains("follows version 2 of its rules", StringComparison.Ordinal), output);
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
        }
    }

    private static async Task RunAsync(params string[] arguments)
    {
        var (code, output) = await CliProcess.RunAsync(arguments);
        Assert.True(code == 0, output);
    }

    private static async Task<List<Validator>> StartFourAsync(string directory, string brokers)
    {
        await RunAsync("testnet", "--validators", "4", "--out", directory, "--base-port", "0", "--api-port", "0");
        var validators = new List<Validator>();
        for (var i = 1; i <= 4; i++) validators.Add(await Validator.StartAsync(Path.Combine(directory, $"v{i}"), brokers));
        return validators;
    }

    /// <summary>Every committed alert gets a proof from every validator that the policy alone accepts, also when one of them is down (rules W1 to W3).</summary>
    [Fact]
    public async Task W3_every_committed_alert_is_proven_offline_and_the_log_is_audited()
    {
        using var directory = new TemporaryDirectory();
        using var broker = CliProcess.Start(["broker"]);
        var brokers = (await broker.LineAsync("broker: ")).Split(' ')[1];
        var validators = await StartFourAsync(directory.Path, brokers);
        try
        {
            string[] audit = ["audit", "--url", validators[1].Url, "--policy", At("trust.policy"), "--dir", At("audit")];
            await File.WriteAllTextAsync(At("trust.policy"), await RunAsync(0, "trust", "export", "--genesis", Path.Combine(validators[0].Home, "genesis.json")));
            var published = await PublishAsync(directory.Path, brokers, 0, 300);
            await AllCommitAsync(validators, published);
            var digests = await validators[0].AlertDigestsAsync();
            Assert.Equal(published, digests.Count);
            Assert.True(TrustPolicy.TryParse(await File.ReadAllBytesAsync(At("trust.policy")), out var policy, out var problem), problem);
            for (var i = 0; i < digests.Count; i++)
            {
                await FetchAsync(validators[i % 4], digests[i], i < 4);
                Assert.True(LogProof.TryParse(await File.ReadAllBytesAsync(At("one.tlog-proof")), out var proof, out problem), problem);
                var verdict = new ProofVerifier(policy, new Ed25519Verifier()).Verify(proof, await File.ReadAllBytesAsync(At("one.record")));
                Assert.True(verdict.Passed, string.Join("; ", verdict.Checks));
                Assert.Equal(digests[i], verdict.Entry!.Transaction.ToString());
            }

            Assert.Contains("300 entries lead to the root", await RunAsync(0, audit), StringComparison.Ordinal);

            // Of another message, and with a signature less.
            string[] verify = ["verify", At("one.tlog-proof"), "--policy", At("trust.policy"), "--message", At("one.record")];
            Assert.Contains("signed by its producer", await RunAsync(0, verify), StringComparison.Ordinal);
            Assert.Contains("the message is another one", await RunAsync(5, [.. verify[..5], await OtherRecordAsync()]), StringComparison.Ordinal);
            var lines = await File.ReadAllLinesAsync(At("one.tlog-proof"));
            await File.WriteAllLinesAsync(At("one.tlog-proof"), lines[..^1]);
            Assert.Contains("cosigned by 2 of 3 needed", await RunAsync(5, verify), StringComparison.Ordinal);

            // Three go on; the log continues the one that was seen.
            await validators[3].KillAsync();
            published += await PublishAsync(directory.Path, brokers, published, 20);
            await AllCommitAsync(validators[..3], published);
            foreach (var digest in await validators[1].AlertDigestsAsync()) await validators[1].ProofAsync(digest);
            Assert.Contains("it continues the log of 300 entries", await RunAsync(0, audit), StringComparison.Ordinal);
            Assert.Contains("320 entries", await RunAsync(0, [.. audit, "--from", "310"]), StringComparison.Ordinal);

            // Somebody has rewritten what the last audit saw.
            var leaves = await File.ReadAllBytesAsync(Path.Combine(At("audit"), "leaves"));
            leaves[(32 * 7) + 3] ^= 1;
            await File.WriteAllBytesAsync(Path.Combine(At("audit"), "leaves"), leaves);
            Assert.Contains("entry 7 has changed", await RunAsync(5, audit), StringComparison.Ordinal);

            async Task<string> OtherRecordAsync()
            {
                await File.WriteAllBytesAsync(At("other.record"), await validators[0].BytesAsync($"/v1/messages/{digests[0]}"));
                return At("other.record");
            }
        }
        finally
        {
            foreach (var validator in validators) validator.Dispose();
        }

        string At(string name) => Path.Combine(directory.Path, name);

        async Task FetchAsync(Validator validator, string digest, bool byCommand)
        {
            if (byCommand)
            {
                await RunAsync(0, "proof", "get", digest, "--url", validator.Url, "--file", At("one.tlog-proof"), "--message", At("one.record"));
                return;
            }

            await File.WriteAllTextAsync(At("one.tlog-proof"), await validator.ProofAsync(digest));
            await File.WriteAllBytesAsync(At("one.record"), await validator.BytesAsync($"/v1/messages/{digest}"));
        }

        static async Task<string> RunAsync(int expected, params string[] arguments)
        {
            var (code, output) = await CliProcess.RunAsync(arguments);
            Assert.True(code == expected, $"{string.Join(' ', arguments)}: exit code {code}\n{output}");
            return output;
        }
    }

    private static async Task<int> PublishAsync(string directory, string brokers, int first, int count)
    {
        var input = Path.Combine(directory, $"alerts-{first}.ndjson");
        await File.WriteAllLinesAsync(input, Enumerable.Range(first, count).Select(i => $$"""{"type":"scan","source":"10.0.0.1","severity":5,"confidence":0.5,"number":{{i}}}"""));
        var (code, output) = await CliProcess.RunAsync("producer", "run", "--format", "ndjson", "--input", input, "--key", Path.Combine(directory, "producer.pem"), "--brokers", brokers);
        Assert.True(code == 0, output);
        return count;
    }

    /// <summary>Every validator serves exactly the alerts published, each once, and equal blocks at a common height.</summary>
    private static async Task AllCommitAsync(IReadOnlyList<Validator> validators, int published)
    {
        foreach (var validator in validators)
        {
            List<int> numbers = [];
            for (var i = 0; i < 1800 && numbers.Count < published; i++)
            {
                await Task.Delay(100);
                numbers = await validator.AlertNumbersAsync();
            }

            Assert.Equal(Enumerable.Range(0, published), numbers.Order());
        }

        var height = (await Task.WhenAll(validators.Select(v => v.ProjectedHeightAsync()))).Min();
        var hashes = await Task.WhenAll(validators.Select(async v => (string)(await v.GetAsync($"/blocks/{height}"))["block"]!["hash"]!));
        Assert.Single(hashes.Distinct());
    }

    /// <summary>Bytes that are no TLS, at the mesh port and at the API.</summary>
    private static async Task GarbageIsHarmlessAsync(Validator validator)
    {
        foreach (var port in new[] { validator.MeshPort, new Uri(validator.Url).Port })
        {
            using var client = new TcpClient();
            await client.ConnectAsync("127.0.0.1", port);
            await client.GetStream().WriteAsync(Enumerable.Repeat((byte)0xee, 100_000).ToArray());
        }

        Assert.True(validator.Runs);
    }

    private sealed class Validator : IDisposable
    {
        // No connection outlives its request: the process at the other end may be killed and another one started at the same port.
        private static readonly HttpClient Http = new(new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.Zero }) { Timeout = TimeSpan.FromSeconds(10) };
        private readonly CliProcess _process;

        private Validator(string home, CliProcess process, string line)
        {
            Home = home;
            _process = process;
            Url = line.Split("HTTP ")[1].Split('/')[0..3] is { } parts ? string.Join('/', parts).TrimEnd(',') : "";
            MeshPort = int.Parse(line.Split(':')[^1], System.Globalization.CultureInfo.InvariantCulture);
        }

        public string Home { get; }
        public string Url { get; }
        public int MeshPort { get; }
        public bool Runs => !_process.HasExited;

        public static async Task<Validator> StartAsync(string home, string brokers, params (string Name, string Value)[] environment)
        {
            var process = CliProcess.Start(["start", "--home", home], [("KAFKA_BROKERS", brokers), ("KAFKA_CONSUMER_SESSION_TIMEOUT", "1500ms"), .. environment]);
            return new Validator(home, process, await process.LineAsync(": HTTP "));
        }

        public Task KillAsync() => _process.KillAsync();

        public string Output => _process.Output;

        public async Task<JsonNode> GetAsync(string path)
        {
            try
            {
                return JsonNode.Parse(await Http.GetStringAsync(Url + path))!;
            }
            catch (HttpRequestException problem)
            {
                throw new InvalidOperationException($"{Home} does not answer ({problem.Message}); it said last:\n{string.Join('\n', _process.Output.Split('\n').TakeLast(15))}", problem);
            }
        }

        public async Task<ulong> HeightAsync() => (ulong)(await GetAsync("/state"))["height"]!;

        public Task<byte[]> BytesAsync(string path) => Http.GetByteArrayAsync(Url + path);

        /// <summary>Waits for the checkpoint.</summary>
        public async Task<string> ProofAsync(string digest)
        {
            for (var i = 0; ; i++)
            {
                using var answer = await Http.GetAsync($"{Url}/v1/proofs/{digest}");
                if (answer.IsSuccessStatusCode) return await answer.Content.ReadAsStringAsync();
                Assert.True(i < 300 && answer.StatusCode == HttpStatusCode.ServiceUnavailable, await answer.Content.ReadAsStringAsync());
                await Task.Delay(100);
            }
        }

        public async Task VotesAgainAsync()
        {
            for (var i = 0; i < 1200 && !await MayVoteAsync(); i++) await Task.Delay(100);
            Assert.True(await MayVoteAsync(), "it never votes again");
        }

        public async Task<bool> MayVoteAsync() => (bool)(await GetAsync("/health"))["components"]!["consensus"]!["may_vote"]!;

        public async Task<ulong> EpochAsync() => (ulong)(await GetAsync("/validators"))["epoch"]!;

        public async Task<string[]> NamesAsync() => [.. (await GetAsync("/validators"))["validators"]!.AsArray().Select(v => (string)v!["name"]!).Order()];

        public async Task<ulong> ProjectedHeightAsync() => (ulong)(await GetAsync("/health"))["components"]!["projection"]!["height"]!;

        public async Task<List<int>> AlertNumbersAsync() => [.. (await AlertsAsync()).Select(a => (int)a["payload"]!["event"]!["number"]!)];

        public async Task<List<string>> AlertDigestsAsync() => [.. (await AlertsAsync()).Select(a => (string)a["digest"]!)];

        private async Task<List<JsonNode>> AlertsAsync()
        {
            var alerts = new List<JsonNode>();
            for (string? cursor = null; ;)
            {
                var page = await GetAsync("/v1/alerts?limit=100" + (cursor is null ? "" : "&cursor=" + cursor));
                alerts.AddRange(page["alerts"]!.AsArray().Select(a => a!));
                if ((cursor = (string?)page["next"]) is null) return alerts;
            }
        }

        public void Dispose() => _process.Dispose();
    }
}
