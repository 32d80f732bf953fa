using System.Collections.Generic;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Replica;

/// <summary>The transactions of a changing run of blocks that are not committed, set aside in the pool meanwhile. To follow the run costs what has changed of it.</summary>
internal sealed class TransactionsOfBlocks(Mempool.Mempool pool)
{
    private readonly HashSet<Digest> _transactions = [];
    private List<Block> _blocks = [];

    public bool Contains(Digest transaction) => _transactions.Contains(transaction);

    /// <summary>The pool has just taken it in.</summary>
    public void Arrived(Digest transaction)
    {
        if (Contains(transaction)) pool.SetAside(transaction);
    }

    /// <param name="blocks">None of them twice, and no transaction in two of them (rule N9).</param>
    public void Follow(IEnumerable<Block> blocks)
    {
        var now = new List<Block>(blocks);
        foreach (var block in _blocks)
        {
            if (now.Contains(block)) continue;
            foreach (var transaction in block.Transactions)
                if (_transactions.Remove(transaction))
                    pool.TakeBack(transaction);
        }

        foreach (var block in now)
        {
            if (_blocks.Contains(block)) continue;
            foreach (var transaction in block.Transactions)
                if (_transactions.Add(transaction))
                    pool.SetAside(transaction);
        }

        _blocks = now;
    }
}
