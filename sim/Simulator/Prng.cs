using System;
using System.Numerics;

namespace CyberMesh.Simulator;

/// <summary>xoshiro256** seeded with splitmix64 (Blackman, Vigna 2018): the same numbers on every runtime, unlike System.Random.</summary>
public sealed class Prng
{
    private ulong _a, _b, _c, _d;

    /// <param name="stream">Separate concerns draw from separate streams, so changing one does not disturb the others.</param>
    public Prng(ulong seed, string stream)
    {
        unchecked
        {
            var state = seed * 0x9e3779b97f4a7c15;
            foreach (var c in stream) state = (state ^ c) * 0x100000001b3;
            _a = SplitMix(ref state);
            _b = SplitMix(ref state);
            _c = SplitMix(ref state);
            _d = SplitMix(ref state);
        }
    }

    public ulong Next()
    {
        unchecked
        {
            var result = BitOperations.RotateLeft(_b * 5, 7) * 9;
            var t = _b << 17;
            _c ^= _a;
            _d ^= _b;
            _b ^= _c;
            _a ^= _d;
            _c ^= t;
            _d = BitOperations.RotateLeft(_d, 45);
            return result;
        }
    }

    /// <summary>From 0 to <paramref name="bound"/> − 1.</summary>
    public int Below(int bound) => (int)(Next() % (ulong)bound);

    /// <summary>Both ends included.</summary>
    public int Between(int low, int high) => low + Below(high - low + 1);

    public bool Chance(int percent) => Below(100) < percent;

    public T Pick<T>(ReadOnlySpan<T> items) => items[Below(items.Length)];

    private static ulong SplitMix(ref ulong state)
    {
        unchecked
        {
            state += 0x9e3779b97f4a7c15;
            var z = state;
            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
            z = (z ^ z >> 27) * 0x94d049bb133111eb;
            return z ^ z >> 31;
        }
    }
}
