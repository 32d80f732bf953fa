using System;
using System.CommandLine;
using System.IO;
using System.Linq;
using CyberMesh.Node;
using CyberMesh.Node.Api.Webhooks;
using CyberMesh.Node.Hosting;

namespace CyberMesh.Cli.Verbs;

/// <summary>What a validator's webhooks did not take.</summary>
internal static class WebhooksVerb
{
    public static Command Create() => new("webhooks", "See what webhooks did not take, and send it again.") { List(), Replay() };

    private static Option<DirectoryInfo> Home() => new("--home") { Description = "Home directory of the validator; it may be running.", Required = true };

    private static string DirectoryOf(DirectoryInfo home) => Path.Combine(home.FullName, "data", "webhooks");

    private static Settings SettingsOf(DirectoryInfo home) => Settings.Load(Path.Combine(home.FullName, "config.json"), StartVerb.ReadEnvironment());

    private static Command List()
    {
        var home = Home();
        var command = new Command("list", "Show the hooks, and each message that one did not take.") { home };
        command.SetAction(parsed =>
        {
            foreach (var hook in SettingsOf(parsed.GetValue(home)!).Webhooks)
            {
                var dead = new DeadMessages(DirectoryOf(parsed.GetValue(home)!), hook.Name).All.ToList();
                Console.WriteLine($"{hook}: {dead.Count} not taken");
                foreach (var message in dead) Console.WriteLine($"  {message.Id}  {message.At:yyyy-MM-ddTHH:mm:ssZ}  {message.Reason}");
            }

            return ExitCode.Ok;
        });
        return command;
    }

    private static Command Replay()
    {
        var home = Home();
        var name = new Argument<string>("name") { Description = "The hook." };
        var command = new Command("replay", "Send all that a hook did not take again. Exit code 1 when some of it is not taken again.") { name, home };
        command.SetAction(async (parsed, stop) =>
        {
            var hook = SettingsOf(parsed.GetValue(home)!).Webhooks.FirstOrDefault(h => h.Name == parsed.GetValue(name))
                       ?? throw new UserError($"there is no webhook named {parsed.GetValue(name)}", "see 'cybermesh webhooks list'");
            using var sender = new WebhookSender(TimeProvider.System);
            var (sent, dead) = await new DeadMessages(DirectoryOf(parsed.GetValue(home)!), hook.Name).ReplayAsync(hook, sender, stop);
            Console.WriteLine($"{sent} taken, {dead} not");
            return dead == 0 ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }
}
