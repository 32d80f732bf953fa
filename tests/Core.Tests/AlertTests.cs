using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using CsCheck;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Encoding;
using CyberMesh.Core.Primitives;
using Xunit;

namespace CyberMesh.Core.Tests;

public sealed class AlertTests
{
    private const long Now = 1_790_000_000;
    private readonly Samples _samples = new();

    private static RejectionReason? Decode(byte[] record) =>
        EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out _, out var rejection) ? null : rejection!.Reason;

    [Fact]
    public void A_valid_anomaly_decodes_with_every_field()
    {
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, _samples.Alerts.Anomaly(Now, severity: 7), out var envelope, out _));
        var anomaly = Assert.IsType<AlertContent.Anomaly>(envelope.Content);
        Assert.Equal(("scan", "10.0.0.1", (byte)7, 7500u, "sim"), (anomaly.Type, anomaly.Source, anomaly.Severity, anomaly.ConfidenceBasisPoints, anomaly.ModelVersion));
        Assert.Equal((Now, _samples.Sensor.PublicKey), (envelope.TimestampSeconds, envelope.Producer));
    }

    [Fact]
    public void A_committed_anomaly_is_the_same_without_being_checked_again()
    {
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, _samples.Alerts.Anomaly(Now, severity: 7), out var envelope, out _));
        var committed = EnvelopeDecoder.DecodeCommitted(envelope.Body, envelope.Digest);
        Assert.Equal(envelope.Content, committed.Content);
        Assert.Equal(
            (envelope.Digest, envelope.Id, envelope.Producer, envelope.Nonce, envelope.TimestampSeconds, envelope.ContentHash, envelope.Signature),
            (committed.Digest, committed.Id, committed.Producer, committed.Nonce, committed.TimestampSeconds, committed.ContentHash, committed.Signature));
        Assert.Equal(envelope.Id, EnvelopeDecoder.IdOfCommitted(envelope.Body));
        Assert.Throws<InvariantViolation>(() => EnvelopeDecoder.DecodeCommitted(envelope.Body[..^1], envelope.Digest));
        Assert.Throws<InvariantViolation>(() => EnvelopeDecoder.IdOfCommitted(envelope.Body[..^1]));
    }

    /// <summary>What one text has left behind is not seen by the next one on the same thread.</summary>
    [Fact]
    public void Names_of_one_payload_are_not_those_of_another()
    {
        foreach (var (text, problem) in new[]
                 {
                     ("""{"a":{"b":1},"c":[{"b":1},{"b":2}]}""", null),
                     ("""{"a":{"b":1,"b":2}}""", "payload has one member name twice in an object"),
                     ("""{"a":{"b":[""", "payload is not a JSON object of depth 16 or less"),
                     ("""{"b":1,"a":{"a":{"b":1}}}""", null),
                 })
            for (var round = 0; round < 2; round++)
            {
                var paths = new List<string>();
                Assert.Equal(problem, StrictJson.Read(System.Text.Encoding.UTF8.GetBytes(text), "payload", ref paths, (ref List<string> seen, ReadOnlySpan<string?> path, ref System.Text.Json.Utf8JsonReader _) =>
                {
                    seen.Add(string.Join('.', path.ToArray().Select(p => p ?? "*")));
                    // Whoever reads another text in the middle does not disturb this one.
                    var inner = 0;
                    Assert.Null(StrictJson.Read("""{"b":{"b":2}}"""u8, "inner", ref inner, (ref int n, ReadOnlySpan<string?> _, ref System.Text.Json.Utf8JsonReader _) => ++n < 0 ? "" : null));
                    Assert.Equal(2, inner);
                    return null;
                }));
                if (text.StartsWith("{\"a\":{\"b\":1},", StringComparison.Ordinal)) Assert.Equal(["a", "a.b", "c", "c.*", "c.*.b", "c.*", "c.*.b"], paths);
            }
    }

    [Fact]
    public void Every_truncation_is_refused_and_none_throws()
    {
        var record = _samples.Alerts.Anomaly(Now);
        for (var length = 0; length < record.Length; length++) Assert.NotNull(Decode(record[..length]));
    }

    [Fact]
    public void Any_bytes_get_a_verdict_and_no_exception()
    {
        var record = _samples.Alerts.Anomaly(Now);
        Gen.Select(Gen.Int[0, record.Length - 1], Gen.Byte, Gen.Enum<AlertKind>()).Sample((at, value, kind) =>
        {
            var bytes = record.ToArray();
            bytes[at] = value;
            EnvelopeDecoder.TryDecode(kind, bytes, out _, out _);
        }, iter: 20_000);
        Gen.Byte.Array[0, 300].Sample(bytes => { EnvelopeDecoder.TryDecode(AlertKind.Evidence, bytes, out _, out _); }, iter: 20_000);
    }

    [Theory]
    [InlineData(4, 257, RejectionReason.FieldOutOfRange)]
    [InlineData(4, 4294967301L, RejectionReason.FieldOutOfRange)]
    [InlineData(4, 6, RejectionReason.PayloadMismatch)]
    [InlineData(6, 0, RejectionReason.FieldOutOfRange)]
    public void Numbers_are_checked_before_they_are_narrowed(int field, long value, RejectionReason expected)
    {
        // A later occurrence of a field wins, as in every protobuf implementation.
        var record = _samples.Alerts.Anomaly(Now).Concat(Field(field, (ulong)value)).ToArray();
        Assert.Equal(expected, Decode(record));
    }

    private static byte[] Field(int field, ulong value)
    {
        var bytes = new System.Collections.Generic.List<byte> { (byte)(field << 3) };
        for (; value >= 0x80; value >>= 7) bytes.Add((byte)(value & 0x7f | 0x80));
        bytes.Add((byte)value);
        return [.. bytes];
    }

    [Fact]
    public void Unknown_fields_are_ignored_under_v1()
    {
        var record = _samples.Alerts.Anomaly(Now).Concat(Field(15, 3)).ToArray();
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _));
        Assert.True(new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(envelope, SigningProfiles.V1, out _));
        Assert.False(new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(envelope, SigningProfiles.V2, out _));
    }

    [Fact]
    public void Groups_field_zero_and_long_varints_are_malformed()
    {
        var record = _samples.Alerts.Anomaly(Now);
        Assert.Equal(RejectionReason.Malformed, Decode([.. record, 15 << 3 | 3]));
        Assert.Equal(RejectionReason.Malformed, Decode([.. record, 0, 1]));
        Assert.Equal(RejectionReason.Malformed, Decode([.. record, 4 << 3, .. Enumerable.Repeat((byte)0xff, 10), 1]));
        Assert.Equal(RejectionReason.TooLarge, Decode(new byte[Limits.RecordBytesMax + 1]));
    }

    [Fact]
    public void V2_covers_every_field_and_accepts_only_the_canonical_form()
    {
        var v2 = SignV2(_samples.Alerts.Anomaly(Now), _samples.Sensor);
        Assert.Equal(SigningProfile.V2, Profile(v2));
        // id is field 1 and not covered by v1: change its first letter
        var changed = v2.ToArray();
        changed[2] ^= 1;
        Assert.Equal(SigningProfile.None, Profile(changed));
        // the same fields in another order
        var idLength = 2 + v2[1];
        Assert.Equal(SigningProfile.None, Profile([.. v2[idLength..], .. v2[..idLength]]));
        // an unknown field, not signed
        Assert.Equal(SigningProfile.None, Profile([.. v2, .. Field(15, 3)]));
    }

    private SigningProfile Profile(byte[] record)
    {
        if (!EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _)) return SigningProfile.None;
        new EnvelopeAuthenticator(_samples.Signatures).TryAuthenticate(envelope, SigningProfiles.V1 | SigningProfiles.V2, out _);
        return envelope.Profile;
    }

    /// <summary>Replaces the signature in a canonical record by one over all of it.</summary>
    private static byte[] SignV2(byte[] record, ISigner signer)
    {
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, record, out var envelope, out _));
        var (start, end) = (envelope.SignatureField.Start.Value, envelope.SignatureField.End.Value);
        var signature = signer.Sign(SigningBytes.V2(AlertKind.Anomaly, record.AsSpan(0, start), record.AsSpan(end)));
        return [.. record[..(end - 64)], .. signature.ToArray(), .. record[end..]];
    }

    [Fact]
    public void Basis_points_round_half_to_even_as_exact_decimal_arithmetic_does()
    {
        Gen.OneOf(Gen.Double[0, 1], Gen.Int[0, 100_000_000].Select(i => i / 100_000_000.0)).Sample(value =>
        {
            Assert.True(Confidence.TryFromBits((ulong)BitConverter.DoubleToInt64Bits(value), out var confidence));
            var exact = (System.Numerics.BigInteger)(value * Math.Pow(2, 60)); // exact for values of 53 bits above 2^-7
            if (value < 1.0 / 128) return;
            var scaled = exact * 10_000;
            var whole = scaled >> 60;
            var rest = scaled - (whole << 60);
            var half = System.Numerics.BigInteger.One << 59;
            if (rest > half || (rest == half && !whole.IsEven)) whole++;
            Assert.Equal((uint)whole, confidence.BasisPoints);
        }, iter: 20_000);
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(-0.001)]
    [InlineData(1.0000001)]
    public void Confidence_outside_zero_to_one_is_refused(double value) =>
        Assert.False(Confidence.TryFromBits((ulong)BitConverter.DoubleToInt64Bits(value), out _));

    [Theory]
    [InlineData("5", 5)]
    [InlineData("5.0", 5)]
    [InlineData("50e-1", 5)]
    [InlineData("0.5e1", 5)]
    [InlineData("10", 10)]
    public void Integers_may_be_written_in_any_way(string text, uint expected)
    {
        Assert.True(JsonNumber.Parse(System.Text.Encoding.UTF8.GetBytes(text)).IsInteger(10, out var value));
        Assert.Equal(expected, value);
    }

    [Theory]
    [InlineData("5.000000000000000000000000000000000000000001")]
    [InlineData("-5")]
    [InlineData("11")]
    [InlineData("1e99999999999")]
    [InlineData("5.5")]
    public void What_is_not_an_integer_in_range_is_none(string text) => Assert.False(JsonNumber.Parse(System.Text.Encoding.UTF8.GetBytes(text)).IsInteger(10, out _));

    [Fact]
    public void Numbers_read_from_text_equal_decimal()
    {
        Gen.Decimal[0m, 9m].Sample(value =>
        {
            var text = value.ToString(CultureInfo.InvariantCulture);
            var parsed = JsonNumber.Parse(System.Text.Encoding.UTF8.GetBytes(text));
            Assert.Equal((UInt128)decimal.Truncate(value * 1_000_000_000_000_000_000m), parsed.Units);
        }, iter: 5_000);
    }

    [Theory]
    [InlineData("""{"severity":5,"confidence":0.75}""", true)]
    [InlineData("""{"severity":5,"confidence":0.7500009}""", true)]
    [InlineData("""{"severity":5,"confidence":0.7500011}""", false)]
    [InlineData("""{"severity":5,"confidence":7.5e-1,"x":{"severity":9}}""", true)]
    [InlineData("""{"severity":"5","confidence":0.75}""", false)]
    [InlineData("""{"confidence":0.75}""", false)]
    [InlineData("""{"severity":5,"confidence":0.75,"severity":5}""", false)]
    [InlineData("""{"severity":5,"confidence":0.75,"x":{"a":1,"a":2}}""", false)]
    [InlineData("""{"severity":5,"confidence":0.75} x""", false)]
    [InlineData("""[5]""", false)]
    [InlineData("""{"severity":5,"confidence":0.75,"x":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}""", true)]
    [InlineData("""{"severity":5,"confidence":0.75,"x":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}""", false)]
    public void The_payload_must_be_a_strict_object_that_repeats_the_fields(string payload, bool agrees)
    {
        Assert.True(Confidence.TryFromBits((ulong)BitConverter.DoubleToInt64Bits(0.75), out var confidence));
        Assert.Equal(agrees, AnomalyPayload.Agrees(System.Text.Encoding.UTF8.GetBytes(payload), 5, confidence, out _, out var problem));
        Assert.Equal(agrees, problem is null);
    }

    [Fact]
    public void Every_reason_has_a_code_of_its_own()
    {
        var reasons = Enum.GetValues<RejectionReason>();
        Assert.Equal(reasons.Length, reasons.Select(r => r.Code()).Distinct().Count());
        foreach (var reason in reasons) Assert.Equal(reason, RejectionReasons.FromNumber((ushort)reason));
    }

    [Theory]
    [InlineData(-300, null)]
    [InlineData(-301, RejectionReason.StaleTimestamp)]
    [InlineData(300, null)]
    [InlineData(301, RejectionReason.FutureTimestamp)]
    public void The_window_includes_its_ends(int offset, RejectionReason? expected)
    {
        Assert.True(EnvelopeDecoder.TryDecode(AlertKind.Anomaly, _samples.Alerts.Anomaly(Now + offset), out var envelope, out _));
        Assert.Equal(expected, EnvelopeRules.CheckTime(envelope, Timestamp.FromSeconds(Now), 300_000, 300_000)?.Reason);
    }
}
