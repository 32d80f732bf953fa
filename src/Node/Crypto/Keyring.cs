using System;
using System.Collections.Immutable;
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

    private readonly IIdentities _identities;
    private readonly Lock _lock = new();
    private Identity _active;
    private Identity? _next;
    private Identity? _old;

    /// <exception cref="UserError">An identity is missing, readable by others, or damaged.</exception>
    /// <param name="key">Of identities that are encrypted.</param>
    public Keyring(string home, IdentityLock? key = null)
        : this(new IdentityFiles(home, key))
    {
    }

    /// <param name="key">Of identities that are encrypted.</param>
    public static IIdentities InFiles(string home, IdentityLock? key) => new IdentityFiles(home, key);

    /// <param name="identities">Where they are.</param>
    public Keyring(IIdentities identities)
    {
        _identities = identities;
        _active = identities.Active();
        LoadNext();
    }

    /// <summary>The one in use, and the next one if there is one.</summary>
    public ImmutableArray<Identity> All
    {
        get
        {
            lock (_lock)
            {
                LoadNext();
                return _next is null ? [_active] : [_active, _next];
            }
        }
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

    private void LoadNext() => _next ??= _identities.Next();

    /// <summary>The set in force names the next identity and no longer the active one: it takes its place, also on disk.</summary>
    public bool TryPromote(ValidatorSet validators) => TryPromote(next => validators.TryFind(next, out _));

    /// <summary>The next identity has this consensus key, and takes the place of the active one.</summary>
    public bool TryPromote(PublicKey consensus) => TryPromote(next => next == consensus);

    private bool TryPromote(Func<PublicKey, bool> isNamed)
    {
        lock (_lock)
        {
            LoadNext();
            if (_next is null || !isNamed(_next.Consensus.PublicKey)) return false;
            _identities.Promote(_next);
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
        (_identities as IDisposable)?.Dispose();
    }
}

/// <summary>Where the identities of a validator are.</summary>
public interface IIdentities
{
    /// <exception cref="UserError">There is none to be had.</exception>
    Identity Active();

    /// <summary>Null while there is none.</summary>
    Identity? Next();

    /// <summary>It takes the place of the active one, for good.</summary>
    void Promote(Identity next);
}

/// <summary>In files of a validator's home.</summary>
internal sealed class IdentityFiles(string home, IdentityLock? key) : IIdentities
{
    /// <summary>Where the identity goes that was in use before: its keys are worth nothing any more, except to prove what they signed.</summary>
    private const string OldFileName = "identity-old.key";

    public Identity Active() => Identity.Load(Path.Combine(home, Identity.FileName), key);

    public Identity? Next()
    {
        var path = Path.Combine(home, Keyring.NextFileName);
        return File.Exists(path) ? Identity.Load(path, key) : null;
    }

    public void Promote(Identity next)
    {
        File.Move(Path.Combine(home, Identity.FileName), Path.Combine(home, OldFileName), overwrite: true);
        File.Move(Path.Combine(home, Keyring.NextFileName), Path.Combine(home, Identity.FileName));
    }
}
