using System;
using System.CommandLine;

namespace CyberMesh.Cli.Bench;

/// <param name="Validators">All in this process.</param>
/// <param name="Size">Bytes of each alert's payload.</param>
/// <param name="Rate">Alerts per second, whatever becomes of them; 0 for as many as are committed.</param>
internal sealed record NetworkLoad(int Validators, int Size, int Rate, TimeSpan Duration)
{
    public override string ToString() => $"{Validators} validators, payloads of {Size} bytes, {(Rate == 0 ? "saturated" : $"{Rate} alerts/s")}";
}

/// <summary>Of the benchmarks that load a network.</summary>
internal sealed class LoadOptions(int rate)
{
    private readonly Option<int> _validators = new("--validators") { Description = "So many, all in this process.", DefaultValueFactory = _ => 4 };
    private readonly Option<int> _size = new("--size") { Description = "Bytes of each alert's payload.", DefaultValueFactory = _ => 512 };
    private readonly Option<int> _rate = new("--rate") { Description = "Alerts per second, whatever becomes of them (open loop).", DefaultValueFactory = _ => rate };
    private readonly Option<bool> _saturate = new("--saturate") { Description = "As many as are committed instead of a rate." };
    private readonly Option<Duration> _duration = Duration.Option("For so long, after the warm-up.", 30);

    public void AddTo(Command command)
    {
        foreach (var option in (Option[])[_validators, _size, _rate, _saturate, _duration]) command.Add(option);
    }

    public NetworkLoad Read(ParseResult parsed) =>
        new(parsed.GetValue(_validators), parsed.GetValue(_size), parsed.GetValue(_saturate) ? 0 : parsed.GetValue(_rate), parsed.GetValue(_duration).Length);
}
