using System;
using System.Collections.Generic;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using CyberMesh.Core.Chain;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Mesh;

namespace CyberMesh.Cli.Doctor;

/// <summary>Own ports, and who answers at the addresses of the others.</summary>
internal static class NetworkChecks
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    public static IEnumerable<Finding> Ports(Patient patient)
    {
        if (patient.Settings is not { } settings) yield break;
        var places = new List<(string Name, IPEndPoint At)> { ("P2P_LISTEN_PORT", settings.MeshListen), ("API_LISTEN_ADDR", settings.Api.Listen) };
        if (settings.Api.AdminListen is { } admin) places.Add(("API_ADMIN_LISTEN_ADDR", admin));
        foreach (var same in places.Where(p => p.At.Port != 0).GroupBy(p => p.At.Port).Where(g => g.Count() > 1))
            yield return Finding.Error("ports", $"{string.Join(" and ", same.Select(p => p.Name))} are both port {same.Key}", "give each a port of its own");
        if (settings.Advertise.Count == 0 && patient.Values?.Text("P2P_ADVERTISE") != "none" && patient.Genesis is { } genesis && genesis.Chain.Validators.Members.All(v => v.Address != settings.MeshListen.ToString()))
            yield return Finding.Warning("ports", "the others are not told where this validator is", "set P2P_ADVERTISE to the address and port they reach it at, or to none");
        if (patient.IsRunning)
        {
            yield return Finding.Ok("ports", "in use by the validator itself, which runs");
            yield break;
        }

        foreach (var (name, at) in places) yield return Listen(name, at);
    }

    private static Finding Listen(string name, IPEndPoint at)
    {
        try
        {
            using var listener = new TcpListener(at);
            listener.Start();
            return Finding.Ok("ports", $"{name} {at} is free");
        }
        catch (SocketException problem)
        {
            return Finding.Error("ports", $"{name} {at}: {problem.Message}", problem.SocketErrorCode switch
            {
                SocketError.AddressAlreadyInUse => $"stop what listens there (ss -ltnp 'sport = :{at.Port}'), or take another port",
                SocketError.AddressNotAvailable => "this machine has no such address; take one of its own ('ip address'), or 0.0.0.0",
                SocketError.AccessDenied => "ports below 1024 want a right; take a higher one",
                _ => "take another address or port",
            });
        }
    }

    public static async Task<List<Finding>> PeersAsync(Patient patient, CancellationToken stop)
    {
        var findings = new List<Finding>();
        if (patient.Settings is not { } settings || patient.Genesis is not { } genesis) return findings;
        var set = genesis.Chain.Validators;
        var own = new[] { settings.MeshListen.ToString() }.Concat(settings.Advertise).ToHashSet();
        foreach (var address in settings.Peers.Where(own.Contains)) findings.Add(Finding.Warning("peers", $"P2P_BOOTSTRAP_PEERS names this validator itself ({address})", "remove it"));
        var addresses = settings.Peers.Concat(set.Members.Select(v => v.Address).Where(a => a.Length > 0)).Where(a => !own.Contains(a)).Distinct().ToList();
        if (addresses.Count == 0)
        {
            if (set.Count > 1) findings.Add(Finding.Error("peers", "no address of another validator is known", "name at least one in P2P_BOOTSTRAP_PEERS (host:port)"));
            return findings;
        }

        var epochs = new EpochSchedule(genesis.Chain);
        var reached = new HashSet<string>();
        foreach (var (finding, name) in await Task.WhenAll(addresses.Select(a => AskAsync(patient, epochs, a, stop))))
        {
            findings.Add(finding);
            if (name is not null) reached.Add(name);
        }

        var own1 = settings.IsObserver ? 0 : 1;
        if (reached.Count + own1 < set.Quorum)
            findings.Add(Finding.Warning("peers", $"{reached.Count} of the others answer here; with this one that is no quorum of {set.Quorum}", "fine while the others are not started; else see the findings above, one by one"));
        return findings;
    }

    private static async Task<(Finding Finding, string? Name)> AskAsync(Patient patient, EpochSchedule epochs, string address, CancellationToken stop)
    {
        if (!PeerAddress.TryParse(address, out var host, out var port)) return (Finding.Error("peers", $"'{address}' is no host:port", "correct P2P_BOOTSTRAP_PEERS"), null);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(Patience);
        try
        {
            var chain = patient.Genesis!.Chain;
            return await MeshProbe.AskAsync(host, port, chain.ChainId, epochs, new Ed25519Verifier(), patient.Time, deadline.Token) is { } peer
                ? (Finding.Ok("peers", $"{epochs.Name(peer)} answers at {address}"), epochs.Name(peer))
                : (Finding.Error("peers", $"whoever answers at {address} is no validator of this genesis", "check address and port, and that both have the same genesis ('cybermesh genesis show'); one that an order let in later is not known here"), null);
        }
        catch (SocketException problem) when (problem.SocketErrorCode is SocketError.HostNotFound or SocketError.NoData or SocketError.TryAgain)
        {
            return (Finding.Error("peers", $"the name of {address} leads nowhere: {problem.Message}", "check its spelling and the DNS of this machine"), null);
        }
        catch (SocketException problem)
        {
            return (Finding.Warning("peers", $"nobody answers at {address}: {problem.Message}", "is it started, and do the firewalls between let this port through?"), null);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            return (Finding.Warning("peers", $"nobody answers at {address} within {Patience.TotalSeconds:0} s", "a firewall that drops packets looks like this; else the machine is off"), null);
        }
    }
}
