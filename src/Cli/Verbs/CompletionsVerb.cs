using System;
using System.CommandLine;

namespace CyberMesh.Cli.Verbs;

/// <summary>Scripts with which a shell completes commands: each asks the program itself, by the directive that System.CommandLine answers.</summary>
internal static class CompletionsVerb
{
    private const string Bash = """
        _cybermesh() { local IFS=$'\n'; COMPREPLY=($(compgen -W "$(cybermesh "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2> /dev/null)" -- "${COMP_WORDS[COMP_CWORD]}")); }
        complete -o default -F _cybermesh cybermesh
        """;

    private const string Zsh = """
        #compdef cybermesh
        _cybermesh() { local -a found; found=("${(@f)$(cybermesh "[suggest:${CURSOR}]" "${BUFFER}" 2> /dev/null)}"); compadd -a found; _files; }
        compdef _cybermesh cybermesh
        """;

    private const string Fish = """
        complete --command cybermesh --arguments '(cybermesh "[suggest:"(commandline --cursor)"]" (commandline) 2> /dev/null)'
        """;

    private const string PowerShell = """
        Register-ArgumentCompleter -Native -CommandName cybermesh -ScriptBlock {
            param($word, $line, $cursor)
            cybermesh "[suggest:$cursor]" "$line" 2> $null | Where-Object { $_ -like "$word*" } | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
        }
        """;

    public static Command Create()
    {
        var shell = new Argument<string>("shell") { Description = "bash, zsh, fish or powershell." };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish", "powershell");
        var command = new Command("completions", "Print what makes a shell complete commands and options, such as: source <(cybermesh completions bash)") { shell };
        command.SetAction(parsed =>
        {
            Console.WriteLine(parsed.GetValue(shell) switch { "bash" => Bash, "zsh" => Zsh, "fish" => Fish, _ => PowerShell });
            return ExitCode.Ok;
        });
        return command;
    }
}
