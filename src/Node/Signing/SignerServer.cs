using System;
using System.Buffers.Binary;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Node.Signing;

/// <summary>What goes over the socket: a 32-bit length, then a request or an answer.</summary>
internal static class SignerFrames
{
    public const byte Describe = 1;
    public const byte Sign = 2;
    public const byte Promote = 3;

    public const byte Done = 0;
    public const byte Refused = 1;

    /// <summary>Longer than anything a validator signs but the records of a large reputation change.</summary>
    private const int BytesMax = 1 << 20;

    public static void Write(Stream stream, ReadOnlySpan<byte> content)
    {
        var frame = new byte[4 + content.Length];
        BinaryPrimitives.WriteUInt32BigEndian(frame, (uint)content.Length);
        content.CopyTo(frame.AsSpan(4));
        stream.Write(frame);
    }

    /// <returns>Null when the other end has closed.</returns>
    /// <exception cref="InvalidDataException">A length beyond the limit.</exception>
    public static byte[]? Read(Stream stream)
    {
        Span<byte> length = stackalloc byte[4];
        if (stream.ReadAtLeast(length, 4, throwOnEndOfStream: false) < 4) return null;
        var bytes = BinaryPrimitives.ReadUInt32BigEndian(length);
        if (bytes is 0 or > BytesMax) throw new InvalidDataException($"a frame of {bytes} bytes");
        var content = new byte[bytes];
        stream.ReadExactly(content);
        return content;
    }
}

/// <summary>
/// Signs for one validator from a process of its own: the keys are here, on this machine's disk or in a token, and never in the validator. Every request goes
/// through the <see cref="SigningJournal"/>. Who may connect is who may open the socket: its owner, and where the validator is another user, their group.
/// </summary>
public sealed class SignerServer : IDisposable
{
    private const int ConnectionsMax = 8;

    private readonly Keyring _keys;
    private readonly SigningJournal _journal;
    private readonly string _path;
    private readonly Action<string> _log;
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly SemaphoreSlim _room = new(ConnectionsMax);
    private readonly Lock _lock = new();

    /// <param name="path">Of the socket; one that a dead signer left is replaced.</param>
    /// <param name="openToGroup">The group of the socket may open it too.</param>
    /// <exception cref="UserError">Somebody listens there, or it cannot be made.</exception>
    public SignerServer(Keyring keys, SigningJournal journal, string path, bool openToGroup, Action<string> log)
    {
        (_keys, _journal, _path, _log) = (keys, journal, path, log);
        try
        {
            // The journal is ours alone, so whoever listened here is gone.
            File.Delete(path);
            _listener.Bind(new UnixDomainSocketEndPoint(path));
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | (openToGroup ? UnixFileMode.GroupRead | UnixFileMode.GroupWrite : UnixFileMode.None));
            _listener.Listen(ConnectionsMax);
        }
        catch (Exception problem) when (problem is SocketException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            _listener.Dispose();
            throw new UserError($"cannot listen on {path}: {problem.Message}", "choose a path of at most 107 bytes in a directory of your own");
        }
    }

    /// <summary>Serves until stopped.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await _room.WaitAsync(stop).ConfigureAwait(false);
                var client = await _listener.AcceptAsync(stop).ConfigureAwait(false);
                _ = Task.Factory.StartNew(() => Serve(client, stop), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested)
            {
                // a planned stop
            }
        }
    }

    private void Serve(Socket client, CancellationToken stop)
    {
        using var ended = stop.Register(client.Dispose);
        try
        {
            using var stream = new NetworkStream(client, ownsSocket: true);
            while (SignerFrames.Read(stream) is { } request) SignerFrames.Write(stream, Answer(request));
        }
        catch (Exception problem) when (problem is IOException or SocketException or ObjectDisposedException or InvalidDataException)
        {
            if (!stop.IsCancellationRequested) _log($"a connection ended: {problem.Message}");
        }
        finally
        {
            _room.Release();
        }
    }

    private byte[] Answer(byte[] request)
    {
        lock (_lock)
        {
            try
            {
                return request[0] switch
                {
                    SignerFrames.Describe => Describe(),
                    SignerFrames.Sign when request.Length > 1 + PublicKey.Size => Sign(PublicKey.From(request.AsSpan(1, PublicKey.Size)), request.AsSpan(1 + PublicKey.Size)),
                    SignerFrames.Promote when request.Length == 1 + PublicKey.Size => Promote(PublicKey.From(request.AsSpan(1))),
                    _ => Refuse("the request is none of this version's"),
                };
            }
            catch (Exception problem) when (problem is UserError or IOException or InvariantViolation)
            {
                _log("failed: " + problem.Message);
                return Refuse(problem.Message);
            }
        }
    }

    /// <summary>The public keys of the identity in use, then those of the next one if there is one.</summary>
    private byte[] Describe()
    {
        using var answer = new MemoryStream();
        answer.WriteByte(SignerFrames.Done);
        foreach (var identity in _keys.All)
            foreach (var key in identity.Roles)
                answer.Write(key.PublicKey.ToArray());
        return answer.ToArray();
    }

    private byte[] Sign(PublicKey key, ReadOnlySpan<byte> message)
    {
        foreach (var identity in _keys.All)
            foreach (var signer in identity.Roles)
            {
                if (signer.PublicKey != key) continue;
                if (_journal.Admit(message) is { } problem)
                {
                    _log("refused: " + problem);
                    return Refuse(problem);
                }

                return [SignerFrames.Done, .. signer.Sign(message).ToArray()];
            }

        return Refuse($"{key} is not a key of this signer");
    }

    private byte[] Promote(PublicKey consensus) =>
        _keys.TryPromote(consensus) ? [SignerFrames.Done] : Refuse($"{consensus} is not the consensus key of the next identity");

    private static byte[] Refuse(string why) => [SignerFrames.Refused, .. Encoding.UTF8.GetBytes(why)];

    public void Dispose()
    {
        _listener.Dispose();
        File.Delete(_path);
        _room.Dispose();
    }
}
