"""Local refusals: who was refused is refused without a round trip, until a permit can exist and no longer."""

import pytest

from statekit.store.op import together
from statekit.testing import recorded
from tests.conftest import COLOURS
from tests.servers import SERVERS, wait_until

shared = pytest.mark.parametrize(
    "backend", [f"{store}-{colour}" for store in ("fakeredis", *SERVERS) for colour in COLOURS], indirect=True
)
pytestmark = shared


def refused_here(limiter, key="k", cost=1):
    """Hit until this process refuses by itself: from then on it follows what comes free elsewhere."""
    wait_until(lambda: limiter.hit(key, cost).local)
    return limiter.hit(key, cost)


@pytest.mark.parametrize("algorithm", ["sliding-log", "sliding-counter", "gcra", "fixed-window"])
def test_a_refused_caller_is_refused_without_asking_until_a_permit_exists(frozen_kit, clock, algorithm):
    login = frozen_kit.rate_limiter("login", "3/minute", algorithm=algorithm)
    for _ in range(3):
        login.hit("k")
        clock.advance(1.003)
    first = login.hit("k")
    known = refused_here(login)
    assert (known.allowed, known.remaining, known.limit) == (False, 0, first.limit)
    wait_us = round(first.retry_after * 1e6)
    with recorded(frozen_kit) as trips:
        clock.now_us += wait_us - 1
        last = login.hit("k")
        assert trips == []
        assert (last.allowed, last.retry_after) == (False, 1e-6)
        clock.now_us += 1
        assert login.hit("k").allowed
    assert len(trips) == 1


def test_a_refusal_counts_down(frozen_kit, clock):
    login = frozen_kit.rate_limiter("login", "1/minute", "1/hour")
    login.hit("k")
    known = refused_here(login)
    clock.advance(61)
    later = login.hit("k")
    assert later.local
    assert later.retry_after == pytest.approx(known.retry_after - 61)
    assert later.at == pytest.approx(known.at + 61)
    assert [state.retry_after for state in later.limits] == [0.0, later.retry_after]
    assert later.headers()["Retry-After"] == str(round(later.retry_after))


def test_another_key_and_a_smaller_cost_go_to_the_store(kit):
    tokens = kit.rate_limiter("tokens", "10/hour")
    tokens.hit("k", 8)
    refused_here(tokens, cost=5)
    assert tokens.hit("other", 5).allowed
    assert tokens.hit("k", 2).allowed
    assert not tokens.hit("k", 2).allowed


def test_a_look_always_asks(kit):
    login = kit.rate_limiter("login", "1/hour")
    login.hit("k")
    refused_here(login)
    assert not login.peek("k").local
    assert not login.hit("k", 0).local


def test_a_reset_ends_it_in_every_process(kit, another_kit, backend):
    login, elsewhere = kit.rate_limiter("login", "1/hour"), another_kit.rate_limiter("login", "1/hour")
    login.hit("a: {key} of any kind")
    refused_here(login, "a: {key} of any kind")
    assert elsewhere.reset("a: {key} of any kind")
    wait_until(lambda: login.hit("a: {key} of any kind").allowed)
    refused_here(login, "a: {key} of any kind")
    assert login.reset("a: {key} of any kind")
    assert login.hit("a: {key} of any kind").allowed  # at once where it was reset


def test_a_refund_ends_it_in_every_process(kit, another_kit):
    mine, theirs = kit.rate_limiter("tokens", "10/hour"), another_kit.rate_limiter("tokens", "10/hour")
    reservation = theirs.reserve("k", cost=10)
    refused_here(mine)
    assert reservation.settle(4)
    wait_until(lambda: mine.hit("k").allowed)
    assert mine.peek("k").remaining == 5


def test_a_slice_given_back_ends_it_in_every_process(new_kit, clock):
    mine = new_kit(clock=clock).rate_limiter("bulk", "1000/minute")
    leasing = new_kit(clock=clock)
    bulk = leasing.rate_limiter("bulk", "1000/minute", lease=True)
    wait_until(lambda: clock.advance(0.001) or bulk.hit("k").local)  # until it has a slice
    left = mine.peek("k").remaining
    mine.hit("k", left)
    refused_here(mine)
    leasing.close()
    wait_until(lambda: mine.hit("k").allowed)


def test_a_raised_limit_ends_it(kit):
    login = kit.rate_limiter("login", "1/hour")
    login.hit("k")
    refused_here(login)
    assert kit.rate_limiter("login", "2/hour").hit("k").allowed
    assert not kit.rate_limiter("login", "1/hour", algorithm="gcra").hit("k").local


def test_it_can_be_switched_off(kit):
    login = kit.rate_limiter("login", "1/hour")
    strict = kit.rate_limiter("login", "1/hour", local_refusals=False)
    login.hit("k")
    refused_here(login)
    assert not strict.hit("k").local


def test_a_shadow_never_refuses_here(kit):
    shadow = kit.rate_limiter("new", "1/hour", shadow=True)
    real = kit.rate_limiter("real", "1/hour")
    real.hit("k")
    refused_here(real)
    assert not any(shadow.hit("k").local for _ in range(5))
    assert shadow.hit("k").allowed


def test_one_refusing_limiter_refuses_a_call_of_several(kit):
    by_ip, by_user = kit.rate_limiter("ip", "1/hour"), kit.rate_limiter("user", "5/hour")
    kit.hit_all([(by_ip, "1"), (by_user, "7")])
    refused_here(by_ip, "1")
    with recorded(kit) as trips:
        decision = kit.hit_all([(by_user, "7"), (by_ip, "1")])
        both, other = kit.run(together(by_ip.hitting("1"), by_user.hitting("7")))
    assert decision.local
    assert not decision.allowed
    assert decision.limiter == "ip"
    assert (both.local, other.allowed, other.remaining) == (True, True, 3)
    assert len(trips) == 1


def test_a_call_that_can_never_pass_is_asked_about_once_a_second(frozen_kit, clock):
    login = frozen_kit.rate_limiter("login", "3/hour")
    known = refused_here(login, cost=4)
    assert known.retry_after is None
    clock.advance(1)
    assert not login.hit("k", 4).local
