using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;

namespace CyberMesh.Node.Storage;

/// <summary>
/// Files that are on the disk when a call returns. .NET ignores what <c>fsync</c> answers, so it is asked directly; a sync that failed
/// is never repeated as if the data were safe: it throws, and the node stops.
/// </summary>
public static unsafe class Durable
{
    // From the program and not from libc by name, so that what is loaded before libc (a test's disk faults) is reached too.
    private static readonly delegate* unmanaged<int, int> Fsync = (delegate* unmanaged<int, int>)Export("fsync");
    private static readonly delegate* unmanaged<byte*, int, int> Open = (delegate* unmanaged<byte*, int, int>)Export("open");
    private static readonly delegate* unmanaged<int, int> Close = (delegate* unmanaged<int, int>)Export("close");

    private static nint Export(string name) => NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), name);

    /// <exception cref="DiskFailedException">The disk did not take it.</exception>
    public static void Write(string path, ReadOnlySpan<byte> bytes)
    {
        using (var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0))
        {
            file.Write(bytes);
            Sync(file);
        }

        SyncDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>What was written to an open file is on the disk.</summary>
    /// <exception cref="DiskFailedException">The disk did not take it.</exception>
    public static void Sync(FileStream file)
    {
        if (Fsync((int)file.SafeFileHandle.DangerousGetHandle()) != 0) throw Failed(file.Name);
    }

    /// <summary>As a whole or not at all: written beside it, then put in its place.</summary>
    /// <exception cref="DiskFailedException">The disk did not take it.</exception>
    public static void Replace(string path, ReadOnlySpan<byte> bytes)
    {
        Write(path + ".new", bytes);
        File.Move(path + ".new", path, overwrite: true);
        SyncDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>So that a name lasts as well as what it names. The managed API opens no directory.</summary>
    private static void SyncDirectory(string path)
    {
        const int readOnly = 0;
        int directory;
        fixed (byte* name = Encoding.UTF8.GetBytes(path + '\0')) directory = Open(name, readOnly);
        if (directory < 0) throw Failed(path);
        var result = Fsync(directory);
        var failure = result == 0 ? null : Failed(path);
        _ = Close(directory);
        if (failure is not null) throw failure;
    }

    private static DiskFailedException Failed(string path) => new($"{path} could not be synced: {Marshal.GetPInvokeErrorMessage(Marshal.GetLastSystemError())}");
}

/// <summary>The disk does not keep what it is given.</summary>
public sealed class DiskFailedException(string what) : IOException(what);
