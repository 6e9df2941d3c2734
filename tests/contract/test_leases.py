"""What leased limits promise, on every store and in both colours. Time stands still unless a test moves it."""

from __future__ import annotations

import pytest

from statekit import Limit
from statekit.errors import UsageError
from statekit.ratelimit import Algorithm
from statekit.store.op import together
from statekit.testing import recorded, store_down

each_algorithm = pytest.mark.parametrize("algorithm", [str(one) for one in Algorithm])


def leased(kit, *limits, **options):
    return kit.rate_limiter("bulk", *(limits or ("10000/minute",)), lease=True, **options)


def warm(limiter, clock, hits=60, key="k"):
    """Hit at a hundred a second, so that slices come."""
    decisions = []
    for _ in range(hits):
        clock.advance(0.01)
        decisions.append(limiter.hit(key))
    return decisions


@each_algorithm
def test_a_busy_caller_is_mostly_answered_without_the_store(frozen_kit, clock, algorithm):
    bulk = leased(frozen_kit, algorithm=algorithm)
    with recorded(frozen_kit) as trips:
        decisions = warm(bulk, clock, 150)
    assert all(d.allowed for d in decisions)
    local = [d for d in decisions if d.local]
    assert len(local) > 120
    assert len(trips) == 150 - len(local)
    assert not any(d.degraded for d in decisions)


@each_algorithm
@pytest.mark.parametrize("cost", [1, 3])
def test_two_processes_are_allowed_exactly_the_limit(frozen_kit, new_kit, clock, algorithm, cost):
    """Both take slices; near the limit every unit is decided by the store, so all of them are used."""
    kits = frozen_kit, new_kit(clock=clock)
    limiters = [leased(kit, "300/hour", algorithm=algorithm, local_refusals=False) for kit in kits]
    allowed = 0
    for number in range(400 // cost):
        clock.now_us += 100
        allowed += limiters[number % 2].hit("k", cost).allowed * cost
    for limiter in limiters:  # what is left of a slice is only its process's until it settles
        while limiter.hit("k", cost).allowed:
            allowed += cost
    assert 300 - 2 * cost < allowed <= 300 + (algorithm == "gcra")


def test_a_local_answer_counts_what_is_left_and_tells_its_age(frozen_kit, clock):
    bulk = leased(frozen_kit, "10000/minute", "90000/hour")
    decisions = warm(bulk, clock, 100)
    remaining = [[state.remaining for state in d.limits] for d in decisions]
    assert remaining == [[9999 - number, 89999 - number] for number in range(100)]
    last = next(d for d in reversed(decisions) if d.local)
    index = decisions.index(last)
    assert last.at == pytest.approx(clock.now_us / 1e6 - 0.01 * (99 - index))
    assert (last.retry_after, last.violated) == (0.0, ())
    assert 59 <= last.reset_after <= 3601
    assert last.headers("legacy")["X-RateLimit-Remaining"] == str(9999 - index)


def test_a_slice_ends_at_its_deadline_and_what_is_left_of_it_is_free_again(frozen_kit, clock):
    bulk = leased(frozen_kit, "10000/minute")
    warm(bulk, clock)
    held_back = 10_000 - 60 - bulk.peek("k").remaining
    assert held_back > 0
    clock.advance(5)
    decision = bulk.hit("k")
    assert not decision.local
    assert (decision.remaining, bulk.peek("k").remaining) == (9939, 9939)


def test_a_process_that_dies_keeps_its_slice_for_the_deadline_and_one_window(frozen_kit, new_kit, clock):
    dying, other = leased(frozen_kit, "1000/minute"), leased(new_kit(clock=clock), "1000/minute")
    warm(dying, clock, 50)
    taken = clock.now_us
    lost = 1000 - 50 - other.peek("k").remaining
    assert 0 < lost <= 250
    clock.advance(60)
    assert other.peek("k").remaining >= 1000 - 50 - lost
    clock.now_us = taken + 61_000_000
    assert other.hit("k", 1000).allowed


def test_closing_gives_every_slice_back_in_one_round_trip(new_kit, clock):
    kit, other = new_kit(clock=clock), new_kit(clock=clock)
    bulk, theirs = leased(kit), other.rate_limiter("bulk", "10000/minute")
    for key in ("a", "b", "c"):
        warm(bulk, clock, 50, key)
    assert all(theirs.peek(key).remaining < 9950 for key in ("a", "b", "c"))
    with recorded(kit) as trips:
        kit.close()
    assert [trip.commands for trip in trips] == [("ratelimit.hold",) * 3]
    assert [theirs.peek(key).remaining for key in ("a", "b", "c")] == [9950] * 3


def test_who_comes_seldom_costs_what_he_costs_without_leases(frozen_kit, clock):
    bulk = leased(frozen_kit)
    with recorded(frozen_kit) as trips:
        for _ in range(20):
            clock.advance(0.2)
            assert not bulk.hit("k").local
    assert [trip.commands for trip in trips] == [("ratelimit.hit",)] * 20
    assert bulk.peek("k").remaining == 9980


@pytest.mark.parametrize("options", [{"shadow": True}, {"lease": False}])
def test_limiters_on_trial_have_no_slices(frozen_kit, clock, options):
    limiter = frozen_kit.rate_limiter("bulk", "10000/minute", **{"lease": True, **options})
    assert not any(d.local for d in warm(limiter, clock))


def test_windows_too_short_for_leases_have_none(frozen_kit, clock):
    limiter = leased(frozen_kit, "1000000/hour", Limit(100_000, 0.09))
    for _ in range(100):
        clock.now_us += 10
        assert not limiter.hit("k").local


def test_a_larger_cost_than_the_slice_goes_to_the_store(frozen_kit, clock):
    bulk = leased(frozen_kit)
    warm(bulk, clock)
    decision = bulk.hit("k", 5000)
    assert (decision.allowed, decision.local, decision.remaining) == (True, False, 4940)
    refused = bulk.hit("k", 5000)
    assert (refused.allowed, refused.remaining) == (False, 4940)
    assert bulk.hit("k", 10_001).retry_after is None


def test_peek_asks_the_store_and_charges_nothing(frozen_kit, clock):
    bulk = leased(frozen_kit)
    warm(bulk, clock)
    assert not bulk.peek("k").local
    assert not bulk.hit("k", 0).local
    assert bulk.hit("k").remaining == 9939


def test_reset_drops_the_slice_of_this_process(frozen_kit, clock):
    bulk = leased(frozen_kit)
    warm(bulk, clock)
    assert bulk.reset("k")
    decision = bulk.hit("k")
    assert (decision.local, decision.remaining) == (False, 9999)


def test_operations_spend_the_slice_too(frozen_kit, clock):
    bulk, other = leased(frozen_kit), frozen_kit.rate_limiter("other", "10/minute")
    warm(bulk, clock)
    with recorded(frozen_kit) as trips:
        first = [frozen_kit.run(bulk.hitting("k")) for _ in range(3)]
        mine, theirs = frozen_kit.run(together(bulk.hitting("k"), other.hitting("k")))
    assert sum(d.local for d in [*first, mine]) >= 3
    assert theirs.remaining == 9
    assert len(trips) <= 2


def test_several_limiters_at_once_are_decided_by_the_store(frozen_kit, clock):
    """All or nothing is not to be had from a slice."""
    bulk, other = leased(frozen_kit), frozen_kit.rate_limiter("other", "10/minute")
    warm(bulk, clock)
    decision = frozen_kit.hit_all([(bulk, "k"), (other, "k")])
    assert (decision.allowed, decision.local) == (True, False)


def test_with_the_store_down_the_slice_is_spent_and_then_the_declared_answer_given(frozen_kit, clock):
    bulk = leased(frozen_kit, on_outage="deny")
    warm(bulk, clock)
    with store_down(frozen_kit):
        decisions = [bulk.hit("k") for _ in range(100)]
    spent = [d.local for d in decisions].index(False)
    assert all(d.allowed and not d.degraded for d in decisions[:spent])
    assert all(d.degraded and not d.allowed for d in decisions[spent:])
    clock.advance(2)
    after = bulk.hit("k")
    assert (after.allowed, after.degraded, after.remaining) == (True, False, 10_000 - 60 - spent - 1)


@pytest.mark.parametrize("key", [7, None, ["k"], {}])
def test_what_is_no_key_is_an_error(frozen_kit, clock, key):
    bulk = leased(frozen_kit)
    with pytest.raises(UsageError):
        bulk.hit(key)


@pytest.mark.parametrize("cost", [-1, 1.5, True, "1"])
def test_what_is_no_cost_is_an_error_also_with_a_slice_at_hand(frozen_kit, clock, cost):
    bulk = leased(frozen_kit)
    warm(bulk, clock)
    with pytest.raises(UsageError):
        bulk.hit("k", cost)


@pytest.mark.parametrize("lease", [1, "yes", None])
def test_lease_is_yes_or_no(kit, lease):
    with pytest.raises(UsageError, match="lease="):
        kit.rate_limiter("bulk", "10/minute", lease=lease)


def test_reservations_and_slices_live_beside_each_other(frozen_kit, clock):
    bulk = leased(frozen_kit)
    with bulk.reserve("k", 4000) as reservation:
        decisions = warm(bulk, clock)
        assert any(d.local for d in decisions)
        assert decisions[-1].remaining == 10_000 - 4000 - 60
        reservation.settle(1000)
    clock.advance(1.1)
    assert bulk.hit("k").remaining == 10_000 - 1000 - 61
