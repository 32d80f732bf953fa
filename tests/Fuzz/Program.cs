using System;
using System.IO;
using SharpFuzz;

namespace CyberMesh.Fuzz;

/// <summary>
/// What afl-fuzz runs (see fuzz.sh): one target over the bytes it is given. With <c>--corpus DIR</c> it writes the inputs to start from instead.
/// </summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        if (args is ["--corpus", var directory])
        {
            foreach (var (target, inputs) in Corpus.All())
            {
                Directory.CreateDirectory(Path.Combine(directory, target));
                for (var i = 0; i < inputs.Length; i++) File.WriteAllBytes(Path.Combine(directory, target, $"{i:D2}.bin"), inputs[i]);
            }

            return 0;
        }

        if (args.Length != 1)
        {
            Console.Error.WriteLine("usage: fuzz --corpus DIR | fuzz TARGET, with TARGET a folder of the corpus");
            return 2;
        }

        // Instrumented code must not be touched before the fuzzer has lent its memory.
        Fuzzer.OutOfProcess.Run(stream =>
        {
            using var bytes = new MemoryStream();
            stream.CopyTo(bytes);
            FuzzTargets.All[args[0]](bytes.ToArray());
        });
        return 0;
    }
}
