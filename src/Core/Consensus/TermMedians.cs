using System.Collections.Generic;
using CyberMesh.Core.Primitives;

namespace CyberMesh.Core.Consensus;

/// <summary>What is usual: the median over the last terms of a figure's median in each. Terms in which nothing was seen do not count.</summary>
internal sealed class TermMedians
{
    private const int TermsRemembered = 8;
    private const int TermsNeeded = 3;

    /// <summary>Of one term.</summary>
    private const int FiguresMax = 1024;

    private readonly Queue<long> _terms = new();
    private readonly List<long> _figures = [];

    /// <summary>Null while too few terms are known.</summary>
    public long? Usual { get; private set; }

    public void Add(long figure)
    {
        if (_figures.Count < FiguresMax) _figures.Add(figure);
    }

    public void EnterTerm()
    {
        if (_figures.Count > 0)
        {
            if (_terms.Count == TermsRemembered) _terms.Dequeue();
            _terms.Enqueue(Median.Of(_figures));
            _figures.Clear();
        }

        Usual = _terms.Count < TermsNeeded ? null : Median.Of([.. _terms]);
    }
}
