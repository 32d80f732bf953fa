using System;
using System.CommandLine;
using System.IO;
using System.Linq;
using CyberMesh.Node;
using CyberMesh.Node.Api.Webhooks;

namespace CyberMesh.Cli.Verbs;

/// <summary>What a validator's webhooks did not take.</summary>
internal static class WebhooksVerb
{
    public static Command Create() => new("webhooks", "See what webhooks did not take, and send it again.") { List(), Replay() };

    private static DeadMessages DeadOf(string home, Webhook hook) => new(Path.Combine(home, "data", "webhooks"), hook.Name);

    private static Command List()
    {
        var home = new HomeOptions();
        var command = new Command("list", "Show the hooks, and each message that one did not take.");
        home.AddTo(command);
        command.SetAction(parsed =>
        {
            foreach (var hook in home.Settings(parsed).Webhooks)
            {
                var dead = DeadOf(home.Home(parsed), hook).All.ToList();
                Console.WriteLine($"{hook}: {dead.Count} not taken");
                foreach (var message in dead) Console.WriteLine($"  {message.Id}  {message.At:yyyy-MM-ddTHH:mm:ssZ}  {message.Reason}");
            }

            return ExitCode.Ok;
        });
        return command;
    }

    private static Command Replay()
    {
        var home = new HomeOptions();
        var name = new Argument<string>("name") { Description = "The hook." };
        var command = new Command("replay", "Send all that a hook did not take again. Exit code 1 when some of it is not taken again.") { name };
        home.AddTo(command);
        command.SetAction(async (parsed, stop) =>
        {
            var hook = home.Settings(parsed).Webhooks.FirstOrDefault(h => h.Name == parsed.GetValue(name))
                       ?? throw new UserError($"there is no webhook named {parsed.GetValue(name)}", "see 'cybermesh webhooks list'");
            using var sender = new WebhookSender(TimeProvider.System);
            var (sent, dead) = await DeadOf(home.Home(parsed), hook).ReplayAsync(hook, sender, stop);
            Console.WriteLine($"{sent} taken, {dead} not");
            return dead == 0 ? ExitCode.Ok : ExitCode.Failure;
        });
        return command;
    }
}
