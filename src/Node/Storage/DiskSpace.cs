using System;
using System.IO;
using System.Threading;
using Microsoft.Data.Sqlite;

namespace CyberMesh.Node.Storage;

/// <summary>
/// A full disk is no reason to stop, and none to go on: a write waits until there is space, and whatever depends on it (a vote, above all) waits
/// with it. Thread-safe.
/// </summary>
/// <param name="stop">Ends the waiting.</param>
public sealed class DiskSpace(CancellationToken stop)
{
    private const int SqliteFull = 13;
    private const int NoSpaceLeft = 28; // ENOSPC
    private const int QuotaExceeded = 122; // EDQUOT
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(500);
    private int _waiting;

    /// <summary>Something waits for space.</summary>
    public bool IsFull => Volatile.Read(ref _waiting) > 0;

    /// <param name="write">All or nothing: it is repeated from its start.</param>
    /// <exception cref="OperationCanceledException">Stopped while waiting.</exception>
    public T Await<T>(Func<T> write)
    {
        try
        {
            return write();
        }
        catch (Exception problem) when (IsForLackOfSpace(problem))
        {
            Interlocked.Increment(ref _waiting);
        }

        try
        {
            while (true)
            {
                stop.WaitHandle.WaitOne(Pause);
                stop.ThrowIfCancellationRequested();
                try
                {
                    return write();
                }
                catch (Exception problem) when (IsForLackOfSpace(problem))
                {
                    // still none
                }
            }
        }
        finally
        {
            Interlocked.Decrement(ref _waiting);
        }
    }

    public void Await(Action write) => Await(() =>
    {
        write();
        return true;
    });

    private static bool IsForLackOfSpace(Exception problem) => problem switch
    {
        // A sync that failed is final, whatever the reason.
        DiskFailedException => false,
        SqliteException sqlite => sqlite.SqliteErrorCode == SqliteFull,
        IOException io => (io.HResult & 0xffff) is NoSpaceLeft or QuotaExceeded || io.HResult is NoSpaceLeft or QuotaExceeded,
        _ => false,
    };
}
