using System;
using System.Buffers;
using System.Buffers.Binary;
using System.IO;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Storage;

namespace CyberMesh.Node.Signing;

/// <summary>
/// The guard's memory on disk: records of fixed size, each with a hash over itself and the one before, synced before the signature they stand for is
/// given away. A record cut off at the end was never answered; damage anywhere else is a reason to sign nothing any more.
/// </summary>
public sealed class SigningJournal : IDisposable
{
    private const int ContentBytes = 1 + Digest.Size + 8 + 4 + 8 + Digest.Size;
    private const int HashBytes = 16;
    private const int RecordBytes = ContentBytes + HashBytes;

    /// <summary>Then only what counts is written anew.</summary>
    private const int RecordsMax = 100_000;

    private readonly string _path;
    private readonly SigningGuard _guard = new();
    private FileStream _file;
    private byte[] _last = new byte[HashBytes];
    private int _records;
    private bool _failed;

    /// <exception cref="UserError">Another signer uses it, or it is not what was written.</exception>
    public SigningJournal(string path)
    {
        _path = path;
        _file = Open();
        try
        {
            Read();
            if (_records >= RecordsMax) StartOver();
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    private FileStream Open()
    {
        try
        {
            return new FileStream(_path, new FileStreamOptions
            {
                Mode = FileMode.OpenOrCreate,
                Access = FileAccess.ReadWrite,
                Share = FileShare.None,
                BufferSize = 0,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
        }
        catch (IOException problem)
        {
            throw new UserError($"{_path} cannot be used: {problem.Message}", "stop the other signer; two with one identity would sign twice");
        }
    }

    private void Read()
    {
        var record = new byte[RecordBytes];
        var good = 0L;
        for (var read = _file.ReadAtLeast(record, RecordBytes, throwOnEndOfStream: false); read == RecordBytes; read = _file.ReadAtLeast(record, RecordBytes, throwOnEndOfStream: false))
        {
            if (!record.AsSpan(ContentBytes).SequenceEqual(HashOf(record.AsSpan(0, ContentBytes))))
            {
                // Only the last one can have been cut off while it was written.
                if (_file.Length - good <= RecordBytes) break;
                throw new UserError($"record {_records + 1} of {_path} is not what was written", "restore the file only if it is the newest there is; otherwise give this validator new keys ('validators rotate-key'): the signer does not know what it has signed");
            }

            _guard.Remember(Decode(record));
            _last = record[ContentBytes..];
            good += RecordBytes;
            _records++;
        }

        _file.SetLength(good);
        _file.Position = good;
    }

    /// <summary>Null when it may be signed, and is durably remembered; otherwise why not.</summary>
    /// <exception cref="IOException">It could not be made durable; nothing new is admitted any more.</exception>
    public string? Admit(ReadOnlySpan<byte> message)
    {
        if (SigningGuard.Read(message) is not { } slot) return null;
        if (_guard.Problem(slot, out var isNew) is { } problem) return problem;
        if (!isNew) return null;
        // What lies on a disk that failed is known only after it has been read again.
        if (_failed) return $"{_path} could not be written before: see to the disk, and start the signer again";
        _failed = true;
        Append(slot);
        Durable.Sync(_file);
        _guard.Remember(slot);
        if (_records >= RecordsMax) StartOver();
        _failed = false;
        return null;
    }

    private void Append(SignedSlot slot)
    {
        var record = new byte[RecordBytes];
        Encode(slot, record);
        _last = HashOf(record.AsSpan(0, ContentBytes));
        _last.CopyTo(record, ContentBytes);
        _file.Write(record);
        _records++;
    }

    private void StartOver()
    {
        var buffer = new ArrayBufferWriter<byte>();
        (_last, _records) = (new byte[HashBytes], 0);
        foreach (var slot in _guard.State)
        {
            var record = buffer.GetSpan(RecordBytes)[..RecordBytes];
            Encode(slot, record);
            _last = HashOf(record[..ContentBytes]);
            _last.CopyTo(record[ContentBytes..]);
            buffer.Advance(RecordBytes);
            _records++;
        }

        Durable.Replace(_path, buffer.WrittenSpan);
        _file.Dispose();
        _file = Open();
        _file.Seek(0, SeekOrigin.End);
    }

    private byte[] HashOf(ReadOnlySpan<byte> content)
    {
        Span<byte> chained = stackalloc byte[HashBytes + ContentBytes];
        _last.CopyTo(chained);
        content.CopyTo(chained[HashBytes..]);
        return Digest.Sha256(chained).ToArray()[..HashBytes];
    }

    private static void Encode(SignedSlot slot, Span<byte> to)
    {
        to[0] = slot.Kind;
        slot.Scope.CopyTo(to[1..]);
        BinaryPrimitives.WriteUInt64BigEndian(to[33..], slot.View.Term);
        BinaryPrimitives.WriteUInt32BigEndian(to[41..], slot.View.Attempt);
        BinaryPrimitives.WriteUInt64BigEndian(to[45..], slot.Height);
        slot.Content.CopyTo(to[53..]);
    }

    private static SignedSlot Decode(ReadOnlySpan<byte> from) => new(
        from[0], Digest.From(from[1..33]), new View(BinaryPrimitives.ReadUInt64BigEndian(from[33..]), BinaryPrimitives.ReadUInt32BigEndian(from[41..])),
        BinaryPrimitives.ReadUInt64BigEndian(from[45..]), Digest.From(from[53..85]));

    public void Dispose() => _file.Dispose();
}
