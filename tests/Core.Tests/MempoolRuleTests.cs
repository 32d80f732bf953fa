using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using CyberMesh.Core.Alerts;
using CyberMesh.Core.Chain;
using CyberMesh.Core.Mempool;
using CyberMesh.Core.Primitives;
using CyberMesh.Simulator;
using CsCheck;
using Xunit;

namespace CyberMesh.Core.Tests;

/// <summary>Rules M1 to M3: who may wait, who makes room, who goes first.</summary>
public sealed class MempoolRuleTests
{
    private readonly StubSignatures _signatures = new();
    private readonly Dictionary<string, AlertFactory> _sensors = [];
    private readonly List<Mempool.Mempool.Entry> _evicted = [];
    private Timestamp _now = Timestamp.FromSeconds(1_790_000_000);
    private int _count;

    [Fact]
    public void M1_a_producer_gets_its_allowance_with_one_second_at_once()
    {
        var pool = new Mempool.Mempool(1000, 10 << 20);
        Assert.Equal(5, Enumerable.Range(0, 8).Count(_ => pool.Add(Alert("a"), 5, _now, _evicted) == AdmissionKind.Admitted));
        Assert.Equal(AdmissionKind.OverQuota, pool.Add(Alert("a"), 5, _now, _evicted));
        Assert.Equal(AdmissionKind.Admitted, pool.Add(Alert("b"), 5, _now, _evicted));
        Assert.Equal(AdmissionKind.Admitted, pool.Add(Alert("a"), null, _now, _evicted));
        _now = _now.PlusMs(399);
        Assert.Equal(1, Enumerable.Range(0, 8).Count(_ => pool.Add(Alert("a"), 5, _now, _evicted) == AdmissionKind.Admitted));
        _now = _now.PlusMs(1);
        Assert.Equal(AdmissionKind.Admitted, pool.Add(Alert("a"), 5, _now, _evicted));
        _now = _now.PlusMs(3_600_000);
        Assert.Equal(5, Enumerable.Range(0, 8).Count(_ => pool.Add(Alert("a"), 5, _now, _evicted) == AdmissionKind.Admitted));
        // A clock that is set back gives nothing and takes nothing.
        Assert.Equal(AdmissionKind.OverQuota, pool.Add(Alert("a"), 5, Timestamp.FromSeconds(1), _evicted));
    }

    [Fact]
    public void M1_what_a_full_room_refuses_costs_no_allowance()
    {
        var pool = new Mempool.Mempool(1, 1 << 20);
        Assert.Equal(AdmissionKind.Admitted, pool.Add(Alert("a"), 2, _now, _evicted));
        for (var i = 0; i < 5; i++) Assert.Equal(AdmissionKind.Full, pool.Add(Alert("a"), 2, _now, _evicted));
        pool.Remove(pool.Oldest!.Alert.Digest);
        Assert.Equal(AdmissionKind.Admitted, pool.Add(Alert("a"), 2, _now, _evicted));
    }

    [Fact]
    public void M2_who_takes_most_makes_room_until_all_hold_the_same()
    {
        var pool = new Mempool.Mempool(90, 10 << 20);
        for (var i = 0; i < 90; i++) Add(pool, "flood");
        Assert.Equal(AdmissionKind.Full, pool.Add(Alert("flood"), null, _now, _evicted));
        foreach (var sensor in new[] { "a", "b" })
            for (var i = 0; i < 45; i++)
                pool.Add(Alert(sensor), null, _now, _evicted);
        Assert.Equal(90, pool.Count);
        Assert.Equal([("a", 30), ("b", 30), ("flood", 30)], pool.OldestFirst().GroupBy(e => NameOf(e.Alert)).Select(g => (g.Key, g.Count())).Order());
        Assert.All(_evicted.Take(45), e => Assert.Equal("flood", NameOf(e.Alert)));
    }

    [Fact]
    public void M2_the_lowest_and_youngest_go_first_and_only_for_what_is_higher_within_one_producer()
    {
        var pool = new Mempool.Mempool(3, 3 << 20);
        var (severe, old, young) = (Alert("a", 9), Alert("a", 2), Alert("a", 2));
        foreach (var alert in new[] { severe, old, young }) Add(pool, alert);
        Assert.Equal(AdmissionKind.Full, pool.Add(Alert("a", 2), null, _now, _evicted));
        Assert.Empty(_evicted);
        Add(pool, Alert("a", 3));
        Add(pool, Policy("a"));
        Assert.Equal([young.Value.Digest, old.Value.Digest], _evicted.Select(e => e.Alert.Digest));
        Assert.True(pool.Contains(severe.Value.Digest));
    }

    [Fact]
    public void M2_long_messages_take_room_by_their_length()
    {
        var pool = new Mempool.Mempool(100, 100 * 1000);
        for (var i = 0; i < 100; i++) Add(pool, "small");
        Add(pool, Alert("large", 5, 20_000));
        Assert.InRange(_evicted.Count, 20, 22);
        Assert.Equal(101, pool.Count + _evicted.Count);
        // Of the 80 parts that are left to "small" it would need 60, and then hold more than "small".
        Assert.Equal(AdmissionKind.Full, pool.Add(Alert("huge", 5, 60_000), null, _now, _evicted));
        Assert.Equal(101, pool.Count + _evicted.Count);
    }

    [Fact]
    public void M3_producers_take_turns_and_each_gives_the_first_in_order_and_the_oldest()
    {
        var pool = new Mempool.Mempool(1000, 10 << 20);
        var flood = Enumerable.Range(0, 100).Select(i => Alert("flood", 1 + i % 9)).ToList();
        foreach (var alert in flood) Add(pool, alert);
        var (one, two, policy) = (Alert("quiet", 1), Alert("quiet", 8), Policy("other"));
        foreach (var alert in new[] { one, two, policy }) Add(pool, alert);
        var chosen = pool.Select(6, 1 << 20);
        Assert.Equal(policy.Value.Digest, chosen[0].Digest);
        Assert.Equal(_now, pool.OldestFree!.AdmittedAt);
        Assert.Equal(2, chosen.Count(a => NameOf(a) == "quiet"));
        var flooded = chosen.Where(a => NameOf(a) == "flood").ToList();
        Assert.Equal(3, flooded.Count);
        Assert.Equal([flood[8].Value.Digest, flood[0].Value.Digest, flood[17].Value.Digest], flooded.Select(a => a.Digest));
    }

    [Fact]
    public void M3_what_is_on_its_way_is_not_chosen_again_and_the_limits_hold()
    {
        var pool = new Mempool.Mempool(1000, 10 << 20);
        for (var i = 0; i < 50; i++) Add(pool, i % 2 == 0 ? "a" : "b");
        var first = pool.Select(20, 1 << 20);
        foreach (var alert in first) pool.SetAside(alert.Digest);
        Assert.Equal((30, pool.Bytes - first.Sum(a => a.BodyLength)), (pool.FreeCount, pool.FreeBytes));
        var second = pool.Select(100, 1 << 20);
        Assert.Equal((20, 30), (first.Count, second.Count));
        Assert.Equal(50, first.Concat(second).Select(a => a.Digest).Distinct().Count());
        foreach (var alert in second) pool.SetAside(alert.Digest);
        Assert.Empty(pool.Select(100, 1 << 20));
        Assert.Null(pool.OldestFree);

        // Of two blocks that hold it the last one gives it back.
        pool.SetAside(first[0].Digest);
        pool.TakeBack(first[0].Digest);
        Assert.Empty(pool.Select(100, 1 << 20));
        foreach (var alert in second.Concat(first).Reverse()) pool.TakeBack(alert.Digest);
        Assert.Equal((50, pool.Bytes), (pool.FreeCount, pool.FreeBytes));
        Assert.Equal(pool.Oldest, pool.OldestFree);
        var length = first[0].BodyLength;
        Assert.Equal(3, pool.Select(100, 3 * length + length / 2).Count);
        // One that does not fit does not keep the others out.
        Add(pool, Alert("long", 10, 50_000));
        Assert.Equal(3, pool.Select(100, 3 * length + length / 2).Count);
    }

    [Fact]
    public void M2_what_is_on_its_way_makes_no_room_for_others()
    {
        var pool = new Mempool.Mempool(10, 10 * 1000);
        for (var i = 0; i < 10; i++) Add(pool, Alert("flood", 1));
        foreach (var alert in pool.Select(9, 1 << 20)) pool.SetAside(alert.Digest);
        var free = pool.OldestFree!.Alert.Digest;
        Add(pool, "other");
        Assert.Equal(free, Assert.Single(_evicted).Alert.Digest);
        Assert.Equal(AdmissionKind.Full, pool.Add(Alert("third"), null, _now, _evicted));
    }

    /// <summary>Against a model that knows only lists: counts, bytes, bounds, and what may be chosen.</summary>
    [Fact]
    public void M2_the_room_stays_within_its_bounds_whatever_comes_and_goes() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[1, 10], Gen.Int[0, 4000], Gen.Int[0, 9]).Array[1, 120].Sample(steps =>
        {
            var test = new MempoolRuleTests();
            var pool = new Mempool.Mempool(12, 12 * 1000);
            var model = new Dictionary<Digest, Verified<AlertEnvelope>>();
            foreach (var (sensor, severity, length, action) in steps)
            {
                if (action == 0 && model.Count > 0)
                {
                    var digest = model.Keys.Order().First();
                    model.Remove(digest);
                    pool.Remove(digest);
                    continue;
                }

                test._evicted.Clear();
                var alert = test.Alert(sensor.ToString(CultureInfo.InvariantCulture), severity, length);
                var admitted = pool.Add(alert, null, test._now, test._evicted) == AdmissionKind.Admitted;
                Assert.True(admitted || test._evicted.Count == 0);
                if (admitted) model.Add(alert.Value.Digest, alert);
                foreach (var gone in test._evicted) Assert.True(model.Remove(gone.Alert.Digest));
                Assert.DoesNotContain(test._evicted, e => e.Alert == alert.Value);
            }

            Assert.Equal(model.Keys.Order(), pool.OldestFirst().Select(e => e.Alert.Digest).Order());
            Assert.Equal(model.Values.Sum(a => a.Value.BodyLength), pool.Bytes);
            Assert.InRange(pool.Count, 0, 12);
            Assert.InRange(pool.Room, pool.Bytes, 12 * 1000);
            Assert.Equal(model.Keys.Order(), pool.Select(1000, 1 << 20).Select(a => a.Digest).Order());
            foreach (var digest in model.Keys) pool.Remove(digest);
            Assert.Equal((0, 0, 0), (pool.Count, pool.Bytes, pool.Room));
        });

    private void Add(Mempool.Mempool pool, string sensor) => Add(pool, Alert(sensor));

    private void Add(Mempool.Mempool pool, Verified<AlertEnvelope> alert) => Assert.Equal(AdmissionKind.Admitted, pool.Add(alert, null, _now, _evicted));

    private string NameOf(AlertEnvelope alert) => _sensors.Single(s => s.Value.Signer.PublicKey == alert.Producer).Key;

    private AlertFactory Sensor(string name)
    {
        if (!_sensors.TryGetValue(name, out var sensor)) _sensors[name] = sensor = new AlertFactory(_signatures.NewSigner(name));
        return sensor;
    }

    private Verified<AlertEnvelope> Alert(string sensor, int severity = 5, int padding = 0)
    {
        var key = Sensor(sensor);
        return Verify(AlertKind.Anomaly, key.Anomaly(1_790_000_000, key.NextNonce(), $"alert-{_count++}", severity, more: $",\"padding\":\"{new string('x', padding)}\""));
    }

    private Verified<AlertEnvelope> Policy(string sensor)
    {
        var key = Sensor(sensor);
        return Verify(AlertKind.Policy, key.Block(1_790_000_000, key.NextNonce(), $"policy-{_count++}", "203.0.113.7", 60));
    }

    private Verified<AlertEnvelope> Verify(AlertKind kind, byte[] record)
    {
        Assert.True(EnvelopeDecoder.TryDecode(kind, record, out var envelope, out var rejection), rejection?.Explanation);
        Assert.True(new EnvelopeAuthenticator(_signatures).TryAuthenticate(envelope, SigningProfiles.V1, out var verified));
        return verified;
    }
}
