using System;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;

namespace CyberMesh.Node.Sensors;

/// <summary>
/// A sensor's log, read line by line, found again after a restart and followed when it is rotated: renamed with a new one in its place, or cut to nothing
/// where it is. A file is known by its first line.
/// </summary>
public sealed class LineFile : IDisposable
{
    private const int LineBytesMax = 1 << 20;
    private const int FingerprintBytesMax = 1024;

    private readonly string _path;
    private readonly byte[] _buffer = new byte[64 * 1024];
    private readonly MemoryStream _line = new();
    private FileStream _file;
    private int _at;
    private int _filled;
    private bool _tooLong;

    private LineFile(string path, FileStream file, long offset)
    {
        (_path, _file, Offset) = (path, file, offset);
        _file.Position = offset;
    }

    /// <summary>After the last line returned.</summary>
    public long Offset { get; private set; }

    /// <summary>SHA-256 of its first line, or of the first KiB of that; null as long as it has none.</summary>
    public string? Fingerprint { get; private set; }

    /// <summary>Opens the log where reading ended: in this file, or in the one it has been renamed to meanwhile. A log that is neither is read from its start.</summary>
    /// <exception cref="UserError">It cannot be read.</exception>
    public static LineFile Open(string path, string? fingerprint, long offset)
    {
        try
        {
            if (fingerprint is not null)
                foreach (var candidate in new[] { path }.Concat(Directory.EnumerateFiles(Path.GetDirectoryName(Path.GetFullPath(path))!, Path.GetFileName(path) + "*").Order(StringComparer.Ordinal)))
                {
                    if (!File.Exists(candidate)) continue;
                    var file = OpenShared(candidate);
                    if (FingerprintOf(file) == fingerprint && file.Length >= offset) return new LineFile(path, file, offset) { Fingerprint = fingerprint };
                    file.Dispose();
                }

            return new LineFile(path, OpenShared(path), 0);
        }
        catch (Exception problem) when (problem is IOException or UnauthorizedAccessException)
        {
            throw new UserError($"cannot read {path}: {problem.Message}", "check the path");
        }
    }

    /// <summary>The next line without its end.</summary>
    /// <param name="atEnd">A last line without an end counts too.</param>
    /// <param name="problem">Why there is a line that is not returned.</param>
    /// <returns>Null when there is none at the moment, or with <paramref name="problem"/>.</returns>
    public string? Read(bool atEnd, out string? problem)
    {
        problem = null;
        while (true)
        {
            if (_at == _filled)
            {
                (_at, _filled) = (0, _file.Read(_buffer));
                if (_filled == 0) return atEnd && (_line.Length > 0 || _tooLong) ? Finish(0, out problem) : null;
            }

            var end = Array.IndexOf(_buffer, (byte)'\n', _at, _filled - _at);
            var part = (end < 0 ? _filled : end) - _at;
            if (_line.Length + part > LineBytesMax) _tooLong = true;
            // Of one that is too long only the length counts.
            if (_tooLong) Offset += part;
            else _line.Write(_buffer, _at, part);
            _at += part;
            if (end < 0) continue;
            _at++;
            return Finish(1, out problem);
        }
    }

    private string? Finish(int terminator, out string? problem)
    {
        Fingerprint ??= FingerprintOf(_file);
        Offset += _line.Length + terminator;
        problem = _tooLong ? $"longer than {LineBytesMax} bytes" : null;
        var line = _tooLong ? null : Encoding.UTF8.GetString(_line.GetBuffer(), 0, (int)_line.Length).TrimEnd('\r');
        _line.SetLength(0);
        _tooLong = false;
        return line;
    }

    /// <summary>At the end of this file: goes on with the one that has taken its place, if there is one.</summary>
    public bool TryFollow()
    {
        if (!File.Exists(_path)) return false;
        var isCut = _file.Length < Offset;
        if (!isCut)
        {
            using var present = OpenShared(_path);
            // The same file, or a new one that has no line yet.
            if (FingerprintOf(present) is not { } fingerprint || fingerprint == Fingerprint) return false;
        }

        var next = OpenShared(_path);
        _file.Dispose();
        (_file, _at, _filled, Offset, Fingerprint, _tooLong) = (next, 0, 0, 0, null, false);
        _line.SetLength(0);
        return true;
    }

    private static FileStream OpenShared(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);

    private static string? FingerprintOf(FileStream file)
    {
        var start = new byte[FingerprintBytesMax];
        var length = RandomAccess.Read(file.SafeFileHandle, start, 0);
        var end = Array.IndexOf(start, (byte)'\n', 0, length);
        if (end < 0 && length < FingerprintBytesMax) return null;
        return Convert.ToHexStringLower(SHA256.HashData(start.AsSpan(0, end < 0 ? length : end)));
    }

    public void Dispose()
    {
        _file.Dispose();
        _line.Dispose();
    }
}
