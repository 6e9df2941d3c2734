"""Leases as a state machine without clock or store: what is spent, until when, how much is asked for."""

from __future__ import annotations

import itertools
import os

import pytest

from statekit import AsyncStateKit, Limit, StateKit
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.holding import Ending, Held
from statekit.ratelimit.lease import SMALLEST, Lease, lease_time
from statekit.ratelimit.leases import HALF
from statekit.ratelimit.rule import Hit, Rule
from statekit.testing import Blocking, FrozenClock
from tests.servers import wait_until

SECOND = 1_000_000
RULE = Rule.of("bulk", ("1000/minute",), "sliding-log", "allow", shadow=False)


def granted(lease, units, asked=0, now=0, left=900):
    decision = Decision(allowed=True, hits=(Hit(RULE, "k", 1, 1),), figures=(1, 5, left, 0, 7, 9))
    return lease.granted(Held(decision, units, settled=False), "id", asked, now)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (["100000/second"], 50_000),
        (["5/minute"], SECOND),
        (["5/hour", "100/second"], 50_000),
        ([Limit(5, 0.1)], 5_000),
        ([Limit(5, 0.0999)], 0),
    ],
)
def test_a_slice_lasts_a_twentieth_of_the_shortest_window(limits, expected):
    assert lease_time([Limit.parse(limit) for limit in limits]) == expected


def test_a_slice_is_spent_unit_by_unit_until_its_deadline():
    """Counted from before the request was sent: the store's own deadline is never earlier."""
    lease = Lease(SECOND, 0)
    granted(lease, 3, asked=100, now=5_000)
    assert lease.spend(1, SECOND + 99)
    assert not lease.spend(1, SECOND + 100)
    assert not lease.spend(3, 0)
    assert lease.spend(2, 0)
    assert not lease.spend(1, 0)


def test_what_is_surrendered_cannot_be_spent_and_is_settled_once():
    lease = Lease(SECOND, 0)
    granted(lease, 5)
    assert lease.spend(2, 1)
    assert lease.surrender() == Ending("id", 2)
    assert not lease.spend(1, 1)
    assert lease.surrender() == Ending()


def test_what_could_not_be_settled_is_settled_next_time():
    lease = Lease(SECOND, 0)
    granted(lease, 5)
    lease.spend(2, 1)
    ending = lease.surrender()
    lease.resume(ending)
    assert not lease.spend(1, 1)
    assert lease.surrender() == ending


def test_a_local_decision_counts_both_what_is_left_in_the_store_and_here():
    lease = Lease(SECOND, 0)
    first = granted(lease, 50, asked=0, now=10)
    assert (first.remaining, first.local) == (950, False)
    decision = lease.spend(1, 400_010)
    assert (decision.remaining, decision.local, decision.aged_us) == (949, True, 400_000)
    assert decision.at == pytest.approx(0.400005)


def test_slices_double_while_the_measuring_is_young_and_then_follow_the_rate():
    lease, sizes, now = Lease(SECOND, 0), [], 0
    granted(lease, 0)
    for _ in range(40_000):
        now += 50
        if not lease.spend(1, now):
            lease.surrender()
            size = lease.wanted(1, now)
            sizes.append(size)
            granted(lease, size, asked=now, now=now, left=10**6)
    assert sizes[:SMALLEST] == [0] * SMALLEST
    assert sizes[SMALLEST : SMALLEST + 4] == [4, 9, 19, 39]
    assert all(4_900 <= size <= 5_100 for size in sizes[-3:]), "a quarter of a second at 20,000 a second"


def test_a_seldom_caller_and_one_near_the_limit_get_no_slice():
    lease = Lease(SECOND, 0)
    granted(lease, 0)
    assert not any(lease.wanted(1, now) for now in range(0, 10 * SECOND, 100_000))
    for now in range(100):
        lease.wanted(1, now + 20 * SECOND)
    assert lease.wanted(1, 20 * SECOND + 100) > 50
    granted(lease, 0, left=4 * SMALLEST - 1)
    assert not lease.wanted(1, 20 * SECOND + 101)


def test_an_attack_with_ever_new_keys_stays_in_bounds_and_spares_the_busy():
    clock = FrozenClock()
    with StateKit.in_memory(clock=clock) as kit:
        bulk = kit.rate_limiter("bulk", "1000000/minute", lease=True)
        local = 0
        for number in range(3 * HALF):
            clock.now_us += 100
            bulk.hit(f"attacker-{number}")
            local += bulk.hit("busy").local
        leases = bulk._leases
        assert len(leases._young) + len(leases._old) <= 2 * HALF + 1
        assert local > 3 * HALF * 0.95


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_none_of_its_parents_slices():
    clock = FrozenClock()
    with StateKit.in_memory(clock=clock) as kit:
        bulk = kit.rate_limiter("bulk", "1000000/minute", lease=True)
        while not bulk.hit("k").local:
            clock.now_us += 100
        if not (child := os.fork()):
            os._exit(bulk.hit("k").local + 10)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
        assert bulk._leases._young["k"].id


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_what_is_left_of_a_slice_that_went_idle_is_given_back_in_the_background(colour):
    with StateKit.in_memory() if colour == "blocking" else Blocking(AsyncStateKit.in_memory()) as kit:
        bulk = kit.rate_limiter("bulk", Limit(1_000_000, 2), "2000000/hour", lease=True)
        for key in ("a", "b"):
            while not (decision := bulk.hit(key)).local:
                pass
            hits = 2_000_000 - decision.limits[1].remaining
            assert bulk.peek(key).limits[1].remaining < 2_000_000 - hits
            wait_until(lambda: bulk.peek(key).limits[1].remaining == 2_000_000 - hits)  # noqa: B023
            wait_until(lambda: not bulk._leases._lent)


def test_a_refill_under_way_leaves_the_others_to_the_store():
    """Nobody waits for another's request, and nothing of the old slice is spent while it is being settled."""
    clock = FrozenClock()
    with StateKit.in_memory(clock=clock) as kit:
        bulk = kit.rate_limiter("bulk", "1000000/minute", lease=True, on_outage="deny")
        names = []
        for _ in itertools.count():
            clock.now_us += 100
            op = bulk.hitting("k")
            try:
                (call,) = next(op)
            except StopIteration:
                continue
            names.append(call.script.name)
            if names[-1] == "ratelimit.hold":
                break
            with pytest.raises(StopIteration):
                op.send(kit.store.transport.exchange((call,), 1.0))
        (others,) = next(bulk.hitting("k"))
        assert others.script.name == "ratelimit.hit"
        op.close()
        (again,) = next(bulk.hitting("k"))
        assert again.script.name == "ratelimit.hold"
