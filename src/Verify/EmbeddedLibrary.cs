using System;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;

namespace CyberMesh.Verify;

/// <summary>
/// Loads libsodium from inside this program, so that there is one file to hand on. It goes through memory that no other program can name
/// (memfd_create(2)), never through the disk, where somebody could put another one in its place.
/// </summary>
internal static partial class EmbeddedLibrary
{
    private const string Name = "libsodium.so";

    /// <summary>Does nothing where the library lies beside the program instead.</summary>
    public static void Use(Assembly caller)
    {
        using var resource = typeof(EmbeddedLibrary).Assembly.GetManifestResourceStream(Name);
        if (resource is null) return;
        var descriptor = CreateMemoryFile(Name, flags: 0);
        if (descriptor < 0) throw new IOException("no memory file for libsodium: error " + Marshal.GetLastPInvokeError());
        var path = "/proc/self/fd/" + descriptor;
        using (var file = new FileStream(path, FileMode.Open, FileAccess.Write)) resource.CopyTo(file);
        var library = NativeLibrary.Load(path);
        NativeLibrary.SetDllImportResolver(caller, (name, _, _) => name.Contains("sodium", StringComparison.Ordinal) ? library : default);
    }

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int CreateMemoryFile(string name, uint flags);
}
