using System;
using System.Buffers;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using BenchmarkDotNet.Attributes;
using CyberMesh.Node.Mesh;

namespace CyberMesh.Benchmarks;

/// <summary>Frames into a buffer, and out of a stream that has them all: what is left when the system calls are taken away.</summary>
[MemoryDiagnoser]
public class FrameBenchmarks
{
    private const int Frames = 64;
    private readonly ArrayBufferWriter<byte> _buffer = new();
    private byte[] _frame = [];
    private MemoryStream _stream = null!;
    private FrameReader _reader = null!;

    /// <summary>A vote, and a block of some hundred alerts.</summary>
    [Params(150, 16_384)]
    public int Size { get; set; }

    [GlobalSetup]
    public void Begin()
    {
        _frame = new byte[Size];
        Write();
        _stream = new MemoryStream(_buffer.WrittenSpan.ToArray());
        _reader = new FrameReader(_stream, TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(1), CancellationToken.None);
    }

    [GlobalCleanup]
    public void End() => _reader.Dispose();

    [Benchmark(OperationsPerInvoke = Frames)]
    public void Write()
    {
        _buffer.ResetWrittenCount();
        for (var i = 0; i < Frames; i++) Node.Mesh.Frames.Write(_buffer, _frame);
    }

    [Benchmark(OperationsPerInvoke = Frames)]
    public async Task Read()
    {
        _stream.Position = 0;
        for (var i = 0; i < Frames; i++) await _reader.ReadAsync();
    }
}
