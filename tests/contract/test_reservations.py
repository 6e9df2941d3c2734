"""What reserve and settle promise, on every store and in both colours."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from statekit.errors import LimitExceeded, StoreUnavailable, UsageError
from statekit.ratelimit import Algorithm
from statekit.store.hooks import Degraded
from statekit.store.op import together
from statekit.testing import recorded, store_down

each_algorithm = pytest.mark.parametrize("algorithm", [str(one) for one in Algorithm])


@each_algorithm
def test_reserved_units_count_and_what_was_not_used_is_free_again(frozen_kit, algorithm):
    tokens = frozen_kit.rate_limiter("tokens", "1000/minute", algorithm=algorithm)
    with tokens.reserve("ann", cost=600) as reservation:
        assert (reservation.allowed, reservation.cost, reservation.key) == (True, 600, "ann")
        assert reservation.decision.remaining == 400
        assert tokens.peek("ann").remaining == 400
        assert not tokens.hit("ann", 401).allowed
        assert reservation.settle(150)
        assert tokens.peek("ann").remaining == 850
    assert tokens.peek("ann").remaining == 850


@each_algorithm
def test_more_than_reserved_is_charged_too_and_later_callers_wait(frozen_kit, clock, algorithm):
    tokens = frozen_kit.rate_limiter("tokens", "100/minute", "5000/hour", algorithm=algorithm)
    with tokens.reserve("ann", cost=50) as reservation:
        assert reservation.settle(130)
    refused = tokens.hit("ann")
    assert (refused.allowed, refused.remaining) == (False, 0)
    clock.advance(refused.retry_after)
    assert tokens.hit("ann").allowed


def test_a_block_that_does_not_settle_is_charged_in_full(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    with tokens.reserve("ann", cost=600):
        pass
    assert tokens.peek("ann").remaining == 400
    assert not tokens.reserve("ann", cost=500)


def test_a_block_that_raises_gives_all_back(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    with pytest.raises(ZeroDivisionError), tokens.reserve("ann", cost=600):
        raise ZeroDivisionError
    assert tokens.peek("ann").remaining == 1000


def test_what_was_settled_before_the_block_raised_stays_charged(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    with pytest.raises(ZeroDivisionError), tokens.reserve("ann", cost=600) as reservation:
        reservation.settle(10)
        raise ZeroDivisionError
    assert tokens.peek("ann").remaining == 990


def test_a_refused_reservation_is_false_and_its_block_never_runs(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    refused = kit.run(tokens.reserving("ann", 1001))
    assert not refused
    assert not refused.allowed
    assert refused.decision.retry_after is None
    with (
        pytest.raises(LimitExceeded, match="'tokens' has no 1001 units") as caught,
        tokens.reserve("ann", 1001),
    ):
        pytest.fail("the block ran")
    assert caught.value.decision.limit.count == 1000
    assert not refused.settle(5)
    assert tokens.peek("ann").remaining == 1000


def test_settling_twice_charges_once(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    reservation = kit.run(tokens.reserving("ann", 600))
    assert reservation.settle(100)
    assert not reservation.settle(100)
    assert tokens.peek("ann").remaining == 900


@each_algorithm
def test_unsettled_units_count_for_the_deadline_and_one_window_and_then_lapse(frozen_kit, clock, algorithm):
    """What a process did that died at the last moment before the deadline still counts for a whole window."""
    tokens = frozen_kit.rate_limiter("tokens", "10/minute", algorithm=algorithm)
    lost = frozen_kit.run(tokens.reserving("ann", 10, ttl=30))
    refused = tokens.hit("ann")
    assert (refused.allowed, refused.retry_after) == (False, 90.0)
    clock.advance(90 - 1e-6)
    assert not tokens.hit("ann").allowed
    assert tokens.peek("ann", 10).retry_after == pytest.approx(1e-6)
    clock.advance(1e-6)
    assert tokens.hit("ann", 10).allowed
    assert not lost.settle(10)
    assert tokens.peek("ann").remaining == 0


def test_retry_after_counts_hits_and_reserved_units_together(frozen_kit, clock):
    tokens = frozen_kit.rate_limiter("tokens", "10/minute")
    tokens.hit("ann", 4)
    clock.advance(10)
    kept = frozen_kit.run(tokens.reserving("ann", 3, ttl=5))
    frozen_kit.run(tokens.reserving("ann", 3, ttl=20))
    assert tokens.peek("ann", 4).retry_after == 50.0  # the hit leaves
    assert tokens.peek("ann", 5).retry_after == 65.0  # and the first of the reserved
    assert tokens.peek("ann", 8).retry_after == 80.0
    assert kept.settle(0)
    assert tokens.peek("ann", 5).retry_after == 50.0


def test_another_process_sees_what_is_reserved(kit, another_kit):
    tokens, theirs = (one.rate_limiter("tokens", "1000/hour") for one in (kit, another_kit))
    with tokens.reserve("ann", 900) as reservation:
        assert not theirs.hit("ann", 200).allowed
        reservation.settle(0)


def test_reset_forgets_reservations_too(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    reservation = kit.run(tokens.reserving("ann", 900))
    assert tokens.reset("ann")
    assert not reservation.settle(900)
    assert tokens.peek("ann").remaining == 1000


def test_reserving_and_settling_share_a_round_trip(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    with recorded(kit) as seen:
        first, second = kit.run(together(tokens.reserving("ann", 600), tokens.reserving("bob", 700)))
        settled = kit.run(together(first.settling(1), second.settling(2)))
    assert settled == (True, True)
    assert len(seen) == 2


@pytest.mark.parametrize("used", [-1, 1.5, True, "3", None])
def test_what_cannot_be_used_is_an_error_and_charges_nothing(kit, used):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    reservation = kit.run(tokens.reserving("ann", 600))
    with pytest.raises(UsageError):
        reservation.settle(used)
    assert reservation.settle(1)


@pytest.mark.parametrize(("cost", "ttl"), [(0, 60), (-1, 60), (True, 60), (1, 0), (1, -1), (1, "60")])
def test_what_cannot_be_reserved_is_an_error(kit, cost, ttl):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    with pytest.raises(UsageError):
        tokens.reserve("ann", cost, ttl=ttl)
    assert tokens.peek("ann").remaining == 1000


def test_with_the_store_down_the_declared_answer_is_given_and_nothing_is_settled(kit):
    seen = []
    kit.hooks.subscribe(seen.append)
    lenient = kit.rate_limiter("lenient", "1000/hour", on_outage="allow")
    strict = kit.rate_limiter("strict", "1000/hour", on_outage="deny")
    before = kit.run(lenient.reserving("ann", 600))
    with store_down(kit):
        with lenient.reserve("ann", 600) as reservation:
            assert reservation.decision.degraded
            assert not reservation.settle(5)
        with pytest.raises(LimitExceeded), strict.reserve("ann", 600):
            pytest.fail("the block ran")
        with pytest.raises(StoreUnavailable):
            before.settle(100)
    assert before.settle(100)
    assert lenient.peek("ann").remaining == 900
    assert any(isinstance(one, Degraded) for one in seen)


def test_leaving_a_block_while_the_store_is_down_hides_nothing_and_raises_nothing(kit):
    """The units stay counted as reserved, until they lapse or somebody settles them."""
    tokens = kit.rate_limiter("tokens", "1000/hour")
    with ExitStack() as down, pytest.raises(ZeroDivisionError), tokens.reserve("ann", 600):
        down.enter_context(store_down(kit))
        raise ZeroDivisionError
    assert tokens.peek("ann").remaining == 400
    with ExitStack() as down, tokens.reserve("bob", 600):
        down.enter_context(store_down(kit))
    assert tokens.peek("bob").remaining == 400
    with ExitStack() as down, pytest.raises(StoreUnavailable), tokens.reserve("eve", 600) as reservation:
        down.enter_context(store_down(kit))
        reservation.settle(5)
    assert tokens.peek("eve").remaining == 400
    assert reservation.settle(5)
    assert tokens.peek("eve").remaining == 995


def test_a_limiter_on_trial_lets_pass_and_keeps_no_units(kit):
    tokens = kit.rate_limiter("tokens", "10/hour", shadow=True)
    tokens.hit("ann", 8)
    with tokens.reserve("ann", 5) as reservation:
        assert reservation.allowed
        assert reservation.decision.would_refuse
    assert tokens.peek("ann").remaining == 2


def test_a_reservation_says_what_it_is(kit):
    tokens = kit.rate_limiter("tokens", "1000/hour")
    reservation = kit.run(tokens.reserving("ann", 600))
    assert "600 units" in repr(reservation)
    assert len(reservation.id) == 16
