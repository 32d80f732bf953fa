using System;
using System.IO;
using System.Threading;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Node.Crypto;

/// <summary>
/// The identities in a validator's home: the one in use, and during a rotation the next one (<see cref="NextFileName"/>). The next one may
/// be put there while the validator runs; it takes the place of the other once the set names its keys.
/// </summary>
public sealed class Keyring : IKeyring, IDisposable
{
    public const string NextFileName = "identity-next.key";

    /// <summary>Where the identity goes that was in use before: its keys are worth nothing any more, except to prove what they signed.</summary>
    private const string OldFileName = "identity-old.key";

    private readonly string _home;
    private readonly IdentityLock? _key;
    private readonly Lock _lock = new();
    private Identity _active;
    private Identity? _next;
    private Identity? _old;

    /// <exception cref="UserError">An identity is missing, readable by others, or damaged.</exception>
    /// <param name="key">Of identities that are encrypted.</param>
    public Keyring(string home, IdentityLock? key = null)
    {
        (_home, _key) = (home, key);
        _active = Identity.Load(Path.Combine(home, Identity.FileName), key);
        LoadNext();
    }

    /// <summary>The identity in use.</summary>
    public Identity Active
    {
        get
        {
            lock (_lock) return _active;
        }
    }

    public ISigner? Find(PublicKey key)
    {
        lock (_lock)
        {
            if (_active.Find(key) is { } active) return active;
            LoadNext();
            return _next?.Find(key);
        }
    }

    private void LoadNext()
    {
        var path = Path.Combine(_home, NextFileName);
        if (_next is null && File.Exists(path)) _next = Identity.Load(path, _key);
    }

    /// <summary>The set in force names the next identity and no longer the active one: it takes its place, also on disk.</summary>
    public bool TryPromote(ValidatorSet validators)
    {
        lock (_lock)
        {
            LoadNext();
            if (_next is null || !validators.TryFind(_next.Consensus.PublicKey, out _)) return false;
            File.Move(Path.Combine(_home, Identity.FileName), Path.Combine(_home, OldFileName), overwrite: true);
            File.Move(Path.Combine(_home, NextFileName), Path.Combine(_home, Identity.FileName));
            _old?.Dispose();
            (_old, _active, _next) = (_active, _next, null);
            return true;
        }
    }

    public void Dispose()
    {
        _active.Dispose();
        _next?.Dispose();
        _old?.Dispose();
    }
}
