using System;
using System.Buffers;
using System.Buffers.Binary;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Encoding;

namespace CyberMesh.Node.Mesh;

/// <summary>Frames on a stream: a 32-bit big-endian length, then that many bytes. An empty frame only says that its sender is alive.</summary>
public static class Frames
{
    public static readonly byte[] KeepAlive = [];

    public static void Write(IBufferWriter<byte> to, ReadOnlySpan<byte> frame)
    {
        BinaryPrimitives.WriteUInt32BigEndian(to.GetSpan(4), (uint)frame.Length);
        to.Advance(4);
        to.Write(frame);
    }
}

/// <summary>Reads frames. A length is checked before anything is allocated for it, and neither silence nor a trickle lasts for ever.</summary>
/// <param name="silenceMax">Between two frames.</param>
/// <param name="frameTimeout">For the rest of a frame, from its length on.</param>
public sealed class FrameReader(Stream stream, TimeSpan silenceMax, TimeSpan frameTimeout, CancellationToken stop) : IDisposable
{
    private const int FirstRoomBytes = 256 * 1024;

    private readonly CancellationTokenSource _deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
    private readonly byte[] _header = new byte[4];

    /// <summary>The next frame, empty for a keep-alive, or null when the peer closed between two frames.</summary>
    /// <exception cref="InvalidDataException">A length beyond the limit.</exception>
    /// <exception cref="EndOfStreamException">The peer closed inside a frame.</exception>
    /// <exception cref="TimeoutException">The peer was silent, or a frame took, for too long.</exception>
    public async ValueTask<byte[]?> ReadAsync()
    {
        var begun = false;
        try
        {
            _deadline.CancelAfter(silenceMax);
            var read = await stream.ReadAtLeastAsync(_header, 4, throwOnEndOfStream: false, _deadline.Token).ConfigureAwait(false);
            if (read == 0) return null;
            if (read < 4) throw new EndOfStreamException();
            var length = BinaryPrimitives.ReadUInt32BigEndian(_header);
            if (length == 0) return [];
            if (length > Limits.FrameBytesMax) throw new InvalidDataException($"a frame of {length} bytes; at most {Limits.FrameBytesMax} are allowed");
            begun = true;
            _deadline.CancelAfter(frameTimeout);
            return await FillAsync((int)length).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new TimeoutException(begun ? $"a frame took more than {frameTimeout.TotalSeconds:0.#} s" : $"nothing was heard for {silenceMax.TotalSeconds:0.#} s");
        }
    }

    /// <summary>Room grows as bytes arrive: a peer that only announces a large frame costs nothing.</summary>
    private async ValueTask<byte[]> FillAsync(int length)
    {
        var frame = GC.AllocateUninitializedArray<byte>(Math.Min(length, FirstRoomBytes));
        var filled = 0;
        while (filled < length)
        {
            if (filled == frame.Length) Array.Resize(ref frame, (int)Math.Min(length, 2L * frame.Length));
            var count = await stream.ReadAsync(frame.AsMemory(filled), _deadline.Token).ConfigureAwait(false);
            if (count == 0) throw new EndOfStreamException();
            filled += count;
        }

        return frame;
    }

    public void Dispose() => _deadline.Dispose();
}
