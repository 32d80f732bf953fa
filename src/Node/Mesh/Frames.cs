using System;
using System.Buffers;
using System.Buffers.Binary;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Encoding;

namespace CyberMesh.Node.Mesh;

/// <summary>Frames on a stream: a 32-bit big-endian length, then that many bytes. The length is checked before anything is allocated for it.</summary>
public static class Frames
{
    /// <summary>The next frame, or null when the peer closed between two frames.</summary>
    /// <exception cref="InvalidDataException">A length beyond the limit.</exception>
    /// <exception cref="EndOfStreamException">The peer closed inside a frame.</exception>
    public static async ValueTask<byte[]?> ReadAsync(Stream stream, CancellationToken stop)
    {
        var header = new byte[4];
        if (await stream.ReadAtLeastAsync(header, 4, throwOnEndOfStream: false, stop).ConfigureAwait(false) is var read && read == 0) return null;
        if (read < 4) throw new EndOfStreamException();
        var length = BinaryPrimitives.ReadUInt32BigEndian(header);
        if (length is 0 or > Limits.FrameBytesMax) throw new InvalidDataException($"a frame of {length} bytes; at most {Limits.FrameBytesMax} are allowed");
        // Grown as bytes arrive: a peer that only announces a large frame costs nothing.
        var frame = new byte[Math.Min(length, 64 * 1024)];
        var filled = 0;
        while (filled < length)
        {
            if (filled == frame.Length) Array.Resize(ref frame, (int)Math.Min(length, 2L * frame.Length));
            var count = await stream.ReadAsync(frame.AsMemory(filled), stop).ConfigureAwait(false);
            if (count == 0) throw new EndOfStreamException();
            filled += count;
        }

        return frame;
    }

    public static void Write(IBufferWriter<byte> to, ReadOnlySpan<byte> frame)
    {
        BinaryPrimitives.WriteUInt32BigEndian(to.GetSpan(4), (uint)frame.Length);
        to.Advance(4);
        to.Write(frame);
    }
}
