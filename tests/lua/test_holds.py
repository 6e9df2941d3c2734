"""Units set aside: the scripts against their twins, and both against a list of everything that ever happened."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from statekit.ratelimit.core import HIT, HOLD
from statekit.ratelimit.limits import LARGEST, Limit
from statekit.ratelimit.memory import TWINS
from statekit.ratelimit.rule import layout
from statekit.store.memory import Data
from tests.lua.asking import MICRO, START, costs, limit_sets, moves, numbers, relaxed, spec
from tests.servers import at_length

_keys = (f"{{held}}:{number}" for number in itertools.count())


class Pair:
    """The scripts on a server and their twins in memory, always given the same; they must answer the same."""

    def __init__(self, url):
        self.client = redis.Redis.from_url(url)
        self.scripts = {script.name: self.client.register_script(script.source) for script in (HIT, HOLD)}
        self.data = Data()
        self.key = next(_keys)

    def hit(self, now, asked):
        return self._both(HIT, [now, asked])

    def hold(self, now, asked, old="", spent=0, new="", least=0, most=0, lasts=0):
        return self._both(HOLD, [now, asked, old, spent, new, least, most, lasts, "channel", "caller"])

    def _both(self, script, args):
        theirs = self.scripts[script.name]([self.key], args)
        assert numbers(theirs) == numbers(TWINS[script.name](self.data, [self.key], args))
        return numbers(theirs)


spends = st.integers(0, 5) | st.sampled_from([0, 500, 10**6, LARGEST])
ids = st.sampled_from(["", *(16 * digit for digit in "abcd")])
steps = st.lists(
    st.tuples(
        moves, st.sampled_from(["hit", "reserve", "lease", "settle"]), costs, ids, spends, st.integers(0, 40)
    ),
    max_size=60,
)


@pytest.mark.parametrize("algorithm", ["log", "fixed", "counter", "gcra"])
@relaxed
@given(
    plans=st.lists(limit_sets, min_size=1, max_size=3),
    steps=steps,
    plan=st.integers(0, 5),
    shadow=st.booleans(),
)
def test_the_scripts_and_their_twins_agree(algorithm, valkey_url, plans, steps, plan, shadow):
    """Whatever is set aside, settled or hit, in whatever order, with limits that change and clocks that jump."""
    pair, now, fresh = Pair(valkey_url), START, itertools.count(1)
    for number, (move, verb, cost, old, spent, lasts) in enumerate(steps):
        now += move
        limits = plans[(number // 7) % len(plans)] if plan > 3 else plans[0]
        asked = [algorithm, limits, cost]
        if verb == "hit":
            pair.hit(now, spec(*asked, shadow=int(shadow)))
        elif verb == "settle":
            pair.hold(now, spec(algorithm, limits, 1, 0), old, spent)
        else:
            id_ = old if old and old not in known(pair) else f"{next(fresh):016x}"
            if verb == "reserve":
                pair.hold(now, spec(*asked, 0, int(shadow)), new=id_, least=cost, most=cost, lasts=lasts)
            else:
                pair.hold(now, spec(*asked), old, spent, id_, 0, spent % 97, lasts)


def known(pair):
    state = pair.data.get(pair.key)
    return {hold.id for hold in state.holds} if state else set()


@dataclass
class Oracle:
    """Every unit ever charged, as (moment, units), and every hold, as (units, deadline); decides by counting."""

    limits: list[Limit]
    charged: list[tuple[int, int]] = field(default_factory=list)
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)

    def used(self, now, window, at=None):
        """Units that count at a moment, if nothing is charged after `now`."""
        at = at or now
        own = sum(units for moment, units in self.charged if moment > at - window)
        return own + sum(units for units, deadline in self.holds.values() if deadline > at - window)

    def left(self, now):
        return [max(0, limit.count - self.used(now, limit.window_us)) for limit in self.limits]

    def waits(self, now, need):
        return [self._wait(now, limit, need) for limit in self.limits]

    def _wait(self, now, limit, need):
        if need > limit.count:
            return -1
        ends = [moment for moment, _ in self.charged] + [deadline for _, deadline in self.holds.values()]
        moments = [now, *(end + limit.window_us for end in ends)]
        fits = (
            at
            for at in sorted(moments)
            if at >= now and self.used(now, limit.window_us, at) + need <= limit.count
        )
        return next(fits) - now


def check(pair, oracle, now, step):
    """One step on all three."""
    verb, cost, old, spent, lasts, new = step
    if verb == "hit":
        waits = oracle.waits(now, cost)
        reply = pair.hit(now, spec("log", oracle.limits, cost))
        oracle.charged += [] if any(waits) else [(now, cost)]
        assert (reply[0], reply[3::4], reply[2::4]) == (not any(waits), waits, oracle.left(now))
        return
    held = oracle.holds.pop(old, None)
    oracle.charged += [(now, spent)] if held and spent else []
    if verb == "settle":
        reply = pair.hold(now, spec("log", oracle.limits, 1, 0), old, spent)
        assert (reply[-1], reply[2:-2:4]) == (bool(held), oracle.left(now))
        return
    waits = oracle.waits(now, cost)
    take, most = (0, cost) if verb == "reserve" else (cost, 10)
    reply = pair.hold(
        now, spec("log", oracle.limits, cost, take), old, spent, new, most if not take else 0, most, lasts
    )
    grant = 0 if any(waits) else most if not take else min(10, (min(oracle.left(now)) - cost) // 4)
    oracle.charged += [(now, take)] if take and not any(waits) else []
    oracle.holds |= {new: (grant, now + lasts)} if grant else {}
    assert (reply[0], reply[3:-2:4], reply[2:-2:4]) == (not any(waits), waits, oracle.left(now))
    assert reply[-2:] == [grant, bool(held)]
    check_times(oracle, now, reply)


def check_times(oracle, now, reply):
    """Until one more unit is free, until none is used any more."""
    for limit, more, reset in zip(oracle.limits, reply[4:-2:4], reply[5:-2:4], strict=True):
        if limit.count:
            used = oracle.used(now, limit.window_us)
            assert reset == oracle._wait(now, limit, limit.count)
            assert more == oracle._wait(now, limit, limit.count - max(0, min(used, limit.count) - 1))


@relaxed
@given(limits=limit_sets, steps=steps)
def test_held_units_count_exactly_as_long_as_they_must(valkey_url, limits, steps):
    """Admissions, units left, waits and grants are those of someone who remembers everything."""
    if layout(limits)[1]:
        limits = [Limit(min(limit.count, 10**6), min(limit.window, 86400)) for limit in limits[:1]]
    pair, oracle, now = Pair(valkey_url), Oracle(limits), START
    for number, (move, verb, cost, id_, spent, lasts) in enumerate(steps):
        choice = ord(id_[:1] or "0")
        now += max(0, move) % 10**9
        forget(oracle, now)
        olds = [*oracle.holds, ""]
        one = olds[choice % len(olds)]
        most = oracle.holds[one][0] if one else 0
        check(pair, oracle, now, (verb, cost, one, min(spent, most), lasts, f"{number:016x}"))


def forget(oracle, now):
    """What has left the longest window is forgotten: nobody can settle it any more."""
    longest = max(limit.window_us for limit in oracle.limits)
    oracle.charged = [one for one in oracle.charged if one[0] > now - longest]
    oracle.holds = {id_: one for id_, one in oracle.holds.items() if one[1] > now - longest}


@pytest.mark.parametrize("seed", range(2))
@at_length
def test_many_holds_over_a_long_ring_are_exact(server_url, seed):
    """Rings that grow, turn round and thin out, with up to dozens of holds behind them."""
    rng = random.Random(seed)
    limits = [Limit(900, 5000 * MICRO), Limit(300, 600 * MICRO)]
    pair, oracle, now = Pair(server_url), Oracle(limits), START
    for number in range(900):
        now += rng.randrange(rng.choice([3, 30, 300]))
        forget(oracle, now)
        olds = [*oracle.holds, ""]
        old = rng.choice(olds) if rng.random() < 0.4 else ""
        spent = rng.randrange(oracle.holds[old][0] + 1) if old else 0
        verb = rng.choice(["hit", "hit", "reserve", "lease", "settle"])
        cost = 1 if rng.random() < 0.8 else rng.randrange(1, 40)
        check(pair, oracle, now, (verb, cost, old, spent, rng.randrange(1500), f"{number:016x}"))
