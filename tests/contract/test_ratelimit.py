"""What rate limits promise, on every store and in both colours."""

from __future__ import annotations

import itertools
import math
import string

import pytest

from statekit import Limit
from statekit.errors import StoreFull, StoreReadOnly, StoreRejected, StoreTimeout, UsageError
from statekit.ratelimit import Algorithm
from statekit.store.hooks import Degraded
from statekit.store.op import together
from statekit.testing import recorded, store_down

ALGORITHMS = [str(one) for one in Algorithm]
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
SLOWEST = {"sliding-log": 60, "sliding-counter": 120, "gcra": 60, "fixed-window": 60}


@each_algorithm
def test_it_admits_the_limit_and_refuses_the_next(frozen_kit, algorithm):
    login = frozen_kit.rate_limiter("login", "5/minute", algorithm=algorithm)
    decisions = [login.hit("k") for _ in range(6)]
    assert [d.allowed for d in decisions] == [True] * 5 + [False]
    assert [d.remaining for d in decisions] == [4, 3, 2, 1, 0, 0]
    assert [d.retry_after for d in decisions[:5]] == [0.0] * 5
    refused = decisions[-1]
    assert not refused
    assert refused.limit == Limit.per_minute(5)
    assert refused.violated == (Limit.per_minute(5),)
    assert not refused.degraded
    assert (refused.limiter, refused.key) == ("login", "k")
    assert 0 < refused.retry_after <= SLOWEST[algorithm]


@each_algorithm
@pytest.mark.parametrize("cost", [1, 3])
def test_retry_after_is_sufficient_and_tight(frozen_kit, clock, algorithm, cost):
    limiter = frozen_kit.rate_limiter("login", "7/minute", algorithm=algorithm)
    for _ in range(3):
        limiter.hit("k")
        clock.advance(7.003)
    while limiter.hit("k").allowed:
        clock.advance(0.3)
    refused = limiter.hit("k", cost)
    assert not refused.allowed
    wait_us = round(refused.retry_after * 1e6)
    clock.now_us += wait_us - 1
    assert not limiter.hit("k", cost).allowed
    clock.now_us += 1
    assert limiter.hit("k", cost).allowed


@each_algorithm
def test_reset_after_is_when_nothing_is_used(frozen_kit, clock, algorithm):
    limiter = frozen_kit.rate_limiter("login", "7/minute", algorithm=algorithm)
    limiter.hit("k", 3)
    clock.advance(5)
    reset = limiter.hit("k", 2).reset_after
    clock.now_us += round(reset * 1e6) - 1
    assert limiter.peek("k").remaining < 7
    clock.now_us += 1
    assert limiter.peek("k").remaining == 7
    assert limiter.peek("k").reset_after == 0.0


def test_the_window_is_half_open(frozen_kit, clock):
    """An entry exactly one window old no longer counts."""
    limiter = frozen_kit.rate_limiter("login", "1/second")
    assert limiter.hit("k").allowed
    clock.now_us += 999_999
    assert limiter.hit("k").retry_after == 0.000001
    clock.now_us += 1
    assert limiter.hit("k").allowed


@each_algorithm
def test_several_limits_are_all_or_nothing(frozen_kit, algorithm):
    """A hit that one limit refuses costs the other nothing."""
    limiter = frozen_kit.rate_limiter("mail", "100/minute", "2/hour", algorithm=algorithm)
    assert [limiter.hit("k").allowed for _ in range(12)] == [True] * 2 + [False] * 10
    decision = limiter.peek("k")
    assert [state.remaining for state in decision.limits] == [98, 0]
    assert decision.violated == (Limit.per_hour(2),)
    assert decision.limit == Limit.per_hour(2)


@each_algorithm
def test_a_peek_and_a_cost_of_zero_charge_nothing(frozen_kit, algorithm):
    limiter = frozen_kit.rate_limiter("mail", "2/minute", algorithm=algorithm)
    for _ in range(5):
        assert limiter.peek("k").allowed
        assert limiter.hit("k", cost=0).remaining == 2
    limiter.hit("k", 2)
    assert not limiter.peek("k").allowed
    assert not limiter.hit("k", cost=0).allowed
    assert limiter.peek("k").retry_after > 0


@each_algorithm
def test_costs_limits_of_zero_and_the_impossible(frozen_kit, algorithm):
    limiter = frozen_kit.rate_limiter("mail", "5/minute", algorithm=algorithm)
    never = limiter.hit("k", 6)
    assert (never.allowed, never.retry_after, never.remaining) == (False, None, 5)
    assert limiter.hit("k", 5).allowed
    closed = frozen_kit.rate_limiter("closed", "0/minute", algorithm=algorithm)
    for cost in (0, 1, 5):
        assert (closed.hit("k", cost).allowed, closed.hit("k", cost).retry_after) == (False, None)


@each_algorithm
@pytest.mark.parametrize("cost", [-1, 1.0, 1.5, "1", True, None])
def test_a_cost_that_is_not_a_whole_number_is_refused(kit, algorithm, cost):
    limiter = kit.rate_limiter("mail", "5/minute", algorithm=algorithm)
    with pytest.raises(ValueError, match="whole number"):
        limiter.hit("k", cost)
    assert limiter.peek("k").remaining == 5


@pytest.mark.parametrize("key", [None, 7, b"k", ("a", "b"), 1.5])
def test_a_key_that_is_not_text_is_refused(kit, key):
    with pytest.raises(UsageError, match=r"pass str\("):
        kit.rate_limiter("mail", "5/minute").hit(key)


def test_no_two_keys_collide(kit):
    """Absurd keys, and limiter names that could be read as parts of keys, each count on their own."""
    keys = [
        "",
        "a",
        "a:b",
        "{a}",
        "}{",
        "%",
        "%00",
        "\0",
        "~",
        "k" * 10_240,
        "k" * 10_241,
        "ä",
        "a\u0308",
        "*",
    ]
    keys += ["\ud800", "日本", " ", "\n", '"', "\\"]
    names = ["n", "n:a", "n}"]
    for name, key in itertools.product(names, keys):
        limiter = kit.rate_limiter(name, "1/hour")
        assert limiter.hit(key).allowed, (name, key)
    assert not kit.rate_limiter("n", "1/hour").hit("").allowed


@each_algorithm
def test_reset_forgets_and_says_whether_there_was_anything(frozen_kit, algorithm):
    limiter = frozen_kit.rate_limiter("mail", "1/hour", algorithm=algorithm)
    assert limiter.reset("k") is False
    limiter.hit("k")
    assert not limiter.hit("k").allowed
    assert limiter.reset("k") is True
    assert limiter.hit("k").allowed


def test_processes_share_one_count(kit, another_kit):
    first, second = (one.rate_limiter("mail", "4/hour") for one in (kit, another_kit))
    assert [limiter.hit("k").allowed for limiter in (first, second) * 3] == [True] * 4 + [False] * 2


def test_a_changed_limit_keeps_what_was_used(frozen_kit, clock):
    assert frozen_kit.rate_limiter("api", "10/minute").hit("k", 7).allowed
    clock.advance(20)
    assert frozen_kit.rate_limiter("api", "20/minute").hit("k").remaining == 12
    assert not frozen_kit.rate_limiter("api", "5/minute").hit("k").allowed
    assert frozen_kit.rate_limiter("api", "30/hour").hit("k").remaining == 21
    assert frozen_kit.rate_limiter("api", "30/hour", "10/30 s").peek("k").limits[1].remaining == 1


@each_algorithm
def test_a_changed_count_and_period_keep_what_was_used(frozen_kit, algorithm):
    assert frozen_kit.rate_limiter("api", "10/hour", algorithm=algorithm).hit("k", 6).allowed
    assert frozen_kit.rate_limiter("api", "20/hour", algorithm=algorithm).hit("k", 0).remaining == 14
    assert frozen_kit.rate_limiter("api", "8/minute", algorithm=algorithm).hit("k").remaining == 1


@each_algorithm
def test_after_a_change_a_refused_caller_waits_no_longer_than_he_is_told(frozen_kit, clock, algorithm):
    """What was used in an hour counts for the new minute from the first call on, also if that is refused."""
    assert frozen_kit.rate_limiter("api", "10/hour", algorithm=algorithm).hit("k", 10).allowed
    changed = frozen_kit.rate_limiter("api", "5/minute", algorithm=algorithm)
    refused = changed.hit("k", 5)
    assert 0 < refused.retry_after <= 120
    clock.now_us += round(refused.retry_after * 1e6) - 1
    assert not changed.peek("k", 5).allowed
    clock.now_us += 1
    assert changed.hit("k", 5).allowed


def test_a_changed_algorithm_starts_anew_and_breaks_nothing(kit):
    for algorithm in [*ALGORITHMS, *ALGORITHMS]:
        decision = kit.rate_limiter("api", "2/hour", algorithm=algorithm).hit("k")
        assert decision.allowed
    assert kit.rate_limiter("api", "2/hour").reset("k")
    assert kit.rate_limiter("api", "2/hour", algorithm="gcra").hit("k", 2).allowed


def test_shadow_decides_counts_and_never_refuses(kit):
    limiter = kit.rate_limiter("api", "2/hour", shadow=True)
    decisions = [limiter.hit("k") for _ in range(4)]
    assert all(d.allowed for d in decisions)
    assert [d.would_refuse for d in decisions] == [False, False, True, True]
    assert decisions[-1].violated == (Limit.per_hour(2),)
    assert decisions[-1].retry_after == 0.0


def test_hit_all_is_all_or_nothing_over_limiters_keys_and_algorithms(frozen_kit):
    by_ip = frozen_kit.rate_limiter("ip", "10/hour")
    by_user = frozen_kit.rate_limiter("user", "5/hour", algorithm="gcra")
    site = frozen_kit.rate_limiter("site", "100/hour", "7/day", algorithm="fixed-window")
    asked = [(by_ip, "203.0.113.7"), (by_user, "u1", 3), (site, "all", 2)]
    first = frozen_kit.hit_all(asked)
    assert first.allowed
    assert [state.remaining for state in first.limits] == [9, 2, 98, 5]
    second = frozen_kit.hit_all(asked)
    assert (second.allowed, second.limiter, second.key) == (False, "user", "u1")
    assert [state.remaining for state in second.limits] == [9, 2, 98, 5]
    assert by_ip.peek("203.0.113.7").remaining == 9


def test_hit_all_with_a_shadow_limiter(kit):
    strict, shadow = kit.rate_limiter("a", "3/hour"), kit.rate_limiter("b", "1/hour", shadow=True)
    decisions = [kit.hit_all([(strict, "k"), (shadow, "k")]) for _ in range(4)]
    assert [d.allowed for d in decisions] == [True, True, True, False]
    assert [d.would_refuse for d in decisions] == [False, True, True, False]
    assert shadow.peek("k").remaining == 0


def test_a_shadow_limiter_does_not_explain_somebody_elses_refusal(kit):
    strict, shadow = kit.rate_limiter("a", "1/minute"), kit.rate_limiter("b", "1/day", shadow=True)
    assert kit.hit_all([(strict, "k"), (shadow, "k")]).allowed
    refused = kit.hit_all([(strict, "k"), (shadow, "k", 2)])
    assert (refused.allowed, refused.limiter) == (False, "a")
    assert 0 < refused.retry_after <= 60


def test_a_policy_is_announced_once(kit):
    limiter = kit.rate_limiter("a", "5/minute")
    headers = kit.hit_all([(limiter, "k"), (limiter, "j", 3)]).headers()
    assert headers["RateLimit-Policy"] == '"a";q=5;w=60'
    assert headers["RateLimit"] == '"a";r=2;t=60'


def test_hit_all_adds_up_the_same_limiter_and_key(kit):
    limiter = kit.rate_limiter("a", "5/hour")
    assert kit.hit_all([(limiter, "k", 2), (limiter, "k", 2)]).remaining == 1
    assert not kit.hit_all([(limiter, "k"), (limiter, "k")]).allowed
    assert limiter.peek("k").remaining == 1
    with pytest.raises(UsageError, match="different limits"):
        kit.hit_all([(limiter, "k"), (kit.rate_limiter("a", "6/hour"), "k")])


@pytest.mark.parametrize("pairs", [[], [("limiter", "key")], [("only-one",)], ["ab"]])
def test_hit_all_refuses_what_is_not_a_pair(kit, pairs):
    with pytest.raises(UsageError):
        kit.hit_all(pairs)


@each_algorithm
def test_a_decision_is_one_round_trip(kit, algorithm):
    three = kit.rate_limiter("three", "5/second", "50/minute", "500/hour", algorithm=algorithm)
    others = [kit.rate_limiter(name, "5/minute") for name in string.ascii_lowercase[:2]]
    three.hit("warm")
    with recorded(kit) as trips:
        three.hit("k")
        three.peek("k")
        kit.hit_all([(three, "k"), *((other, "k") for other in others)])
        three.reset("k")
    assert [trip.commands for trip in trips] == [("ratelimit.hit",)] * 3 + [("ratelimit.reset",)]


def test_limiters_share_a_round_trip_with_anything(kit):
    first, second = kit.rate_limiter("a", "1/hour"), kit.rate_limiter("b", "1/hour", algorithm="gcra")
    first.hit("warm")
    with recorded(kit) as trips:
        hit, peeked, reset = kit.run(together(first.hitting("k"), second.peeking("k"), first.resetting("x")))
    assert (hit.allowed, peeked.remaining, reset) == (True, 1, False)
    assert len(trips) == 1


def test_wait_returns_when_units_come_free(kit):
    limiter = kit.rate_limiter("slow", Limit(2, 0.3))
    assert limiter.hit("k", 2).allowed
    with recorded(kit) as trips:
        assert limiter.wait("k", timeout=30).allowed
    assert len(trips) <= 4


def test_wait_gives_up_at_once_when_it_would_take_too_long(kit):
    limiter = kit.rate_limiter("slow", "1/hour")
    limiter.hit("k")
    with recorded(kit) as trips:
        refused = limiter.wait("k", timeout=5)
        assert not limiter.wait("k", timeout=5, cost=2).allowed
    assert (refused.allowed, len(trips)) == (False, 2)
    assert refused.retry_after > 5
    assert kit.rate_limiter("other", "1/hour").wait("k", timeout=0).allowed
    with pytest.raises(UsageError, match="timeout"):
        limiter.wait("k", timeout=-1)


def test_large_costs_and_large_limits(frozen_kit, clock):
    tokens = frozen_kit.rate_limiter("tokens", "1000000/day")
    assert tokens.hit("k", 500_000).remaining == 500_000
    clock.advance(3600)
    assert tokens.hit("k", 500_000).remaining == 0
    assert tokens.hit("k", 500_000).retry_after == 82_800
    assert tokens.hit("k", 500_001).retry_after == 86_400


def test_beyond_64_bits_time_is_counted_in_coarser_ticks(frozen_kit, clock):
    """Fifty million a month: a tick of 32 microseconds, rounded so that nothing is admitted too early."""
    tokens = frozen_kit.rate_limiter("tokens", "50000000/30 days")
    clock.advance(0.000_001)
    assert tokens.hit("k", 50_000_000).allowed
    wait = tokens.hit("k").retry_after
    assert 30 * 86_400 <= wait < 30 * 86_400 + 0.000_064
    clock.now_us += round(wait * 1e6) - 1
    assert not tokens.hit("k").allowed
    clock.now_us += 1
    assert tokens.hit("k", 50_000_000).allowed


def test_headers_tell_what_the_decision_says(frozen_kit, clock):
    limiter = frozen_kit.rate_limiter("login", "2/minute", "100/hour")
    limiter.hit("k")
    clock.advance(12.5)
    limiter.hit("k")
    refused = limiter.hit("k")
    assert refused.headers("ietf") == {
        "RateLimit-Policy": '"login-60s";q=2;w=60, "login-3600s";q=100;w=3600',
        "RateLimit": '"login-60s";r=0;t=48, "login-3600s";r=98;t=3588',
        "Retry-After": "48",
    }
    legacy = refused.headers("legacy")
    assert legacy["X-RateLimit-Limit"] == "2"
    assert legacy["X-RateLimit-Remaining"] == "0"
    assert int(legacy["X-RateLimit-Reset"]) == math.ceil(clock.now_us / 1_000_000) + 60
    assert legacy["Retry-After"] == "48"
    assert "Retry-After" not in limiter.peek("other").headers()
    with pytest.raises(UsageError, match="'ietf' and 'legacy'"):
        refused.headers("latest")


@each_algorithm
@pytest.mark.parametrize(("policy", "allowed", "wait"), [("allow", True, 0.0), ("deny", False, 1.0)])
def test_with_the_store_down_the_declared_answer_is_given(frozen_kit, algorithm, policy, allowed, wait):
    limiter = frozen_kit.rate_limiter("api", "2/hour", algorithm=algorithm, on_outage=policy)
    events = []
    frozen_kit.hooks.subscribe(events.append)
    with store_down(frozen_kit):
        decisions = [limiter.hit("k") for _ in range(4)]
        assert limiter.wait("k", timeout=0.5).allowed is allowed
    assert [(d.allowed, d.degraded, d.retry_after) for d in decisions] == [(allowed, True, wait)] * 4
    assert [e.primitive for e in events if isinstance(e, Degraded)] == ["ratelimit"] * 5
    assert "RateLimit" not in decisions[0].headers()
    assert "X-RateLimit-Remaining" not in decisions[0].headers("legacy")
    assert decisions[0].headers().get("Retry-After") == (None if allowed else "1")
    assert (limiter.peek("k").remaining, limiter.peek("k").degraded) == (2, False)


@each_algorithm
def test_with_the_store_down_a_process_may_count_its_share(frozen_kit, algorithm):
    limiter = frozen_kit.rate_limiter("api", "9/hour", algorithm=algorithm, on_outage="local", workers=4)
    with store_down(frozen_kit):
        decisions = [limiter.hit("k") for _ in range(4)]
        assert limiter.hit("other").allowed
    assert [d.allowed for d in decisions] == [True, True, False, False]
    assert all(d.degraded for d in decisions)
    assert decisions[-1].retry_after > 0
    assert limiter.hit("k").remaining == 8


def test_the_share_follows_the_workers_there_are(kit):
    workers = [2]
    limiter = kit.rate_limiter("api", "4/hour", on_outage="local", workers=lambda: workers[0])
    with store_down(kit):
        assert [limiter.hit("k").allowed for _ in range(3)] == [True, True, False]
        workers[0] = 1
        assert limiter.hit("k").allowed


@pytest.mark.parametrize("error", [StoreTimeout("t"), StoreFull("OOM command"), StoreReadOnly("READONLY")])
def test_every_kind_of_outage_gets_the_declared_answer(kit, error):
    limiter = kit.rate_limiter("api", "2/hour", on_outage="deny")
    with store_down(kit, error):
        assert limiter.hit("k").degraded
        with pytest.raises(type(error)):
            limiter.reset("k")


def test_a_misuse_is_raised_and_not_answered(kit):
    """Keys of several slots, missing rights: no policy may hide what does not pass by itself."""
    limiter = kit.rate_limiter("api", "2/hour")
    error = StoreRejected("CROSSSLOT Keys in request don't hash to the same slot")
    with store_down(kit, error), pytest.raises(StoreRejected, match=r"CROSSSLOT.*one by one"):
        limiter.hit("k")


def test_hit_all_in_an_outage_denies_if_one_limiter_says_so(kit):
    allow, deny = (kit.rate_limiter(one, "2/hour", on_outage=one) for one in ("allow", "deny"))
    local = kit.rate_limiter("local", "1/hour", on_outage="local")
    with store_down(kit):
        assert kit.hit_all([(allow, "k"), (allow, "j")]).allowed
        assert not kit.hit_all([(allow, "k"), (deny, "k")]).allowed
        assert [kit.hit_all([(allow, "k"), (local, "k")]).allowed for _ in range(2)] == [True, False]
