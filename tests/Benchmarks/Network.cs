using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using CyberMesh.Cli.Bench;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Replica;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;

namespace CyberMesh.Benchmarks;

/// <summary>
/// Four validators without disks and wires: what one of them sends is encoded, decoded and verified by each other one at once, and everything counts as
/// stored as soon as it is decided.
/// </summary>
internal sealed class Network : IDisposable
{
    private const int Validators = 4;

    private readonly Ed25519Signer[] _keys = [.. Enumerable.Range(0, Validators).Select(i => new Ed25519Signer(SHA256.HashData(Encoding.UTF8.GetBytes($"validator {i}")))).OrderBy(k => k.PublicKey)];
    private readonly Replica[] _replicas;
    private readonly Effects[] _effects = [.. Enumerable.Range(0, Validators).Select(_ => new Effects())];
    private readonly PeerAuthenticator[] _authenticators;
    private readonly Queue<(int From, int To, byte[] Message)> _wire = new();
    private readonly BenchLoad _load = new();
    private int _signed;

    public Network()
    {
        var set = _keys.Select((key, i) => new Validator($"v{i + 1}", key.PublicKey, Key($"control {i}"), Key($"cosigner {i}"), Key($"log {i}")));
        Genesis = new Genesis("benchmarks", Timestamp.FromSeconds(DateTimeOffset.UtcNow.ToUnixTimeSeconds()), set, _load.Trusted, new ChainParameters());
        _replicas = [.. _keys.Select(key => new Replica(Genesis, new SingleKey(key), poolRate: 1_000_000))];
        Verifier = new KnownKeyVerifier(new Ed25519Verifier());
        _authenticators = [.. _replicas.Select(r => new PeerAuthenticator(r.Epochs, Genesis.Block.Digest, Genesis.Operators, Verifier))];
        for (var i = 0; i < Validators; i++) _replicas[i].Resume(Now, _effects[i]);
        Deliver();
    }

    public Genesis Genesis { get; }

    public ISignatureVerifier Verifier { get; }

    private static Timestamp Now => new(DateTimeOffset.UtcNow.ToUnixTimeMilliseconds());

    public Pbft NewPbft(int me) => new(new EpochSchedule(Genesis.Chain), Genesis.Block, Genesis.NewLedger().Leaders.Order, new SingleKey(_keys[me]));

    public MessageSigner Messages(int validator) => new(Genesis.Chain, new ValidatorIndex((ushort)validator), _keys[validator]);

    public PeerAuthenticator NewAuthenticator() => new(new EpochSchedule(Genesis.Chain), Genesis.Block.Digest, Genesis.Operators, Verifier);

    /// <summary>Records as they stand in Kafka, with payloads of 512 bytes.</summary>
    public byte[][] Records(int count) => _load.Sign(count, 512, (_signed += count) - count);

    public Verified<AlertEnvelope>[] Alerts(int count)
    {
        var authenticator = new EnvelopeAuthenticator(Verifier);
        return [.. Records(count).Select(record =>
            EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _) && authenticator.TryAuthenticate(envelope, SigningProfiles.V1, out var verified)
                ? verified : throw new InvariantViolation("the benchmark makes sound alerts"))];
    }

    /// <summary>All validators get them, and all have them in a block at the end.</summary>
    public void Commit(ReadOnlySpan<Verified<AlertEnvelope>> alerts)
    {
        for (var i = 0; i < Validators; i++)
            foreach (var alert in alerts)
                Invariant.Holds(_replicas[i].Submit(alert, Now, _effects[i]).Kind == AdmissionKind.Admitted, "the benchmark's alerts are admitted");
        Deliver();
        Invariant.Holds(_replicas.All(r => r.PoolCount == 0), "all alerts are in a block");
    }

    private void Deliver()
    {
        do
        {
            for (var i = 0; i < Validators; i++) Send(i);
            if (!_wire.TryDequeue(out var one)) return;
            if (!_authenticators[one.To].TryVerify(one.Message, out var verified, out var problem)) throw new InvariantViolation(problem ?? "not verified");
            _replicas[one.To].Receive(new ValidatorIndex((ushort)one.From), verified, Now, _effects[one.To]);
        }
        while (true);
    }

    private void Send(int from)
    {
        var effects = _effects[from];
        while (!effects.IsEmpty)
        {
            var (messages, decided) = (effects.Messages.ToArray(), effects.Decided.LastOrDefault());
            effects.Clear();
            foreach (var message in messages)
            {
                var encoded = MessageCodec.Encode(message.Message);
                for (var to = 0; to < Validators; to++)
                    if (to != from && (message.To is null || message.To.Value.Value == to))
                        _wire.Enqueue((from, to, encoded));
                if ((message.To is null || message.To.Value.Value == from) && message.Message is PeerMessage.Signed signed)
                    _replicas[from].Receive(new ValidatorIndex((ushort)from), PeerAuthenticator.Own(signed), Now, effects);
            }

            if (decided is not null) _replicas[from].Stored(decided.Block.Height, Now, effects);
        }
    }

    private static PublicKey Key(string name) => PublicKey.From(SHA256.HashData(Encoding.UTF8.GetBytes(name)));

    public void Dispose()
    {
        foreach (var key in _keys) key.Dispose();
        _load.Dispose();
    }
}
