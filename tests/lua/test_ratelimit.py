"""The script of rate limits against its Python twin, and the sliding log against a list of everything ever."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from statekit.kit import StateKit
from statekit.ratelimit import Algorithm
from statekit.ratelimit.core import HIT
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.memory import hit as twin
from statekit.ratelimit.rule import layout
from statekit.store.memory import Data
from tests.conftest import PATIENT
from tests.lua.asking import MICRO, START, costs, limit_sets, moves, numbers, relaxed, spec
from tests.servers import Server, binary

_keys = (f"{{diff}}:{number}" for number in itertools.count())


class Pair:
    """The script on a server and its twin in memory, always given the same; they must answer the same."""

    def __init__(self, url, keys=1):
        self.client = redis.Redis.from_url(url)
        self.script = self.client.register_script(HIT.source)
        self.data = Data()
        self.keys = [next(_keys) for _ in range(keys)]

    def hit(self, now, *specs):
        keys = self.keys[: len(specs)]
        theirs = self.script(keys, [now, *specs])
        assert theirs == twin(self.data, keys, [now, *specs])
        return numbers(theirs)


@pytest.mark.parametrize("algorithm", ["log", "fixed", "counter", "gcra"])
@relaxed
@given(
    plans=st.lists(limit_sets, min_size=1, max_size=3),
    steps=st.lists(st.tuples(moves, costs, st.integers(0, 5), st.booleans()), max_size=60),
)
def test_the_script_and_its_twin_agree(algorithm, valkey_url, plans, steps):
    """Whatever is asked, in whatever order, with limits that change and clocks that jump."""
    pair, now = Pair(valkey_url), START
    for move, cost, plan, looks in steps:
        now += move
        limits = plans[plan % len(plans)] if plan > 3 else plans[0]
        pair.hit(now, spec(algorithm, limits, cost, 0 if looks else cost))


@relaxed
@given(
    plans=st.lists(
        st.tuples(st.sampled_from(["log", "fixed", "counter", "gcra"]), limit_sets, st.integers(0, 1)),
        min_size=2,
        max_size=3,
    ),
    steps=st.lists(st.tuples(moves, costs), max_size=40),
)
def test_mixed_limiters_agree(valkey_url, plans, steps):
    pair, now = Pair(valkey_url, keys=len(plans)), START
    for move, cost in steps:
        now += move
        pair.hit(now, *(spec(algorithm, limits, cost, shadow=shadow) for algorithm, limits, shadow in plans))


@dataclass
class Oracle:
    """Every unit ever charged, as (moment, cost); decides by counting."""

    charged: list[tuple[int, int]] = field(default_factory=list)

    def used(self, now, window):
        return sum(cost for moment, cost in self.charged if now - window < moment <= now)

    def admits(self, now, limits, cost):
        return all(self.used(now, limit.window_us) + cost <= limit.count for limit in limits)

    def expected(self, now, limits, cost):
        admitted = self.admits(now, limits, cost)
        waits = [self._retry(now, limit, cost) for limit in limits]
        if admitted:
            self.charged.append((now, cost))
        left = [max(0, limit.count - self.used(now, limit.window_us)) for limit in limits]
        return admitted, waits, left

    def _retry(self, now, limit, cost):
        if cost > limit.count:
            return -1
        moments = [now, *(moment + limit.window_us for moment, _ in self.charged)]
        return next(
            at - now
            for at in sorted(moments)
            if at >= now and self.used_later(at, limit) + cost <= limit.count
        )

    def used_later(self, at, limit):
        return sum(cost for moment, cost in self.charged if at - limit.window_us < moment)


@relaxed
@given(
    limits=limit_sets,
    steps=st.lists(st.tuples(st.integers(0, 30), costs), max_size=80),
)
def test_the_sliding_log_is_exact(valkey_url, limits, steps):
    """Admissions, units left and waits are those of someone who remembers everything."""
    if layout(limits)[1]:
        limits = [Limit(min(limit.count, 10**6), min(limit.window, 86400)) for limit in limits[:1]]
    pair, oracle, now = Pair(valkey_url), Oracle(), START
    for move, cost in steps:
        now += move
        reply = pair.hit(now, spec("log", limits, cost))
        assert (bool(reply[0]), reply[3::4], reply[2::4]) == oracle.expected(now, limits, cost)


@relaxed
@given(steps=st.lists(st.tuples(st.integers(0, 15), costs, st.integers(1, 9)), max_size=60))
def test_a_changed_count_keeps_what_was_used(valkey_url, steps):
    pair, oracle, now = Pair(valkey_url), Oracle(), START
    for move, cost, count in steps:
        now += move
        limits = [Limit(count, 40 * MICRO)]
        reply = pair.hit(now, spec("log", limits, cost))
        assert (bool(reply[0]), reply[3::4], reply[2::4]) == oracle.expected(now, limits, cost)


@pytest.mark.parametrize("seed", range(3))
def test_running_totals_that_wrap_stay_exact(valkey_url, seed):
    """Ten years leave a word 11 bits for units, too few for the sum; then the count outgrows them."""
    rng, pair, oracle, now = random.Random(seed), Pair(valkey_url), Oracle(), START
    year = 365 * 86400 * 10**6
    for step in range(300):
        now += rng.randrange(year)
        limits = [Limit([10, 700, 3000][step // 100], 10 * 365 * 86400)]
        cost = rng.randrange(1, [4, 200, 500][step // 100])
        reply = pair.hit(now, spec("log", limits, cost))
        assert (bool(reply[0]), reply[3::4], reply[2::4]) == oracle.expected(now, limits, cost)


def test_long_rings_agree(server_url):
    """Rings that grow, turn round, thin out and shrink, under bursts and lulls."""
    rng, pair, now = random.Random(7), Pair(server_url), START
    limits = [Limit(600, 1), Limit(250, 0.3), Limit(40, 0.01)]
    lull = 0
    for step in range(2500):
        if step % 200 == 0:
            lull = rng.choice([50, 300, 900, 3000, 200_000])
        now += rng.randrange(lull)
        cost = 1 if rng.random() < 0.9 else rng.randrange(1, 30)
        pair.hit(now, spec("log", limits[: rng.choice([1, 3, 3, 3])], cost))


@pytest.mark.parametrize("seed", range(3))
def test_several_logs_agree(valkey_url, seed):
    """Three callers with logs of their own in most calls, sometimes fewer, some in shadow, near their limits."""
    rng, pair, now = random.Random(seed), Pair(valkey_url, keys=3), START
    plans = [[Limit(5, 0.001)], [Limit(9, 0.002), Limit(40, 0.02)], [Limit(30, 0.01)]]
    shadows = [0, 0, seed % 2]
    for step in range(1500):
        now += rng.randrange(rng.choice([60, 300, 300, 2500]))
        asked = list(zip(plans, shadows, strict=True))[: rng.choice([1, 2, 3, 3, 3, 3])]
        costs = [1 if rng.random() < 0.9 else rng.randrange(4) for _ in asked]
        takes = [cost if step % 7 else 0 for cost in costs]
        pair.hit(
            now,
            *(
                spec("log", limits, max(1, cost), take, shadow)
                for (limits, shadow), cost, take in zip(asked, costs, takes, strict=True)
            ),
        )


@pytest.mark.parametrize("seed", [1])
def test_the_oracle_agrees_on_long_rings(valkey_url, seed):
    rng, pair, oracle, now = random.Random(seed), Pair(valkey_url), Oracle(), START
    limits = [Limit(90, 500 * MICRO), Limit(30, 60 * MICRO)]
    for _ in range(1200):
        now += rng.randrange(6)
        cost = 1 if rng.random() < 0.8 else rng.randrange(1, 35)
        reply = pair.hit(now, spec("log", limits, cost))
        assert (bool(reply[0]), reply[3::4], reply[2::4]) == oracle.expected(now, limits, cost)
        oracle.charged = [one for one in oracle.charged if one[0] > now - 500]


def test_a_clock_that_steps_back_a_little_stands_still(valkey_url):
    pair = Pair(valkey_url)
    limits = [Limit(2, 1)]
    assert pair.hit(START, spec("log", limits, 1))[0] == 1
    assert pair.hit(START - 400_000, spec("log", limits, 1))[0] == 1
    refused = pair.hit(START - 400_000, spec("log", limits, 1))
    assert (refused[0], refused[3]) == (0, 1_400_000)
    assert pair.hit(START + 999_999, spec("log", limits, 1))[0] == 0
    assert pair.hit(START + 1_000_000, spec("log", limits, 1))[0] == 1


@pytest.mark.parametrize("algorithm", ["log", "fixed", "counter", "gcra"])
def test_a_clock_set_back_for_good_does_not_lock_anyone_out(valkey_url, algorithm):
    """An hour back, with a window of a second: after two windows at most everything is free again."""
    pair, limits, hour = Pair(valkey_url), [Limit(2, 1)], 3_600_000_000
    for _ in range(3):
        pair.hit(START, spec(algorithm, limits, 1))
    assert pair.hit(START - hour, spec(algorithm, limits, 1))[0] == 0
    assert pair.hit(START - hour + 2_000_000, spec(algorithm, limits, 2))[0] == 1


@pytest.mark.parametrize("hits", [1000, 10_000])
def test_a_hit_takes_eight_bytes_and_little_more(server_url, hits):
    client = redis.Redis.from_url(server_url)
    script, key = client.register_script(HIT.source), next(_keys) + server_url
    client.script_load(HIT.source)
    asked = spec("log", [Limit.per_day(1_000_000)], 1)
    for start in range(0, hits, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, start + 1000):
                script([key], [START + number, asked], client=pipeline)
            assert all(numbers(reply)[0] == 1 for reply in pipeline.execute())
    assert client.memory_usage(key) / hits <= 10


def test_a_large_cost_is_one_entry(valkey_url):
    pair, limits = Pair(valkey_url), [Limit.per_day(1_000_000)]
    assert pair.hit(START, spec("log", limits, 500_000))[:3] == [1, START, 500_000]
    assert pair.hit(START, spec("log", limits, 500_000))[:3] == [1, START, 0]
    assert pair.hit(START, spec("log", limits, 1))[0] == 0
    assert pair.client.strlen(pair.keys[0]) < 100


def test_a_quiet_caller_keeps_a_short_ring(valkey_url):
    """Under a million a day, one hit every other day: the ring does not grow, and a ring that grew shrinks again."""
    pair, limits, day = Pair(valkey_url), [Limit.per_day(1_000_000)], 86400 * 10**6
    for number in range(500):
        pair.hit(START + number, spec("log", limits, 1))
    for number in range(1, 20):
        pair.hit(START + 2 * number * day, spec("log", limits, 1))
        assert pair.client.strlen(pair.keys[0]) < 200


def test_every_key_expires(server_url):
    client = redis.Redis.from_url(server_url)
    script = client.register_script(HIT.source)
    for algorithm in ("log", "fixed", "counter", "gcra"):
        key = next(_keys) + server_url
        for cost in (1, 3, 1):
            script([key], ["", spec(algorithm, [Limit(5, 60), Limit(50, 600)], cost)])
            assert 0 < client.pttl(key) <= 1_200_001


def test_the_counter_weighs_the_window_before(valkey_url):
    """The example of the docs: 60 in the first minute, 40 in the first half of the next, 100 a minute."""
    pair, limits, minute = Pair(valkey_url), [Limit(100, 60)], 60_000_000
    pair.hit(START, spec("counter", limits, 60))
    assert pair.hit(START + minute, spec("counter", limits, 40))[2] == 0
    assert pair.hit(START + minute + minute // 2, spec("counter", limits, 1, 0))[2] == 30


@pytest.mark.parametrize(("count", "window"), [(3, 1), (7, 60), (10, 1), (997, 60), (100_000, 1), (7, 86400)])
def test_gcra_passes_a_full_burst_and_not_one_more(valkey_url, count, window):
    pair, limits = Pair(valkey_url), [Limit(count, window)]
    for _ in range(count if count < 1000 else 0):
        assert pair.hit(START, spec("gcra", limits, 1))[0] == 1
    if count >= 1000:
        assert pair.hit(START, spec("gcra", limits, count))[0] == 1
    refused = pair.hit(START, spec("gcra", limits, 1))
    assert (refused[0], refused[2]) == (0, 0)
    assert pair.hit(START + refused[3] - 1, spec("gcra", limits, 1))[0] == 0
    assert pair.hit(START + refused[3], spec("gcra", limits, 1))[0] == 1


def test_a_full_or_read_only_store_is_an_outage_and_leaves_the_counts_alone():
    with Server(binary("valkey")) as server, StateKit.connect(server.url, "t", budget=PATIENT) as kit:
        client = redis.Redis.from_url(server.url)
        limiters = [kit.rate_limiter("api", "5/hour", algorithm=one, on_outage="deny") for one in Algorithm]
        pairs = [(limiter, "k") for limiter in limiters]
        assert kit.hit_all(pairs).remaining == 4
        client.config_set("maxmemory", 1)
        assert all(limiter.hit("k").degraded for limiter in limiters)
        assert kit.hit_all(pairs).degraded
        assert [limiter.peek("k").remaining for limiter in limiters] == [4] * 4
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", "1")
        assert all(limiter.hit("k").degraded for limiter in limiters)
        client.replicaof("NO", "ONE")
        assert [limiter.hit("k").remaining for limiter in limiters] == [3] * 4


def test_a_server_that_forgot_the_script_is_sent_it_again(valkey_url, namespace):
    with StateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
        limiter = kit.rate_limiter("api", "5/hour")
        assert limiter.hit("k").remaining == 4
        redis.Redis.from_url(valkey_url).script_flush()
        assert limiter.hit("k").remaining == 3


def test_a_layout_too_narrow_for_old_ages_forgets_what_left_the_window(valkey_url):
    """Ten years, then two microseconds with a million, then ten years again: no age is misread."""
    pair, day = Pair(valkey_url), 86400 * 10**6
    long, short = [Limit(4, 10 * 365 * 86400)], [Limit(0, MICRO), Limit(1_000_000, 2 * MICRO)]
    for _ in range(3):
        pair.hit(START, spec("log", long, 1))
    pair.hit(START + day, spec("log", long, 1))
    pair.hit(START + day, spec("log", short, 1))
    assert pair.hit(START + day, spec("log", long, 1))[:3] == [1, START + day, 2]
