using System;
using System.Buffers.Binary;
using System.Linq;
using BenchmarkDotNet.Attributes;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Ledger;
using CyberMesh.Core.Primitives;
using CyberMesh.Core.Proofs;

namespace CyberMesh.Benchmarks;

/// <summary>What a block changes in the trees that proofs come from.</summary>
[MemoryDiagnoser]
public class TreeBenchmarks
{
    private readonly Digest[] _leaves = [.. Enumerable.Range(0, 1000).Select(i => Digest.Sha256(BitConverter.GetBytes(i)))];
    private readonly LogTree _log = new();
    private readonly StateTree _state = new();
    private readonly byte[] _key = new byte[8];
    private readonly byte[] _value = new byte[64];
    private ulong _changes;

    [Params(1_000, 1_000_000)]
    public int Entries { get; set; }

    [GlobalSetup]
    public void Fill()
    {
        for (var i = 0; i < Entries; i++)
        {
            _log.Append(_leaves[i % _leaves.Length]);
            BinaryPrimitives.WriteInt64BigEndian(_key, i);
            _state.Set(_key, _value);
        }

        _state.Root();
    }

    [Benchmark]
    public void LogAppend() => _log.Append(_leaves[0]);

    [Benchmark]
    public Digest LogRoot() => _log.Root();

    /// <summary>A key that is there already gets another value, and the root is made anew.</summary>
    [Benchmark]
    public Digest StateChange()
    {
        BinaryPrimitives.WriteUInt64BigEndian(_key, ++_changes % (ulong)Entries);
        BinaryPrimitives.WriteUInt64BigEndian(_value, _changes);
        _state.Set(_key, _value);
        return _state.Root();
    }

    /// <summary>Of a block with 1,000 transactions.</summary>
    [Benchmark]
    public Digest TransactionRoot() => MerkleTree.Root(_leaves);
}
