using System;
using System.Collections.Immutable;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Consensus;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>A peer message with every signature in it checked, and the transaction bodies it carries decoded, in order.</summary>
public sealed class Incoming
{
    internal Incoming(PeerMessage message, ImmutableArray<AlertEnvelope> bodies)
    {
        Message = message;
        Bodies = bodies;
    }

    public PeerMessage Message { get; }
    public ImmutableArray<AlertEnvelope> Bodies { get; }
}

/// <summary>From bytes of a peer to something the replica may see. Not thread-safe: one instance per receive loop.</summary>
/// <param name="epochs">Of the replica the messages are for.</param>
public sealed class PeerAuthenticator(EpochSchedule epochs, Digest genesisBlock, Operators operators, ISignatureVerifier verifier)
{
    private readonly MessageAuthenticator _messages = new(epochs, genesisBlock, verifier);
    private readonly EnvelopeAuthenticator _envelopes = new(verifier, epochs, operators);

    /// <summary>False with a sentence for the log when the bytes are no message, or something in it is not genuine.</summary>
    public bool TryVerify(ReadOnlySpan<byte> bytes, out Verified<Incoming> verified, out string? problem)
    {
        verified = default;
        if (!MessageCodec.TryDecode(bytes, out var message, out var error))
        {
            problem = "not a peer message: " + error;
            return false;
        }

        return TryVerify(message, out verified, out problem);
    }

    public bool TryVerify(PeerMessage message, out Verified<Incoming> verified, out string? problem)
    {
        verified = default;
        if (MessageAuthenticator.TermOf(message) is { } term && epochs.At(term) is null)
        {
            verified = OfLaterTerm(term);
            problem = null;
            return true;
        }

        if (!_messages.TryVerify(message, out _))
        {
            problem = "a signature or certificate in it is not genuine";
            return false;
        }

        var envelopes = ImmutableArray.CreateBuilder<AlertEnvelope>();
        problem = message switch
        {
            PeerMessage.Transactions m => Decode(m.Bodies, envelopes),
            PeerMessage.Proposal m => Decode(m.Block.Bodies, envelopes),
            PeerMessage.Blocks m => Decode(m.Items, envelopes),
            _ => null,
        };
        if (problem is not null) return false;
        verified = new Verified<Incoming>(new Incoming(message, envelopes.ToImmutable()));
        return true;
    }

    /// <summary>What stands for a message of a term that cannot be checked yet.</summary>
    public static Verified<Incoming> OfLaterTerm(ulong term) => new(new Incoming(new PeerMessage.Beyond(term), []));

    /// <summary>A message of this validator's own, given back to it after it became durable.</summary>
    public static Verified<Incoming> Own(PeerMessage.Signed message) => new(new Incoming(message, []));

    private string? Decode(ImmutableArray<BlockWithBodies> blocks, ImmutableArray<AlertEnvelope>.Builder into)
    {
        foreach (var block in blocks)
            if (Decode(block.Bodies, into) is { } problem)
                return problem;
        return null;
    }

    /// <summary>Their signatures are checked together.</summary>
    private string? Decode(ImmutableArray<ReadOnlyMemory<byte>> bodies, ImmutableArray<AlertEnvelope>.Builder into)
    {
        var envelopes = new AlertEnvelope[bodies.Length];
        for (var i = 0; i < envelopes.Length; i++)
        {
            if (!EnvelopeDecoder.TryDecodeBody(bodies[i], out var envelope, out var rejection)) return "a transaction body is refused: " + rejection.Explanation;
            envelopes[i] = envelope;
        }

        var profiles = new SigningProfiles[envelopes.Length];
        var likely = new SigningProfile[envelopes.Length];
        Array.Fill(profiles, SigningProfiles.V1 | SigningProfiles.V2);
        Array.Fill(likely, SigningProfile.V1);
        var verified = new Verified<AlertEnvelope>?[envelopes.Length];
        _envelopes.TryAuthenticate(envelopes, profiles, likely, verified);
        foreach (var one in verified)
        {
            if (one is not { } genuine) return "a transaction body carries a bad signature";
            into.Add(genuine.Value);
        }

        return null;
    }
}
