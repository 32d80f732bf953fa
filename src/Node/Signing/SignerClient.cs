using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Node.Signing;

/// <summary>
/// Asks a <see cref="SignerServer"/>. A signer that is away is waited for a little; one that refuses has seen this validator, or another with its keys, about to
/// contradict itself, and the validator stops.
/// </summary>
public sealed class SignerClient(string path) : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);
    private readonly Lock _lock = new();
    private NetworkStream? _stream;

    /// <summary>Public keys of each identity, in the order of <see cref="Identity.Roles"/>: the one in use, then the next one if there is one.</summary>
    /// <exception cref="UserError">Nobody answers there.</exception>
    public List<PublicKey[]> Describe()
    {
        var answer = Ask([SignerFrames.Describe]);
        var identities = new List<PublicKey[]>();
        for (var rest = answer.AsSpan(); rest.Length >= Identity.RoleCount * PublicKey.Size; rest = rest[(Identity.RoleCount * PublicKey.Size)..])
        {
            var keys = new PublicKey[Identity.RoleCount];
            for (var i = 0; i < keys.Length; i++) keys[i] = PublicKey.From(rest.Slice(i * PublicKey.Size, PublicKey.Size));
            identities.Add(keys);
        }

        return identities.Count > 0 ? identities : throw new UserError($"the signer at {path} has no identity", "see its output");
    }

    /// <exception cref="InvariantViolation">It must not be signed.</exception>
    public Signature Sign(PublicKey key, ReadOnlySpan<byte> message) => Signature.From(Ask([SignerFrames.Sign, .. key.ToArray(), .. message]));

    /// <summary>The next identity takes the place of the one in use.</summary>
    public void Promote(PublicKey consensus) => Ask([SignerFrames.Promote, .. consensus.ToArray()]);

    private byte[] Ask(byte[] request)
    {
        lock (_lock)
        {
            for (var begun = TimeProvider.System.GetTimestamp(); ;)
            {
                string failure;
                try
                {
                    var stream = _stream ??= Connect();
                    SignerFrames.Write(stream, request);
                    // The same request again gets the same signature, so nothing is lost by asking twice.
                    if (SignerFrames.Read(stream) is { } answer)
                        return answer[0] == SignerFrames.Done ? answer[1..] : throw new InvariantViolation("the signer refuses: " + Encoding.UTF8.GetString(answer.AsSpan(1)));
                    failure = "it closed the connection";
                }
                catch (Exception problem) when (problem is IOException or SocketException)
                {
                    failure = problem.Message;
                }

                Disconnect();
                if (TimeProvider.System.GetElapsedTime(begun) > Patience) throw new UserError($"no signer answers at {path}: {failure}", "start it with 'cybermesh signer', as the same user");
                Thread.Sleep(Pause);
            }
        }
    }

    private NetworkStream Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            return new NetworkStream(socket, ownsSocket: true) { ReadTimeout = (int)Patience.TotalMilliseconds };
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private void Disconnect()
    {
        _stream?.Dispose();
        _stream = null;
    }

    public void Dispose() => Disconnect();
}

/// <summary>The identities that a signer has.</summary>
public sealed class SignerIdentities(SignerClient signer) : IIdentities, IDisposable
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);
    private long _asked;

    public Identity Active() => Of(signer.Describe()[0]);

    /// <summary>Asked for whenever a key is looked for that is not here, so not more often than this.</summary>
    public Identity? Next()
    {
        if (_asked != 0 && TimeProvider.System.GetElapsedTime(_asked) < Pause) return null;
        _asked = TimeProvider.System.GetTimestamp();
        return signer.Describe() is [_, var next, ..] ? Of(next) : null;
    }

    public void Promote(Identity next) => signer.Promote(next.Consensus.PublicKey);

    private Identity Of(PublicKey[] keys) => Identity.Of(role => new RemoteSigner(signer, keys[role]));

    public void Dispose() => signer.Dispose();
}

/// <summary>One key that is elsewhere.</summary>
internal sealed class RemoteSigner(SignerClient signer, PublicKey key) : ISigner
{
    public PublicKey PublicKey => key;

    public Signature Sign(ReadOnlySpan<byte> message) => signer.Sign(key, message);
}
