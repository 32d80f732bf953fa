using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using CyberMesh.Node;
using CyberMesh.Node.Configuration;
using CyberMesh.Node.Crypto;

namespace CyberMesh.Cli.Doctor;

/// <summary>Settings, and files that must be there, sound, and closed to others.</summary>
internal static class FileChecks
{
    private const string Area = "files";
    private const UnixFileMode Writers = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;
    private const UnixFileMode Readers = UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private static readonly TimeSpan KeyAgeMax = TimeSpan.FromDays(90);
    private static readonly TimeSpan KeyAgeWarning = TimeSpan.FromDays(75);

    public static IEnumerable<Finding> Settings(Patient patient)
    {
        foreach (var problem in patient.SettingProblems) yield return Finding.Error("settings", problem, "correct it; 'cybermesh config show --effective --origin' shows where each value stands");
        if (patient.SettingProblems.Count == 0) yield return Finding.Ok("settings", "known names, sound values, no contradictions");
        foreach (var name in patient.Settings?.Unused ?? []) yield return Finding.Warning("settings", $"{name} is set and has no effect", "remove it");
    }

    /// <summary>Modes; what holds a secret must be closed to reading too.</summary>
    /// <param name="repair">Takes the rights away that are too many.</param>
    public static IEnumerable<Finding> Modes(Patient patient, bool repair)
    {
        var good = true;
        foreach (var (path, forbidden) in Guarded(patient))
        {
            var mode = File.GetUnixFileMode(path);
            if ((mode & forbidden) == 0) continue;
            if (repair)
            {
                File.SetUnixFileMode(path, mode & ~(Writers | Readers | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute));
                yield return Finding.Ok(Area, $"{path} was open to other users of this machine, and is closed now");
                continue;
            }

            good = false;
            yield return Finding.Error(Area, $"{path} is open to other users of this machine", $"run: chmod go-rwx {path}, or 'cybermesh doctor --fix-permissions'");
        }

        if (good) yield return Finding.Ok(Area, "keys and data are closed to other users of this machine");
    }

    private static IEnumerable<(string Path, UnixFileMode Forbidden)> Guarded(Patient patient)
    {
        yield return (patient.Home, Writers);
        if (Directory.Exists(patient.In("data")))
        {
            yield return (patient.In("data"), Writers | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
            foreach (var file in Directory.EnumerateFiles(patient.In("data"), "*.db*")) yield return (file, Writers);
        }

        var secrets = Directory.EnumerateFiles(patient.Home, "*.key").Concat(patient.Values is { } values
            ? SettingCatalog.All.Where(d => d.Name is "TLS_KEY_PATH" or "KAFKA_TLS_KEY_FILE" or "IDENTITY_PASSPHRASE_FILE" or "AUDIT_ANCHOR_KEY_FILE" or "WEBHOOKS_FILE" || (d.Name.EndsWith("_FILE", StringComparison.Ordinal) && SettingCatalog.Find(d.Name[..^5]) is { IsSecret: true }))
                .Select(d => values.Text(d.Name)).Where(path => path.Length > 0 && File.Exists(path))
            : []);
        // Kubernetes hands a secret to the group of a pod.
        foreach (var file in secrets) yield return (file, Path.GetFullPath(file).StartsWith(patient.Home, StringComparison.Ordinal) ? Writers | Readers : Writers | UnixFileMode.OtherRead);
    }

    public static IEnumerable<Finding> Identity(Patient patient)
    {
        var path = patient.In(Node.Crypto.Identity.FileName);
        var hasSigner = patient.Settings?.SignerSocket.Length > 0;
        if (!File.Exists(path) && !hasSigner)
        {
            yield return Finding.Error("identity", $"{path} does not exist", "restore it from the backup; without it this validator cannot vote, and with a new one it has to be let in by the operators ('cybermesh validators rotate-key')");
            yield break;
        }

        UserError? problem = null;
        Keyring? keys = null;
        try
        {
            keys = patient.Settings?.OpenKeys(patient.Home) ?? new Keyring(patient.Home);
        }
        catch (UserError found)
        {
            problem = found;
        }

        using (keys)
        {
            if (problem is not null)
            {
                yield return Finding.Error("identity", problem.What, problem.Fix);
                yield break;
            }

            var age = patient.Time.GetUtcNow() - File.GetLastWriteTimeUtc(path);
            if (!hasSigner && age > KeyAgeWarning)
                yield return Finding.Warning("identity", $"the keys are {age.TotalDays:0} days old" + (age > KeyAgeMax ? "" : $"; {(KeyAgeMax - age).TotalDays:0} days are left of {KeyAgeMax.TotalDays:0}"), "rotate them: 'cybermesh validators rotate-key', and two operators sign");
            if (patient.Genesis is not { } genesis) yield break;
            var key = keys!.Active.Consensus.PublicKey;
            var isMember = genesis.Chain.Validators.TryFind(key, out var index);
            var isObserver = patient.Settings?.IsObserver == true;
            if (isMember && isObserver) yield return Finding.Error("identity", "NODE_ROLE is observer, and this identity is a validator's", "remove NODE_ROLE, or give the observer an identity of its own ('cybermesh observer prepare')");
            else if (isMember) yield return Finding.Ok("identity", $"{genesis.Chain.Validators[index].Name}, as genesis names it");
            else if (isObserver) yield return Finding.Ok("identity", $"an observer's: {key}");
            else yield return Finding.Warning("identity", $"genesis does not name {key}", "fine when the operators have let it in or will ('cybermesh validators propose-add'); else this is the identity of another chain or the genesis of one");
        }
    }

    public static IEnumerable<Finding> Certificates(Patient patient)
    {
        if (patient.Values is not { } values) yield break;
        foreach (var name in new[] { "TLS_CERT_PATH", "API_TLS_CLIENT_CA_FILE", "KAFKA_TLS_CA_FILE", "KAFKA_TLS_CERT_FILE" })
        {
            var path = values.Text(name);
            if (path.Length == 0 || !File.Exists(path)) continue; // a missing one is said among the settings
            var found = new X509Certificate2Collection();
            try
            {
                found.ImportFromPemFile(path);
            }
            catch (CryptographicException)
            {
                continue; // likewise
            }

            foreach (var certificate in found)
            {
                var left = certificate.NotAfter.ToUniversalTime() - patient.Time.GetUtcNow().UtcDateTime;
                var who = $"{name}: {certificate.Subject}";
                if (left < TimeSpan.Zero) yield return Finding.Error("certificates", $"{who} expired {-left.TotalDays:0} days ago", "renew it; the running validator notices the new file by itself");
                else if (left < TimeSpan.FromDays(30)) yield return Finding.Warning("certificates", $"{who} expires in {left.TotalDays:0} days", "renew it; the running validator notices the new file by itself");
                else if (certificate.NotBefore.ToUniversalTime() > patient.Time.GetUtcNow().UtcDateTime) yield return Finding.Error("certificates", $"{who} is not valid before {certificate.NotBefore:yyyy-MM-dd}", "look at the clock, or take the certificate that is valid now");
                else yield return Finding.Ok("certificates", $"{who} is valid for {left.TotalDays:0} days");
            }
        }
    }
}
