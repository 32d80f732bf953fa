using System;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using Net.Pkcs11Interop.Common;
using Net.Pkcs11Interop.HighLevelAPI;

namespace CyberMesh.Node.Signing;

/// <summary>
/// An identity in a PKCS#11 token (3.0: Ed25519 as CKK_EC_EDWARDS, signed with CKM_EDDSA), found by labels: <c>PREFIX-consensus</c>, <c>PREFIX-control</c>,
/// <c>PREFIX-cosigner</c> and <c>PREFIX-log</c>. To rotate, the next one is made under another prefix in the same token.
/// </summary>
public sealed class TokenIdentities : IIdentities, IDisposable
{
    private const CKM EdwardsKeyPair = (CKM)0x1055;
    private const CKM EdDsa = (CKM)0x1057;
    private const CKK Edwards = (CKK)0x40;

    /// <summary>The curve by its name, as a PrintableString; PKCS#11 3.0 allows that and its object identifier, SoftHSM 2 knows the name.</summary>
    private static readonly byte[] Curve = [0x13, 12, .. "edwards25519"u8];

    private readonly Lock _lock = new();
    private readonly Pkcs11InteropFactories _factories = new();
    private readonly IPkcs11Library _library;
    private readonly ISession _session;
    private readonly string _prefix;
    private readonly string? _nextPrefix;

    static TokenIdentities() => NativeLibrary.SetDllImportResolver(
        typeof(IPkcs11Library).Assembly, (name, assembly, search) => name == "libdl" ? NativeLibrary.Load("libdl.so.2", assembly, search) : IntPtr.Zero);

    /// <param name="module">Path of the token's library.</param>
    /// <param name="token">Label of the token.</param>
    /// <param name="nextPrefix">Of the identity that is to take the place of the other; null when there is none.</param>
    /// <exception cref="UserError">The library, the token or the PIN is not what was meant.</exception>
    public TokenIdentities(string module, string token, string pin, string prefix, string? nextPrefix = null)
    {
        (_prefix, _nextPrefix) = (prefix, nextPrefix);
        try
        {
            _library = _factories.Pkcs11LibraryFactory.LoadPkcs11Library(_factories, module, AppType.MultiThreaded);
        }
        catch (Exception problem) when (problem is Pkcs11Exception or UnmanagedException)
        {
            throw new UserError($"{module} cannot be used: {problem.Message}", "name the token's PKCS#11 library, such as /usr/lib/softhsm/libsofthsm2.so");
        }

        try
        {
            var slot = _library.GetSlotList(SlotsType.WithTokenPresent).FirstOrDefault(s => s.GetTokenInfo().Label.Trim() == token)
                       ?? throw new UserError($"{module} has no token with the label {token}", "see its own tool for the tokens there are");
            _session = slot.OpenSession(SessionType.ReadWrite);
            _session.Login(CKU.CKU_USER, pin);
        }
        catch (Pkcs11Exception problem)
        {
            _library.Dispose();
            throw new UserError($"the token {token} does not let us in: {problem.RV}", "check the PIN");
        }
        catch (UserError)
        {
            _library.Dispose();
            throw;
        }
    }

    public Identity Active() => Identity.Of(role => Find(LabelOf(_prefix, role)) ?? throw new UserError($"the token has no Ed25519 key {LabelOf(_prefix, role)}", "make the keys with 'cybermesh signer --create-keys'"));

    public Identity? Next() => _nextPrefix is { } prefix && Find(LabelOf(prefix, 0)) is not null
        ? Identity.Of(role => Find(LabelOf(prefix, role)) ?? throw new UserError($"the token has no Ed25519 key {LabelOf(prefix, role)}", "make the keys with 'cybermesh signer --create-keys'"))
        : null;

    /// <summary>For as long as this process runs; from its next start on the prefix is to be that of the new keys.</summary>
    public void Promote(Identity next)
    {
    }

    /// <summary>Makes those of an identity that are not there yet; their private halves never leave the token.</summary>
    public void CreateMissing(string prefix)
    {
        for (var role = 0; role < Identity.RoleCount; role++)
            if (Find(LabelOf(prefix, role)) is null)
                Create(LabelOf(prefix, role));
    }

    private static string LabelOf(string prefix, int role) => $"{prefix}-{Identity.RoleNames[role]}";

    private void Create(string label)
    {
        lock (_lock)
        {
            var (factory, id) = (_factories.ObjectAttributeFactory, Encoding.ASCII.GetBytes(label));
            _session.GenerateKeyPair(
                _factories.MechanismFactory.Create(EdwardsKeyPair),
                [factory.Create(CKA.CKA_TOKEN, true), factory.Create(CKA.CKA_LABEL, label), factory.Create(CKA.CKA_ID, id), factory.Create(CKA.CKA_VERIFY, true), factory.Create(CKA.CKA_EC_PARAMS, Curve)],
                [
                    factory.Create(CKA.CKA_TOKEN, true), factory.Create(CKA.CKA_LABEL, label), factory.Create(CKA.CKA_ID, id), factory.Create(CKA.CKA_PRIVATE, true), factory.Create(CKA.CKA_SIGN, true),
                    factory.Create(CKA.CKA_SENSITIVE, true), factory.Create(CKA.CKA_EXTRACTABLE, false),
                ],
                out _, out _);
        }
    }

    private TokenSigner? Find(string label)
    {
        lock (_lock)
        {
            if (FindOne(CKO.CKO_PUBLIC_KEY, label) is not { } publicKey || FindOne(CKO.CKO_PRIVATE_KEY, label) is not { } privateKey) return null;
            // A DER octet string around the 32 bytes.
            var point = _session.GetAttributeValue(publicKey, [CKA.CKA_EC_POINT])[0].GetValueAsByteArray();
            if (point.Length < PublicKey.Size) return null;
            return new TokenSigner(this, privateKey, PublicKey.From(point.AsSpan(point.Length - PublicKey.Size)));
        }
    }

    private IObjectHandle? FindOne(CKO kind, string label)
    {
        var found = _session.FindAllObjects([
            _factories.ObjectAttributeFactory.Create(CKA.CKA_CLASS, kind), _factories.ObjectAttributeFactory.Create(CKA.CKA_KEY_TYPE, Edwards), _factories.ObjectAttributeFactory.Create(CKA.CKA_LABEL, label),
        ]);
        return found.Count > 1 ? throw new UserError($"the token has {found.Count} keys with the label {label}", "remove the ones that are not meant") : found.FirstOrDefault();
    }

    private sealed class TokenSigner(TokenIdentities token, IObjectHandle key, PublicKey publicKey) : ISigner
    {
        public PublicKey PublicKey => publicKey;

        public Signature Sign(ReadOnlySpan<byte> message)
        {
            // One session, one operation at a time.
            lock (token._lock) return Signature.From(token._session.Sign(token._factories.MechanismFactory.Create(EdDsa), key, message.ToArray()));
        }
    }

    public void Dispose()
    {
        _session.Dispose();
        _library.Dispose();
    }
}
