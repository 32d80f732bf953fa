using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Numerics;
using System.Runtime.InteropServices;
using CyberMesh.Core.Primitives;
using CyberMesh.Node.Crypto;
using CyberMesh.Node.Crypto.KnownKeys;
using Xunit;

namespace CyberMesh.Node.Tests;

/// <summary>Verification with tables, in every width this machine has, against libsodium and against BigInteger.</summary>
public sealed class KnownKeyTests
{
    private static readonly Ed25519Verifier Library = new();

    /// <summary>Signatures that are compared with libsodium's verdict: CYBERMESH_SIGNATURES, a million in a long run.</summary>
    private static readonly int Signatures = int.Parse(Environment.GetEnvironmentVariable("CYBERMESH_SIGNATURES") ?? "20000", CultureInfo.InvariantCulture);

    public static TheoryData<int> Widths => [.. TableVerification.Widths.Select(width => width.Lanes)];

    private static TableVerification Width(int lanes) => TableVerification.Widths.Single(width => width.Lanes == lanes);

    private static bool Verify(int lanes, SignatureCheck check, KeyTable table)
    {
        Span<bool> accepted = [false];
        Width(lanes).Verify([check], [table], accepted);
        return accepted[0];
    }

    private static byte[] Random(Random random, int count)
    {
        var bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    private static KeyTable Table(PublicKey key)
    {
        Assert.True(KeyTable.TryCreate(key.ToArray(), out var table));
        return table;
    }

    // ---- Arithmetic -------------------------------------------------------------------------------------------

    /// <summary>A unit of <see cref="IField{F}"/>, in limbs, up and down or, with one lane, only up.</summary>
    private static long Unit(int lanes) => lanes == 1 ? (1L << 51) + (1L << 16) : (1L << 50) + (1L << 11);

    private static BigInteger Value(ReadOnlySpan<double> limbs)
    {
        var sum = BigInteger.Zero;
        for (var i = 0; i < 5; i++) sum += new BigInteger(limbs[i]) << (51 * i);
        return sum;
    }

    private static BigInteger Value(Field51 number)
    {
        var sum = BigInteger.Zero;
        for (var i = 0; i < 5; i++) sum += (BigInteger)number[i] << (51 * i);
        return sum;
    }

    /// <summary>Many limbs are as large as they may be, or as small.</summary>
    private static double[][] Limbs(Random random, int lanes)
    {
        var (unit, least) = (Unit(lanes), lanes == 1 ? 0 : -Unit(lanes));
        var all = random.Next(8) == 0;
        return [.. Enumerable.Range(0, lanes).Select(_ => Enumerable.Range(0, 5).Select(_ => (double)(all ? unit : random.Next(5) switch
        {
            0 => 0,
            1 => unit,
            2 => least,
            3 => random.Next(-20, 20) + (unit / 2),
            _ => random.NextInt64(least, unit + 1),
        })).ToArray())];
    }

    /// <summary>The field in lanes, bit by bit as a test makes it, without the reduction that loading ends with.</summary>
    private static FieldLanes<T> Raw<T>(double[][] lanes)
        where T : unmanaged, ILanes<T>
    {
        var limbs = new double[5 * T.Count];
        for (var i = 0; i < limbs.Length; i++) limbs[i] = lanes[i % T.Count][i / T.Count];
        return MemoryMarshal.Read<FieldLanes<T>>(MemoryMarshal.AsBytes<double>(limbs));
    }

    private static double[][] Raw<T>(FieldLanes<T> field)
        where T : unmanaged, ILanes<T>
    {
        var limbs = new double[5 * T.Count];
        MemoryMarshal.Write(MemoryMarshal.AsBytes(limbs.AsSpan()), field);
        return [.. Enumerable.Range(0, T.Count).Select(lane => Enumerable.Range(0, 5).Select(i => limbs[(i * T.Count) + lane]).ToArray())];
    }

    private static Field51 Raw51(double[][] lanes) => new((ulong)lanes[0][0], (ulong)lanes[0][1], (ulong)lanes[0][2], (ulong)lanes[0][3], (ulong)lanes[0][4]);

    private static double[][] Raw51(Field51 number) => [[.. Enumerable.Range(0, 5).Select(i => (double)number[i])]];

    [Theory]
    [MemberData(nameof(Widths))]
    public void Field_arithmetic_is_that_of_integers_modulo_p_and_keeps_its_bounds(int lanes)
    {
        if (lanes == 8) Check<FieldLanes<Lanes8>>(Raw<Lanes8>, Raw);
        else if (lanes == 4) Check<FieldLanes<Lanes4>>(Raw<Lanes4>, Raw);
        else Check<Field51>(Raw51, Raw51);

        static void Check<F>(Func<double[][], F> make, Func<F, double[][]> read)
            where F : unmanaged, IField<F>
        {
            var random = new Random(7);
            for (var round = 0; round < 3000; round++)
            {
                var numbers = Enumerable.Range(0, 4).Select(_ => Limbs(random, F.Lanes)).ToArray();
                var (f, g, h, i) = (make(numbers[0]), make(numbers[1]), make(numbers[2]), make(numbers[3]));
                F.Multiply(out var product, f, g);
                F.Square(out var square, f);
                F.Add(out var sum, f, g);
                F.Subtract(out var difference, f, g);
                // The largest factors that the formulas of Point make, and the largest number that they reduce.
                F.Multiply(out var productOfSum, sum, h);
                F.Multiply(out var productOfDifference, difference, h);
                F.Add(out var twice, i, i);
                F.Multiply(out var productOfTwice, h, twice);
                F.Subtract(out var most, sum, h);
                F.Reduce(out var reduced, most);
                F.Reduce(out var reducedAlone, f);
                var stored = new Field51[F.Lanes];
                F.Store(f, stored);
                var loaded = F.Load(stored);
                for (var lane = 0; lane < F.Lanes; lane++)
                {
                    var (a, b, c, d) = (Value(numbers[0][lane]), Value(numbers[1][lane]), Value(numbers[2][lane]), Value(numbers[3][lane]));
                    Same(a * b, product, lane);
                    Same(a * a, square, lane);
                    Same((a + b) * c, productOfSum, lane);
                    Same((a - b) * c, productOfDifference, lane);
                    Same(c * 2 * d, productOfTwice, lane);
                    Same(a + b - c, reduced, lane);
                    Same(a, reducedAlone, lane);
                    Same(a, loaded, lane);
                    Assert.Equal(Modulo(a + b), Modulo(Value(read(sum)[lane])));
                    Assert.Equal(Modulo(a - b), Modulo(Value(read(difference)[lane])));
                    var bytes = new byte[32];
                    stored[lane].ToBytes(bytes);
                    Assert.Equal(Curve.Encode(Modulo(a)), bytes);
                }

                if (round >= 40) continue;
                Numbers<F>.Invert(out var inverse, f);
                Numbers<F>.PowerForRoot(out var power, f);
                for (var lane = 0; lane < F.Lanes; lane++)
                {
                    var a = Modulo(Value(numbers[0][lane]));
                    Same(BigInteger.ModPow(a, Curve.P - 2, Curve.P), inverse, lane);
                    Same(BigInteger.ModPow(a, (Curve.P - 5) / 8, Curve.P), power, lane);
                }
            }

            var values = Enumerable.Range(1, 64).Select(i => Numbers<F>.All(Curve.Number(i))).ToArray();
            var inverses = values.ToArray();
            Numbers<F>.InvertAll(inverses, new F[64]);
            for (var i = 0; i < values.Length; i++)
            {
                F.Multiply(out var one, values[i], inverses[i]);
                Same(1, one, F.Lanes - 1);
            }

            void Same(BigInteger expected, in F actual, int lane)
            {
                var limbs = read(actual)[lane];
                Assert.Equal(Modulo(expected), Modulo(Value(limbs)));
                foreach (var limb in limbs) Assert.InRange(limb, F.Lanes == 1 ? 0 : -Unit(F.Lanes), Unit(F.Lanes));
            }
        }

        static BigInteger Modulo(BigInteger value) => ((value % Curve.P) + Curve.P) % Curve.P;
    }

    [Fact]
    public void Every_number_has_one_encoding_also_around_the_prime()
    {
        foreach (var near in new[] { BigInteger.Zero, Curve.P, BigInteger.Pow(2, 255), BigInteger.Pow(2, 254), 2 * Curve.P })
            for (var i = -40; i <= 40; i++)
            {
                var value = near + i;
                if (value < 0) continue;
                // Above 2^255 the last limb is larger than it should be, as after a product.
                var limbs = new ulong[5];
                for (var (limb, rest) = (4, value); limb >= 0; limb--)
                {
                    limbs[limb] = (ulong)(rest >> (51 * limb));
                    rest -= (BigInteger)limbs[limb] << (51 * limb);
                }

                var number = new Field51(limbs[0], limbs[1], limbs[2], limbs[3], limbs[4]);
                var bytes = new byte[32];
                number.ToBytes(bytes);
                Assert.Equal(Curve.Encode(value % Curve.P), bytes);
                Assert.Equal(value % Curve.P, Value(Field51.FromBytes(bytes)));
                var signed = new double[5];
                number.ToSigned(signed);
                foreach (var limb in signed) Assert.InRange(limb, -(1L << 50), (1L << 50) + 19);
                Assert.Equal(0, (Value(signed) - value) % Curve.P);
                Assert.Equal(0, (Value(Field51.FromSigned(signed[0], signed[1], signed[2], signed[3], signed[4])) - value) % Curve.P);
            }
    }

    [Fact]
    public void Scalars_are_reduced_modulo_the_order_and_their_digits_add_up()
    {
        var random = new Random(3);
        var wide = new List<byte[]> { new byte[64], Enumerable.Repeat((byte)255, 64).ToArray() };
        for (var multiple = 0; multiple < 300; multiple++)
            for (var i = -2; i <= 2; i++)
            {
                var factor = multiple < 20 ? multiple : new BigInteger(Random(random, random.Next(1, 32)), isUnsigned: true);
                if ((Curve.L * factor) + i < 0) continue;
                var bytes = new byte[64];
                Assert.True(((Curve.L * factor) + i).TryWriteBytes(bytes, out _, isUnsigned: true));
                wide.Add(bytes);
            }

        for (var i = 0; i < 20_000; i++)
        {
            var bytes = Random(random, 64);
            if (i % 4 == 0) Array.Fill(bytes, (byte)(i % 8 == 0 ? 255 : 0), random.Next(64), 1);
            if (i % 5 == 0) Array.Clear(bytes, 0, random.Next(64));
            wide.Add(bytes);
        }

        foreach (var bytes in wide)
        {
            var scalar = new byte[32];
            Scalars.Reduce(bytes, scalar);
            var expected = new BigInteger(bytes, isUnsigned: true) % Curve.L;
            Assert.Equal(expected, new BigInteger(scalar, isUnsigned: true));
            var digits = new sbyte[32];
            Scalars.Digits(scalar, digits);
            Assert.Equal(expected, digits.Select((d, i) => (BigInteger)d << (8 * i)).Aggregate((a, b) => a + b));
            Assert.True(Scalars.IsCanonical(scalar));
        }

        foreach (var (value, canonical) in new[] { (Curve.L - 1, true), (Curve.L, false), (Curve.L + 1, false), (BigInteger.Pow(2, 256) - 1, false), (Curve.L + (BigInteger.One << 64), false), (BigInteger.Pow(2, 252), true) })
            Assert.Equal(canonical, Scalars.IsCanonical(Curve.Encode(value)));
    }

    // ---- Keys -------------------------------------------------------------------------------------------------

    [Fact]
    public void Keys_of_small_order_and_other_encodings_give_no_table()
    {
        var small = Curve.SmallOrder.SelectMany(y => new[] { y, [.. y[..31], (byte)(y[31] | 0x80)] }).ToArray();
        Assert.Equal(10, small.Length);
        var points = 0;
        foreach (var encoded in small)
        {
            if (KeyTable.TryDecode(encoded, out var point))
            {
                points++;
                Assert.True(KeyTable.IsOfSmallOrder(point));
            }

            Assert.False(KeyTable.TryCreate(encoded, out _));
        }

        // (0, 1) and (0, -1) with a sign are no encodings: eight points are left.
        Assert.Equal(8, points);
        // y + p in 255 bits, where that fits.
        for (var y = 0; y < 19; y++)
            foreach (var sign in new byte[] { 0, 0x80 })
            {
                var encoded = Curve.Encode(Curve.P + y);
                encoded[31] |= sign;
                Assert.False(KeyTable.TryCreate(encoded, out _), $"p + {y}");
            }

        // Half of all numbers are no y of a point.
        var random = new Random(5);
        var tables = Enumerable.Range(0, 200).Count(i => KeyTable.TryDecode(Random(random, 32), out Point<Field51> _));
        Assert.InRange(tables, 60, 140);
    }

    // ---- Verdicts ---------------------------------------------------------------------------------------------

    [Theory]
    [MemberData(nameof(Widths))]
    public void Nothing_is_accepted_that_libsodium_refuses_in_the_published_cases(int lanes)
    {
        var (accepted, tables) = (0, 0);
        foreach (var check in Published())
        {
            var verdict = Library.Verify(check.Key, check.Message.Span, check.Signature);
            if (!KeyTable.TryCreate(check.Key.ToArray(), out var table))
            {
                Assert.False(verdict);
                continue;
            }

            tables++;
            Assert.Equal(verdict, Verify(lanes, check, table));
            if (verdict) accepted++;
        }

        Assert.True(tables > 140 && accepted > 80, $"{tables} {accepted}");
    }

    /// <summary>Project Wycheproof's and those of speccheck.</summary>
    private static IEnumerable<SignatureCheck> Published()
    {
        foreach (var line in File.ReadLines(Path.Combine(AppContext.BaseDirectory, "Vectors", "ed25519-wycheproof.txt")).Where(line => line[0] != '#'))
        {
            var fields = line.Split(' ', 6);
            byte[] Bytes(int field) => fields[field] == "-" ? [] : Convert.FromHexString(fields[field]);
            if (Bytes(4).Length == Signature.Size) yield return new SignatureCheck(PublicKey.From(Bytes(2)), Bytes(3), Signature.From(Bytes(4)));
        }

        foreach (var check in VerdictTable.Checks) yield return check;
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Random_and_mutated_signatures_get_the_verdict_of_libsodium(int lanes)
    {
        var random = new Random(lanes);
        var width = Width(lanes);
        var keys = Enumerable.Range(0, 24).Select(_ => new Ed25519Signer(Random(random, 32))).ToArray();
        var tablesOf = keys.ToDictionary(k => k.PublicKey, k => Table(k.PublicKey));
        var accepted = 0;
        for (var done = 0; done < Signatures;)
        {
            var count = random.Next(1, 3 * TableVerification.RunMax);
            var (checks, tables, verdicts) = (new SignatureCheck[count], new KeyTable[count], new bool[count]);
            for (var i = 0; i < count; i++)
            {
                var key = keys[random.Next(keys.Length)];
                var message = Random(random, random.Next(10) == 0 ? random.Next(3000) : random.Next(200));
                var signature = key.Sign(message).ToArray();
                var claimed = key.PublicKey;
                switch (random.Next(8))
                {
                    case 0: signature[random.Next(64)] ^= (byte)(1 << random.Next(8)); break;
                    case 1 when message.Length > 0: message[random.Next(message.Length)] ^= 1; break;
                    case 2: claimed = keys[random.Next(keys.Length)].PublicKey; break;
                    case 3: // the same S, L larger
                        Curve.Encode(new BigInteger(signature.AsSpan(32), isUnsigned: true) + Curve.L).CopyTo(signature, 32);
                        break;
                    case 4: // a small or a large S
                        Curve.Encode(random.Next(2) == 0 ? random.Next() : Curve.L - random.Next()).CopyTo(signature, 32);
                        break;
                    case 5: // a point of small order for R
                        Curve.SmallOrder[random.Next(5)].CopyTo(signature, 0);
                        break;
                }

                (checks[i], tables[i]) = (new SignatureCheck(claimed, message, Signature.From(signature)), tablesOf[claimed]);
            }

            width.Verify(checks, tables, verdicts);
            for (var i = 0; i < count; i++)
            {
                var expected = Library.Verify(checks[i].Key, checks[i].Message.Span, checks[i].Signature);
                Assert.True(expected == verdicts[i], $"{checks[i].Key} {Convert.ToHexString(checks[i].Message.Span)} {checks[i].Signature}");
                accepted += expected ? 1 : 0;
            }

            done += count;
        }

        Assert.InRange(accepted, Signatures / 4, Signatures);
    }

    /// <summary>A table is right in all its places for every key, or some of these fail: each signature adds 64 entries of two tables.</summary>
    [Theory]
    [MemberData(nameof(Widths))]
    public void Of_each_of_300_keys_the_signature_is_accepted_over_its_message_alone(int lanes)
    {
        var random = new Random(11);
        for (var i = 0; i < 300; i++)
        {
            using var signer = new Ed25519Signer(i < 32 ? [.. Enumerable.Repeat((byte)(i * 8), 32)] : Random(random, 32));
            var table = Table(signer.PublicKey);
            var message = new byte[i % 93];
            Assert.True(Verify(lanes, new SignatureCheck(signer.PublicKey, message, signer.Sign(message)), table));
            Assert.False(Verify(lanes, new SignatureCheck(signer.PublicKey, new byte[(i % 93) + 1], signer.Sign(message)), table));
        }
    }

    // ---- The verifier -----------------------------------------------------------------------------------------

    private sealed class Counting(ISignatureVerifier inner) : ISignatureVerifier
    {
        public int Calls;
        public bool Refuses;

        public bool Verify(PublicKey key, ReadOnlySpan<byte> message, Signature signature)
        {
            Calls++;
            return !Refuses && inner.Verify(key, message, signature);
        }
    }

    [Fact]
    public void Keys_that_sign_often_get_tables_and_those_used_longest_ago_lose_theirs()
    {
        var library = new Counting(Library);
        var verifier = new KnownKeyVerifier(library, tablesMax: 2);
        var keys = Enumerable.Range(1, 3).Select(i => new Ed25519Signer([.. Enumerable.Repeat((byte)i, 32)])).ToArray();
        foreach (var key in keys)
            for (var i = 0; i < KnownKeyVerifier.SignaturesForTable; i++)
                Assert.True(verifier.Verify(key.PublicKey, [1, 2], key.Sign([1, 2])));
        Assert.Equal((2, 2L * KeyTable.Bytes), (verifier.Tables, verifier.TableBytes));
        var calls = library.Calls;
        Assert.True(verifier.Verify(keys[1].PublicKey, [3], keys[1].Sign([3])));
        Assert.True(verifier.Verify(keys[2].PublicKey, [3], keys[2].Sign([3])));
        Assert.Equal(calls, library.Calls);
        Assert.True(verifier.Verify(keys[0].PublicKey, [3], keys[0].Sign([3])));
        Assert.Equal(calls + 1, library.Calls);
        Assert.Equal(2, verifier.Accepted);

        // What the table refuses is refused when libsodium says so too.
        Assert.False(verifier.Verify(keys[2].PublicKey, [4], keys[2].Sign([3])));
        Assert.Equal(calls + 2, library.Calls);

        // Bad signatures earn no table.
        using var other = new Ed25519Signer([.. Enumerable.Repeat((byte)9, 32)]);
        for (var i = 0; i < 100; i++) Assert.False(verifier.Verify(other.PublicKey, [1], keys[0].Sign([1])));
        Assert.True(verifier.Verify(keys[1].PublicKey, [5], keys[1].Sign([5])));

        // Known and unknown keys, good and bad, in one batch.
        var checks = Enumerable.Range(0, 300).Select(i => new SignatureCheck(keys[i % 3].PublicKey, new byte[] { (byte)i }, keys[i % 3].Sign([i % 7 == 0 ? (byte)(i + 1) : (byte)i]))).ToArray();
        var verdicts = new bool[checks.Length];
        ((ISignatureVerifier)verifier).Verify(checks, verdicts);
        Assert.Equal(checks.Select((_, i) => i % 7 != 0), verdicts);
    }

    [Fact]
    public void A_share_of_what_is_accepted_is_checked_again_and_a_difference_stops_the_node()
    {
        var library = new Counting(Library);
        var verifier = new KnownKeyVerifier(library);
        using var key = new Ed25519Signer([.. Enumerable.Repeat((byte)1, 32)]);
        var check = new SignatureCheck(key.PublicKey, new byte[] { 1 }, key.Sign([1]));
        for (var i = 0; i < KnownKeyVerifier.SignaturesForTable; i++) Assert.True(verifier.Verify(key.PublicKey, [1], check.Signature));
        library.Calls = 0;
        for (var i = 0; i < 2 * KnownKeyVerifier.CheckedAgain; i++) Assert.True(verifier.Verify(key.PublicKey, [1], check.Signature));
        Assert.Equal(2, library.Calls);
        library.Refuses = true;
        var problem = Assert.Throws<InvariantViolation>(() =>
        {
            for (var i = 0; i < KnownKeyVerifier.CheckedAgain; i++) verifier.Verify(key.PublicKey, [1], check.Signature);
        });
        Assert.Contains("SIGNATURE_TABLES=0", problem.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void It_follows_the_signature_rule_of_the_protocol() => VerdictTable.Check(new KnownKeyVerifier(Library));
}
