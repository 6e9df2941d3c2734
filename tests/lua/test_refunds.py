"""What a hit charged is taken back: the script against its twin, and the log against one in which it never was."""

from __future__ import annotations

import itertools
import random

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from statekit.ratelimit.core import HIT, HOLD
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.memory import TWINS
from statekit.ratelimit.spread import REFUND
from statekit.store.memory import Data
from tests.lua.asking import MICRO, START, costs, limit_sets, moves, numbers, relaxed, spec
from tests.servers import at_length

_keys = (f"{{refund}}:{number}" for number in itertools.count())
ALGORITHMS = ["log", "fixed", "counter", "gcra"]


class Pair:
    """The scripts on a server and their twins in memory, always given the same; they must answer the same."""

    def __init__(self, url):
        self.client = redis.Redis.from_url(url)
        known = (HIT, HOLD, REFUND)
        self.scripts = {script.name: self.client.register_script(script.source) for script in known}
        self.data = Data()
        self.key = next(_keys)

    def hit(self, now, asked):
        return self._both(HIT, [now, asked])

    def hold(self, now, asked, id_, units, lasts):
        return self._both(HOLD, [now, asked, "", 0, id_, units, units, lasts, "channel", "caller"])

    def refund(self, now, asked, at):
        return self._both(REFUND, [now, asked, at, "channel", "caller"])

    def _both(self, script, args):
        theirs = self.scripts[script.name]([self.key], args)
        assert numbers(theirs) == numbers(TWINS[script.name](self.data, [self.key], args))
        return numbers(theirs)


verbs = st.sampled_from(["hit", "hit", "hit", "hold", "refund", "refund", "stray"])
steps = st.lists(st.tuples(moves, verbs, costs, st.integers(0, 40)), max_size=60)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@relaxed
@given(plans=st.lists(limit_sets, min_size=1, max_size=3), steps=steps, plan=st.integers(0, 5))
def test_the_script_and_its_twin_agree(algorithm, valkey_url, plans, steps, plan):
    """Refunds of what is there and of what is not, with limits that change, units held and clocks that jump."""
    pair, now, charged = Pair(valkey_url), START, []
    for number, (move, verb, cost, which) in enumerate(steps):
        now += move
        limits = plans[(number // 7) % len(plans)] if plan > 3 else plans[0]
        asked = spec(algorithm, limits, cost)
        if verb == "hit":
            if pair.hit(now, asked)[0]:
                charged.append((now, cost))
        elif verb == "hold":
            pair.hold(now, spec(algorithm, limits, cost, 0), f"{number:016x}", cost, which)
        elif verb == "stray":
            pair.refund(now, asked, now - which)
        elif charged:
            at, units = charged.pop(which % len(charged))
            pair.refund(now, spec(algorithm, limits, units), at)


@pytest.mark.parametrize(
    "shape", [[Limit(40, 100 * MICRO)], [Limit(300, 1000 * MICRO), Limit(90, 200 * MICRO)]]
)
@pytest.mark.parametrize("seed", range(3))
@at_length
def test_a_log_is_as_if_it_had_never_been_charged(server_url, shape, seed):
    """Refunds among hits of others, in rings that turn round, grow and thin out."""
    rng, now = random.Random(seed), START
    pair, pure, open_ = Pair(server_url), Pair(server_url), []
    for _ in range(1500):
        now += rng.randrange(rng.choice([2, 10, 60]))
        cost = 1 if rng.random() < 0.7 else rng.randrange(1, 9)
        asked = spec("log", shape, cost)
        if open_ and rng.random() < 0.4:
            at, cost = open_.pop(rng.randrange(len(open_)))
            told = pair.refund(now, spec("log", shape, cost), at)
            if not open_:  # nothing of what was refused elsewhere is left
                assert told == pure.hit(now, spec("log", shape, cost, 0))
        elif rng.random() < 0.3:
            if pair.hit(now, asked)[0]:
                open_.append((now, cost))
        elif not open_:
            assert pair.hit(now, asked) == pure.hit(now, asked)
        elif pair.hit(now, asked)[0]:
            assert pure.hit(now, asked)[0], "less was used there"
    assert pair.client.pttl(pair.key) != -1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_refund_at_once_leaves_nothing(server_url, algorithm):
    pair, limits = Pair(server_url), [Limit(10, 60), Limit(20, 3600)]
    before = pair.hit(START, spec(algorithm, limits, 3))
    pair.hit(START + 5, spec(algorithm, limits, 4))
    after = pair.refund(START + 5, spec(algorithm, limits, 4), START + 5)
    assert after[2::4] == before[2::4] == [7, 17]
    pair.refund(START + 6, spec(algorithm, limits, 3), START)
    assert pair.hit(START + 6, spec(algorithm, limits, 1, 0))[2::4] == [10, 20]


def test_a_log_emptied_by_a_refund_is_gone(valkey_url):
    pair, limits = Pair(valkey_url), [Limit(10, 60)]
    pair.hit(START, spec("log", limits, 3))
    pair.refund(START + 1, spec("log", limits, 3), START)
    assert not pair.client.exists(pair.key)
    assert not pair.data.keys()


def test_what_was_reset_meanwhile_is_not_taken_from_the_log_of_another(valkey_url):
    pair, limits = Pair(valkey_url), [Limit(10, 60)]
    pair.hit(START, spec("log", limits, 3))
    pair.client.delete(pair.key)
    pair.data.delete(pair.key)
    pair.hit(START + 1, spec("log", limits, 3))
    assert pair.refund(START + 2, spec("log", limits, 3), START)[2] == 7


def test_a_bucket_that_would_have_run_over_gets_no_more_than_it_lost(valkey_url):
    """GCRA: others were charged while a debt stood that is taken back. They have used what they have used."""
    pair, limits = Pair(valkey_url), [Limit(10, 10)]  # a unit a second
    pair.hit(START, spec("gcra", limits, 4))
    pair.hit(START + 500_000, spec("gcra", limits, 1))
    told = pair.refund(START + 500_000, spec("gcra", limits, 4), START)
    assert told[2:] == [9, 0, 1_000_000, 1_000_000], "one unit, just now"
